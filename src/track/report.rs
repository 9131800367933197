//! The report about delivering a run, read during the run and at its end.

use std::sync::{Arc, Mutex, PoisonError};

/// How far a run has been delivered to a tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The tracker's name.
    pub tracker: &'static str,
    /// How many events this delivery handed over.
    pub delivered: u64,
    /// How many events the tracker refused in this delivery.
    pub refused: u64,
    /// The tracker's reason for the first refusal.
    pub refusal: Option<String>,
    /// Why delivery makes no progress at the moment.
    pub problem: Option<String>,
    /// Whether delivery gave up because the tracker accepts nothing now.
    pub away: bool,
    reached: u64,
    last: u64,
}

impl DeliveryReport {
    /// How many events have not been delivered yet.
    pub fn pending(&self) -> u64 {
        self.last.saturating_sub(self.reached)
    }

    /// Whether the tracker accepted every event.
    pub fn is_complete(&self) -> bool {
        self.pending() == 0 && self.refused == 0 && self.problem.is_none()
    }

    /// Records how far the tracker and the run are.
    pub(super) fn seen(&mut self, reached: u64, last: u64) {
        self.reached = reached;
        self.seen_last(last);
    }

    /// Records how far the run is.
    pub(super) fn seen_last(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Records that the tracker accepted or refused an event.
    pub(super) fn passed(&mut self, seq: u64, refusal: Option<String>) {
        self.seen(seq, seq);
        self.delivered += u64::from(refusal.is_none());
        self.refused += u64::from(refusal.is_some());
        self.refusal = self.refusal.take().or(refusal);
        // Whatever the problem was, the tracker has decided about this event.
        self.problem = None;
    }
}

/// A report that the delivery thread writes and another thread reads.
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
