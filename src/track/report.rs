//! The report about the delivery of a run to a tracker.

use std::sync::{Arc, Mutex, PoisonError};

/// The progress and the problems of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The tracker's name.
    pub tracker: &'static str,
    /// How many events the tracker accepted in this delivery.
    pub delivered: u64,
    /// How many events the tracker refused in this delivery.
    pub refused: u64,
    /// The tracker's reason for the first refusal.
    pub refusal: Option<String>,
    /// Why the delivery makes no progress now.
    pub problem: Option<String>,
    /// Whether the delivery gave up, because the tracker did not accept messages.
    pub gave_up: bool,
    /// The last event that the tracker accepted or refused.
    decided_seq: u64,
    /// The last event of the run.
    last_seq: u64,
}

impl DeliveryReport {
    /// How many events have not been delivered yet.
    pub fn pending(&self) -> u64 {
        self.last_seq.saturating_sub(self.decided_seq)
    }

    /// Whether the tracker accepted every event.
    pub fn is_complete(&self) -> bool {
        self.pending() == 0 && self.refused == 0 && self.problem.is_none()
    }

    /// Records the last event that the tracker accepted or refused, and the last event of the run.
    pub(super) fn set_progress(&mut self, decided_seq: u64, last_seq: u64) {
        self.decided_seq = decided_seq;
        self.set_last_event(last_seq);
    }

    /// Records the last event of the run.
    pub(super) fn set_last_event(&mut self, last_seq: u64) {
        self.last_seq = self.last_seq.max(last_seq);
    }

    /// Records that the tracker accepted or refused an event.
    pub(super) fn record_decision(&mut self, seq: u64, refusal: Option<String>) {
        self.set_progress(seq, seq);
        self.delivered += u64::from(refusal.is_none());
        self.refused += u64::from(refusal.is_some());
        self.refusal = self.refusal.take().or(refusal);
        // The tracker has replied, so it has no connection problem any more.
        self.problem = None;
    }
}

/// A report that the delivery thread updates and other threads read.
#[derive(Clone, Debug)]
pub(super) struct SharedReport(Arc<Mutex<DeliveryReport>>);

impl SharedReport {
    pub(super) fn new(tracker: &'static str) -> Self {
        Self(Arc::new(Mutex::new(DeliveryReport { tracker, ..DeliveryReport::default() })))
    }

    pub(super) fn report(&self) -> DeliveryReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut DeliveryReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
