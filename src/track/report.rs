//! What came of delivering a run, told while it goes on and at its end.

use std::sync::{Arc, Mutex, PoisonError};

/// What was delivered of a run to a tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The tracker's name.
    pub tracker: &'static str,
    /// How many events were delivered now.
    pub delivered: u64,
    /// How many events were refused now.
    pub refused: u64,
    /// What the tracker said to the first one that it refused.
    pub refusal: Option<String>,
    /// Why nothing is delivered at the moment.
    pub problem: Option<String>,
    /// Whether it was given up because of that: the tracker takes nothing now.
    pub away: bool,
    reached: u64,
    last: u64,
}

impl DeliveryReport {
    /// How many events are not delivered yet.
    pub fn pending(&self) -> u64 {
        self.last.saturating_sub(self.reached)
    }

    /// Whether the tracker has everything.
    pub fn is_complete(&self) -> bool {
        self.pending() == 0 && self.refused == 0 && self.problem.is_none()
    }

    /// Takes in how far the tracker is, and the run.
    pub(super) fn seen(&mut self, reached: u64, last: u64) {
        self.reached = reached;
        self.seen_last(last);
    }

    /// Takes in how far the run is.
    pub(super) fn seen_last(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Takes in that an event was delivered or refused.
    pub(super) fn passed(&mut self, seq: u64, refusal: Option<String>) {
        self.seen(seq, seq);
        self.delivered += u64::from(refusal.is_none());
        self.refused += u64::from(refusal.is_some());
        self.refusal = self.refusal.take().or(refusal);
        // Whatever was the matter, it took this one.
        self.problem = None;
    }
}

/// A report that one thread writes and another reads.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<DeliveryReport>>);

impl Shared {
    pub(super) fn new(tracker: &'static str) -> Self {
        Self(Arc::new(Mutex::new(DeliveryReport { tracker, ..DeliveryReport::default() })))
    }

    pub(super) fn report(&self) -> DeliveryReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut DeliveryReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
