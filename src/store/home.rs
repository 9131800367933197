//! Where a project was when its journal was last opened: one that was moved or copied has its
//! workspaces elsewhere, and what orch wrote there is its own.

use std::path::{Component, Path, PathBuf};

use rusqlite::{Transaction, TransactionBehavior, params};

use crate::model::RunId;

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
        let came = match known {
            Some(known) => self.follow(&known, home),
            // A journal without the note was made elsewhere, if it has runs.
            None => Transaction::new_unchecked(self.reader(), TransactionBehavior::Immediate).and_then(|transaction| {
                distrust(&transaction, home, home)?;
                transaction.commit()
            }),
        };
        came.map_err(|source| self.failed("write", source))?;
        // A note that a power failure takes is written again where the project is then.
        match note.note(format!("{}\n", home.display()).as_bytes()) {
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
        distrust(&transaction, from, to)?;
        for old in names {
            let Some(new) = inside(Path::new(&old), from, to).filter(|new| new.is_dir()) else { continue };
            rename(&transaction, &old, &new.display().to_string())?;
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

/// Marks the runs whose workspaces were outside of the folder of their journal, which is elsewhere now: it may have
/// come with a stranger's project, and would have orch write wherever it says.
fn distrust(transaction: &Transaction<'_>, from: &Path, to: &Path) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare("SELECT run, workspace FROM runs")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (run, workspace) = row?;
        let clean = !Path::new(&workspace).components().any(|part| matches!(part, Component::ParentDir));
        if !clean || inside(Path::new(&workspace), from, to).is_none() {
            transaction.execute("INSERT OR IGNORE INTO foreign_runs (run) VALUES (?1)", [run])?;
        }
    }
    Ok(())
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
