//! Imports a run that was recorded elsewhere.

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior};

use crate::crash::crash_point;
use crate::model::RunId;
use crate::model::event::{Event, Fact};

use super::key::NoKey;
use super::origin::JournalOrigin;
use super::writer::{Payload, insert};
use super::{Journal, StoreError};

impl Journal {
    /// Records the events of a run that this journal does not have, and marks the run as one from elsewhere. Does not
    /// record the files in its workspace as written by orch: only runs of this journal prove that.
    pub fn import(&self, run: RunId, events: &[Event]) -> Result<(), StoreError> {
        let refused = |why: &str| StoreError::Refused { run: run.to_string(), why: why.to_owned() };
        whole(run, events).map_err(refused)?;
        let error = |source| self.failed("write", source);
        let mut payloads = Vec::with_capacity(events.len());
        for event in events {
            payloads.push(Payload::of(event, &self.blobs)?);
        }
        let transaction = Transaction::new_unchecked(&self.reader, TransactionBehavior::Immediate).map_err(error)?;
        let sql = "SELECT 1 FROM events WHERE run = ?1 LIMIT 1";
        let found = transaction.query_row(sql, [run.0.to_string()], |_| Ok(())).optional().map_err(error)?;
        if found.is_some() {
            return Err(refused("it is here already"));
        }
        for (event, payload) in events.iter().zip(payloads) {
            payload.secure(&self.blobs)?;
            insert(&transaction, event, None, &payload).map_err(error)?;
        }
        transaction.execute("INSERT INTO foreign_runs (run) VALUES (?1)", [run.0.to_string()]).map_err(error)?;
        crash_point!("import::commit");
        transaction.commit().map_err(error)?;
        crash_point!("import::committed");
        Ok(())
    }
}

impl Journal {
    /// Why every run counts as one from elsewhere; `None` if orch can tell which runs it wrote here.
    pub fn why_all_foreign(&self) -> Option<String> {
        match &self.origin {
            JournalOrigin::Unknown(NoKey(why)) => {
                Some(format!("orch can't tell whether it wrote the runs here: {why}"))
            }
            JournalOrigin::Own | JournalOrigin::Elsewhere => None,
        }
    }

    pub(super) fn is_all_foreign(&self) -> bool {
        !matches!(self.origin, JournalOrigin::Own)
    }

    /// Whether the records of a run came from elsewhere; then the user must name its workspace and its project.
    pub fn is_foreign(&self, run: RunId) -> Result<bool, StoreError> {
        if self.is_all_foreign() {
            return Ok(true);
        }
        let sql = "SELECT 1 FROM foreign_runs WHERE run = ?1";
        let found = self.reader.query_row(sql, [run.0.to_string()], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(|source| self.error(source))
    }
}

/// Checks that events are those of one run from its start, with none missing.
fn whole(run: RunId, events: &[Event]) -> Result<(), &'static str> {
    if !matches!(events.first(), Some(Event { fact: Fact::RunStarted(_), .. })) {
        return Err("its first event is not its start");
    }
    if events.iter().any(|event| event.run != run) {
        return Err("some events are of another run");
    }
    if (1..).zip(events).any(|(seq, event)| event.seq != seq) {
        return Err("some events are missing");
    }
    Ok(())
}
