//! Time that leaps to the next timer when nothing else is left to do, and stands still while it is held.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, mpsc};

use jiff::{SignedDuration, Timestamp};
use orch::clock::{Clock, VirtualTimeHold};
use tokio::time::Instant;

/// The date at which every test begins.
pub(crate) const DAWN: &str = "2030-01-01T00:00:00Z";

/// A clock that goes with the time of a paused runtime.
#[derive(Debug)]
pub(crate) struct Leaping(Instant);

impl Leaping {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the beginning.
    pub(crate) fn millis(at: Timestamp) -> u64 {
        let since = at.duration_since(DAWN.parse().unwrap());
        assert_eq!(since.subsec_nanos() % 1_000_000, 0, "virtual time goes by whole milliseconds: {at}");
        u64::try_from(since.as_millis()).unwrap()
    }
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        let dawn: Timestamp = DAWN.parse().unwrap();
        dawn + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    fn hold_virtual_time(&self) -> VirtualTimeHold {
        let (end, ended) = mpsc::channel::<()>();
        // A paused runtime keeps its time while a blocking task runs.
        tokio::task::spawn_blocking(move || ended.recv().is_ok());
        Box::new(end)
    }
}

/// Holds time while a call is between this process's two ends of a connection, or with a child process.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    /// How many there were of each step, which tells a late one from those after it.
    counts: HashMap<String, usize>,
    open: HashMap<String, usize>,
    held: HashMap<String, VirtualTimeHold>,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap()
    }

    /// A call of a step begins.
    pub(crate) fn begin(&self, step: String, clock: &dyn Clock) {
        let mut calls = self.lock();
        let count = calls.counts.entry(step.clone()).or_default();
        *count += 1;
        let number = *count;
        calls.open.insert(step.clone(), number);
        calls.held.insert(step, clock.hold_virtual_time());
    }

    /// Whether a step has ever made a call.
    pub(crate) fn knows(&self, step: &str) -> bool {
        self.lock().counts.contains_key(step)
    }

    /// Lets time go on: the call has arrived where it will stay a while. Gives its number.
    pub(crate) fn arrived(&self, step: &str) -> usize {
        let mut calls = self.lock();
        calls.held.remove(step);
        calls.open.get(step).copied().unwrap_or_default()
    }

    /// The answer to a call sets out, if somebody still waits for it.
    pub(crate) fn answered(&self, step: &str, number: usize, clock: &dyn Clock) -> bool {
        let mut calls = self.lock();
        let waits = calls.open.get(step) == Some(&number);
        if waits {
            calls.held.insert(step.to_owned(), clock.hold_virtual_time());
        }
        waits
    }

    /// A call is on record.
    pub(crate) fn end(&self, step: &str) {
        let mut calls = self.lock();
        calls.open.remove(step);
        calls.held.remove(step);
    }

    /// The process is gone, and nobody waits for anything.
    pub(crate) fn forget(&self) {
        let mut calls = self.lock();
        calls.open.clear();
        calls.held.clear();
    }
}
