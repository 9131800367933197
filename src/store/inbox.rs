//! Messages from other processes to a run. The process that owns the run records each message as an event.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::crash::crash_point;
use crate::model::RunId;
use crate::model::event::{ApprovalAnswered, ApprovalDecision, BudgetRaised, CancelRequested, Event, Fact};

use super::open::open_read_write;
use super::{Journal, StoreError};

/// A message to the process that owns a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboxMessage {
    /// The user's answer to an approval.
    Answer(ApprovalAnswered),
    /// The user wants the run to stop.
    Cancel(CancelRequested),
    /// The user raises the budget of the run to these limits.
    RaiseBudget(BudgetRaised),
}

impl InboxMessage {
    /// The name of the kind, for the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Cancel(_) => "cancel",
            Self::RaiseBudget(_) => "raise_budget",
        }
    }

    /// The fact that the owner of the run records for the message.
    pub fn into_fact(self) -> Fact {
        match self {
            Self::Answer(answer) => Fact::ApprovalAnswered(answer),
            Self::Cancel(request) => Fact::CancelRequested(request),
            Self::RaiseBudget(raise) => Fact::BudgetRaised(raise),
        }
    }
}

/// What became of an answer that a process sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is in the inbox, under this id.
    Sent(i64),
    /// The question had this answer already.
    AlreadyAnswered(ApprovalDecision),
}

impl Journal {
    /// Adds a message to a run's inbox; it is durable when this returns. Returns the id of the message.
    pub fn send_message(&self, run: RunId, message: &InboxMessage) -> Result<i64, StoreError> {
        let id = insert_message(self.reader(), run, message)?.map_err(|error| self.sqlite_error("write", error))?;
        crash_point!("inbox::sent");
        Ok(id)
    }

    /// Adds the answer to a question to a run's inbox, unless the question has an answer. The caller has read the events
    /// up to `last_seq`. Of several processes that answer at the same time, only one succeeds: the check and the insertion
    /// are one transaction.
    pub fn send_answer(&self, run: RunId, answer: ApprovalAnswered, last_seq: u64) -> Result<SendOutcome, StoreError> {
        let write_error = |error| self.sqlite_error("write", error);
        let transaction =
            Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate).map_err(write_error)?;
        let recorded = self.events_after(run, last_seq)?;
        let pending = self.pending_messages(run)?.into_iter().map(|(_, message)| message.into_fact());
        let facts = recorded.into_iter().map(|Event { fact, .. }| fact).chain(pending);
        let mut answers =
            facts.filter_map(|fact| if let Fact::ApprovalAnswered(fact) = fact { Some(fact) } else { None });
        if let Some(earlier) = answers.find(|other| other.answers_same_question(&answer)) {
            return Ok(SendOutcome::AlreadyAnswered(earlier.answer));
        }
        let id = insert_message(&transaction, run, &InboxMessage::Answer(answer))?.map_err(write_error)?;
        transaction.commit().map_err(write_error)?;
        crash_point!("inbox::sent");
        Ok(SendOutcome::Sent(id))
    }

    /// The messages to a run with their row ids, oldest first.
    pub fn pending_messages(&self, run: RunId) -> Result<Vec<(i64, InboxMessage)>, StoreError> {
        messages_after(self.reader(), &self.path, run, 0)
    }

    /// Whether a message is still in the inbox: the owner of the run has not recorded it.
    pub fn has_message(&self, id: i64) -> Result<bool, StoreError> {
        self.reader()
            .query_row("SELECT EXISTS (SELECT 1 FROM inbox WHERE id = ?1)", [id], |row| row.get(0))
            .map_err(|error| self.read_error(error))
    }

    /// Removes messages from the inbox. The caller has recorded their facts.
    pub fn remove_messages(&self, ids: &[i64]) -> Result<(), StoreError> {
        remove_messages(self.reader(), ids).map_err(|error| self.sqlite_error("write", error))
    }
}

/// Adds a message to a run's inbox. Returns its id.
fn insert_message(
    connection: &Connection,
    run: RunId,
    message: &InboxMessage,
) -> Result<rusqlite::Result<i64>, StoreError> {
    let body =
        serde_json::to_string(message).map_err(|source| StoreError::Serialize { record: "a message", source })?;
    let inserted =
        connection.execute("INSERT INTO inbox (run, body) VALUES (?1, ?2)", params![run.0.to_string(), body]);
    Ok(inserted.map(|_| connection.last_insert_rowid()))
}

/// Removes messages from the inbox.
pub(super) fn remove_messages(connection: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    for id in ids {
        connection.execute("DELETE FROM inbox WHERE id = ?1", params![id])?;
        crash_point!("inbox::removed");
    }
    Ok(())
}

/// All messages to a run, with their row ids, oldest first, read over a connection of their own. `path` is the database
/// file.
pub(super) fn read_messages(path: &Path, run: RunId) -> Result<Vec<(i64, InboxMessage)>, StoreError> {
    messages_after(&open_read_write(path)?, path, run, 0)
}

/// The messages to a run after the message `after`, with their row ids, oldest first. `path` is the database file.
pub(super) fn messages_after(
    connection: &Connection,
    path: &Path,
    run: RunId,
    after: i64,
) -> Result<Vec<(i64, InboxMessage)>, StoreError> {
    let read_error = |source| StoreError::Journal { operation: "read", path: path.to_owned(), source };
    let mut statement = connection
        .prepare_cached("SELECT id, body FROM inbox WHERE run = ?1 AND id > ?2 ORDER BY id")
        .map_err(read_error)?;
    let rows = statement
        .query_map(params![run.0.to_string(), after], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .map_err(read_error)?;
    let mut messages = Vec::new();
    for row in rows {
        let (id, body) = row.map_err(read_error)?;
        let message = serde_json::from_str(&body).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            problem: format!("message {id}: {error}"),
        })?;
        messages.push((id, message));
    }
    Ok(messages)
}
