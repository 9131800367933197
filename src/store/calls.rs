//! Makes the calls of a run: each at most once, recorded before anything follows from it, and ended early when the user
//! stops the run.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::crash::crash_point;
use crate::durable::{Call, CallOutcome, CallReply, Effect, Interrupt};
use crate::model::event::{CallEnded, Fact};
use crate::model::{Class, Failure, StepKey};

use super::LocalRun;
use super::cancel::StopLevel;

/// How long model requests in flight may continue after a stop request.
const GRACE: Duration = Duration::from_secs(10);

impl LocalRun {
    /// Why no new call may start for this step now; `None` if one may.
    pub(super) fn barred(&self, step: &StepKey) -> Option<Interrupt> {
        let closing = self.closing(step);
        if self.halted.holds(step, closing.as_ref()) {
            return Some(Interrupt::Dropped);
        }
        let level = self.switch.level();
        (level > StopLevel::Run && !(level == StopLevel::Stop && closing.is_some())).then_some(Interrupt::Cancelled)
    }

    /// Makes a call, or returns its recorded outcome.
    pub(super) async fn make_call(&self, call: Call) -> Result<CallOutcome, Interrupt> {
        if let Some(outcome) = self.lock().index.outcome(&call.key, &call.request_digest) {
            return Ok(outcome);
        }
        let step = call.key.step.clone();
        if let Some(stop) = self.barred(&step) {
            return Err(stop);
        }
        // Every effect but a model request sees the workspace, so the files recorded so far must be written first.
        if !matches!(call.effect, Effect::Ask(_)) {
            self.settle().await?;
        }
        let closing = self.closing(&step);
        let permit = tokio::select! {
            biased;
            () = self.halted.reaches(&step, closing.as_ref()) => return Err(Interrupt::Dropped),
            permit = self.perform.admit(&call, closing.is_some()) => permit?,
            () = self.given_up(closing.is_some(), Duration::ZERO) => return Err(Interrupt::Cancelled),
        };
        // A stop may have been requested while this call waited for its permit.
        if let Some(stop) = self.barred(&step) {
            return Err(stop);
        }
        let started = self.clock.now();
        let Some(outcome) = self.perform_until_stopped(call.clone()).await? else {
            let given_up = self.perform.given_up(&call, started).await;
            self.append(ended(&call, &given_up)).await?;
            return Err(Interrupt::Cancelled);
        };
        crash_point!("call::performed");
        drop(permit);
        self.append(ended(&call, &outcome)).await?;
        self.perform.recorded(&call);
        crash_point!("call::recorded");
        // A call that the budget ended took time, but it is not an outcome: orch repeats it once there is budget.
        match &outcome.result {
            Err(failure) if failure.class == Class::BudgetExceeded => {
                Err(Interrupt::OverBudget(failure.clone().of_step()))
            }
            Err(failure) if failure.class == Class::Cancelled => Err(Interrupt::Cancelled),
            Ok(_) | Err(_) => Ok(outcome),
        }
    }

    /// Performs the call; `None` if it was abandoned.
    async fn perform_until_stopped(&self, call: Call) -> Result<Option<CallOutcome>, Interrupt> {
        // Programs get no grace period: orch ends them at once and records what they changed.
        let grace = match call.effect {
            Effect::Command(_) | Effect::Turn(_) => Duration::ZERO,
            Effect::Ask(_) | Effect::Look(_) | Effect::Write(_) => GRACE,
        };
        let closing = self.closing(&call.key.step).is_some();
        let tells = matches!(call.effect, Effect::Ask(_) | Effect::Command(_) | Effect::Turn(_));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // A dropped sender is not a stop: it means that this session's future was dropped.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let mut task = tokio::spawn(self.perform.perform(call, closing, stopped.boxed()));
        let broke_off = |error| {
            let failure = Failure::new(Class::Internal, format!("the call broke off: {error}"));
            Interrupt::Storage(failure.with_hint("this is a defect of orch"))
        };
        tokio::select! {
            biased;
            joined = &mut task => return joined.map(Some).map_err(broke_off),
            () = self.given_up(closing, grace) => {}
        }
        if tells {
            // If the call has ended already, the receiver is gone, and `task` resolves below at once.
            let _ = stop.send(());
            tokio::select! {
                biased;
                joined = &mut task => return joined.map(Some).map_err(broke_off),
                () = self.switch.reached(StopLevel::Abort) => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        task.abort();
        // The aborted task may still finish with its outcome. Only after it has ended is it known what it did.
        match task.await {
            Err(error) if error.is_cancelled() => Ok(None),
            joined => joined.map(Some).map_err(broke_off),
        }
    }

    /// Resolves when a call must be abandoned: `grace` after a stop request, or at once after an abort. Calls of
    /// `finally` get [`GRACE`] instead, counted from their own start if the stop came earlier.
    pub(super) async fn given_up(&self, closing: bool, grace: Duration) {
        self.switch.reached(StopLevel::Stop).await;
        tokio::select! {
            () = self.switch.reached(StopLevel::Abort) => {}
            () = tokio::time::sleep(if closing { GRACE } else { grace }) => {}
        }
    }
}

/// The event that records how a call ended.
fn ended(call: &Call, outcome: &CallOutcome) -> Fact {
    let CallOutcome {
        started,
        ended,
        result,
        agent_activity: work,
        cost,
        estimated,
        estimated_cost,
        reverted_files: undone,
    } = outcome.clone();
    let (mut reply, mut done, mut failure) = (None, None, None);
    match result {
        Ok(CallReply::Chat(chat)) => reply = Some(chat),
        Ok(CallReply::Output(what)) => done = Some(what),
        Err(error) => failure = Some(error),
    }
    let (key, ask, model) = (call.key.clone(), call.request_digest.clone(), call.effect.model().cloned());
    Fact::CallEnded(CallEnded {
        call: key,
        request_digest: ask,
        model,
        started,
        ended,
        reply,
        output: done,
        failure,
        agent_activity: work,
        cost,
        estimated,
        estimated_cost,
        reverted_files: undone,
    })
}
