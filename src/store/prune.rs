//! Deletes runs, and removes the blobs that no run uses.
//!
//! First deletes rows in one transaction. Then removes blobs while it holds the write lock of the database, so that no
//! other process can commit an event that uses them. If the process dies in between, the next sweep removes the
//! remaining blobs.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::crash::crash_point;
use crate::folder::NoFollowFile;
use crate::model::RunId;

use super::journal::AGENTS_FOLDER;
use super::{Journal, StoreError, Workspace};

/// The tables whose rows belong to one run, except `files`, whose rows [`Journal::delete_file_records`] deletes.
const TABLES: &[&str] = &["events", "runs", "inbox", "outbox", "results", "foreign_runs"];

/// The minimum age of a temporary file that counts as a leftover of a process that died.
const MIN_STALE_AGE: Duration = Duration::from_hours(1);

/// The data that a deletion of runs removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionSummary {
    /// The number of events.
    pub events: usize,
    /// The digests of the blobs that these events used. Other runs may use the same blobs.
    pub blobs: Vec<String>,
}

/// The blobs that a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// The number of blobs.
    pub blobs: usize,
    /// Their total size in bytes.
    pub bytes: u64,
}

impl Journal {
    /// Deletes the records of runs. The caller holds their locks. Keeps the records of files that have not changed
    /// since, so that orch still recognizes these files as its own.
    pub fn delete(&self, runs: &[RunId]) -> Result<DeletionSummary, StoreError> {
        let error = |source| self.sqlite_error("write", source);
        // Make SQLite overwrite deleted data, so that it does not remain in free pages of the database.
        self.reader.execute_batch("PRAGMA secure_delete = ON;").map_err(error)?;
        let mut deleted = DeletionSummary::default();
        let transaction = Transaction::new_unchecked(&self.reader, TransactionBehavior::Immediate).map_err(error)?;
        for run in runs {
            let run = run.0.to_string();
            deleted.blobs.extend(used_blobs(&transaction, Some(&run)).map_err(error)?);
            self.delete_file_records(&transaction, &run)?;
            for table in TABLES {
                let sql = format!("DELETE FROM {table} WHERE run = ?1");
                let count = transaction.execute(&sql, [&run]).map_err(error)?;
                deleted.events += if *table == "events" { count } else { 0 };
            }
        }
        crash_point!("delete::commit");
        transaction.commit().map_err(error)?;
        crash_point!("delete::committed");
        runs.iter().try_for_each(|run| self.remove_agent_folder(&run.0.to_string()))?;
        crash_point!("delete::agent_folders_removed");
        Ok(deleted)
    }

    /// Deletes the records of files that a run wrote and that have been changed or deleted since.
    fn delete_file_records(&self, transaction: &Transaction<'_>, run: &str) -> Result<(), StoreError> {
        let error = |source| self.sqlite_error("write", source);
        let mut statement =
            transaction.prepare_cached("SELECT workspace, path, digest FROM files WHERE run = ?1").map_err(error)?;
        let rows = statement.query_map([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(error)?;
        let rows: Vec<(String, String, String)> = rows.collect::<Result<_, _>>().map_err(error)?;
        for (workspace_path, path, digest) in rows {
            // A file that is unreadable now may be readable later, so keep its record.
            let is_unchanged = match Workspace::open_existing(Path::new(&workspace_path)).ok().flatten() {
                Some(workspace) => workspace
                    .digest(&path)
                    .map_or(true, |current| current.is_some_and(|current| current.as_str() == digest)),
                None => false,
            };
            if !is_unchanged {
                let sql = "DELETE FROM files WHERE workspace = ?1 AND path = ?2 AND digest = ?3";
                transaction.execute(sql, params![workspace_path, path, digest]).map_err(error)?;
            }
        }
        Ok(())
    }

    /// Removes the blobs in `blobs` that no event uses.
    pub fn sweep(&self, blobs: &[String]) -> Result<SweepSummary, StoreError> {
        if blobs.is_empty() {
            return Ok(SweepSummary::default());
        }
        let files = blobs.iter().map(|digest| self.blobs.file(digest)).filter(NoFollowFile::exists).collect();
        self.remove_unused(files, true)
    }

    /// Removes every blob that no event uses, and the leftovers of processes that died. Without `remove`, only counts
    /// the blobs.
    pub fn sweep_all(&self, remove: bool) -> Result<SweepSummary, StoreError> {
        let files = self.blobs.files()?;
        if remove {
            self.sweep_agent_folders()?;
            for file in files.iter().filter(|file| is_temporary(file) && is_stale(file)) {
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
            }
        }
        self.remove_unused(files.into_iter().filter(|file| !is_temporary(file)).collect(), remove)
    }

    /// Removes the folders that CLI agents used in runs that no longer exist. Such a folder remains if a process dies
    /// while it deletes a run.
    fn sweep_agent_folders(&self) -> Result<(), StoreError> {
        let folder = self.state_folder().join(AGENTS_FOLDER);
        for (name, _) in self.folder.list(AGENTS_FOLDER).map_err(StoreError::io("list", &folder))? {
            let Ok(run) = uuid::Uuid::parse_str(&name) else { continue };
            let sql = "SELECT 1 FROM events WHERE run = ?1 LIMIT 1";
            let first_event = self.reader.query_row(sql, [run.to_string()], |_| Ok(())).optional();
            // orch creates such a folder only after the first event of the run.
            if first_event.map_err(|source| self.sqlite_error("read", source))?.is_none() {
                self.remove_agent_folder(&name)?;
            }
        }
        Ok(())
    }

    fn remove_agent_folder(&self, name: &str) -> Result<(), StoreError> {
        let name = format!("{AGENTS_FOLDER}/{name}");
        self.folder.remove_tree(&name).map_err(StoreError::io("remove", &self.state_folder().join(&name)))
    }

    fn remove_unused(&self, files: Vec<NoFollowFile>, remove: bool) -> Result<SweepSummary, StoreError> {
        let error = |source| self.sqlite_error("write", source);
        // Hold the write lock during the removal: a writer checks its blobs again after it acquires this lock.
        let transaction = Transaction::new_unchecked(&self.reader, TransactionBehavior::Immediate).map_err(error)?;
        let used: HashSet<String> = used_blobs(&transaction, None).map_err(error)?.into_iter().collect();
        let mut swept = SweepSummary::default();
        for file in files.iter().filter(|file| !used.contains(file.file_name())) {
            swept.bytes += file.metadata().map_err(StoreError::io("read", &file.path()))?.len();
            swept.blobs += 1;
            if remove {
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
                crash_point!("sweep::removed");
            }
        }
        transaction.commit().map_err(error)?;
        crash_point!("sweep::committed");
        Ok(swept)
    }

    /// Frees the disk space of deleted runs. Temporarily needs space for a copy of the journal.
    pub fn compact(&self) -> Result<(), StoreError> {
        let sql = "VACUUM; PRAGMA wal_checkpoint(TRUNCATE);";
        self.reader.execute_batch(sql).map_err(|source| self.sqlite_error("compact", source))
    }
}

/// The digests of the blobs that the events of one run use, or of all runs.
fn used_blobs(connection: &Connection, run: Option<&str>) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(match run {
        Some(_) => "SELECT DISTINCT blob FROM events WHERE blob IS NOT NULL AND run = ?1",
        None => "SELECT DISTINCT blob FROM events WHERE blob IS NOT NULL AND ?1 IS NULL",
    })?;
    let rows = statement.query_map([run], |row| row.get(0))?;
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
    use crate::model::{Failure, RunStatus};
    use crate::store::writer::Payload;

    #[test]
    fn a_blob_swept_before_the_commit_of_its_event_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let failure = Failure::new(crate::model::FailureClass::Storage, "x".repeat(100_000));
        let fact = Fact::RunEnded(RunEnded { status: RunStatus::Failed, failure: Some(failure), result: None });
        let event = Event { run: RunId(uuid::Uuid::now_v7()), seq: 1, at: jiff::Timestamp::UNIX_EPOCH, fact };
        let payload = Payload::from_event(&event, &journal.blobs).unwrap();
        assert_eq!(journal.sweep_all(false).unwrap().blobs, 1);
        assert_eq!(journal.blobs.files().unwrap().len(), 1, "a sweep without `remove` removes nothing");
        assert_eq!(journal.sweep_all(true).unwrap().blobs, 1);
        assert!(journal.blobs.files().unwrap().is_empty());
        payload.restore_blob(&journal.blobs).unwrap();
        assert_eq!(journal.blobs.files().unwrap().len(), 1);
    }
}
