//! Makes the calls of a run. Makes each call at most once, records its outcome before the run continues, and ends it
//! early if the user stops the run.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tracing::{Instrument as _, debug};

use crate::crash::crash_point;
use crate::durable::{Call, CallOutcome, Interrupt};
use crate::history::{StopLevel, call_ended, call_started, outcome_or_interrupt};
use crate::model::effect::CallEnding;
use crate::model::{Failure, StepKey};

use super::LocalRun;
use super::call_log::{call_span, log_outcome};

/// The longest time that model requests in flight may continue after a stop request.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

impl LocalRun {
    /// The reason why no new call may start for this step now; `None` if a call may start.
    pub(super) fn pending_interrupt(&self, step: &StepKey) -> Option<Interrupt> {
        let finally_step = self.finally_step(step);
        if self.halt_signal.is_step_halted(step, finally_step.as_ref()) {
            return Some(Interrupt::GroupHalted);
        }
        (!self.stop_signal.level().allows_calls(finally_step.is_some())).then_some(Interrupt::Cancelled)
    }

    /// Makes a call, or returns its recorded outcome.
    pub(super) async fn make_call(&self, call: Call) -> Result<CallOutcome, Interrupt> {
        let span = call_span(&call);
        self.recorded_or_new_outcome(call).instrument(span).await
    }

    async fn recorded_or_new_outcome(&self, call: Call) -> Result<CallOutcome, Interrupt> {
        let recorded = self.lock().index.take_outcome(&call.key, &call.request_digest);
        if let Some(outcome) = recorded {
            self.perform.on_reused(&call);
            debug!("orch uses the recorded outcome");
            return Ok(outcome);
        }
        let step = call.key.step.clone();
        if let Some(interrupt) = self.pending_interrupt(&step) {
            return Err(interrupt);
        }
        let properties = call.effect.properties();
        // The call may read artifact files, so wait until the writer has written all of them.
        if properties.workspace.sees_files() {
            self.flush().await?;
        }
        let finally_step = self.finally_step(&step);
        let permit = tokio::select! {
            biased;
            () = self.halt_signal.wait_until_step_halted(&step, finally_step.as_ref()) => {
                return Err(Interrupt::GroupHalted);
            }
            permit = self.perform.acquire_permit(&call, finally_step.is_some()) => permit?,
            () = self.wait_until_abandoned(finally_step.is_some(), Duration::ZERO) => return Err(Interrupt::Cancelled),
        };
        // The user may have requested a stop while this call waited for its permit.
        if let Some(interrupt) = self.pending_interrupt(&step) {
            return Err(interrupt);
        }
        debug!("the call has its permit");
        let fact = call_started(&call);
        if properties.awaits_start_record {
            self.append(fact).await?;
        } else {
            self.enqueue(fact);
        }
        let started = self.clock.now();
        let Some(outcome) = self.perform_until_stopped(call.clone()).await? else {
            let outcome = self.perform.cancelled_outcome(&call, started).await;
            log_outcome(&outcome);
            self.append(call_ended(&call, &outcome)).await?;
            return Err(Interrupt::Cancelled);
        };
        log_outcome(&outcome);
        crash_point!("call::performed");
        drop(permit);
        self.append_outcome(call_ended(&call, &outcome), call.effect.profile().kind).await?;
        self.perform.on_recorded(&call);
        crash_point!("call::recorded");
        outcome_or_interrupt(outcome)
    }

    /// Performs the call. Returns `None` if a stop forced orch to drop the call before it had an outcome.
    async fn perform_until_stopped(&self, call: Call) -> Result<Option<CallOutcome>, Interrupt> {
        let ending = call.effect.properties().ending;
        // Programs get no grace period: orch ends them at once and records what they changed.
        let grace_period = match ending {
            CallEnding::EndProcesses => Duration::ZERO,
            CallEnding::CutOff | CallEnding::RunToEnd => GRACE_PERIOD,
        };
        let in_finally = self.finally_step(&call.key.step).is_some();
        let (stop_sender, stop_receiver) = oneshot::channel::<()>();
        let stop_requested = async move {
            // A dropped sender is not a stop request: the sender is also dropped with the future of the session.
            if stop_receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let mut task = tokio::spawn(self.perform.perform(call, in_finally, stop_requested.boxed()).in_current_span());
        let task_failure = |error| Interrupt::Storage(Failure::defect(format!("the call ended unexpectedly: {error}")));
        tokio::select! {
            biased;
            result = &mut task => return result.map(Some).map_err(task_failure),
            () = self.wait_until_abandoned(in_finally, grace_period) => {}
        }
        if ending != CallEnding::RunToEnd {
            // Sending fails only if the call has ended already. Then `task` resolves at once.
            let _ = stop_sender.send(());
            tokio::select! {
                biased;
                result = &mut task => return result.map(Some).map_err(task_failure),
                () = self.stop_signal.wait_for_level(StopLevel::Abort) => {}
                () = tokio::time::sleep(GRACE_PERIOD) => {}
            }
        }
        task.abort();
        // The aborted task may still finish and return its outcome, so wait until it has ended.
        match task.await {
            Err(error) if error.is_cancelled() => Ok(None),
            result => result.map(Some).map_err(task_failure),
        }
    }

    /// Resolves when orch must abandon a call: `grace_period` after a stop request, or at once after an abort. For a
    /// call of `finally`, the grace period is [`GRACE_PERIOD`], and it starts with the call if the stop request came
    /// earlier.
    pub(super) async fn wait_until_abandoned(&self, in_finally: bool, grace_period: Duration) {
        self.stop_signal.wait_for_level(StopLevel::Stop).await;
        tokio::select! {
            () = self.stop_signal.wait_for_level(StopLevel::Abort) => {}
            () = tokio::time::sleep(if in_finally { GRACE_PERIOD } else { grace_period }) => {}
        }
    }
}
