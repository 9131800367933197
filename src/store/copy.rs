//! Temporary folders for copies of journals. Dropping the reader of a copy removes its folder.

use std::io;
use std::sync::OnceLock;

use crate::folder::TemporaryFolder;

/// The hook that runs before orch makes a copy.
static HOOK: OnceLock<fn()> = OnceLock::new();

/// Sets a hook that runs before orch makes a copy, for example to install signal handlers, so that a signal can't end
/// orch without removing the copy. Only the first call has an effect.
pub fn set_copy_hook(hook: fn()) {
    HOOK.get_or_init(|| hook);
}

/// Creates a folder for a copy.
pub(super) fn create_copy_folder() -> io::Result<TemporaryFolder> {
    if let Some(hook) = HOOK.get() {
        hook();
    }
    TemporaryFolder::new()
}
