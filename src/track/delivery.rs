//! Delivers the events of one run to one tracker, in order, and advances the delivery cursor.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::http::HttpSender;
use super::report::{DeliveryReport, SharedReport};
use super::{Tracker, TrackerClock, TrackerDecision, TrackerMessage, TrackerTarget};
use crate::model::{Digest, Event, RunId};
use crate::secret::Redactor;
use crate::store::{DeliveryCursor, Lock, Outbox, StoreError};

/// The back-off after the first failed try. It doubles with each further failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// The longest back-off between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// How many times orch tries to send a message after the run has ended.
const MAX_FINAL_TRIES: u32 = 3;

/// The event with which a delivery starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStart {
    /// The event after the last one that was delivered or refused.
    Cursor,
    /// The first refused event. Without a refused event, the same as `Cursor`.
    FirstRefused,
    /// The first event of the run.
    FirstEvent,
}

/// The run to deliver, and its tracker.
#[derive(Clone, Debug)]
pub(super) struct DeliveryJob<'a> {
    /// The state folder, which contains the journal.
    pub(super) state: &'a Path,
    /// The run.
    pub(super) run: RunId,
    /// The tracker.
    pub(super) target: &'a TrackerTarget,
    /// The first event to deliver.
    pub(super) start: DeliveryStart,
    /// The clock for the timestamps of requests.
    pub(super) clock: TrackerClock,
}

/// The progress of a run that its delivery threads follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunProgress {
    /// The number of the last durable event.
    pub(super) seq: u64,
    /// Whether the run has ended, so that no more events follow.
    pub(super) is_final: bool,
}

/// Delivers the recorded events of a run to a tracker, and returns a report.
pub async fn deliver(
    state: &Path,
    run: RunId,
    target: &TrackerTarget,
    start: DeliveryStart,
    clock: TrackerClock,
) -> DeliveryReport {
    let shared = SharedReport::new(target.name());
    let (_progress_sender, progress) = watch::channel(RunProgress { seq: u64::MAX, is_final: true });
    run_delivery(DeliveryJob { state, run, target, start, clock }, progress, &shared).await;
    shared.report()
}

/// Delivers all events of a run until the run has ended, or until the delivery gives up.
pub(super) async fn run_delivery(
    job: DeliveryJob<'_>,
    mut progress: watch::Receiver<RunProgress>,
    shared: &SharedReport,
) {
    let result = match DeliveryWorker::open(job, &progress, shared).await {
        Ok(mut worker) => worker.follow(&mut progress).await,
        Err(stop) => Err(stop),
    };
    match result {
        Ok(()) => {}
        Err(DeliveryStop::TrackerUnavailable) => shared.update(|report| report.gave_up = true),
        Err(DeliveryStop::Failed(reason)) => shared.update(|report| report.problem = Some(reason)),
    }
}

/// Why a delivery ends early.
enum DeliveryStop {
    /// The tracker does not accept messages now. The report contains the reason.
    TrackerUnavailable,
    /// orch failed, for example to read the outbox.
    Failed(String),
}

impl From<StoreError> for DeliveryStop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

struct DeliveryWorker<'a> {
    run: RunId,
    tracker: Box<dyn Tracker>,
    name: &'static str,
    outbox: Outbox,
    cursor: DeliveryCursor,
    sender: HttpSender,
    redactor: Redactor,
    shared: &'a SharedReport,
    _lock: Lock,
}

impl<'a> DeliveryWorker<'a> {
    async fn open(
        job: DeliveryJob<'_>,
        progress: &watch::Receiver<RunProgress>,
        shared: &'a SharedReport,
    ) -> Result<Self, DeliveryStop> {
        let (run, name) = (job.run, job.target.name());
        let mut tracker = job.target.tracker();
        let sender = HttpSender::new(tracker.url(), job.target.network(), job.clock).map_err(DeliveryStop::Failed)?;
        let outbox = Outbox::open(job.state)?;
        let lock = loop {
            match outbox.lock(name, run) {
                Ok(lock) => break lock,
                Err(error) if progress.borrow().is_final => return Err(DeliveryStop::Failed(error.to_string())),
                // Another process still delivers earlier events of this run. It will finish soon, so try again.
                Err(_) => sleep(FIRST_BACKOFF).await,
            }
        };
        let recorded_cursor = outbox.cursor(name, run)?.unwrap_or_default();
        let cursor = start_cursor(job.start, recorded_cursor);
        outbox.advance(name, run, &cursor)?;
        let events = outbox.events_after(run, 0)?;
        events.iter().filter(|event| event.seq <= cursor.seq).for_each(|event| tracker.skip(event));
        shared.update(|report| report.set_progress(cursor.seq, events.last().map_or(0, |event| event.seq)));
        let redactor = job.target.redactor();
        Ok(Self { run, tracker, name, outbox, cursor, sender, redactor, shared, _lock: lock })
    }

    /// Delivers new events until the run has ended.
    async fn follow(&mut self, progress: &mut watch::Receiver<RunProgress>) -> Result<(), DeliveryStop> {
        loop {
            let latest = *progress.borrow_and_update();
            let events = if latest.seq > self.cursor.seq {
                self.outbox.events_after(self.run, self.cursor.seq)?
            } else {
                Vec::new()
            };
            if events.is_empty() && (latest.is_final || progress.changed().await.is_err()) {
                return Ok(());
            }
            for event in &events {
                self.deliver_event(event, progress).await?;
            }
        }
    }

    /// Delivers an event. If the tracker refuses it, records the refusal and returns, so that later events are not
    /// delayed.
    async fn deliver_event(
        &mut self,
        event: &Event,
        progress: &mut watch::Receiver<RunProgress>,
    ) -> Result<(), DeliveryStop> {
        let mut refusal = None;
        for message in self.tracker.encode(event) {
            let reason = self.send(&message, progress).await?;
            refusal = refusal.or(reason);
        }
        self.cursor.seq = event.seq;
        if let Some(reason) = &refusal {
            // Store only the first refusal, since it may have caused the later ones.
            self.cursor.first_refused.get_or_insert(event.seq);
            self.cursor.refusal_reason.get_or_insert_with(|| reason.clone());
        }
        self.outbox.advance(self.name, self.run, &self.cursor)?;
        self.shared.update(|report| report.record_decision(event.seq, refusal));
        Ok(())
    }

    /// Sends a message until the tracker decides about it; returns the reason if it refuses.
    async fn send(
        &self,
        message: &TrackerMessage,
        progress: &mut watch::Receiver<RunProgress>,
    ) -> Result<Option<String>, DeliveryStop> {
        let (mut backoff, mut final_tries) = (FIRST_BACKOFF, 0);
        loop {
            let is_final = progress.borrow().is_final;
            let reason = match self.sender.post(&*self.tracker, message).await {
                TrackerDecision::Accepted => {
                    self.shared.update(|report| report.problem = None);
                    return Ok(None);
                }
                TrackerDecision::Refused(reason) => return Ok(Some(self.redactor.redact_quotations(&reason))),
                TrackerDecision::RetryLater(reason) => self.redactor.redact_quotations(&reason),
            };
            self.shared.update(|report| report.problem = Some(reason));
            if is_final {
                final_tries += 1;
                if final_tries >= MAX_FINAL_TRIES {
                    return Err(DeliveryStop::TrackerUnavailable);
                }
                sleep(FIRST_BACKOFF * final_tries).await;
                continue;
            }
            tokio::select! {
                () = sleep(self.jittered(backoff)) => {}
                run_end = progress.wait_for(|progress| progress.is_final) => {
                    run_end.map_err(|_| DeliveryStop::TrackerUnavailable)?;
                }
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// A time between half of a back-off and all of it. It depends on the run's id, so that many runs do not retry at
    /// the same moment.
    fn jittered(&self, backoff: Duration) -> Duration {
        let seed = Digest::compute(self.run.0.as_bytes());
        let jitter = seed.as_str().get(..2).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(255);
        backoff * (256 + jitter) / 512
    }
}

fn start_cursor(start: DeliveryStart, recorded_cursor: DeliveryCursor) -> DeliveryCursor {
    match (start, recorded_cursor.first_refused) {
        (DeliveryStart::FirstEvent, _) => DeliveryCursor::default(),
        (DeliveryStart::FirstRefused, Some(first)) => {
            DeliveryCursor { seq: first.saturating_sub(1), ..DeliveryCursor::default() }
        }
        (DeliveryStart::Cursor | DeliveryStart::FirstRefused, _) => recorded_cursor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_events_are_delivered_again_only_on_demand() {
        let recorded_cursor = DeliveryCursor { seq: 9, first_refused: Some(4), refusal_reason: Some("no".into()) };
        assert_eq!(start_cursor(DeliveryStart::Cursor, recorded_cursor.clone()), recorded_cursor);
        assert_eq!(start_cursor(DeliveryStart::FirstRefused, recorded_cursor.clone()).seq, 3);
        assert_eq!(
            start_cursor(DeliveryStart::FirstRefused, DeliveryCursor { seq: 9, ..DeliveryCursor::default() }).seq,
            9
        );
        assert_eq!(start_cursor(DeliveryStart::FirstEvent, recorded_cursor), DeliveryCursor::default());
    }
}
