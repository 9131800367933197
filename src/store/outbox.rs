//! The delivery cursors: the last event of each run that each tracker has received.
//!
//! The journal contains the events to deliver, so the outbox stores only cursors. A cursor advances after a delivery.
//! If the process dies before that, the next process repeats the delivery, so receivers must tolerate duplicates.

use std::path::Path;

use rusqlite::{OptionalExtension as _, params};

use super::lock::Lock;
use super::{Journal, LockError, StoreError};
use crate::model::{Event, RunId};

/// The progress of the delivery of a run to a tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCursor {
    /// The last event that needs no more deliveries; 0 if there is none.
    pub seq: u64,
    /// The first event that the tracker refused, if any.
    pub first_refused: Option<u64>,
    /// The tracker's reason for refusing it.
    pub refusal_reason: Option<String>,
}

/// The delivery cursors of a journal. They use their own database connection.
#[derive(Debug)]
pub struct Outbox(Journal);

impl Outbox {
    /// Opens the outbox of a state folder.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let journal = Journal::open(state)?;
        // A power failure may lose a cursor, which only leads to a second delivery. So do not wait for the disk.
        let result = journal.reader.execute_batch("PRAGMA synchronous = NORMAL;");
        result.map_err(|error| journal.read_error(error))?;
        Ok(Self(journal))
    }

    /// Acquires the lock for the delivery of a run to a tracker; only the holder of the lock delivers.
    pub fn lock(&self, tracker: &str, run: RunId) -> Result<Lock, LockError> {
        let lock_file = self.0.folder.file(format!("locks/{}.{tracker}.lock", run.0));
        let resource = format!("the delivery of run {run} to {tracker}");
        Lock::acquire(&lock_file, &resource, &format!("process {}", std::process::id()))
            .map(Lock::ignoring_former_owner)
    }

    /// The events of a run after the event `seq`, in order. They are on disk, so that no tracker receives an event that
    /// a power failure then removes.
    pub fn events_after(&self, run: RunId, seq: u64) -> Result<Vec<Event>, StoreError> {
        let events = self.0.events_after(run, seq)?;
        if !events.is_empty() {
            self.0.sync_log()?;
        }
        Ok(events)
    }

    /// The delivery cursor of a tracker for a run; `None` if the tracker does not follow the run.
    pub fn cursor(&self, tracker: &str, run: RunId) -> Result<Option<DeliveryCursor>, StoreError> {
        let row = self
            .0
            .reader
            .prepare_cached("SELECT seq, refused, why FROM outbox WHERE tracker = ?1 AND run = ?2")
            .and_then(|mut statement| {
                let read_row =
                    |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?));
                statement.query_row(params![tracker, run.0.to_string()], read_row).optional()
            })
            .map_err(|error| self.0.read_error(error))?;
        let to_u64 = |seq: i64| u64::try_from(seq).unwrap_or_default();
        Ok(row.map(|(seq, refused, refusal_reason)| DeliveryCursor {
            seq: to_u64(seq),
            first_refused: refused.map(to_u64),
            refusal_reason,
        }))
    }

    /// Records the delivery cursor of a tracker for a run.
    pub fn advance(&self, tracker: &str, run: RunId, cursor: &DeliveryCursor) -> Result<(), StoreError> {
        let to_i64 = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        self.0
            .reader
            .prepare_cached(
                "INSERT OR REPLACE INTO outbox (tracker, run, seq, refused, why) VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut statement| {
                let refused = cursor.first_refused.map(to_i64);
                statement.execute(params![
                    tracker,
                    run.0.to_string(),
                    to_i64(cursor.seq),
                    refused,
                    cursor.refusal_reason
                ])
            })
            .map_err(|error| StoreError::Journal { operation: "write", path: self.0.path.clone(), source: error })?;
        Ok(())
    }

    /// The runs that at least one tracker follows, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>, StoreError> {
        let error = |error| self.0.read_error(error);
        // Run ids sort by time.
        let mut statement =
            self.0.reader.prepare_cached("SELECT DISTINCT run FROM outbox ORDER BY run").map_err(error)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(error)?;
        let mut runs = Vec::new();
        for row in rows {
            let text = row.map_err(error)?;
            let id = uuid::Uuid::parse_str(&text);
            runs.push(RunId(id.map_err(|error| StoreError::Damaged {
                path: self.0.path.clone(),
                problem: format!("the outbox contains the invalid run id `{text}`: {error}"),
            })?));
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_cursor_is_returned_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let run = RunId(uuid::Uuid::now_v7());
        assert_eq!(outbox.cursor("convex", run).unwrap(), None);
        let cursor = DeliveryCursor { seq: 7, first_refused: Some(3), refusal_reason: Some("no".into()) };
        outbox.advance("convex", run, &DeliveryCursor::default()).unwrap();
        outbox.advance("convex", run, &cursor).unwrap();
        assert_eq!(outbox.cursor("convex", run).unwrap(), Some(cursor));
        assert_eq!(outbox.cursor("webhook", run).unwrap(), None);
        assert_eq!(outbox.runs().unwrap(), [run]);
    }

    #[test]
    fn only_one_process_delivers_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let run = RunId(uuid::Uuid::now_v7());
        let _lock = outbox.lock("convex", run).unwrap();
        let second = outbox.lock("convex", run).unwrap_err();
        assert!(second.to_string().contains("is in use by process"), "{second}");
        outbox.lock("webhook", run).unwrap();
    }
}
