//! Virtual time: the clock jumps to the next timer when the runtime is idle, and stands still while a hold exists.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, mpsc};

use jiff::{SignedDuration, Timestamp};
use orch::clock::{Clock, VirtualTimeHold};
use tokio::time::Instant;

/// The time at which every test begins.
pub(crate) const START_DATE: &str = "2030-01-01T00:00:00Z";

/// A clock that follows the time of a paused runtime.
#[derive(Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start of the test.
    pub(crate) fn millis(at: Timestamp) -> u64 {
        let since = at.duration_since(START_DATE.parse().unwrap());
        assert_eq!(since.subsec_nanos() % 1_000_000, 0, "virtual time goes by whole milliseconds: {at}");
        u64::try_from(since.as_millis()).unwrap()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = START_DATE.parse().unwrap();
        start + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    fn hold_virtual_time(&self) -> VirtualTimeHold {
        let (end, ended) = mpsc::channel::<()>();
        // A paused runtime does not advance its time while a blocking task runs.
        tokio::task::spawn_blocking(move || ended.recv().is_ok());
        Box::new(end)
    }
}

/// Holds virtual time while a call is on its way between both ends of a connection in this process, or in a child
/// process.
#[derive(Default)]
pub(crate) struct CallsInFlight(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    /// The number of calls of each step so far, which distinguishes a late answer from those of later calls.
    counts: HashMap<String, usize>,
    open: HashMap<String, usize>,
    held: HashMap<String, VirtualTimeHold>,
}

impl CallsInFlight {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap()
    }

    /// Registers that a call of a step begins, and holds time.
    pub(crate) fn begin(&self, step: String, clock: &dyn Clock) {
        let mut calls = self.lock();
        let count = calls.counts.entry(step.clone()).or_default();
        *count += 1;
        let number = *count;
        calls.open.insert(step.clone(), number);
        calls.held.insert(step, clock.hold_virtual_time());
    }

    /// Whether a step has made a call.
    pub(crate) fn has_seen(&self, step: &str) -> bool {
        self.lock().counts.contains_key(step)
    }

    /// Releases time, because the call has arrived where it waits. Returns the number of the call.
    pub(crate) fn arrived(&self, step: &str) -> usize {
        let mut calls = self.lock();
        calls.held.remove(step);
        calls.open.get(step).copied().unwrap_or_default()
    }

    /// Holds time for the answer to a call; returns whether the run still waits for it.
    pub(crate) fn answered(&self, step: &str, number: usize, clock: &dyn Clock) -> bool {
        let mut calls = self.lock();
        let waits = calls.open.get(step) == Some(&number);
        if waits {
            calls.held.insert(step.to_owned(), clock.hold_virtual_time());
        }
        waits
    }

    /// Registers that a call is recorded.
    pub(crate) fn end(&self, step: &str) {
        let mut calls = self.lock();
        calls.open.remove(step);
        calls.held.remove(step);
    }

    /// The process has ended, so no call waits for anything.
    pub(crate) fn forget(&self) {
        let mut calls = self.lock();
        calls.open.clear();
        calls.held.clear();
    }
}
