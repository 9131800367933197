//! Where a project was when its journal was last opened: one that was moved or copied has its
//! workspaces elsewhere, and what orch wrote there is its own.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::model::RunId;

use super::key::UserKey;
use super::origin::{JournalOrigin, Note, mark_all};
use super::{Journal, StoreError};

impl Journal {
    /// Finds workspaces inside of the project again when the project is in another place than last time, and marks
    /// the runs of a journal from elsewhere.
    pub(super) fn settle_in(&mut self, key: Option<&UserKey>) -> Result<(), StoreError> {
        let Some(home) = self.folder.path().parent() else { return Ok(()) };
        let known = Note::read(&self.folder)?.map(|note| note.home);
        let foreign = matches!(self.origin, JournalOrigin::Elsewhere);
        if foreign && let Some(what) = self.integrity_of_all()? {
            // What is out of order could be found in one way and not in another.
            return Err(self.damaged(what));
        }
        if foreign || known.as_deref() != Some(home) {
            self.come(known.as_deref(), home, foreign).map_err(|source| self.failed("write", source))?;
        }
        if foreign {
            // What is not its own is marked.
            self.origin = JournalOrigin::Own;
        }
        if key.is_none() && known.as_deref() == Some(home) {
            // A seal of before stays.
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

    /// Gives the workspace of a run that was moved the name that it has now: its files are known as orch's own there.
    /// What the record of a run from elsewhere calls its workspace may be that of other runs.
    pub fn workspace_moved(&self, run: RunId, from: &str, to: &str) -> Result<(), StoreError> {
        if from == to || self.is_foreign(run)? {
            return Ok(());
        }
        let moved = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)
            .and_then(|transaction| rename(&transaction, from, to).and_then(|()| transaction.commit()));
        moved.map_err(|source| self.failed("write", source))
    }
}

/// Workspaces that were inside one folder and are inside another one now; those that are not there keep their names, unless
/// `all` follow.
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

/// Forgets what orch is said to have written outside of the project: there it would be taken for orch's own.
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

/// Whether a path never goes up.
fn is_plain(path: &str) -> bool {
    !Path::new(path).components().any(|part| matches!(part, Component::ParentDir))
}

/// Where a path that was inside one folder is, now that the folder is elsewhere.
pub fn inside(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    path.strip_prefix(from).ok().map(|rest| to.join(rest))
}
