//! Temporary folders that orch removes even if the process ends early.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// The temporary folders that exist now.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A private temporary folder. Dropping it removes the folder.
#[derive(Debug)]
pub struct TemporaryFolder(TempDir);

impl TemporaryFolder {
    /// Creates an empty temporary folder.
    ///
    /// # Errors
    /// The system's temporary folder can't be written.
    pub fn new() -> io::Result<Self> {
        // `remove_temporary_folders` waits for this lock, so that it misses no folder.
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir()?;
        folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Keeps the folder, which orch then never removes. Returns its path.
    pub fn keep(mut self) -> PathBuf {
        self.0.disable_cleanup(true);
        self.path().to_owned()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.retain(|folder| folder != self.0.path());
    }
}

/// The maximum number of tries to remove a folder into which another thread still writes.
const MAX_TRIES: usize = 100;

/// Removes every [`TemporaryFolder`], for a process that is about to end without dropping them.
pub fn remove_temporary_folders() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // `remove_dir_all` fails if another thread adds a file during the removal. If all tries fail, the folder stays
        // in the system's temporary folder.
        let try_remove = || match std::fs::remove_dir_all(&folder) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        for _ in 0..MAX_TRIES {
            if try_remove() {
                break;
            }
        }
    }
}
