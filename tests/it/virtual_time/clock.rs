//! Virtual time: the clock jumps to the next timer when the runtime is idle, and stops while a hold exists.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, mpsc};

use jiff::{SignedDuration, Timestamp};
use orch::clock::{Clock, VirtualTimeHold};
use tokio::time::Instant;

/// The time at which every test starts.
pub(crate) const START_DATE: &str = "2030-01-01T00:00:00Z";

/// A clock that shows the virtual time of a paused tokio runtime.
#[derive(Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// The milliseconds from the start of the test to a time.
    pub(crate) fn millis_since_start(time: Timestamp) -> u64 {
        let duration = time.duration_since(START_DATE.parse().unwrap());
        assert_eq!(duration.subsec_nanos() % 1_000_000, 0, "the time is not a whole number of milliseconds: {time}");
        u64::try_from(duration.as_millis()).unwrap()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = START_DATE.parse().unwrap();
        start + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    fn hold_virtual_time(&self) -> VirtualTimeHold {
        let (release, released) = mpsc::channel::<()>();
        // A paused runtime does not advance its time while a blocking task runs.
        tokio::task::spawn_blocking(move || released.recv().is_ok());
        Box::new(release)
    }
}

/// Holds virtual time while a call makes progress that needs no virtual time: while a request or a reply is in transit
/// between the run and the server, and while a command starts.
#[derive(Default)]
pub(crate) struct CallsInFlight(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    /// The number of calls of each step so far. It distinguishes a late answer from the answers to later calls.
    counts: HashMap<String, usize>,
    /// The number of the open call of each step.
    open: HashMap<String, usize>,
    holds: HashMap<String, VirtualTimeHold>,
}

impl CallsInFlight {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap()
    }

    /// Registers the start of a call, and holds time.
    pub(crate) fn begin(&self, step: String, clock: &dyn Clock) {
        let mut calls = self.lock();
        let count = calls.counts.entry(step.clone()).or_default();
        *count += 1;
        let number = *count;
        calls.open.insert(step.clone(), number);
        calls.holds.insert(step, clock.hold_virtual_time());
    }

    /// Whether a step has made a call.
    pub(crate) fn has_call(&self, step: &str) -> bool {
        self.lock().counts.contains_key(step)
    }

    /// Releases time, because the server has received the request or the command has started to wait. Returns the
    /// number of the call.
    pub(crate) fn on_arrival(&self, step: &str) -> usize {
        let mut calls = self.lock();
        calls.holds.remove(step);
        calls.open.get(step).copied().unwrap_or_default()
    }

    /// Holds time while the answer is in transit. Returns whether the run still waits for the answer.
    pub(crate) fn on_answer(&self, step: &str, number: usize, clock: &dyn Clock) -> bool {
        let mut calls = self.lock();
        let is_awaited = calls.open.get(step) == Some(&number);
        if is_awaited {
            calls.holds.insert(step.to_owned(), clock.hold_virtual_time());
        }
        is_awaited
    }

    /// Registers that the outcome of a call is recorded.
    pub(crate) fn end(&self, step: &str) {
        let mut calls = self.lock();
        calls.open.remove(step);
        calls.holds.remove(step);
    }

    /// Removes all open calls, because the process has died.
    pub(crate) fn clear(&self) {
        let mut calls = self.lock();
        calls.open.clear();
        calls.holds.clear();
    }
}
