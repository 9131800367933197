//! What the user types on the terminal: waits for it, and discards what was typed before a question.

/// How long [`has_input`] waits.
#[cfg(unix)]
const POLL_INTERVAL: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
#[cfg(unix)]
const NO_TIME: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };

/// What orch says if it discarded what the user had typed before a question.
pub(super) const DISCARDED_NOTE: &str = "note: orch discarded what you typed before this question\n";

/// Waits a short time for input. Returns whether there is some, or its end. A terminal gives one line at a time, so nothing
/// of it is in a buffer of this process.
#[cfg(unix)]
pub(super) fn has_input() -> bool {
    is_readable(&POLL_INTERVAL)
}

/// Where orch can't find out whether there is input, it reads until there is.
#[cfg(not(unix))]
pub(super) fn has_input() -> bool {
    true
}

#[cfg(unix)]
fn is_readable(timeout: &rustix::event::Timespec) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdin = std::io::stdin();
    let count = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(timeout));
    // If orch can't find out whether there is input, it reads until there is.
    count.map_or_else(|error| error != rustix::io::Errno::INTR, |count| count > 0)
}

/// Discards what the user has typed and orch has not read. Another thread may wait for input meanwhile.
#[cfg(unix)]
pub(super) fn discard_input() {
    // Ignore the error: it means that standard input is no terminal any more.
    rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush).unwrap_or_default();
}

#[cfg(not(unix))]
pub(super) fn discard_input() {}

/// Discards what the user has typed before a question. Returns whether there was something. No other thread may wait for
/// input meanwhile.
#[cfg(unix)]
pub(super) fn discard_earlier_input() -> bool {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let Ok(settings) = tcgetattr(&stdin) else { return false };
    // The terminal shows the beginning of a line only to a program that reads single keys.
    let mut single_keys = settings.clone();
    single_keys.local_modes.remove(LocalModes::ICANON);
    let had_input = tcsetattr(&stdin, OptionalActions::Now, &single_keys).is_ok() && is_readable(&NO_TIME);
    discard_input();
    // Ignore the error: it means that standard input is no terminal any more.
    tcsetattr(&stdin, OptionalActions::Now, &settings).unwrap_or_default();
    had_input
}

#[cfg(not(unix))]
pub(super) fn discard_earlier_input() -> bool {
    false
}
