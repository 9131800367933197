//! Follows a project that was moved or copied since its journal was last opened: its workspaces have other paths now,
//! and orch still owns the files that it wrote there.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::model::RunId;

use super::key::UserKey;
use super::origin::{JournalOrigin, Note, mark_all};
use super::{Journal, StoreError};

impl Journal {
    /// Updates the paths of workspaces inside the project if the project has moved since last time, and marks the runs
    /// of a journal from elsewhere.
    pub(super) fn settle_in(&mut self, key: Option<&UserKey>) -> Result<(), StoreError> {
        let Some(home) = self.folder.path().parent() else { return Ok(()) };
        let known = Note::read(&self.folder)?.map(|note| note.home);
        let foreign = matches!(self.origin, JournalOrigin::Elsewhere);
        if foreign && let Some(what) = self.integrity_of_all()? {
            // In a damaged database, a query by index may miss rows that are in the table, and runs would stay
            // unmarked.
            return Err(self.damaged(what));
        }
        if foreign || known.as_deref() != Some(home) {
            self.come(known.as_deref(), home, foreign).map_err(|source| self.failed("write", source))?;
        }
        if foreign {
            // Every run from elsewhere is marked now; runs that are recorded from here on are this user's.
            self.origin = JournalOrigin::Own;
        }
        if key.is_none() && known.as_deref() == Some(home) {
            // Keep an earlier seal, since there is no key for a new one.
            return Ok(());
        }
        Note::write(&self.folder, home, key)
    }

    fn come(&self, from: Option<&Path>, home: &Path, foreign: bool) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)?;
        if foreign {
            mark_all(&transaction)?;
        }
        if let Some(from) = from.filter(|from| *from != home) {
            follow(&transaction, from, home, foreign)?;
        }
        if foreign {
            forget_outside(&transaction, home)?;
        }
        transaction.commit()
    }

    /// Records the new path of a moved workspace, so that orch knows its files there as its own. Does nothing for a run
    /// from elsewhere: what its record calls the workspace may be that of other runs.
    pub fn workspace_moved(&self, run: RunId, from: &str, to: &str) -> Result<(), StoreError> {
        if from == to || self.is_foreign(run)? {
            return Ok(());
        }
        let moved = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)
            .and_then(|transaction| rename(&transaction, from, to).and_then(|()| transaction.commit()));
        moved.map_err(|source| self.failed("write", source))
    }
}

/// Moves the recorded workspaces inside `from` to the same place inside `to`. Those that do not exist there keep their
/// paths, unless `all` is set.
fn follow(transaction: &Transaction<'_>, from: &Path, to: &Path, all: bool) -> rusqlite::Result<()> {
    let sql = "SELECT workspace FROM runs UNION SELECT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for old in names.iter().filter(|name| is_plain(name)) {
        let Some(new) = inside(Path::new(old), from, to).filter(|new| all || new.is_dir()) else { continue };
        rename(transaction, old, &new.display().to_string())?;
    }
    Ok(())
}

/// Forgets recorded files outside the project, so that a foreign journal can't make orch take them for its own.
fn forget_outside(transaction: &Transaction<'_>, home: &Path) -> rusqlite::Result<()> {
    let sql = "SELECT DISTINCT workspace FROM files";
    let names: Vec<String> =
        transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in names.iter().filter(|name| !is_plain(name) || !Path::new(name).starts_with(home)) {
        transaction.execute("DELETE FROM files WHERE workspace = ?1", [name])?;
    }
    Ok(())
}

fn rename(transaction: &Transaction<'_>, from: &str, to: &str) -> rusqlite::Result<()> {
    transaction.execute("UPDATE runs SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    transaction.execute("UPDATE OR REPLACE files SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    Ok(())
}

/// Whether a path has no `..`.
fn is_plain(path: &str) -> bool {
    !Path::new(path).components().any(|part| matches!(part, Component::ParentDir))
}

/// The place inside `to` that corresponds to `path` inside `from`; `None` if `path` is not inside `from`.
pub fn inside(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    path.strip_prefix(from).ok().map(|rest| to.join(rest))
}
