//! Performs calls: asks the model, runs the command, writes the files. Everything that comes back is redacted before it
//! is recorded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{ModelRegistry, Recorder, Replay, TurnLimits, TurnResult, Variables, turn_recorded};
use crate::clock::Clock;
use crate::durable::{Ask, Call, CallOutcome, CallReply, Effect, Interrupt, Observer, Perform, Permit};
use crate::files::FileLedger;
use crate::folder::OwnFolder;
use crate::model::event::CallOutput;
use crate::model::{AgentActivity, AgentTurn, CallKey, ChatReply, Class, Failure, ModelRef, StepKey};
use crate::offload::{LARGE_TEXT, off_thread};
use crate::process::{EndingGroups, GuardProgram};
use crate::secret::Redactor;

use super::bound::{Bound, believable, believable_failure};
use super::budget::Budgets;
use super::effects;
use super::gate::RateLimiters;
use super::message::with_contract;
use super::model_call::{answer, program};

/// Performs the calls of a run.
#[derive(Clone)]
pub struct Performer {
    /// The models that are available.
    pub models: Arc<ModelRegistry>,
    /// Receives progress.
    pub observer: Arc<dyn Observer>,
    /// Removes secrets from everything that is recorded.
    pub redactor: Arc<Redactor>,
    /// The absolute path of the workspace.
    pub workspace: PathBuf,
    /// The folder in which CLI agents keep their own files during this run.
    pub homes: OwnFolder,
    /// The workspace files that show artifacts.
    pub artifacts: Vec<String>,
    /// The project files that lie inside the workspace, including those that do not exist yet.
    pub project: Vec<String>,
    /// The environment of this process.
    pub variables: Variables,
    /// The limits of concurrent calls and of request rates.
    pub gates: Arc<RateLimiters>,
    /// The budgets of the run.
    pub budgets: Arc<Budgets>,
    /// Records exchanges with models, or replays them.
    pub exchange: Exchange,
    /// The files that steps wrote into the workspace.
    pub laid: Arc<Mutex<FileLedger>>,
    /// The clock for the start and end of calls.
    pub clock: Arc<dyn Clock>,
    /// The guard for child processes: the executable of orch itself.
    pub guard: GuardProgram,
    /// The child processes that orch is still ending after their calls were cut off or dropped.
    pub endings: Arc<CallEndings>,
}

/// The child processes that orch is still ending, by call.
#[derive(Debug, Default)]
pub struct CallEndings(Mutex<HashMap<CallKey, EndingGroups>>);

impl CallEndings {
    pub(super) fn of(&self, key: &CallKey, clock: &Arc<dyn Clock>) -> EndingGroups {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone()).or_insert_with(|| EndingGroups::new(clock.clone())).clone()
    }

    fn forget(&self, key: &CallKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Whether exchanges with models are recorded or replayed.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Records each exchange, if set.
    pub recorder: Option<Arc<Recorder>>,
    /// Answers instead of the models, if set.
    pub replay: Option<Arc<Replay>>,
}

impl Perform for Performer {
    fn admit<'a>(&'a self, call: &'a Call, closing: bool) -> BoxFuture<'a, Result<Permit, Interrupt>> {
        async move {
            let reserved = self.budgets.reserve(call, closing).await.map_err(Interrupt::OverBudget)?;
            let place = tokio::select! {
                biased;
                // The time budget also runs out while a call waits for its permit; such a call does not start.
                failure = self.time_over(&call.key.step, closing) => return Err(Interrupt::OverBudget(failure.of_step())),
                place = self.gates.admit(call) => place,
            };
            self.budgets.goes_on(closing).map_err(Interrupt::OverBudget)?;
            Ok(Box::new((reserved, place)) as Permit)
        }
        .boxed()
    }

    fn perform(&self, call: Call, closing: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome> {
        let own = self.clone();
        async move {
            let started = own.clock.now();
            let (key, step) = (call.key.clone(), call.key.step.clone());
            let (model, bound) = (call.effect.model().cloned(), Bound::of(&call.effect));
            let is_program = matches!(call.effect, Effect::Command(_) | Effect::Turn(_));
            let running = own.budgets.run(&step);
            let Performed { result, cost, work } = own.effect(call, started, closing, stop).await;
            let work = (!work.is_nothing()).then(|| Box::new(own.redactor.work(work)));
            let undone = if is_program { own.undone(&result, work.as_deref()).await } else { Vec::new() };
            // Stop tracking these files only now: if this future were dropped during the scan, the removals would not
            // be on record.
            effects::forget(&own, &undone);
            let result = own.redacted(result).await;
            let (estimated, estimated_cost) = (None, None);
            let outcome = CallOutcome {
                started,
                ended: own.clock.now(),
                result,
                agent_activity: work,
                cost,
                estimated,
                estimated_cost,
                reverted_files: undone,
            };
            let outcome = own.priced(outcome, model.as_ref(), bound);
            drop(running);
            own.endings.forget(&key);
            own.budgets.settle(&step, model.as_ref(), &outcome);
            outcome
        }
        .boxed()
    }

    fn recorded(&self, call: &Call) {
        if matches!(call.effect, Effect::Turn(_)) {
            let (homes, key) = (self.homes.clone(), call.key.clone());
            // The call does not wait for this; if the note remains, a resume removes it, since the outcome is on
            // record.
            drop(tokio::task::spawn_blocking(move || turn_recorded(&homes, &key)));
        }
    }

    fn given_up<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome> {
        async move {
            let failure = given_up();
            // The processes may still change files while they are being ended, so wait until they have ended.
            self.endings.of(&call.key, &self.clock).settled().await;
            self.endings.forget(&call.key);
            let undone = match call.effect {
                Effect::Command(_) | Effect::Turn(_) => self.undone(&Err(failure.clone()), None).await,
                Effect::Ask(_) | Effect::Look(_) | Effect::Write(_) => Vec::new(),
            };
            effects::forget(self, &undone);
            let ended = self.clock.now();
            let (result, estimated, estimated_cost) = (Err(failure), None, None);
            let outcome = CallOutcome {
                started,
                ended,
                result,
                agent_activity: None,
                cost: None,
                estimated,
                estimated_cost,
                reverted_files: undone,
            };
            let outcome = self.priced(outcome, call.effect.model(), Bound::of(&call.effect));
            self.budgets.settle(&call.key.step, call.effect.model(), &outcome);
            outcome
        }
        .boxed()
    }
}

/// Performs a request until the time is over. If the reply is complete by then and only the connection is still open,
/// the reply counts.
async fn cut_off(
    over: impl Future<Output = Failure>,
    cut: &CancellationToken,
    asking: impl Future<Output = Performed>,
) -> Performed {
    tokio::pin!(asking);
    let failure = tokio::select! {
        biased;
        ended = &mut asking => return ended,
        failure = over => failure,
    };
    cut.cancel();
    match asking.now_or_never() {
        Some(ended) if ended.result.is_ok() => ended,
        Some(ended) => Performed { cost: ended.cost, ..Err(with_usage(failure, ended.result.err())).into() },
        None => Err(failure).into(),
    }
}

/// Adds to a failure the usage that the provider had reported until then.
fn with_usage(failure: Failure, of: Option<Failure>) -> Failure {
    Failure { usage: of.and_then(|of| of.usage), ..failure }
}

/// Resolves when a call must end: when its time is over or the run is stopped.
async fn cut(over: impl Future<Output = Failure>, stop: BoxFuture<'static, ()>) -> Failure {
    tokio::select! {
        biased;
        failure = over => failure,
        () = stop => given_up(),
    }
}

/// The failure of a call that a stop cut off.
fn given_up() -> Failure {
    Failure { interrupted: true, ..Failure::new(Class::Cancelled, "it was given up at a stop") }
}

/// The result of an effect.
struct Performed {
    result: Result<CallReply, Failure>,
    cost: Option<f64>,
    work: AgentActivity,
}

impl From<Result<CallReply, Failure>> for Performed {
    fn from(result: Result<CallReply, Failure>) -> Self {
        Self { result, cost: None, work: AgentActivity::default() }
    }
}

impl Performer {
    /// Resolves when the time of a step is over; never for steps of `finally` (`closing`), which may clean up even
    /// then.
    async fn time_over(&self, step: &StepKey, closing: bool) -> Failure {
        if closing { std::future::pending().await } else { self.budgets.time_over(step).await }
    }

    /// Returns the files of earlier steps that a command or a turn deleted or reverted. Runs on another thread, because
    /// it may have to read many files.
    async fn undone(&self, result: &Result<CallReply, Failure>, work: Option<&AgentActivity>) -> Vec<String> {
        let answered = match result {
            Ok(CallReply::Chat(reply)) => reply.agent_activity.as_deref(),
            Ok(CallReply::Output(_)) | Err(_) => None,
        };
        let (own, files) = (self.clone(), answered.or(work).and_then(|work| work.files.clone()));
        match tokio::task::spawn_blocking(move || effects::undone(&own, files)).await {
            Ok(undone) => undone,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down, and nothing more is recorded.
            Err(_) => Vec::new(),
        }
    }

    /// Returns the result of a call without secrets.
    async fn redacted(&self, result: Result<CallReply, Failure>) -> Result<CallReply, Failure> {
        let size = match &result {
            Ok(CallReply::Chat(reply)) => reply.text.len(),
            Ok(CallReply::Output(CallOutput::Command(done))) => done.stdout.len().saturating_add(done.stderr.len()),
            Ok(CallReply::Output(CallOutput::Snapshot(_) | CallOutput::Applied(_))) | Err(_) => 0,
        };
        if size < LARGE_TEXT {
            return self.redactor.result(result);
        }
        let redactor = self.redactor.clone();
        off_thread(self.clock.hold(), move || redactor.result(result)).await
    }

    /// Performs an effect until its time is over, or until `stop`; file operations ignore both.
    async fn effect(&self, call: Call, started: Timestamp, closing: bool, stop: BoxFuture<'static, ()>) -> Performed {
        let key = &call.key;
        let over = self.time_over(&key.step, closing);
        match call.effect {
            Effect::Ask(ask) => {
                let token = CancellationToken::new();
                cut_off(cut(over, stop), &token, self.ask(key, &ask, started, &token)).await
            }
            Effect::Turn(turn) => {
                let bounds = TurnLimits {
                    now: started,
                    usd: self.budgets.usd_left(&key.step),
                    call: key.clone(),
                    ask: call.request_digest.clone(),
                };
                let answer = self.turn(key, &turn, &bounds, cut(over, stop)).await;
                let result = answer.reply.map(believable).map_err(believable_failure).map(CallReply::Chat);
                Performed { result, cost: answer.cost, work: answer.work }
            }
            Effect::Command(command) => {
                effects::command(self, key, &command, cut(over, stop)).await.map(CallReply::Output).into()
            }
            // File operations take hardly any time and must not stop half-way.
            Effect::Look(files) => effects::look(self, files).await.map(CallReply::Output).into(),
            Effect::Write(record) => effects::write(self, record).await.map(CallReply::Output).into(),
        }
    }

    /// Sends a request to a model.
    async fn ask(&self, key: &CallKey, ask: &Ask, started: Timestamp, cut: &CancellationToken) -> Performed {
        let provider = &ask.request.model.provider;
        let answer = self.exchange(key, ask, started, cut).await;
        let answer = answer.map_err(|failure| believable_failure(self.gates.judged(provider, failure)));
        self.gates.heard(&ask.request.model.provider, &answer);
        answer.map(believable).map(CallReply::Chat).into()
    }

    /// Adds the estimated usage and the cost to an outcome; an upper bound of the cost where that is unknown.
    fn priced(&self, outcome: CallOutcome, model: Option<&ModelRef>, bound: Bound) -> CallOutcome {
        let estimated = bound.estimated(&outcome);
        let outcome = CallOutcome { estimated, ..outcome };
        let usage = outcome.usage();
        let (priced_as, most) = match &bound {
            Bound::Request(_) => (model, None),
            Bound::Turn(most, priced_as) => (priced_as.as_ref(), most.usd.filter(|_| outcome.at_work())),
            Bound::Nothing => (None, None),
        };
        let bounded = usage.unknown_calls == 0 && estimated.is_none_or(|estimated| estimated.undivided == 0);
        let price = priced_as.filter(|_| bounded && !usage.is_nothing());
        let price = price.and_then(|model| self.models.cost(model, &usage.divided()));
        // If even the upper bound is zero, the cost is known to be zero.
        let cost = outcome.cost.or_else(|| price.filter(|usd| usage.is_reported() || *usd == 0.0));
        let estimated_cost = if cost.is_some() { None } else { price.or(most) };
        CallOutcome { cost, estimated_cost, ..outcome }
    }

    /// Returns the model's reply, or the recorded one in a replay; records it if exchanges are recorded.
    async fn exchange(
        &self,
        key: &CallKey,
        ask: &Ask,
        now: Timestamp,
        cut: &CancellationToken,
    ) -> Result<ChatReply, Failure> {
        if let Some(replay) = &self.exchange.replay {
            return replay.answer(&key.step, &ask.request);
        }
        let reply = answer(self, key, ask, now, cut).await?;
        if let Some(recorder) = &self.exchange.recorder {
            recorder.keep(&key.step, &ask.request, &reply, &self.redactor);
        }
        Ok(reply)
    }
}

impl Performer {
    /// Returns the CLI agent's reply, or the recorded one in a replay, which does not repeat changes to the workspace.
    async fn turn(
        &self,
        key: &CallKey,
        turn: &AgentTurn,
        bounds: &TurnLimits,
        cut: impl Future<Output = Failure>,
    ) -> TurnResult {
        if let Some(replay) = &self.exchange.replay {
            return match replay.answer(&key.step, &turn.request) {
                // A replayed turn costs nothing.
                Ok(reply) => TurnResult { reply: Ok(reply), cost: Some(0.0), work: AgentActivity::default() },
                Err(failure) => failure.into(),
            };
        }
        let words = AgentTurn { request: with_contract(turn.request.clone()), ..turn.clone() };
        let answer = program(self, key, &words, bounds, cut).await;
        if let (Some(recorder), Ok(reply)) = (&self.exchange.recorder, &answer.reply) {
            recorder.keep(&key.step, &turn.request, reply, &self.redactor);
        }
        answer
    }
}
