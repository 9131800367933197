//! Who owns a run or a workspace: kernel locks that end with their process.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::StoreError;
use crate::crash::crash_point;
use crate::folder::OwnFile;

/// Who holds a lock, as far as the lock file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder(String);

impl std::fmt::Display for LockHolder {
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
        holder: LockHolder,
    },
    /// Programs of a process that has ended still run in the workspace.
    #[error("programs of {owner}, which has ended, still run in {what} and keep `{path}` locked")]
    ProgramsLeft {
        /// The workspace, in words.
        what: String,
        /// The process that started them.
        owner: String,
        /// The lock file.
        path: String,
    },
    /// The lock file could not be made.
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

/// Tells through a lock file until when its owner lives: costs nothing durable, and outlives a kill.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    file: Arc<File>,
    beaten: Arc<AtomicBool>,
}

impl Heartbeat {
    /// The owner is alive now.
    pub(super) fn beat(&self) -> std::io::Result<()> {
        self.beaten.store(true, Ordering::Relaxed);
        self.file.set_modified(SystemTime::now())
    }
}

impl Lock {
    /// Takes the lock of a file, saying in it who we are. `what` is for the message.
    #[expect(clippy::disallowed_methods, reason = "a run takes its locks before it begins")]
    pub fn take(place: &OwnFile, what: &str, me: &str) -> Result<Self, LockError> {
        // A reader that looks whether we live holds the lock for an instant: try a few times.
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
        // An owner that let go took the file away: one with words in it is of an owner that died.
        let meta = file.metadata().map_err(io)?;
        let died = if meta.len() == 0 { None } else { Some(meta.modified().map_err(io)?) };
        if died.is_some() {
            // Not of a new file: some file systems write a file that was cut to nothing out to the disk when it is closed.
            file.set_len(0).map_err(io)?;
        }
        file.rewind().map_err(io)?;
        file.write_all(me.as_bytes()).map_err(io)?;
        if let Some(time) = died {
            // Until our first heartbeat the file tells of the former owner.
            file.set_modified(time).map_err(io)?;
        }
        crash_point!("lock::signed");
        let last_seen = died.and_then(|time| Timestamp::try_from(time).ok());
        Ok(Self { file, place: place.clone(), disposable: false, last_seen, beaten: Arc::default() })
    }

    /// When the former owner was last alive, if it died as the owner.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// Tells those who come later until when we live.
    pub fn heartbeat(&self) -> Result<Heartbeat, StoreError> {
        let file = self.file.try_clone().map_err(StoreError::io("open", &self.place.path()))?;
        Ok(Heartbeat { file: Arc::new(file), beaten: self.beaten.clone() })
    }

    /// The same lock, whose file is removed when it is released.
    #[must_use]
    pub fn disposable(mut self) -> Self {
        self.disposable = true;
        self
    }

    /// The same for something of which nobody asks when a former owner died.
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
        // Who died is told by the file until that is on record, which the first heartbeat follows.
        let told = self.last_seen.is_none() || self.beaten.load(Ordering::Relaxed);
        if self.disposable && told {
            // A file left behind is harmless: its lock is free, and the next owner writes it anew.
            drop(self.place.remove());
        }
        // The lock itself goes with the file handle.
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
        // Words in the file that nobody took away.
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
