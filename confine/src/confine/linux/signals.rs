//! The signals that a guard sends to all processes so that they can clean up.
//!
//! The program receives these signals. The process that waits for the program blocks them, because it must outlive the
//! program to report its end. It unblocks them while it starts the program, because a program inherits blocked signals.

use nix::sys::signal::{SigSet, Signal};

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Blocks the signals in this thread.
pub(super) fn block() -> Result<(), nix::Error> {
    signals().thread_block()
}

/// Calls a function that starts a program while the signals are unblocked.
pub(super) fn with_unblocked<T>(start: impl FnOnce() -> T) -> Result<T, nix::Error> {
    signals().thread_unblock()?;
    let result = start();
    block()?;
    Ok(result)
}
