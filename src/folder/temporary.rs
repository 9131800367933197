//! Temporary folders that are removed even if the process ends early.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// The temporary folders that exist now.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A private temporary folder, removed when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder(TempDir);

impl TemporaryFolder {
    /// Creates an empty one.
    ///
    /// # Errors
    /// The system's temporary folder can't be written.
    pub fn make() -> io::Result<Self> {
        // `remove_temporary_folders` waits for this lock, so that it misses no folder.
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir()?;
        folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.retain(|folder| folder != self.0.path());
    }
}

/// How many times to try to remove a folder while another thread still writes to it.
const TRIES: usize = 100;

/// Removes every [`TemporaryFolder`], for a process that is about to end without dropping them.
pub fn remove_temporary_folders() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // Another thread may add a file between the listing and the removal, but it can't create the folder again. A
        // folder that can't be removed at all is left to the system.
        let is_removed = || match std::fs::remove_dir_all(&folder) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        for _ in 0..TRIES {
            if is_removed() {
                break;
            }
        }
    }
}
