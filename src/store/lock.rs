//! Kernel locks that decide which process owns a run or a workspace. The kernel releases them when the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::StoreError;
use super::boot::current_boot_id;
use super::lock_holder::LockHolder;
use crate::crash::crash_point;
use crate::folder::NoFollowFile;

/// The maximum number of bytes that orch reads of a lock file.
const MAX_LOCK_BYTES: u64 = 1000;

/// Begins the line with the id of the boot in which the owner runs. If the machine has restarted since an earlier owner
/// died, another such line has the id of that owner's boot, until the journal records that the run was resumed.
const BOOT_PREFIX: &str = "boot ";

/// Begins the line with the time at which an earlier owner was last alive, in nanoseconds since 1970. The file has this
/// line until the journal records that time.
const LAST_SEEN_PREFIX: &str = "last seen ";

/// The last line of the content. What follows is left over from a longer content, if a process was killed before it cut
/// the file.
const END: &str = "end";

/// Replaces the id of the earlier boot if a power failure destroyed the content of the lock file.
const UNKNOWN_BOOT: &str = "unknown";

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
    /// Whether the machine has restarted since the former owner died.
    has_machine_restarted: bool,
    /// The length of the file without the lines about a former owner, if it has such lines.
    own_length: Option<u64>,
    is_owner_recorded: Arc<AtomicBool>,
}

/// Updates the modification time of a lock file, from which other processes learn when its owner was last alive. The
/// time survives a kill of the process, and an update does not wait for the disk.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    file: Arc<File>,
    own_length: Option<u64>,
    is_owner_recorded: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Records that the owner is alive now.
    pub(super) fn record(&self) -> std::io::Result<()> {
        let is_first = !self.is_owner_recorded.swap(true, Ordering::Relaxed);
        if let Some(length) = self.own_length.filter(|_| is_first) {
            self.file.set_len(length)?;
        }
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
        let lines = read_lines(&mut file).map_err(write_error)?;
        let modified = if meta.len() == 0 { None } else { Some(meta.modified().map_err(write_error)?) };
        let former_owner_last_seen = modified.and_then(|time| last_seen(&lines, time));
        let earlier_boot = find_earlier_boot(&lines);
        let mut content = format!("{owner}\n");
        if let Some(boot) = current_boot_id() {
            content.push_str(&format!("{BOOT_PREFIX}{boot}\n"));
        }
        let own_length = content.len() as u64;
        if let Some(boot) = &earlier_boot {
            content.push_str(&format!("{BOOT_PREFIX}{boot}\n"));
        }
        if let Some(time) = former_owner_last_seen {
            // Until the first heartbeat of this process, the file must show when the former owner was last alive.
            content.push_str(&format!("{LAST_SEEN_PREFIX}{}\n", time.as_nanosecond()));
        }
        let has_former_owner = (content.len() as u64) > own_length;
        if has_former_owner {
            content.push_str(&format!("{END}\n"));
        }
        // One write replaces the content, so a kill leaves either the old content or the new one.
        file.rewind().map_err(write_error)?;
        file.write_all(content.as_bytes()).map_err(write_error)?;
        crash_point!("lock::owner_written");
        // Truncate only a longer file: some file systems write a truncated file to disk when it is closed, which takes
        // time.
        if meta.len() > content.len() as u64 {
            file.set_len(content.len() as u64).map_err(write_error)?;
        }
        Ok(Self {
            file,
            location: lock_file.clone(),
            remove_file_on_drop: false,
            former_owner_last_seen,
            has_machine_restarted: earlier_boot.is_some(),
            own_length: has_former_owner.then_some(own_length),
            is_owner_recorded: Arc::default(),
        })
    }

    /// The time when the former owner was last alive, if it died while it held the lock.
    pub fn former_owner_last_seen(&self) -> Option<Timestamp> {
        self.former_owner_last_seen
    }

    /// Whether the former owner died and the machine has restarted since. If the system has no id for a boot, orch
    /// can't know this and assumes that the machine has not restarted.
    pub fn has_machine_restarted(&self) -> bool {
        self.has_machine_restarted
    }

    /// When the former owner was last alive, if the machine has restarted since, for a process that would acquire the
    /// lock now.
    pub fn last_seen_before_restart(lock_file: &NoFollowFile) -> Option<Timestamp> {
        let mut file = lock_file.open().ok()?;
        let modified = file.metadata().and_then(|meta| meta.modified()).ok()?;
        let lines = read_lines(&mut file).ok()?;
        find_earlier_boot(&lines)?;
        last_seen(&lines, modified)
    }

    /// A handle with which this process records that it is alive.
    pub fn heartbeat(&self) -> Result<Heartbeat, StoreError> {
        let file = self.file.try_clone().map_err(StoreError::io("open", &self.location.path()))?;
        Ok(Heartbeat {
            file: Arc::new(file),
            own_length: self.own_length,
            is_owner_recorded: self.is_owner_recorded.clone(),
        })
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
        let is_death_recorded = self.former_owner_last_seen.is_none() || self.is_owner_recorded.load(Ordering::Relaxed);
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
    let result = lock_file.open().and_then(|file| file.take(MAX_LOCK_BYTES).read_to_string(&mut text));
    let owner = text.lines().next().unwrap_or_default().trim();
    match result {
        Ok(_) if !owner.is_empty() => LockHolder::new(owner),
        _ => LockHolder::new("another process"),
    }
}

/// The lines of a lock file, up to its end.
fn read_lines(file: &mut File) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    file.take(MAX_LOCK_BYTES).read_to_end(&mut bytes)?;
    // A power failure can leave a file of the right length without its bytes.
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
        return Ok(vec![String::new(), format!("{BOOT_PREFIX}{UNKNOWN_BOOT}")]);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().take_while(|line| *line != END).map(str::to_owned).collect())
}

/// The boot in which a former owner of the lock file died, if it is not the current boot.
fn find_earlier_boot(lines: &[String]) -> Option<String> {
    let current = current_boot_id()?;
    let mut boots = lines.iter().skip(1).filter_map(|line| line.strip_prefix(BOOT_PREFIX));
    boots.find(|boot| *boot != current).map(str::to_owned)
}

/// When the former owner of a lock file was last alive. A process that died before its first heartbeat has kept the time
/// of the owner before it.
fn last_seen(lines: &[String], modified: SystemTime) -> Option<Timestamp> {
    let mut times = lines.iter().skip(1).filter_map(|line| line.strip_prefix(LAST_SEEN_PREFIX)?.parse().ok());
    let kept = times.find_map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok());
    kept.or_else(|| Timestamp::try_from(modified).ok())
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
        assert_eq!(Lock::holder(&lock_file), Some(LockHolder::new("process 7")));
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
            let message = "a process without a heartbeat leaves the time unchanged";
            assert_eq!(lock.former_owner_last_seen(), expected, "{message}");
        }
        let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap().removed_on_drop();
        lock.heartbeat().unwrap().record().unwrap();
        drop(lock);
        assert!(!path.exists());
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn a_lock_file_shows_that_the_machine_has_restarted_until_the_next_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let (lock_file, path) = (lock_file(folder.path()), folder.path().join("a.lock"));
        let current = current_boot_id().unwrap();
        let same_boot = format!("process 8\nboot {current}\n");
        for (content, expected) in [
            ("", false),
            ("process 8", false),
            (same_boot.as_str(), false),
            ("process 8\nboot 0000-aaaa\n", true),
            ("\0\0\0\0\0\0\0\0", true),
        ] {
            std::fs::write(&path, content).unwrap();
            for _ in 0..2 {
                assert_eq!(Lock::last_seen_before_restart(&lock_file).is_some(), expected, "{content:?}");
                let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap();
                assert_eq!(lock.has_machine_restarted(), expected, "{content:?}");
                assert_eq!(Lock::holder(&lock_file).unwrap().to_string(), "process 9");
            }
            let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap();
            lock.heartbeat().unwrap().record().unwrap();
            drop(lock);
            assert_eq!(Lock::last_seen_before_restart(&lock_file), None, "{content:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }
    #[test]
    fn a_process_that_is_killed_before_its_first_heartbeat_changes_neither_time_nor_boot() {
        let folder = tempfile::tempdir().unwrap();
        let (lock_file, path) = (lock_file(folder.path()), folder.path().join("a.lock"));
        let former = "process 8 (with a description that is longer than the others)\nboot 0000-aaaa\n".repeat(3);
        std::fs::write(&path, &former).unwrap();
        let time = SystemTime::now() - Duration::from_secs(100);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let seen = Timestamp::try_from(time).unwrap();
        let lock = Lock::acquire(&lock_file, "run x", "process 9").unwrap();
        drop(lock);
        // The process was killed before it cut the longer content of its predecessor, and its write changed the time.
        let mut content = std::fs::read_to_string(&path).unwrap();
        content.push_str("ess 8\nboot 0000-bbbb\nlast seen 5\n");
        std::fs::write(&path, content).unwrap();
        let lock = Lock::acquire(&lock_file, "run x", "process 10").unwrap();
        assert_eq!(lock.former_owner_last_seen(), Some(seen));
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        assert!(lock.has_machine_restarted());
        lock.heartbeat().unwrap().record().unwrap();
        drop(lock);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("process 10\n") && !text.contains("last seen") && !text.contains("aaaa"), "{text}");
    }
}
