//! Who owns a run or a workspace: kernel locks that end with their process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;

/// Who holds a lock, as far as the lock file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{what} is in use by {holder}")]
    Held {
        /// The run or the workspace, in words.
        what: String,
        /// Who has it.
        holder: Holder,
    },
    /// The lock file could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An exclusive lock; released when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    disposable: bool,
}

impl Lock {
    /// Takes the lock at `path`, saying in it who we are. `what` is for the message.
    pub fn take(path: &Path, what: &str, me: &str) -> Result<Self, LockError> {
        // A reader that looks whether we live holds the lock for an instant: try a few times.
        for pause in [5, 20, 80, 0] {
            if let Some(file) = try_lock(path)? {
                return Self::sign(file, path, me);
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        Err(LockError::Held { what: what.to_owned(), holder: holder(path) })
    }

    fn sign(mut file: File, path: &Path, me: &str) -> Result<Self, LockError> {
        let io = |source| StoreError::Io { doing: "write", path: path.to_owned(), source };
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        file.write_all(me.as_bytes()).map_err(io)?;
        Ok(Self { file, path: path.to_owned(), disposable: false })
    }

    /// The same lock, whose file is removed when it is released.
    #[must_use]
    pub fn disposable(mut self) -> Self {
        self.disposable = true;
        self
    }

    /// Whether somebody holds the lock at `path`.
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.disposable {
            // A file left behind is harmless: its lock is free, and the next owner writes it anew.
            drop(std::fs::remove_file(&self.path));
        }
        // The lock itself goes with the file handle.
        drop(self.file.unlock());
    }
}

fn try_lock(path: &Path) -> Result<Option<File>, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(StoreError::io("open", path))?;
    match file.try_lock() {
        // The former owner may have removed the file between our open and our lock.
        Ok(()) if is_same_file(&file, path) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "lock", path: path.to_owned(), source }),
    }
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let ids = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ids(ours) == ids(there),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &File, _: &Path) -> bool {
    true
}

fn holder(path: &Path) -> Holder {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(200).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => Holder(text.trim().to_owned()),
        _ => Holder("another process".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let first = Lock::take(&path, "run x", "process 7").unwrap().disposable();
        assert!(Lock::is_held(&path));
        let second = Lock::take(&path, "run x", "process 8").unwrap_err();
        assert_eq!(second.to_string(), "run x is in use by process 7");
        drop(first);
        assert!(!path.exists());
        Lock::take(&path, "run x", "process 8").unwrap();
    }
}
