//! Pauses between two tries of a step.

use std::time::Duration;

use tracing::info;

use crate::durable::{CallProgress, Interrupt, WaitOutcome};
use crate::history::pause_millis;
use crate::model::CallKey;

use super::LocalRun;
use super::wait_log::{WaitReason, log_wait};

impl LocalRun {
    /// Waits between `min` and `max` milliseconds.
    pub(super) async fn pause(&self, key: CallKey, min: u64, max: u64) -> Result<WaitOutcome, Interrupt> {
        let millis = pause_millis(self.run, &key, min, max);
        log_wait(&key, WaitReason::Retry, self.pause_for(&key, millis)).await
    }

    async fn pause_for(&self, key: &CallKey, millis: u64) -> Result<WaitOutcome, Interrupt> {
        // If the journal contains the attempt or the request that follows the wait, an earlier session has waited
        // already.
        if self.lock().index.has_started(key) {
            return Ok(WaitOutcome::Elapsed);
        }
        // No event records why a server gave no list.
        if let Some(failure) = self.lock().listing_failures.remove(&key.step) {
            self.observer.on_progress(&CallProgress::ListingFailed(key.step.clone(), Box::new(failure)));
        }
        self.observer.on_progress(&CallProgress::Backoff(key.step.clone(), millis));
        info!(millis, "the step waits before the next try");
        let finally_step = self.finally_step(&key.step);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(WaitOutcome::Elapsed),
            () = self.halt_signal.wait_until_step_halted(&key.step, finally_step.as_ref()) => {
                Err(Interrupt::GroupHalted)
            }
            () = self.wait_until_abandoned(finally_step.is_some(), Duration::ZERO) => Err(Interrupt::Cancelled),
        }
    }
}
