//! The signals that a supervisor sends to all processes so that they can clean up.
//!
//! A supervisor sends these signals to the program too, and `orch __confine` must outlive the program to report its
//! end. So `orch __confine` blocks them in this order:
//!
//! 1. The first stage blocks the signals before it does anything else. The second stage inherits this.
//! 2. A signal that arrives before the program exists stays pending. This is also true for the first process of a PID
//!    namespace, for which the kernel discards signals that are neither blocked nor handled.
//! 3. Immediately before the start of the program, `orch __confine` takes the pending signals. If there is one, it does
//!    not start the program ([`BlockedSignals::take`]).
//! 4. The program starts with these signals unblocked (`spawn.rs`). They stay blocked in `orch __confine` meanwhile:
//!    otherwise a signal between the start of the program and the next blocking would end `orch __confine`.
//! 5. A signal that arrived between steps 3 and 4 may have missed the program, so `orch __confine` sends it to the
//!    program ([`BlockedSignals::pass_on`]). If the supervisor has sent the signal to both, the program receives it
//!    twice.
//! 6. Later signals reach the program directly, and stay pending in `orch __confine`.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Pid;

/// The signals that `orch __confine` blocks.
pub(super) fn blocked() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Blocks the signals in this thread and in the threads and processes that it starts.
pub(super) fn block() -> Result<(), Errno> {
    blocked().thread_block()
}

/// The blocked signals that are pending.
#[derive(Debug)]
pub(super) struct BlockedSignals(SignalFd);

impl BlockedSignals {
    /// Opens the queue of the blocked signals, after [`block`].
    pub(super) fn open() -> Result<Self, Errno> {
        SignalFd::with_flags(&blocked(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// Takes the next pending signal; `None` if no signal is pending.
    pub(super) fn take(&self) -> Result<Option<Signal>, Errno> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let number = i32::try_from(info.ssi_signo).map_err(|_| Errno::EINVAL)?;
        Signal::try_from(number).map(Some)
    }

    /// Sends the pending signals to the program.
    pub(super) fn pass_on(&self, program: Pid) -> Result<(), Errno> {
        while let Some(signal) = self.take()? {
            kill(nix::unistd::Pid::from_raw(program.as_raw_pid()), signal)?;
        }
        Ok(())
    }
}
