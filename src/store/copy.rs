//! Temporary folders with copies of journals, which are gone when their readers are.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

/// The folders that are there now.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What the program does before the first copy is made.
static BEFORE: OnceLock<fn()> = OnceLock::new();

/// Has something done before a copy is made, such as to listen for signals that would leave it behind; the first call
/// counts.
pub fn before_copies(hook: fn()) {
    BEFORE.get_or_init(|| hook);
}

/// A folder for the user alone, removed when it is dropped.
#[derive(Debug)]
pub(super) struct CopyFolder(TempDir);

impl CopyFolder {
    pub(super) fn make() -> std::io::Result<Self> {
        if let Some(hook) = BEFORE.get() {
            hook();
        }
        // Whoever removes all of them waits, so that none is made and not known.
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir()?;
        folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for CopyFolder {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.retain(|folder| folder != self.0.path());
    }
}

/// Removes the copies of journals that are being read, for a process that is about to end.
pub fn remove_copies() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // What can't be removed is left, as the whole folder would be.
        drop(std::fs::remove_dir_all(folder));
    }
}
