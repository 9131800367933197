//! Creates temporary folders for copies of journals.

use std::io;
use std::sync::OnceLock;

use crate::folder::TemporaryFolder;

/// The hook that runs before orch makes a copy.
static COPY_HOOK: OnceLock<fn()> = OnceLock::new();

/// Sets a hook that runs before orch makes a copy. For example, the hook can install signal handlers, so that a signal
/// can't end orch before it removes the copy. Only the first call has an effect.
pub fn set_copy_hook(hook: fn()) {
    COPY_HOOK.get_or_init(|| hook);
}

/// Creates a folder for a copy.
pub(super) fn create_copy_folder() -> io::Result<TemporaryFolder> {
    if let Some(hook) = COPY_HOOK.get() {
        hook();
    }
    TemporaryFolder::new()
}
