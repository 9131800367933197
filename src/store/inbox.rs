//! Messages from other processes to a run. The process that owns the run records each message as an event.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::crash::crash_point;
use crate::model::RunId;
use crate::model::event::{ApprovalAnswered, Fact};

use super::{Journal, StoreError};

/// A message to the process that owns a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboxMessage {
    /// The user's answer to an approval.
    Answer(ApprovalAnswered),
}

impl InboxMessage {
    /// The fact that the owner of the run records for the message.
    pub fn into_fact(self) -> Fact {
        match self {
            Self::Answer(answer) => Fact::ApprovalAnswered(answer),
        }
    }
}

impl Journal {
    /// Adds a message to a run's inbox; it is durable when this returns.
    pub fn send_message(&self, run: RunId, message: &InboxMessage) -> Result<(), StoreError> {
        let body =
            serde_json::to_string(message).map_err(|source| StoreError::Serialize { record: "a message", source })?;
        self.reader()
            .execute("INSERT INTO inbox (run, body) VALUES (?1, ?2)", params![run.0.to_string(), body])
            .map_err(|error| self.sqlite_error("write", error))?;
        crash_point!("inbox::sent");
        Ok(())
    }

    /// The messages to a run with their row ids, oldest first.
    pub fn pending_messages(&self, run: RunId) -> Result<Vec<(i64, InboxMessage)>, StoreError> {
        let mut statement = self
            .reader()
            .prepare_cached("SELECT id, body FROM inbox WHERE run = ?1 ORDER BY id")
            .map_err(|error| self.sqlite_error("read", error))?;
        let rows = statement
            .query_map([run.0.to_string()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .map_err(|error| self.sqlite_error("read", error))?;
        let mut messages = Vec::new();
        for row in rows {
            let (id, body) = row.map_err(|error| self.sqlite_error("read", error))?;
            let message =
                serde_json::from_str(&body).map_err(|error| self.damage_error(format!("message {id}: {error}")))?;
            messages.push((id, message));
        }
        Ok(messages)
    }

    /// Removes messages from the inbox. The owner calls this after it has recorded their facts.
    pub fn remove_messages(&self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            self.reader()
                .execute("DELETE FROM inbox WHERE id = ?1", params![id])
                .map_err(|error| self.sqlite_error("write", error))?;
            crash_point!("inbox::removed");
        }
        Ok(())
    }
}
