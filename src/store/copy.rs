//! Temporary folders for copies of journals, which are removed when their readers are dropped.

use std::io;
use std::sync::OnceLock;

use crate::folder::TemporaryFolder;

/// The hook to run before a copy is made.
static BEFORE: OnceLock<fn()> = OnceLock::new();

/// Sets a hook to run before a copy is made, for example to handle signals that would leave the copy behind. Only the
/// first call has an effect.
pub fn before_copies(hook: fn()) {
    BEFORE.get_or_init(|| hook);
}

/// Creates a folder for a copy.
pub(super) fn copy_folder() -> io::Result<TemporaryFolder> {
    if let Some(hook) = BEFORE.get() {
        hook();
    }
    TemporaryFolder::make()
}
