//! The clock of a run: the current date, and a way to hold virtual time.
//!
//! Pauses and time limits use `tokio`'s timers. In a test, `tokio` can jump from one timer to the next as soon as the
//! runtime is idle. It does not see work on other threads, such as a commit, and would jump past the timers meanwhile.
//! So code that waits for such work takes a [`Hold`] first.

use std::fmt::Debug;

use jiff::Timestamp;

/// A source of the current time.
pub trait Clock: Debug + Send + Sync {
    /// Returns the current date, truncated to whole microseconds as the journal stores it.
    fn now(&self) -> Timestamp;

    /// Keeps virtual time from jumping until the returned guard is dropped. Real time can't jump, so by default the
    /// guard does nothing.
    fn hold(&self) -> Hold {
        Box::new(())
    }
}

/// A guard: virtual time does not jump while it exists.
pub type Hold = Box<dyn Send + Sync>;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}
