//! Runs the computations of a run on another thread, and abandons them when the run is stopped.

use std::time::Duration;

use crate::durable::{Computation, Interrupt};
use crate::model::StepKey;
use crate::offload::off_thread;

use super::LocalRun;

/// How long a computation may continue after a stop request. A resume repeats it, at no cost.
const GRACE: Duration = Duration::from_millis(250);

impl LocalRun {
    /// Runs work on a thread of its own. After a stop request it waits at most [`GRACE`] for the work to end.
    pub(super) async fn compute_until_stopped(&self, step: StepKey, work: Computation) -> Result<(), Interrupt> {
        let closing = self.closing(&step).is_some();
        tokio::select! {
            biased;
            () = off_thread(self.clock.hold(), work) => Ok(()),
            () = self.given_up(closing, GRACE) => Err(Interrupt::Cancelled),
        }
    }
}
