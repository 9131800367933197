//! The clock of a run: the current time, and a guard that pauses virtual time.
//!
//! Pauses and time limits use `tokio`'s timers. In a test, `tokio` can jump from one timer to the next as soon as the
//! runtime is idle. It does not see work on other threads, such as a commit, and would jump past the timers meanwhile.
//! Code that waits for such work therefore holds virtual time with a guard.

use std::fmt::Debug;

use jiff::Timestamp;

/// A source of the current time.
pub trait Clock: Debug + Send + Sync {
    /// Returns the current time, truncated to whole microseconds as the journal stores it.
    fn now(&self) -> Timestamp;

    /// Keeps virtual time from jumping until the returned guard is dropped. Real time can't jump, so by default the
    /// guard does nothing.
    fn hold_virtual_time(&self) -> VirtualTimeHold {
        Box::new(())
    }
}

/// A guard: virtual time does not jump while it exists.
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
