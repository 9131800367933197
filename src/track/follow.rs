//! Delivers the events of a run while it runs, on one thread for each tracker, woken by durable events.
//!
//! The run's own threads only advance a number. The delivery threads read the events back from the journal, so that
//! nothing piles up in memory while a tracker is unreachable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::courier::{DeliveryStart, Goal, Order, drive};
use super::report::{DeliveryReport, Shared};
use super::{TrackerClock, TrackerTarget};
use crate::durable::{CallProgress, Observer};
use crate::model::{Event, RunId};

/// The delivery threads of a run that is going on, one for each tracker.
pub struct Follower {
    goal: watch::Sender<Goal>,
    couriers: Vec<(Shared, oneshot::Receiver<()>)>,
}

impl Follower {
    /// Starts to deliver a run whose last event so far is `seq`.
    pub fn start(state: &Path, run: RunId, seq: u64, targets: &[TrackerTarget], clock: TrackerClock) -> Self {
        let goal = watch::Sender::new(Goal { seq, closing: false });
        let start = |target: &TrackerTarget| courier(state, run, target.clone(), clock, goal.subscribe());
        let couriers = targets.iter().map(start).collect();
        Self { goal, couriers }
    }

    /// An observer that wakes the delivery threads and passes everything on to `inner`.
    pub fn observer(&self, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
        if self.couriers.is_empty() {
            return inner;
        }
        Arc::new(WakeObserver { goal: self.goal.clone(), inner })
    }

    /// Waits until everything is delivered, but at most `patience`; returns a report for each tracker.
    pub async fn finish(self, patience: Duration) -> Vec<DeliveryReport> {
        self.goal.send_modify(|goal| goal.closing = true);
        let last = self.goal.borrow().seq;
        let (reports, done): (Vec<Shared>, Vec<_>) = self.couriers.into_iter().unzip();
        // A delivery that is not done in time is abandoned: its cursor says where the next one resumes.
        let in_time = timeout(patience, join_all(done)).await.is_ok();
        let report = |shared: Shared| {
            let mut report = shared.report();
            report.seen_last(last);
            if !in_time && report.pending() > 0 {
                report.problem.get_or_insert_with(|| format!("it was too slow for {} s", patience.as_secs_f32()));
            }
            report
        };
        reports.into_iter().map(report).collect()
    }
}

fn courier(
    state: &Path,
    run: RunId,
    target: TrackerTarget,
    clock: TrackerClock,
    goal: watch::Receiver<Goal>,
) -> (Shared, oneshot::Receiver<()>) {
    let shared = Shared::new(target.name());
    let (done, ended) = oneshot::channel();
    let (state, report) = (state.to_owned(), shared.clone());
    let work = move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let order = Order { state: &state, run, target: &target, begin: DeliveryStart::Cursor, clock };
                runtime.block_on(drive(order, goal, &report));
            }
            Err(error) => report.note(|report| report.problem = Some(error.to_string())),
        }
        // This fails if the `Follower` was dropped early, and then nothing waits for it.
        let _ = done.send(());
    };
    if let Err(error) = std::thread::Builder::new().name(format!("track {}", shared.report().tracker)).spawn(work) {
        shared.note(|report| report.problem = Some(error.to_string()));
    }
    (shared, ended)
}

/// Advances the goal with every durable event.
struct WakeObserver {
    goal: watch::Sender<Goal>,
    inner: Arc<dyn Observer>,
}

impl Observer for WakeObserver {
    fn event(&self, event: &Event) {
        self.inner.event(event);
        self.goal.send_modify(|goal| goal.seq = goal.seq.max(event.seq));
    }

    fn signal(&self, signal: &CallProgress) {
        self.inner.signal(signal);
    }
}
