//! Where a run takes the time from: the date, and the right to hold time back.
//!
//! Pauses and limits are `tokio`'s, whose time a test can make leap from one timer to the next while
//! nothing is left to do. What is done on threads that `tokio` does not know of, such as a commit, looks
//! to it as if nothing were left to do; whoever waits for that holds the time back meanwhile.

use std::fmt::Debug;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// The date, in whole microseconds, as the journal keeps it.
    fn now(&self) -> Timestamp;

    /// Keeps time from leaping until what it gives is dropped. Time that only flows needs no such thing.
    fn hold(&self) -> Hold {
        Box::new(())
    }
}

/// While it lives, time does not leap.
pub type Hold = Box<dyn Send + Sync>;

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}
