//! Deletes the records of runs. The caller then removes the blobs that no other run uses ([`Journal::remove_blobs`]).

use std::path::Path;

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::crash::crash_point;
use crate::model::RunId;

use super::event_ids::EventIds;
use super::gc::used_blobs;
use super::{Journal, StoreError, Workspace};

/// The tables with the ids of runs, except `files`, whose rows [`Journal::delete_file_records`] deletes.
const TABLES: &[&str] = &["run_numbers", "runs", "inbox", "outbox", "foreign_runs"];

/// The data that a deletion of runs removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionSummary {
    /// The number of events.
    pub events: usize,
    /// The digests of the blobs that these events used. Other runs may use the same blobs.
    pub blobs: Vec<String>,
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
            if let Some(ids) = EventIds::find(&transaction, &run).map_err(error)? {
                deleted.blobs.extend(used_blobs(&transaction, Some(ids)).map_err(error)?);
                let sql = "DELETE FROM events WHERE id BETWEEN ?1 AND ?2";
                deleted.events += transaction.execute(sql, [ids.base(), ids.last()]).map_err(error)?;
                let sql = "DELETE FROM results WHERE event BETWEEN ?1 AND ?2";
                transaction.execute(sql, [ids.base(), ids.last()]).map_err(error)?;
            }
            self.delete_file_records(&transaction, &run)?;
            for table in TABLES {
                transaction.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [&run]).map_err(error)?;
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
            // A workspace or a file that is unreadable now may be readable later, so keep its record.
            let is_unchanged = match Workspace::open_existing(Path::new(&workspace_path)) {
                Ok(Some(workspace)) => workspace
                    .digest(&path)
                    .map_or(true, |current| current.is_some_and(|current| current.as_str() == digest)),
                Ok(None) => false,
                Err(_) => true,
            };
            if !is_unchanged {
                let sql = "DELETE FROM files WHERE workspace = ?1 AND path = ?2 AND digest = ?3";
                transaction.execute(sql, params![workspace_path, path, digest]).map_err(error)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn the_record_of_a_file_is_kept_while_its_workspace_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let journal = Journal::open(&root.join("state")).unwrap();
        let run = RunId(uuid::Uuid::now_v7());
        std::fs::write(root.join("file"), "").unwrap();
        std::fs::create_dir(root.join("empty")).unwrap();
        let workspaces = ["file", "empty", "missing"].map(|name| root.join(name).display().to_string());
        for workspace in &workspaces {
            let sql = "INSERT INTO files (workspace, path, digest, run, event) VALUES (?1, 'a', ?2, ?3, 1)";
            let digest = Digest::compute(b"text");
            journal.reader.execute(sql, params![workspace, digest.as_str(), run.0.to_string()]).unwrap();
        }
        journal.delete(&[run]).unwrap();
        let record_count = |workspace: &String| journal.owned_files(workspace).unwrap().paths().len();
        // orch can't open a file as a workspace. The other workspaces certainly lack the file `a`.
        assert_eq!(workspaces.each_ref().map(record_count), [1, 0, 0]);
    }
}
