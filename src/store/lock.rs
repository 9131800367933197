//! Kernel locks that decide which process owns a run or a workspace. The kernel releases them when the process ends.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::StoreError;
use crate::crash::crash_point;
use crate::folder::NoFollowFile;

/// A description of the process that holds a lock, from the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder(String);

impl LockHolder {
    /// The process without what it does: `process 42`, or `another process` if it is not known.
    pub fn process(&self) -> &str {
        self.0.split_once(" (").map_or(self.0.as_str(), |(process, _)| process)
    }
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a lock could not be acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("{resource} is in use by {holder}")]
    Held {
        /// The run or the workspace, for messages.
        resource: String,
        /// The process that holds the lock.
        holder: LockHolder,
    },
    /// A process has ended, but programs that it started still run in the workspace.
    #[error("programs of {owner}, which has ended, still run in {workspace_description} and keep `{path}` locked")]
    ProgramsStillRunning {
        /// The workspace, for messages.
        workspace_description: String,
        /// The process that started the programs.
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
    location: NoFollowFile,
    remove_file_on_drop: bool,
    /// When the former owner was last alive, if it died while it held the lock.
    former_owner_last_seen: Option<Timestamp>,
    has_heartbeat: Arc<AtomicBool>,
}

/// Updates the modification time of a lock file, from which other processes learn when its owner was last alive. The
/// time survives a kill of the process, and an update does not wait for the disk.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    file: Arc<File>,
    has_heartbeat: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Records that the owner is alive now.
    pub(super) fn record(&self) -> std::io::Result<()> {
        self.has_heartbeat.store(true, Ordering::Relaxed);
        self.file.set_modified(SystemTime::now())
    }
}

impl Lock {
    /// Locks a file and writes `owner` into it. `resource` describes the locked run or workspace in the error message.
    #[expect(clippy::disallowed_methods, reason = "a run acquires its locks before it starts")]
    pub fn acquire(lock_file: &NoFollowFile, resource: &str, owner: &str) -> Result<Self, LockError> {
        // `is_held` in another process holds the lock for an instant, so try several times.
        for pause in [5, 20, 80, 0] {
            if let Some(file) = try_lock(lock_file)? {
                return Self::from_locked_file(file, lock_file, owner);
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        Err(LockError::Held { resource: resource.to_owned(), holder: read_holder(lock_file) })
    }

    fn from_locked_file(mut file: File, lock_file: &NoFollowFile, owner: &str) -> Result<Self, LockError> {
        let write_error = |source| StoreError::Io { operation: "write", path: lock_file.path(), source };
        // A clean exit deletes the file, so a process that died left a non-empty file.
        let meta = file.metadata().map_err(write_error)?;
        let death_time = if meta.len() == 0 { None } else { Some(meta.modified().map_err(write_error)?) };
        if death_time.is_some() {
            // Truncate only an old file: some file systems write a truncated file to disk when it is closed, which
            // takes time.
            file.set_len(0).map_err(write_error)?;
        }
        file.rewind().map_err(write_error)?;
        file.write_all(owner.as_bytes()).map_err(write_error)?;
        if let Some(time) = death_time {
            // Until the first heartbeat of this process, the file must show when the former owner was last alive.
            file.set_modified(time).map_err(write_error)?;
        }
        crash_point!("lock::owner_written");
        let former_owner_last_seen = death_time.and_then(|time| Timestamp::try_from(time).ok());
        Ok(Self {
            file,
            location: lock_file.clone(),
            remove_file_on_drop: false,
            former_owner_last_seen,
            has_heartbeat: Arc::default(),
        })
    }

    /// The time when the former owner was last alive, if it died while it held the lock.
    pub fn former_owner_last_seen(&self) -> Option<Timestamp> {
        self.former_owner_last_seen
    }

    /// A handle with which this process records that it is alive.
    pub fn heartbeat(&self) -> Result<Heartbeat, StoreError> {
        let file = self.file.try_clone().map_err(StoreError::io("open", &self.location.path()))?;
        Ok(Heartbeat { file: Arc::new(file), has_heartbeat: self.has_heartbeat.clone() })
    }

    /// Returns the lock in a form whose `drop` also removes the file.
    #[must_use]
    pub fn removed_on_drop(mut self) -> Self {
        self.remove_file_on_drop = true;
        self
    }

    /// Like [`removed_on_drop`](Self::removed_on_drop), but without the time when a former owner died.
    #[must_use]
    pub fn ignoring_former_owner(mut self) -> Self {
        self.former_owner_last_seen = None;
        self.removed_on_drop()
    }

    /// The process that holds the lock of a file, if there is one.
    pub fn holder(lock_file: &NoFollowFile) -> Option<LockHolder> {
        Self::is_held(lock_file).then(|| read_holder(lock_file))
    }

    /// Whether a process holds the lock of a file.
    pub fn is_held(lock_file: &NoFollowFile) -> bool {
        lock_file.open().is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file shows when a former owner died. Keep the file until the journal contains that time: the first
        // heartbeat comes after the event that records it.
        let is_death_recorded = self.former_owner_last_seen.is_none() || self.has_heartbeat.load(Ordering::Relaxed);
        if self.remove_file_on_drop && is_death_recorded {
            // If the removal fails, the file does no harm: its lock is free, and the next owner overwrites it.
            drop(self.location.remove());
        }
        // If this fails, the lock ends when the last handle of the file is closed.
        drop(self.file.unlock());
    }
}

fn try_lock(lock_file: &NoFollowFile) -> Result<Option<File>, StoreError> {
    let file = lock_file.open_or_create().map_err(StoreError::io("open", &lock_file.path()))?;
    match file.try_lock() {
        // The former owner may have removed the file between our open and our lock.
        Ok(()) if is_same_file(&file, lock_file) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { operation: "lock", path: lock_file.path(), source }),
    }
}

#[cfg(unix)]
fn is_same_file(file: &File, lock_file: &NoFollowFile) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), lock_file.identity()) {
        (Ok(opened), Ok(current)) => (opened.dev(), opened.ino()) == current,
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &File, _: &NoFollowFile) -> bool {
    true
}

fn read_holder(lock_file: &NoFollowFile) -> LockHolder {
    let mut text = String::new();
    let result = lock_file.open().and_then(|file| file.take(200).read_to_string(&mut text));
    match result {
        Ok(_) if !text.trim().is_empty() => LockHolder(text.trim().to_owned()),
        _ => LockHolder("another process".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{FolderAccess, NoFollowFolder};

    fn lock_file(folder: &std::path::Path) -> NoFollowFile {
        NoFollowFolder::open(folder, FolderAccess::Private).unwrap().file("a.lock")
    }

    #[test]
    fn the_error_of_a_second_process_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let (lock_file, path) = (lock_file(folder.path()), folder.path().join("a.lock"));
        let first = Lock::acquire(&lock_file, "run x", "process 7").unwrap().removed_on_drop();
        assert_eq!(Lock::holder(&lock_file), Some(LockHolder("process 7".to_owned())));
        let second = Lock::acquire(&lock_file, "run x", "process 8").unwrap_err();
        assert_eq!(second.to_string(), "run x is in use by process 7");
        drop(first);
        assert!(!path.exists());
        assert_eq!(Lock::holder(&lock_file), None);
        Lock::acquire(&lock_file, "run x", "process 8").unwrap();
    }

    #[test]
    fn a_lock_file_records_when_its_owner_died_until_the_next_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let (lock_file, path) = (lock_file(folder.path()), folder.path().join("a.lock"));
        let fresh = Lock::acquire(&lock_file, "run x", "process 7").unwrap().removed_on_drop();
        assert_eq!(fresh.former_owner_last_seen(), None);
        drop(fresh);
        // A process that dies leaves text in the file.
        std::fs::write(&path, "process 8").unwrap();
        let time = SystemTime::now() - Duration::from_secs(100);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let expected = Some(Timestamp::try_from(time).unwrap());
        for _ in 0..2 {
            let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap().removed_on_drop();
            assert_eq!(
                lock.former_owner_last_seen(),
                expected,
                "a process without a heartbeat leaves the time unchanged"
            );
        }
        let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap().removed_on_drop();
        lock.heartbeat().unwrap().record().unwrap();
        drop(lock);
        assert!(!path.exists());
    }
}
