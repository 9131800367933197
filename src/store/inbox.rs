//! Messages from other processes to a run, which the process that owns the run turns into events.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::crash::crash_point;
use crate::model::RunId;
use crate::model::event::{ApprovalAnswered, Fact};

use super::{Journal, StoreError};

/// A message to the process that owns a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    /// The user's answer to an approval.
    Answer(ApprovalAnswered),
}

impl Letter {
    /// The fact that the owner records for the message.
    pub fn fact(self) -> Fact {
        match self {
            Self::Answer(answer) => Fact::ApprovalAnswered(answer),
        }
    }
}

impl Journal {
    /// Adds a message to a run's inbox, durably.
    pub fn post(&self, run: RunId, letter: &Letter) -> Result<(), StoreError> {
        let body = serde_json::to_string(letter).map_err(|error| StoreError::Stopped(error.to_string()))?;
        self.reader()
            .execute("INSERT INTO inbox (run, body) VALUES (?1, ?2)", params![run.0.to_string(), body])
            .map_err(|error| self.failed("write", error))?;
        crash_point!("inbox::posted");
        Ok(())
    }

    /// The messages to a run with their row ids, oldest first.
    pub fn letters(&self, run: RunId) -> Result<Vec<(i64, Letter)>, StoreError> {
        let mut statement = self
            .reader()
            .prepare_cached("SELECT id, body FROM inbox WHERE run = ?1 ORDER BY id")
            .map_err(|error| self.failed("read", error))?;
        let rows = statement
            .query_map([run.0.to_string()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .map_err(|error| self.failed("read", error))?;
        let mut letters = Vec::new();
        for row in rows {
            let (id, body) = row.map_err(|error| self.failed("read", error))?;
            let letter = serde_json::from_str(&body).map_err(|error| self.damaged(format!("letter {id}: {error}")))?;
            letters.push((id, letter));
        }
        Ok(letters)
    }

    /// Removes messages from the inbox, once the owner has recorded their facts.
    pub fn discard(&self, letters: &[i64]) -> Result<(), StoreError> {
        for id in letters {
            self.reader()
                .execute("DELETE FROM inbox WHERE id = ?1", params![id])
                .map_err(|error| self.failed("write", error))?;
            crash_point!("inbox::discarded");
        }
        Ok(())
    }
}
