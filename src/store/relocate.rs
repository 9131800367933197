//! Updates the paths of workspaces in the journal after a project was moved or copied, so that orch still recognizes
//! the files that it wrote there.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::model::RunId;

use super::journal_origin::{JournalOrigin, OriginNote, mark_all_runs_foreign};
use super::signing_key::SigningKey;
use super::{Journal, StoreError};

impl Journal {
    /// If the project has moved since the journal was last opened, updates the paths of the workspaces inside the
    /// project. If the journal is foreign, marks all of its runs as foreign.
    pub(super) fn update_location(&mut self, key: Option<&SigningKey>) -> Result<(), StoreError> {
        let Some(project_folder) = self.folder.path().parent() else { return Ok(()) };
        let recorded_folder = OriginNote::read(&self.folder)?.map(|note| note.project_folder);
        let is_foreign = matches!(self.origin, JournalOrigin::Foreign);
        if is_foreign && let Some(damage) = self.full_check()? {
            // In a damaged database, a query that uses an index may miss rows of the table, so some runs would not be
            // marked.
            return Err(self.damage_error(damage));
        }
        if is_foreign || recorded_folder.as_deref() != Some(project_folder) {
            self.update_paths(recorded_folder.as_deref(), project_folder, is_foreign)
                .map_err(|source| self.sqlite_error("write", source))?;
        }
        if is_foreign {
            // All existing runs are marked as foreign now, and orch will add only runs of this user.
            self.origin = JournalOrigin::Own;
        }
        if key.is_none() && recorded_folder.as_deref() == Some(project_folder) {
            // Keep the existing note, since its seal may be valid and there is no key for another seal.
            return Ok(());
        }
        OriginNote::write(&self.folder, project_folder, key)
    }

    fn update_paths(&self, old_folder: Option<&Path>, project_folder: &Path, is_foreign: bool) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)?;
        if is_foreign {
            mark_all_runs_foreign(&transaction)?;
        }
        if let Some(old_folder) = old_folder.filter(|old_folder| *old_folder != project_folder) {
            move_workspaces(&transaction, old_folder, project_folder, is_foreign)?;
        }
        if is_foreign {
            delete_outside_records(&transaction, project_folder)?;
        }
        transaction.commit()
    }

    /// Records the new path of a moved workspace, so that orch recognizes its own files there. Does nothing for a
    /// foreign run, since its record may contain the path of a workspace of other runs.
    pub fn record_workspace_move(&self, run: RunId, old_path: &str, new_path: &str) -> Result<(), StoreError> {
        if old_path == new_path || self.is_foreign(run)? {
            return Ok(());
        }
        let result =
            Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate).and_then(|transaction| {
                rename_workspace(&transaction, old_path, new_path).and_then(|()| transaction.commit())
            });
        result.map_err(|source| self.sqlite_error("write", source))
    }
}

/// Changes the recorded path of each workspace inside `old_folder` to the same relative path inside `new_folder`. Skips
/// a workspace that does not exist at its new path, unless `include_missing` is set.
fn move_workspaces(
    transaction: &Transaction<'_>,
    old_folder: &Path,
    new_folder: &Path,
    include_missing: bool,
) -> rusqlite::Result<()> {
    let sql = "SELECT workspace FROM runs UNION SELECT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for old_path in names.iter().filter(|name| has_no_parent_component(name)) {
        let Some(new_path) =
            relocate_path(Path::new(old_path), old_folder, new_folder).filter(|path| include_missing || path.is_dir())
        else {
            continue;
        };
        rename_workspace(transaction, old_path, &new_path.display().to_string())?;
    }
    Ok(())
}

/// Deletes the records of files outside the project. Otherwise a foreign journal could make orch treat any file of the
/// user as its own.
fn delete_outside_records(transaction: &Transaction<'_>, project_folder: &Path) -> rusqlite::Result<()> {
    let sql = "SELECT DISTINCT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in
        names.iter().filter(|name| !has_no_parent_component(name) || !Path::new(name).starts_with(project_folder))
    {
        transaction.execute("DELETE FROM files WHERE workspace = ?1", [name])?;
    }
    Ok(())
}

fn rename_workspace(transaction: &Transaction<'_>, old_path: &str, new_path: &str) -> rusqlite::Result<()> {
    transaction.execute("UPDATE runs SET workspace = ?2 WHERE workspace = ?1", params![old_path, new_path])?;
    transaction
        .execute("UPDATE OR REPLACE files SET workspace = ?2 WHERE workspace = ?1", params![old_path, new_path])?;
    Ok(())
}

/// Whether a path has no `..`.
fn has_no_parent_component(path: &str) -> bool {
    !Path::new(path).components().any(|component| matches!(component, Component::ParentDir))
}

/// Returns the path inside `new_folder` that corresponds to `path` inside `old_folder`; `None` if `path` is not inside
/// `old_folder`.
pub fn relocate_path(path: &Path, old_folder: &Path, new_folder: &Path) -> Option<PathBuf> {
    path.strip_prefix(old_folder).ok().map(|relative| new_folder.join(relative))
}
