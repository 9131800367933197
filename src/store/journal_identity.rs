//! Protects the file of the journal: detects that it was replaced, lets only one process at a time open it, and detects
//! a write-ahead log without its database.

use std::path::{Path, PathBuf};

use crate::folder::NoFollowFolder;

use super::StoreError;
use super::state_files::DATABASE_FILE;

/// The identity of an open database file: its path, device and inode. SQLite continues to write to a file that was
/// removed, and the events in that file would be lost.
pub(super) struct JournalIdentity {
    path: PathBuf,
    #[cfg(unix)]
    device_and_inode: (u64, u64),
}

impl JournalIdentity {
    /// The identity of the current file at `path`.
    pub(super) fn from_path(path: &Path) -> Result<Self, StoreError> {
        #[cfg(unix)]
        let device_and_inode = device_and_inode(path).map_err(StoreError::io("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            #[cfg(unix)]
            device_and_inode,
        })
    }

    /// Fails if the file was removed or replaced. On systems other than Unix, an open file can't be removed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        #[cfg(unix)]
        if !device_and_inode(&self.path).is_ok_and(|current| current == self.device_and_inode) {
            return Err(StoreError::Removed { path: self.path.clone() });
        }
        Ok(())
    }
}

#[cfg(unix)]
fn device_and_inode(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// A lock that lets only one process at a time open a journal for writing. Dropping it releases it.
pub(super) struct OpeningLock(Option<std::fs::File>);

impl OpeningLock {
    /// Waits for the lock. If the system can't lock the folder, several processes may open the journal at the same
    /// time.
    pub(super) fn acquire(folder: &NoFollowFolder) -> Self {
        Self(folder.lock().ok())
    }

    /// Whether the system could lock the folder, so that no other process opens the journal.
    pub(super) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// Fails if the database is missing but its write-ahead log exists: SQLite would delete the log.
pub(super) fn check_no_orphaned_log(folder: &NoFollowFolder) -> Result<(), StoreError> {
    let log = folder.file("journal.db-wal");
    match log.metadata() {
        Ok(meta) if meta.len() == 0 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("read", &log.path())(error)),
    }
    let problem =
        format!("it is missing, but its write-ahead log `{}` contains the latest records", log.path().display());
    Err(StoreError::Damaged { path: folder.file(DATABASE_FILE).path(), problem })
}
