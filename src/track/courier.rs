//! Delivers the events of one run to one tracker, in order, and advances its cursor.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::http::Poster;
use super::report::{DeliveryReport, Shared};
use super::{EncodedEvent, Tracker, TrackerClock, TrackerMessage, TrackerTarget};
use crate::model::{Digest, Event, RunId};
use crate::secret::Redactor;
use crate::store::{DeliveryCursor, Lock, Outbox, StoreError};

/// The back-off after the first failed try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest back-off between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a message is tried once the run has ended.
const LAST_TRIES: u32 = 3;

/// Where delivery starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStart {
    /// After the last event that was delivered or refused.
    Cursor,
    /// With the first event that was refused; after the last delivered one if none was.
    Refused,
    /// With the first event.
    Anew,
}

/// What to deliver, and to which tracker.
#[derive(Clone, Debug)]
pub(super) struct Order<'a> {
    /// The state folder, which holds the journal.
    pub(super) state: &'a Path,
    /// The run.
    pub(super) run: RunId,
    /// The tracker.
    pub(super) target: &'a TrackerTarget,
    /// Where to begin.
    pub(super) begin: DeliveryStart,
    /// The clock for the timestamps of requests.
    pub(super) clock: TrackerClock,
}

/// How far the run is, as its delivery threads see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Goal {
    /// The number of the last durable event.
    pub(super) seq: u64,
    /// Whether no more events will come.
    pub(super) closing: bool,
}

/// Delivers the recorded events of a run to a tracker, and returns a report.
pub async fn deliver(
    state: &Path,
    run: RunId,
    target: &TrackerTarget,
    begin: DeliveryStart,
    clock: TrackerClock,
) -> DeliveryReport {
    let shared = Shared::new(target.name());
    let (_sender, goal) = watch::channel(Goal { seq: u64::MAX, closing: true });
    drive(Order { state, run, target, begin, clock }, goal, &shared).await;
    shared.report()
}

/// Delivers until the goal is reached and no more events will come, or until it gives up.
pub(super) async fn drive(order: Order<'_>, mut goal: watch::Receiver<Goal>, shared: &Shared) {
    let ended = match DeliveryWorker::open(order, &goal, shared).await {
        Ok(mut courier) => courier.follow(&mut goal).await,
        Err(stop) => Err(stop),
    };
    match ended {
        Ok(()) => {}
        Err(DeliveryStop::GivenUp) => shared.note(|report| report.away = true),
        Err(DeliveryStop::Broken(why)) => shared.note(|report| report.problem = Some(why)),
    }
}

/// Why delivery ends early.
enum DeliveryStop {
    /// The tracker accepts nothing now; the report says why.
    GivenUp,
    /// Something on orch's side failed, such as the outbox.
    Broken(String),
}

impl From<StoreError> for DeliveryStop {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.to_string())
    }
}

struct DeliveryWorker<'a> {
    run: RunId,
    tracker: Box<dyn Tracker>,
    name: &'static str,
    outbox: Outbox,
    cursor: DeliveryCursor,
    poster: Poster,
    redactor: Redactor,
    shared: &'a Shared,
    _lock: Lock,
}

impl<'a> DeliveryWorker<'a> {
    async fn open(order: Order<'_>, goal: &watch::Receiver<Goal>, shared: &'a Shared) -> Result<Self, DeliveryStop> {
        let (run, name) = (order.run, order.target.name());
        let mut tracker = order.target.tracker();
        let poster = Poster::new(tracker.url(), order.target.network(), order.clock).map_err(DeliveryStop::Broken)?;
        let outbox = Outbox::open(order.state)?;
        let lock = loop {
            match outbox.lock(name, run) {
                Ok(lock) => break lock,
                Err(error) if goal.borrow().closing => return Err(DeliveryStop::Broken(error.to_string())),
                // Another process still delivers older events of this run; it will be done soon.
                Err(_) => sleep(FIRST_PAUSE).await,
            }
        };
        let recorded = outbox.cursor(name, run)?.unwrap_or_default();
        let cursor = begin_at(order.begin, recorded);
        outbox.advance(name, run, &cursor)?;
        let events = outbox.events_after(run, 0)?;
        events.iter().filter(|event| event.seq <= cursor.seq).for_each(|event| tracker.skip(event));
        shared.note(|report| report.seen(cursor.seq, events.last().map_or(0, |event| event.seq)));
        let redactor = order.target.redactor();
        Ok(Self { run, tracker, name, outbox, cursor, poster, redactor, shared, _lock: lock })
    }

    async fn follow(&mut self, goal: &mut watch::Receiver<Goal>) -> Result<(), DeliveryStop> {
        loop {
            let aim = *goal.borrow_and_update();
            let events = if aim.seq > self.cursor.seq {
                self.outbox.events_after(self.run, self.cursor.seq)?
            } else {
                Vec::new()
            };
            if events.is_empty() && (aim.closing || goal.changed().await.is_err()) {
                return Ok(());
            }
            for event in &events {
                self.event(event, goal).await?;
            }
        }
    }

    /// Delivers an event. A refusal is recorded, and does not hold up later events.
    async fn event(&mut self, event: &Event, goal: &mut watch::Receiver<Goal>) -> Result<(), DeliveryStop> {
        let mut refusal = None;
        for message in self.tracker.take(event) {
            let said = self.send(&message, goal).await?;
            refusal = refusal.or(said);
        }
        self.cursor.seq = event.seq;
        if let Some(why) = &refusal {
            // Keep the first refusal: later ones may only be its consequences.
            self.cursor.refused.get_or_insert(event.seq);
            self.cursor.why.get_or_insert_with(|| why.clone());
        }
        self.outbox.advance(self.name, self.run, &self.cursor)?;
        self.shared.note(|report| report.passed(event.seq, refusal));
        Ok(())
    }

    /// Sends a message until the tracker decides about it; returns the reason if it refuses.
    async fn send(
        &self,
        message: &TrackerMessage,
        goal: &mut watch::Receiver<Goal>,
    ) -> Result<Option<String>, DeliveryStop> {
        let (mut pause, mut last_tries) = (FIRST_PAUSE, 0);
        loop {
            let closing = goal.borrow().closing;
            let why = match self.poster.post(&*self.tracker, message).await {
                EncodedEvent::Accepted => {
                    self.shared.note(|report| report.problem = None);
                    return Ok(None);
                }
                EncodedEvent::Refused(why) => return Ok(Some(self.redactor.text(&why))),
                EncodedEvent::Later(why) => self.redactor.text(&why),
            };
            self.shared.note(|report| report.problem = Some(why));
            if closing {
                last_tries += 1;
                if last_tries >= LAST_TRIES {
                    return Err(DeliveryStop::GivenUp);
                }
                sleep(FIRST_PAUSE * last_tries).await;
                continue;
            }
            tokio::select! {
                () = sleep(self.spread(pause)) => {}
                closed = goal.wait_for(|goal| goal.closing) => {
                    closed.map_err(|_| DeliveryStop::GivenUp)?;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Between half and all of a back-off, derived from the run's id, so that many runs do not retry at the same
    /// moment.
    fn spread(&self, pause: Duration) -> Duration {
        let seed = Digest::of(self.run.0.as_bytes());
        let part = seed.as_str().get(..2).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(255);
        pause * (256 + part) / 512
    }
}

fn begin_at(begin: DeliveryStart, recorded: DeliveryCursor) -> DeliveryCursor {
    match (begin, recorded.refused) {
        (DeliveryStart::Anew, _) => DeliveryCursor::default(),
        (DeliveryStart::Refused, Some(first)) => {
            DeliveryCursor { seq: first.saturating_sub(1), ..DeliveryCursor::default() }
        }
        (DeliveryStart::Cursor | DeliveryStart::Refused, _) => recorded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_delivered_again_only_on_demand() {
        let recorded = DeliveryCursor { seq: 9, refused: Some(4), why: Some("no".into()) };
        assert_eq!(begin_at(DeliveryStart::Cursor, recorded.clone()), recorded);
        assert_eq!(begin_at(DeliveryStart::Refused, recorded.clone()).seq, 3);
        assert_eq!(begin_at(DeliveryStart::Refused, DeliveryCursor { seq: 9, ..DeliveryCursor::default() }).seq, 9);
        assert_eq!(begin_at(DeliveryStart::Anew, recorded), DeliveryCursor::default());
    }
}
