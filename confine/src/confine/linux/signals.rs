//! The signals that a guard sends to all processes first.
//!
//! The program receives them itself, and the process that waits for it must outlive it to report its end. So that
//! process blocks them, except while it starts the program, which inherits what is blocked.

use nix::sys::signal::{SigSet, Signal};

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Blocks the signals.
pub(super) fn block() -> Result<(), nix::Error> {
    signals().thread_block()
}

/// Calls a function that starts a program, with the signals unblocked.
pub(super) fn unblocked<T>(start: impl FnOnce() -> T) -> Result<T, nix::Error> {
    signals().thread_unblock()?;
    let started = start();
    block()?;
    Ok(started)
}
