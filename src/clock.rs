//! The clock of a run: the current time, and a value that stops virtual time in tests while it exists.
//!
//! Pauses and time limits use `tokio`'s timers. In a test with virtual time, `tokio` advances the time to the next
//! timer as soon as the runtime is idle. `tokio` does not see work on other threads, such as a commit, so it would also
//! advance the time during that work. Code that waits for another thread therefore keeps such a value.

use std::fmt::Debug;

use jiff::Timestamp;

/// A source of the current time.
pub trait Clock: Debug + Send + Sync {
    /// Returns the current time, truncated to whole microseconds as the journal stores it.
    fn now(&self) -> Timestamp;

    /// Stops virtual time until the caller drops the returned value. By default, the value has no effect, because real
    /// time can't be stopped.
    fn hold_virtual_time(&self) -> VirtualTimeHold {
        Box::new(())
    }
}

/// While this value exists, virtual time does not advance.
pub type VirtualTimeHold = Box<dyn Send + Sync>;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}
