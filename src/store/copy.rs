//! Temporary folders with copies of journals, which are removed when their readers are done.

use std::io;
use std::sync::OnceLock;

use crate::folder::TemporaryFolder;

/// What the program does before the first copy is made.
static BEFORE: OnceLock<fn()> = OnceLock::new();

/// Has something done before a copy is made, such as to listen for signals that would leave it behind; the first call
/// counts.
pub fn before_copies(hook: fn()) {
    BEFORE.get_or_init(|| hook);
}

/// Makes a folder for a copy.
pub(super) fn copy_folder() -> io::Result<TemporaryFolder> {
    if let Some(hook) = BEFORE.get() {
        hook();
    }
    TemporaryFolder::make()
}
