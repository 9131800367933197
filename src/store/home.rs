//! Where a project was when its journal was last opened: one that was moved or copied has its
//! workspaces elsewhere, and what orch wrote there is its own.

use std::path::{Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use super::{Journal, StoreError};

/// The file with the folder that the state folder was in.
const HOME: &str = "home";

impl Journal {
    /// Finds workspaces inside of the project again when the project is in another place than last time.
    pub(super) fn settle_in(&self) -> Result<(), StoreError> {
        let Some(home) = self.folder.path().parent() else { return Ok(()) };
        let note = self.folder.file(HOME);
        let known = match note.read() {
            Ok(text) => Some(PathBuf::from(String::from_utf8_lossy(&text).trim_end_matches('\n'))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("read", &note.path())(error)),
        };
        if known.as_deref() == Some(home) {
            return Ok(());
        }
        if let Some(known) = known {
            self.follow(&known, home).map_err(|source| self.failed("write", source))?;
        }
        match note.replace(format!("{}\n", home.display()).as_bytes()) {
            Err(error) if can_not_be_written(&error) => Ok(()),
            written => written.map_err(StoreError::io("write", &note.path())),
        }
    }

    /// Workspaces that were inside one folder and are inside another one now; those that are not there
    /// keep their names.
    fn follow(&self, from: &Path, to: &Path) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)?;
        let sql = "SELECT workspace FROM runs UNION SELECT workspace FROM files";
        let names: Vec<String> =
            transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for old in names {
            let Some(new) = inside(Path::new(&old), from, to).filter(|new| new.is_dir()) else { continue };
            rename(&transaction, &old, &new.display().to_string())?;
        }
        transaction.commit()
    }

    /// Gives a workspace of runs that were moved the name that it has now: its files are known as orch's own there.
    pub fn workspace_moved(&self, from: &str, to: &str) -> Result<(), StoreError> {
        if from == to {
            return Ok(());
        }
        let moved = Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate)
            .and_then(|transaction| rename(&transaction, from, to).and_then(|()| transaction.commit()));
        moved.map_err(|source| self.failed("write", source))
    }
}

fn rename(transaction: &Transaction<'_>, from: &str, to: &str) -> rusqlite::Result<()> {
    transaction.execute("UPDATE runs SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    transaction.execute("UPDATE OR REPLACE files SET workspace = ?2 WHERE workspace = ?1", params![from, to])?;
    Ok(())
}

/// Whoever only reads has no need of the note.
fn can_not_be_written(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied)
}

/// Where a path that was inside one folder is, now that the folder is elsewhere.
pub fn inside(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    path.strip_prefix(from).ok().map(|rest| to.join(rest))
}
