//! Imports an exported run, and distinguishes foreign runs, whose records came from another machine or user.

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior};

use crate::crash::crash_point;
use crate::model::event::{Event, Fact};
use crate::model::{RunId, StepKey};

use super::event_ids::EventIds;
use super::event_rows::insert_event;
use super::journal_origin::JournalOrigin;
use super::last_replies::LastReplies;
use super::payload::Payload;
use super::signing_key::KeyUnavailable;
use super::{Journal, StoreError};

impl Journal {
    /// Records the events of a run that this journal does not contain, and records that the run is foreign. Does not
    /// record that orch wrote the files in the workspace of the run, since orch did not write them here.
    pub fn import(&self, run: RunId, events: &[Event]) -> Result<(), StoreError> {
        let refused = |reason: &str| StoreError::ImportRefused { run: run.to_string(), reason: reason.to_owned() };
        check_completeness(run, events).map_err(refused)?;
        let error = |source| self.sqlite_error("write", source);
        let mut payloads = Vec::with_capacity(events.len());
        let mut last_replies = LastReplies::default();
        for event in events {
            let find_text = |step: &StepKey| Ok(last_replies.find(events, step));
            payloads.push(Payload::from_event(event, &self.blobs, find_text)?);
            last_replies.note(event);
        }
        let transaction = Transaction::new_unchecked(&self.reader, TransactionBehavior::Immediate).map_err(error)?;
        if EventIds::find(&transaction, &run.0.to_string()).map_err(error)?.is_some() {
            return Err(refused("the journal already contains it"));
        }
        for (event, payload) in events.iter().zip(payloads) {
            payload.restore_blob(&self.blobs)?;
            insert_event(&transaction, event, None, &payload).map_err(error)?;
        }
        transaction.execute("INSERT INTO foreign_runs (run) VALUES (?1)", [run.0.to_string()]).map_err(error)?;
        crash_point!("import::commit");
        transaction.commit().map_err(error)?;
        crash_point!("import::committed");
        Ok(())
    }
}

impl Journal {
    /// The reason why every run counts as foreign although orch may have written it; `None` if the origin is known.
    pub fn unknown_origin_reason(&self) -> Option<String> {
        match &self.origin {
            JournalOrigin::Unknown(KeyUnavailable(reason)) => {
                Some(format!("orch can't determine whether it wrote the runs here: {reason}"))
            }
            JournalOrigin::Own | JournalOrigin::Foreign => None,
        }
    }

    pub(super) fn all_runs_are_foreign(&self) -> bool {
        !matches!(self.origin, JournalOrigin::Own)
    }

    /// Whether a run is foreign: its records came from another machine or user. The user must then name its workspace
    /// and its project.
    pub fn is_foreign(&self, run: RunId) -> Result<bool, StoreError> {
        if self.all_runs_are_foreign() {
            return Ok(true);
        }
        let sql = "SELECT 1 FROM foreign_runs WHERE run = ?1";
        let row = self.reader.query_row(sql, [run.0.to_string()], |_| Ok(())).optional();
        row.map(|row| row.is_some()).map_err(|source| self.read_error(source))
    }
}

/// Checks that the events belong to one run, begin with its start and have no gaps.
fn check_completeness(run: RunId, events: &[Event]) -> Result<(), &'static str> {
    if !matches!(events.first(), Some(Event { fact: Fact::RunStarted(_), .. })) {
        return Err("its first event is not its start");
    }
    if events.iter().any(|event| event.run != run) {
        return Err("some events belong to another run");
    }
    if (1..).zip(events).any(|(seq, event)| event.seq != seq) {
        return Err("some events are missing");
    }
    Ok(())
}
