//! Runs the computations of a run on another thread, and abandons them when the user stops the run.

use std::time::Duration;

use crate::durable::{Computation, Interrupt};
use crate::model::StepKey;
use crate::offload::run_on_thread;

use super::LocalRun;

/// The longest time that a computation may continue after a stop request. A resume repeats it, at no cost.
const GRACE_PERIOD: Duration = Duration::from_millis(250);

impl LocalRun {
    /// Runs a computation on a thread of its own. After a stop request, waits at most [`GRACE_PERIOD`] for its end.
    pub(super) async fn compute_until_stopped(&self, step: StepKey, computation: Computation) -> Result<(), Interrupt> {
        let in_finally = self.finally_step(&step).is_some();
        tokio::select! {
            biased;
            () = run_on_thread(self.clock.hold_virtual_time(), computation) => Ok(()),
            () = self.wait_until_abandoned(in_finally, GRACE_PERIOD) => Err(Interrupt::Cancelled),
        }
    }
}
