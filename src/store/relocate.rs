//! Updates the journal after a project was moved or copied: its workspaces have new paths, and orch still owns the
//! files that it wrote there.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::model::RunId;

use super::key::UserKey;
use super::origin::{JournalOrigin, OriginNote, mark_all_runs_foreign};
use super::{Journal, StoreError};

impl Journal {
    /// Updates the paths of workspaces inside the project if the project has moved since the journal was last opened,
    /// and marks the runs of a journal from elsewhere.
    pub(super) fn update_location(&mut self, key: Option<&UserKey>) -> Result<(), StoreError> {
        let Some(home) = self.folder.path().parent() else { return Ok(()) };
        let recorded_home = OriginNote::read(&self.folder)?.map(|note| note.project_folder);
        let is_foreign = matches!(self.origin, JournalOrigin::Elsewhere);
        if is_foreign && let Some(damage) = self.full_check()? {
            // In a damaged database, a query by index may miss rows that are in the table, and runs would stay
            // unmarked.
            return Err(self.damage_error(damage));
        }
        if is_foreign || recorded_home.as_deref() != Some(home) {
            self.update_paths(recorded_home.as_deref(), home, is_foreign)
                .map_err(|source| self.sqlite_error("write", source))?;
        }
        if is_foreign {
            // Every run from elsewhere is marked now, and orch records only runs of this user from now on.
            self.origin = JournalOrigin::Own;
        }
        if key.is_none() && recorded_home.as_deref() == Some(home) {
            // Keep an earlier seal, since there is no key for a new one.
            return Ok(());
        }
        OriginNote::write(&self.folder, home, key)
    }

    fn update_paths(&self, from: Option<&Path>, home: &Path, is_foreign: bool) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)?;
        if is_foreign {
            mark_all_runs_foreign(&transaction)?;
        }
        if let Some(from) = from.filter(|from| *from != home) {
            move_workspaces(&transaction, from, home, is_foreign)?;
        }
        if is_foreign {
            forget_outside(&transaction, home)?;
        }
        transaction.commit()
    }

    /// Records the new path of a moved workspace, so that orch recognizes its own files there. Does nothing for a run
    /// from elsewhere, since its record may name the workspace of other runs.
    pub fn record_workspace_move(&self, run: RunId, from: &str, to: &str) -> Result<(), StoreError> {
        if from == to || self.is_foreign(run)? {
            return Ok(());
        }
        let result = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)
            .and_then(|transaction| rename_workspace(&transaction, from, to).and_then(|()| transaction.commit()));
        result.map_err(|source| self.sqlite_error("write", source))
    }
}

/// Changes the recorded paths of workspaces inside `from` to the same relative paths inside `to`. Leaves workspaces
/// that do not exist at the new path unchanged, unless `include_missing` is set.
fn move_workspaces(
    transaction: &Transaction<'_>,
    from: &Path,
    to: &Path,
    include_missing: bool,
) -> rusqlite::Result<()> {
    let sql = "SELECT workspace FROM runs UNION SELECT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for old_path in names.iter().filter(|name| is_plain(name)) {
        let Some(new_path) =
            relocate_path(Path::new(old_path), from, to).filter(|path| include_missing || path.is_dir())
        else {
            continue;
        };
        rename_workspace(transaction, old_path, &new_path.display().to_string())?;
    }
    Ok(())
}

/// Deletes the records of files outside the project, so that orch does not treat them as its own because of a foreign
/// journal.
fn forget_outside(transaction: &Transaction<'_>, home: &Path) -> rusqlite::Result<()> {
    let sql = "SELECT DISTINCT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in names.iter().filter(|name| !is_plain(name) || !Path::new(name).starts_with(home)) {
        transaction.execute("DELETE FROM files WHERE workspace = ?1", [name])?;
    }
    Ok(())
}

fn rename_workspace(transaction: &Transaction<'_>, from: &str, to: &str) -> rusqlite::Result<()> {
    transaction.execute("UPDATE runs SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    transaction.execute("UPDATE OR REPLACE files SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    Ok(())
}

/// Whether a path has no `..`.
fn is_plain(path: &str) -> bool {
    !Path::new(path).components().any(|component| matches!(component, Component::ParentDir))
}

/// The path inside `to` that corresponds to `path` inside `from`; `None` if `path` is not inside `from`.
pub fn relocate_path(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    path.strip_prefix(from).ok().map(|rest| to.join(rest))
}
