//! Computation of a run: off its thread, and abandoned at a stop.

use std::time::Duration;

use crate::durable::{Computation, Interrupt};
use crate::model::StepKey;
use crate::offload::off_thread;

use super::LocalRun;

/// How long a computation may go on after a stop was asked for: a resume does it again, and pays nothing for it.
const GRACE: Duration = Duration::from_millis(250);

impl LocalRun {
    /// Does work on a thread of its own; a stop does not wait for it any longer than [`GRACE`].
    pub(super) async fn compute_until_stopped(&self, step: StepKey, work: Computation) -> Result<(), Interrupt> {
        let closing = self.closing(&step).is_some();
        tokio::select! {
            biased;
            () = off_thread(self.clock.hold(), work) => Ok(()),
            () = self.given_up(closing, GRACE) => Err(Interrupt::Cancelled),
        }
    }
}
