//! A lock on a workspace that the process of a run shares with the supervisors of the programs that it started. No
//! other run can use the workspace until all of them have ended. A supervisor is the process between orch and a program
//! (`process/supervisor.rs`).

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::folder::NoFollowFile;

use super::{LockError, StoreError};

/// The maximum wait for the programs of a process that was killed. Their supervisors need half a second to end them.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The pause between two attempts to acquire the lock.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The lock. Only the process that holds the workspace's own lock may acquire it.
///
/// The process of a run shares the open file with the supervisor of each program. The kernel releases the lock when all
/// of them have closed the file. So if the process is killed, the supervisors hold the lock until the programs have
/// ended.
#[derive(Debug)]
pub struct ProgramsLock {
    file: Option<Arc<File>>,
    lock_file: NoFollowFile,
}

impl ProgramsLock {
    /// Waits until the programs of an earlier process have ended, locks the file and writes `owner` into it.
    /// `workspace_description` describes the workspace in the error message.
    ///
    /// # Errors
    /// The programs do not end in time, or orch can't use the file.
    pub fn acquire(lock_file: &NoFollowFile, workspace_description: &str, owner: &str) -> Result<Self, LockError> {
        Self::acquire_within(lock_file, workspace_description, owner, MAX_WAIT)
    }

    #[expect(clippy::disallowed_methods, reason = "a run acquires its locks before it starts")]
    fn acquire_within(
        lock_file: &NoFollowFile,
        workspace_description: &str,
        owner: &str,
        max_wait: Duration,
    ) -> Result<Self, LockError> {
        let path = lock_file.path();
        let io_error = |operation| StoreError::io(operation, &path);
        let mut file = lock_file.open_or_create().map_err(io_error("open"))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < max_wait => std::thread::sleep(RETRY_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let workspace_description = workspace_description.to_owned();
                    let path = lock_file.path().display().to_string();
                    let mut former_owner = String::new();
                    drop(file.take(200).read_to_string(&mut former_owner));
                    let owner = former_owner.trim().to_owned();
                    return Err(LockError::ProgramsStillRunning { workspace_description, owner, path });
                }
                Err(TryLockError::Error(source)) => return Err(io_error("lock")(source).into()),
            }
        }
        file.set_len(0).and_then(|()| file.write_all(owner.as_bytes())).map_err(io_error("write"))?;
        Ok(Self { file: Some(Arc::new(file)), lock_file: lock_file.clone() })
    }

    /// The open file to share with the supervisors of programs.
    pub fn shared_file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

impl Drop for ProgramsLock {
    fn drop(&mut self) {
        self.file = None;
        // Keep the file if a supervisor still holds it, so that the next process waits for the supervisor. No other
        // process can open the file between `try_lock` and `remove`, since it would need the lock of the workspace.
        if self.lock_file.open().is_ok_and(|file| file.try_lock().is_ok()) {
            drop(self.lock_file.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_with_the_shared_file_holds_the_lock_and_the_error_names_the_former_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("programs.lock");
        let own_folder =
            crate::folder::NoFollowFolder::open(folder.path(), crate::folder::FolderAccess::Private).unwrap();
        let lock_file = own_folder.file("programs.lock");
        let acquire =
            || ProgramsLock::acquire_within(&lock_file, "the workspace `w`", "process 7 (run x)", Duration::ZERO);
        let first = acquire().unwrap();
        let supervisor = first.shared_file().unwrap().try_clone().unwrap();
        drop(first);
        let error = acquire().unwrap_err().to_string();
        assert!(error.contains("the workspace `w`") && error.contains("process 7 (run x)"), "{error}");
        drop(supervisor);
        drop(acquire().unwrap());
        assert!(!path.exists());
    }
}
