//! The journal's file: whether it is still the one that was opened.

use std::path::{Path, PathBuf};

use crate::folder::OwnFolder;

use super::StoreError;
use super::journal::DATABASE;

/// A file by its place and its identity. SQLite goes on writing to a file that was removed, and nobody
/// would ever read that.
pub(super) struct JournalIdentity {
    path: PathBuf,
    #[cfg(unix)]
    id: (u64, u64),
}

impl JournalIdentity {
    /// The file that is there now.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        #[cfg(unix)]
        let id = id(path).map_err(StoreError::io("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            #[cfg(unix)]
            id,
        })
    }

    /// Fails when the file is there no more, or another one. A system that keeps files which are open
    /// from being removed needs no such check.
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

/// The turn of a process to open a journal for writing, until it is dropped or the process ends.
pub(super) struct OpeningTurn(#[expect(dead_code, reason = "it is held")] Option<std::fs::File>);

impl OpeningTurn {
    /// Waits for the turn. Where the folder can't be locked, processes go ahead at the same time.
    pub(super) fn take(folder: &OwnFolder) -> Self {
        Self(folder.lock().ok())
    }
}

/// Fails when there is no journal but its write-ahead log, which SQLite would throw away.
pub(super) fn no_orphan(folder: &OwnFolder) -> Result<(), StoreError> {
    let log = folder.file("journal.db-wal");
    if log.about().map_or(true, |meta| meta.len() == 0) {
        return Ok(());
    }
    let what = format!("it is gone, and its write-ahead log `{}` holds what was recorded last", log.path().display());
    Err(StoreError::Damaged { path: folder.file(DATABASE).path(), what })
}
