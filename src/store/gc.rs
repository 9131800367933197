//! Garbage collection: removes the blobs that no run uses, and what processes that died left behind.
//!
//! Removes blobs while it holds the write lock of the database, so that no other process can commit an event that uses
//! them. If a process dies after it deleted runs and before it removed their blobs, the next garbage collection removes
//! them.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::crash::crash_point;
use crate::folder::NoFollowFile;

use super::event_ids::EventIds;
use super::state_files::AGENTS_FOLDER;
use super::{Journal, StoreError};

/// The minimum age of a temporary file that counts as a leftover of a process that died.
const MIN_STALE_AGE: Duration = Duration::from_hours(1);

/// The blobs that a garbage collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcSummary {
    /// The number of blobs.
    pub blobs: usize,
    /// Their total size in bytes.
    pub bytes: u64,
}

impl Journal {
    /// Removes the blobs in `blobs` that no event uses.
    pub fn remove_blobs(&self, blobs: &[String]) -> Result<GcSummary, StoreError> {
        if blobs.is_empty() {
            return Ok(GcSummary::default());
        }
        let files = blobs.iter().map(|digest| self.blobs.file(digest)).filter(NoFollowFile::exists).collect();
        self.remove_unused_blobs(files, true)
    }

    /// Removes every blob that no event uses, and the leftovers of processes that died. Without `remove`, only counts
    /// the blobs.
    pub fn collect_garbage(&self, remove: bool) -> Result<GcSummary, StoreError> {
        let files = self.blobs.files()?;
        if remove {
            self.remove_unused_agent_folders()?;
            for file in files.iter().filter(|file| is_temporary(file) && is_stale(file)) {
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
            }
        }
        self.remove_unused_blobs(files.into_iter().filter(|file| !is_temporary(file)).collect(), remove)
    }

    /// Removes the folders that CLI agents used in runs that no longer exist. Such a folder remains if a process dies
    /// while it deletes a run.
    fn remove_unused_agent_folders(&self) -> Result<(), StoreError> {
        let folder = self.state_folder().join(AGENTS_FOLDER);
        for (name, _) in self.folder.list(AGENTS_FOLDER).map_err(StoreError::io("list", &folder))? {
            let Ok(run) = uuid::Uuid::parse_str(&name) else { continue };
            let event_ids = EventIds::find(&self.reader, &run.to_string());
            // orch creates such a folder only after the first event of the run.
            if event_ids.map_err(|source| self.sqlite_error("read", source))?.is_none() {
                self.remove_agent_folder(&name)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_agent_folder(&self, name: &str) -> Result<(), StoreError> {
        let name = format!("{AGENTS_FOLDER}/{name}");
        self.folder.remove_tree(&name).map_err(StoreError::io("remove", &self.state_folder().join(&name)))
    }

    fn remove_unused_blobs(&self, files: Vec<NoFollowFile>, remove: bool) -> Result<GcSummary, StoreError> {
        let error = |source| self.sqlite_error("write", source);
        // Hold the write lock during the removal: a writer checks its blobs again after it acquires this lock.
        let transaction = Transaction::new_unchecked(&self.reader, TransactionBehavior::Immediate).map_err(error)?;
        let used: HashSet<String> = used_blobs(&transaction, None).map_err(error)?.into_iter().collect();
        let mut removed = GcSummary::default();
        for file in files.iter().filter(|file| !used.contains(file.file_name())) {
            removed.bytes += file.metadata().map_err(StoreError::io("read", &file.path()))?.len();
            removed.blobs += 1;
            if remove {
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
                crash_point!("gc::removed");
            }
        }
        transaction.commit().map_err(error)?;
        crash_point!("gc::committed");
        Ok(removed)
    }

    /// Frees the disk space of deleted runs. Temporarily needs space for a copy of the journal.
    pub fn compact(&self) -> Result<(), StoreError> {
        let sql = "VACUUM; PRAGMA wal_checkpoint(TRUNCATE);";
        self.reader.execute_batch(sql).map_err(|source| self.sqlite_error("compact", source))
    }
}

/// The digests of the blobs that the events of one run use, or of all runs.
pub(super) fn used_blobs(connection: &Connection, run: Option<EventIds>) -> rusqlite::Result<Vec<String>> {
    let (first, last) = run.map_or((i64::MIN, i64::MAX), |ids| (ids.base(), ids.last()));
    let sql = "SELECT DISTINCT blob FROM events WHERE blob IS NOT NULL AND id BETWEEN ?1 AND ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([first, last], |row| row.get(0))?;
    rows.collect()
}

fn is_temporary(file: &NoFollowFile) -> bool {
    file.file_name().starts_with('.')
}

fn is_stale(file: &NoFollowFile) -> bool {
    file.modified().is_ok_and(|modified| modified.elapsed().unwrap_or_default() > MIN_STALE_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Event, Fact, RunEnded};
    use crate::model::{Failure, RunId, RunStatus};
    use crate::store::payload::Payload;

    #[test]
    fn a_blob_collected_before_the_commit_of_its_event_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let failure = Failure::new(crate::model::FailureClass::Storage, "x".repeat(100_000));
        let fact = Fact::RunEnded(RunEnded { status: RunStatus::Failed, failure: Some(failure), result: None });
        let event = Event { run: RunId(uuid::Uuid::now_v7()), seq: 1, at: jiff::Timestamp::UNIX_EPOCH, fact };
        let payload = Payload::from_event(&event, &journal.blobs, |_| Ok(None)).unwrap();
        assert_eq!(journal.collect_garbage(false).unwrap().blobs, 1);
        assert_eq!(journal.blobs.files().unwrap().len(), 1, "a garbage collection without `remove` removes nothing");
        assert_eq!(journal.collect_garbage(true).unwrap().blobs, 1);
        assert!(journal.blobs.files().unwrap().is_empty());
        payload.restore_blob(&journal.blobs).unwrap();
        assert_eq!(journal.blobs.files().unwrap().len(), 1);
    }
}
