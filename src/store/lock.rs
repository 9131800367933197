//! Kernel locks that decide which process owns a run or a workspace; they end with their process.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::StoreError;
use crate::crash::crash_point;
use crate::folder::OwnFile;

/// The process that holds a lock, as the lock file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder(String);

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{what} is in use by {holder}")]
    Held {
        /// The run or the workspace, as messages name it.
        what: String,
        /// The process that holds it.
        holder: LockHolder,
    },
    /// A process has ended, but programs that it started still run in the workspace.
    #[error("programs of {owner}, which has ended, still run in {what} and keep `{path}` locked")]
    ProgramsLeft {
        /// The workspace, as messages name it.
        what: String,
        /// The process that started them.
        owner: String,
        /// The lock file.
        path: String,
    },
    /// The lock file could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An exclusive lock; released when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    place: OwnFile,
    disposable: bool,
    last_seen: Option<Timestamp>,
    beaten: Arc<AtomicBool>,
}

/// Updates the time of a lock file, which shows until when its owner was alive. It forces no write to disk, and
/// survives a kill.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    file: Arc<File>,
    beaten: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Records that the owner is alive now.
    pub(super) fn beat(&self) -> std::io::Result<()> {
        self.beaten.store(true, Ordering::Relaxed);
        self.file.set_modified(SystemTime::now())
    }
}

impl Lock {
    /// Takes the lock of a file and writes `me` into it. `what` is the locked thing, for the error message.
    #[expect(clippy::disallowed_methods, reason = "a run takes its locks before it begins")]
    pub fn take(place: &OwnFile, what: &str, me: &str) -> Result<Self, LockError> {
        // A process that checks the lock (`is_held`) holds it for an instant, so try a few times.
        for pause in [5, 20, 80, 0] {
            if let Some(file) = try_lock(place)? {
                return Self::sign(file, place, me);
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        Err(LockError::Held { what: what.to_owned(), holder: holder(place) })
    }

    fn sign(mut file: File, place: &OwnFile, me: &str) -> Result<Self, LockError> {
        let io = |source| StoreError::Io { doing: "write", path: place.path(), source };
        // A clean exit deletes the file, so a non-empty one was left by a process that died.
        let meta = file.metadata().map_err(io)?;
        let died = if meta.len() == 0 { None } else { Some(meta.modified().map_err(io)?) };
        if died.is_some() {
            // Not for a new file: some file systems write a file that was truncated to nothing out to disk when it is
            // closed.
            file.set_len(0).map_err(io)?;
        }
        file.rewind().map_err(io)?;
        file.write_all(me.as_bytes()).map_err(io)?;
        if let Some(time) = died {
            // Until our first heartbeat, the file shows when the former owner was last alive.
            file.set_modified(time).map_err(io)?;
        }
        crash_point!("lock::signed");
        let last_seen = died.and_then(|time| Timestamp::try_from(time).ok());
        Ok(Self { file, place: place.clone(), disposable: false, last_seen, beaten: Arc::default() })
    }

    /// When the former owner was last alive, if it died while it held the lock.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// A handle to record until when this process is alive, for the next owner.
    pub fn heartbeat(&self) -> Result<Heartbeat, StoreError> {
        let file = self.file.try_clone().map_err(StoreError::io("open", &self.place.path()))?;
        Ok(Heartbeat { file: Arc::new(file), beaten: self.beaten.clone() })
    }

    /// The same lock, but its file is removed when the lock is released.
    #[must_use]
    pub fn disposable(mut self) -> Self {
        self.disposable = true;
        self
    }

    /// The same, where it does not matter when a former owner died.
    #[must_use]
    pub fn obsolete(mut self) -> Self {
        self.last_seen = None;
        self.disposable()
    }

    /// Whether a process holds the lock of a file.
    pub fn is_held(place: &OwnFile) -> bool {
        place.open().is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file shows when a former owner died. It stays until that is on record, which the first heartbeat proves.
        let told = self.last_seen.is_none() || self.beaten.load(Ordering::Relaxed);
        if self.disposable && told {
            // If the file stays, that is harmless: its lock is free, and the next owner overwrites it.
            drop(self.place.remove());
        }
        // If this fails, the lock ends when the last handle of the file is closed.
        drop(self.file.unlock());
    }
}

fn try_lock(place: &OwnFile) -> Result<Option<File>, StoreError> {
    let file = place.open_or_create().map_err(StoreError::io("open", &place.path()))?;
    match file.try_lock() {
        // The former owner may have removed the file between our open and our lock.
        Ok(()) if is_same_file(&file, place) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "lock", path: place.path(), source }),
    }
}

#[cfg(unix)]
fn is_same_file(file: &File, place: &OwnFile) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), place.identity()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == there,
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &File, _: &OwnFile) -> bool {
    true
}

fn holder(place: &OwnFile) -> LockHolder {
    let mut text = String::new();
    let read = place.open().and_then(|file| file.take(200).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => LockHolder(text.trim().to_owned()),
        _ => LockHolder("another process".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{FolderAccess, OwnFolder};

    fn place(folder: &std::path::Path) -> OwnFile {
        OwnFolder::open(folder, FolderAccess::Private).unwrap().file("a.lock")
    }

    #[test]
    fn a_second_taker_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let (place, path) = (place(folder.path()), folder.path().join("a.lock"));
        let first = Lock::take(&place, "run x", "process 7").unwrap().disposable();
        assert!(Lock::is_held(&place));
        let second = Lock::take(&place, "run x", "process 8").unwrap_err();
        assert_eq!(second.to_string(), "run x is in use by process 7");
        drop(first);
        assert!(!path.exists());
        Lock::take(&place, "run x", "process 8").unwrap();
    }

    #[test]
    fn a_lock_file_tells_when_its_owner_died_until_the_next_one_has_a_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let (place, path) = (place(folder.path()), folder.path().join("a.lock"));
        let fresh = Lock::take(&place, "run x", "process 7").unwrap().disposable();
        assert_eq!(fresh.last_seen(), None);
        drop(fresh);
        // Text in the file, as a process that died leaves it.
        std::fs::write(&path, "process 8").unwrap();
        let time = SystemTime::now() - Duration::from_secs(100);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let seen = Some(Timestamp::try_from(time).unwrap());
        for _ in 0..2 {
            let lock = Lock::take(&place, "run x", "process 9").unwrap().disposable();
            assert_eq!(lock.last_seen(), seen, "whoever did nothing leaves it");
        }
        let lock = Lock::take(&place, "run x", "process 9").unwrap().disposable();
        lock.heartbeat().unwrap().beat().unwrap();
        drop(lock);
        assert!(!path.exists());
    }
}
