//! Checks on the journal's file: whether it is still the one that was opened, which process opens it now, and whether
//! only its log is left.

use std::path::{Path, PathBuf};

use crate::folder::OwnFolder;

use super::StoreError;
use super::journal::DATABASE;

/// A file by its path, device and inode. SQLite keeps writing to a file that was removed, and those events would be
/// lost.
pub(super) struct JournalIdentity {
    path: PathBuf,
    #[cfg(unix)]
    id: (u64, u64),
}

impl JournalIdentity {
    /// The file that is at `path` now.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        #[cfg(unix)]
        let id = id(path).map_err(StoreError::io("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            #[cfg(unix)]
            id,
        })
    }

    /// Fails if the file was removed or replaced. Systems that do not allow removing open files need no such check.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        #[cfg(unix)]
        if !id(&self.path).is_ok_and(|id| id == self.id) {
            return Err(StoreError::Gone { path: self.path.clone() });
        }
        Ok(())
    }
}

#[cfg(unix)]
fn id(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// The turn of this process to open a journal for writing, until it is dropped or the process ends.
pub(super) struct OpeningTurn(#[expect(dead_code, reason = "it is held")] Option<std::fs::File>);

impl OpeningTurn {
    /// Waits for the turn. Where the folder can't be locked, several processes may open the journal at the same time.
    pub(super) fn take(folder: &OwnFolder) -> Self {
        Self(folder.lock().ok())
    }
}

/// Fails if the database is missing but its write-ahead log is there, which SQLite would delete.
pub(super) fn no_orphan(folder: &OwnFolder) -> Result<(), StoreError> {
    let log = folder.file("journal.db-wal");
    if log.about().map_or(true, |meta| meta.len() == 0) {
        return Ok(());
    }
    let what = format!("it is gone, and its write-ahead log `{}` holds what was recorded last", log.path().display());
    Err(StoreError::Damaged { path: folder.file(DATABASE).path(), what })
}
