//! A lock on a workspace that its programs hold too, so that no other run uses the workspace while one of them still
//! runs.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::folder::OwnFile;

use super::{LockError, StoreError};

/// How long to wait for the programs of a killed process; their guards need half a second to end them.
const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// The lock; only the process that holds the workspace's lock may take it.
///
/// The process of a run shares the open file with the guard of each program. The kernel releases the lock when the
/// last of them has closed the file, so the programs of a killed process keep it until they have ended.
#[derive(Debug)]
pub struct ProgramsLock {
    file: Option<Arc<File>>,
    place: OwnFile,
}

impl ProgramsLock {
    /// Takes the lock of a file and waits until the programs of an earlier process have ended.
    ///
    /// # Errors
    /// The programs don't end in time, or the file can't be used.
    pub fn take(place: &OwnFile, what: &str, me: &str) -> Result<Self, LockError> {
        Self::take_within(place, what, me, LONGEST)
    }

    #[expect(clippy::disallowed_methods, reason = "a run takes its locks before it begins")]
    fn take_within(place: &OwnFile, what: &str, me: &str, longest: Duration) -> Result<Self, LockError> {
        let path = place.path();
        let io = |doing| StoreError::io(doing, &path);
        let mut file = place.open_or_create().map_err(io("open"))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < longest => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let (what, path) = (what.to_owned(), place.path().display().to_string());
                    let mut owner = String::new();
                    drop(file.take(200).read_to_string(&mut owner));
                    return Err(LockError::ProgramsLeft { what, owner: owner.trim().to_owned(), path });
                }
                Err(TryLockError::Error(source)) => return Err(io("lock")(source).into()),
            }
        }
        file.set_len(0).and_then(|()| file.write_all(me.as_bytes())).map_err(io("write"))?;
        Ok(Self { file: Some(Arc::new(file)), place: place.clone() })
    }

    /// The open file to share with the guards of programs.
    pub fn shared(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

impl Drop for ProgramsLock {
    fn drop(&mut self) {
        self.file = None;
        // If a guard still holds the file, it stays, so that the next process waits for the guard. No other process can
        // open it between the two calls: for that it would need the lock of the workspace.
        if self.place.open().is_ok_and(|file| file.try_lock().is_ok()) {
            drop(self.place.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_shares_the_file_keeps_the_lock_and_the_error_says_whose_programs_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("programs.lock");
        let place = crate::folder::OwnFolder::open(folder.path(), crate::folder::FolderAccess::Private).unwrap();
        let place = place.file("programs.lock");
        let take = || ProgramsLock::take_within(&place, "the workspace `w`", "process 7 (run x)", Duration::ZERO);
        let first = take().unwrap();
        let guard = first.shared().unwrap().try_clone().unwrap();
        drop(first);
        let error = take().unwrap_err().to_string();
        assert!(error.contains("the workspace `w`") && error.contains("process 7 (run x)"), "{error}");
        drop(guard);
        drop(take().unwrap());
        assert!(!path.exists());
    }
}
