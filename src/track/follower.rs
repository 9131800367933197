//! Delivers the events of a run in progress. Each tracker has a thread, which wakes up after each durable event.
//!
//! The threads of the run only pass on the number of the last event. The delivery threads read the events from the
//! journal, so that events do not accumulate in memory while a tracker is unreachable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::delivery::{DeliveryJob, DeliveryStart, RunProgress, run_delivery};
use super::report::{DeliveryReport, SharedReport};
use super::{TrackerClock, TrackerTarget};
use crate::durable::{CallProgress, Observer};
use crate::model::{Event, RunId};

/// The delivery threads of a run in progress, one for each tracker.
pub struct Follower {
    progress: watch::Sender<RunProgress>,
    deliveries: Vec<(SharedReport, oneshot::Receiver<()>)>,
}

impl Follower {
    /// Starts to deliver the events of a run whose last event so far is `seq`.
    pub fn start(state: &Path, run: RunId, seq: u64, targets: &[TrackerTarget], clock: TrackerClock) -> Self {
        let progress = watch::Sender::new(RunProgress { seq, is_final: false });
        let start = |target: &TrackerTarget| start_delivery(state, run, target.clone(), clock, progress.subscribe());
        let deliveries = targets.iter().map(start).collect();
        Self { progress, deliveries }
    }

    /// Returns an observer that wakes the delivery threads and forwards everything to `inner`.
    pub fn observer(&self, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
        if self.deliveries.is_empty() {
            return inner;
        }
        Arc::new(WakeObserver { progress: self.progress.clone(), inner })
    }

    /// Waits until all events are delivered, but at most for `time_limit`. Returns a report for each tracker.
    pub async fn finish(self, time_limit: Duration) -> Vec<DeliveryReport> {
        self.progress.send_modify(|progress| progress.is_final = true);
        let last_seq = self.progress.borrow().seq;
        let (reports, end_receivers): (Vec<SharedReport>, Vec<_>) = self.deliveries.into_iter().unzip();
        // orch abandons a delivery that does not end in time. The next delivery continues after the last delivered
        // event.
        let is_in_time = timeout(time_limit, join_all(end_receivers)).await.is_ok();
        let final_report = |shared: SharedReport| {
            let mut report = shared.report();
            report.set_last_event(last_seq);
            if !is_in_time && report.pending() > 0 {
                let problem = || format!("it did not finish within {} s", time_limit.as_secs_f32());
                report.problem.get_or_insert_with(problem);
            }
            report
        };
        reports.into_iter().map(final_report).collect()
    }
}

fn start_delivery(
    state: &Path,
    run: RunId,
    target: TrackerTarget,
    clock: TrackerClock,
    progress: watch::Receiver<RunProgress>,
) -> (SharedReport, oneshot::Receiver<()>) {
    let shared = SharedReport::new(target.name());
    let (end_sender, end_receiver) = oneshot::channel();
    let (state, report) = (state.to_owned(), shared.clone());
    let deliver = move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let job = DeliveryJob { state: &state, run, target: &target, start: DeliveryStart::Cursor, clock };
                runtime.block_on(run_delivery(job, progress, &report));
            }
            Err(error) => report.update(|report| report.problem = Some(error.to_string())),
        }
        // This fails if the `Follower` was dropped early. Then no code waits for the end.
        let _ = end_sender.send(());
    };
    if let Err(error) = std::thread::Builder::new().name(format!("track {}", shared.report().tracker)).spawn(deliver) {
        shared.update(|report| report.problem = Some(error.to_string()));
    }
    (shared, end_receiver)
}

/// Wakes the delivery threads after every durable event.
struct WakeObserver {
    progress: watch::Sender<RunProgress>,
    inner: Arc<dyn Observer>,
}

impl Observer for WakeObserver {
    fn on_event(&self, event: &Event) {
        self.inner.on_event(event);
        self.progress.send_modify(|progress| progress.seq = progress.seq.max(event.seq));
    }

    fn on_progress(&self, progress: &CallProgress) {
        self.inner.on_progress(progress);
    }
}
