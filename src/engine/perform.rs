//! Does what calls say: asks the model, runs the command, writes the files; keeps secrets out of
//! what comes back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{Answer, Bounds, Models, Place, Recorder, Replay, Sign, Variables, take_turn};
use crate::clock::Clock;
use crate::durable::{Ask, Call, Effect, Observer, Outcome, Perform, Permit, Reply, Signal, Stop};
use crate::files::Laid;
use crate::model::{CallKey, ChatReply, Class, Failure, StepKey, Turn, Usage, Work};
use crate::provider::{Limits, Signal as Heard};
use crate::secret::{Pieces, Redactor};

use super::budget::Budgets;
use super::effects;
use super::gate::Gates;
use super::message::with_contract;

/// Performs the calls of a run.
#[derive(Clone)]
pub struct Performer {
    /// The models that can be asked.
    pub models: Arc<Models>,
    /// Who is told of signals.
    pub observer: Arc<dyn Observer>,
    /// Keeps secrets out of what is recorded.
    pub redactor: Arc<Redactor>,
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// The folder in which agent programs keep their things during this run, absolute.
    pub homes: PathBuf,
    /// The files of the workspace that show artifacts.
    pub artifacts: Vec<String>,
    /// The files of the workspace that the project is made of; those that are not there yet included.
    pub project: Vec<String>,
    /// The environment of this process.
    pub variables: Variables,
    /// How much may go on at once.
    pub gates: Arc<Gates>,
    /// How much may be spent.
    pub budgets: Arc<Budgets>,
    /// Where exchanges are written, and where they come from instead of a model.
    pub exchange: Exchange,
    /// The files that steps made in the workspace.
    pub laid: Arc<Mutex<Laid>>,
    /// The time that calls begin and end at.
    pub clock: Arc<dyn Clock>,
}

/// What becomes of exchanges with models.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Writes each one down.
    pub recorder: Option<Arc<Recorder>>,
    /// Answers instead of the models.
    pub replay: Option<Arc<Replay>>,
}

impl Perform for Performer {
    fn admit<'a>(&'a self, call: &'a Call, closing: bool) -> BoxFuture<'a, Result<Permit, Stop>> {
        async move {
            let reserved = self.budgets.reserve(call, closing).await.map_err(Stop::OverBudget)?;
            let place = tokio::select! {
                biased;
                // Time goes by here too: what has none left is not begun.
                failure = self.time_over(&call.key.step, closing) => return Err(Stop::OverBudget(failure.of_step())),
                place = self.gates.admit(call) => place,
            };
            self.budgets.goes_on(closing).map_err(Stop::OverBudget)?;
            Ok(Box::new((reserved, place)) as Permit)
        }
        .boxed()
    }

    fn perform(&self, call: Call, closing: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, Outcome> {
        let own = self.clone();
        async move {
            let started = own.clock.now();
            let step = call.key.step.clone();
            let (model, most) = (call.effect.model().cloned(), most(&call.effect));
            let is_program = matches!(call.effect, Effect::Command(_) | Effect::Turn(_));
            let running = own.budgets.run(&step);
            let Performed { result, cost, work } = own.effect(call, started, (closing, stop)).await;
            let lost = most.and_then(|most| lost(most, result.as_ref().err()?));
            let undone = if is_program { own.undone(&result, &work).await } else { Vec::new() };
            // Not before: a call that is dropped while it looks has told nobody.
            effects::forget(&own, &undone);
            let work = (!work.is_nothing()).then(|| Box::new(own.redactor.work(work)));
            let result = own.redactor.result(result);
            let outcome = Outcome { started, ended: own.clock.now(), result, work, cost, lost, undone };
            drop(running);
            own.budgets.settle(&step, model.as_ref(), &outcome);
            outcome
        }
        .boxed()
    }

    fn given_up(&self, call: &Call, started: Timestamp) -> Outcome {
        let failure = given_up();
        let lost = most(&call.effect).and_then(|most| lost(most, &failure));
        let undone = match call.effect {
            Effect::Command(_) | Effect::Turn(_) => effects::undone(self, None),
            Effect::Ask(_) | Effect::Look(_) | Effect::Write(_) => Vec::new(),
        };
        effects::forget(self, &undone);
        let ended = self.clock.now();
        let outcome = Outcome { started, ended, result: Err(failure), work: None, cost: None, lost, undone };
        self.budgets.settle(&call.key.step, call.effect.model(), &outcome);
        outcome
    }
}

/// Does something until its time is over; what it gave by then counts.
async fn within(over: impl Future<Output = Failure>, work: impl Future<Output = Performed>) -> Performed {
    tokio::select! {
        biased;
        ended = work => ended,
        failure = over => Err(failure).into(),
    }
}

/// Asks until the time is over. A reply that is whole by then, though the connection is still open, counts.
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

/// The failure with what the provider had counted by then.
fn with_usage(failure: Failure, of: Option<Failure>) -> Failure {
    Failure { usage: of.and_then(|of| of.usage), ..failure }
}

/// Why a call ended that a stop cut off.
fn given_up() -> Failure {
    Failure { broke_off: true, ..Failure::new(Class::Cancelled, "it was given up at a stop") }
}

/// What a call may use at most; none of one that asks no model, or is a program's own affair.
fn most(effect: &Effect) -> Option<Usage> {
    match effect {
        Effect::Ask(ask) => Some(ask.most),
        Effect::Turn(_) | Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => None,
    }
}

/// What a request that broke off may have used beyond what the provider told.
fn lost(most: Usage, failure: &Failure) -> Option<Usage> {
    let told = failure.used().unwrap_or_default();
    let input = if told.input == 0 { most.input } else { 0 };
    let output = most.output.saturating_sub(told.output);
    failure.broke_off.then(|| Usage { input, output, ..Usage::default() })
}

/// What a call gave.
struct Performed {
    result: Result<Reply, Failure>,
    cost: Option<f64>,
    work: Work,
}

impl From<Result<Reply, Failure>> for Performed {
    fn from(result: Result<Reply, Failure>) -> Self {
        Self { result, cost: None, work: Work::default() }
    }
}

impl Performer {
    /// Resolves when the time of a step is over. Steps of `finally` (`closing`) tidy up also then.
    async fn time_over(&self, step: &StepKey, closing: bool) -> Failure {
        if closing { std::future::pending().await } else { self.budgets.time_over(step).await }
    }

    /// Which files that steps made a command or a turn removed or put back. Many files may have to be read for it.
    async fn undone(&self, result: &Result<Reply, Failure>, work: &Work) -> Vec<String> {
        let answered = match result {
            Ok(Reply::Chat(reply)) => reply.work.as_deref(),
            Ok(Reply::Done(_)) | Err(_) => None,
        };
        let (own, files) = (self.clone(), answered.unwrap_or(work).files.clone());
        match tokio::task::spawn_blocking(move || effects::undone(&own, files)).await {
            Ok(undone) => undone,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The process ends, and nothing more is recorded.
            Err(_) => Vec::new(),
        }
    }

    /// Does what a call says until its time is over, or until `stop` if it can tell what it did by then; what it
    /// gave, and what it cost.
    async fn effect(
        &self,
        call: Call,
        started: Timestamp,
        (closing, stop): (bool, BoxFuture<'static, ()>),
    ) -> Performed {
        let key = &call.key;
        let over = self.time_over(&key.step, closing);
        match call.effect {
            Effect::Ask(ask) => {
                let cut = CancellationToken::new();
                let ended = async {
                    tokio::select! {
                        biased;
                        failure = over => failure,
                        () = stop => given_up(),
                    }
                };
                cut_off(ended, &cut, self.ask(key, &ask, started, &cut)).await
            }
            Effect::Turn(turn) => {
                let bounds =
                    Bounds { now: started, usd: self.budgets.usd_left(&key.step), mark: format!("{key} {}", call.ask) };
                let cut = async {
                    tokio::select! {
                        biased;
                        failure = over => failure,
                        () = stop => given_up(),
                    }
                };
                let answer = self.turn(key, &turn, &bounds, cut).await;
                let usage = answer.reply.as_ref().ok().map(|reply| reply.usage).or(answer.work.usage);
                let priced = || self.models.cost(&turn.program.priced_as()?, &usage?);
                let cost = answer.cost.or_else(priced);
                Performed { result: answer.reply.map(Reply::Chat), cost, work: answer.work }
            }
            Effect::Command(command) => {
                let run = effects::command(self, key, &command);
                within(over, async { run.await.map(Reply::Done).into() }).await
            }
            // Files take no time to speak of, and must not stop half-way.
            Effect::Look(files) => effects::look(self, files).await.map(Reply::Done).into(),
            Effect::Write(record) => effects::write(self, record).await.map(Reply::Done).into(),
        }
    }

    /// Asks a model.
    async fn ask(&self, key: &CallKey, ask: &Ask, started: Timestamp, cut: &CancellationToken) -> Performed {
        let provider = &ask.request.model.provider;
        let answer = self.exchange(key, ask, started, cut).await;
        let answer = answer.map_err(|failure| self.gates.judged(provider, failure));
        self.gates.heard(&ask.request.model.provider, &answer);
        let usage = match &answer {
            Ok(reply) => Some(reply.usage),
            Err(failure) => failure.used(),
        };
        let cost = usage.and_then(|usage| self.models.cost(&ask.request.model, &usage));
        Performed { cost, ..answer.map(Reply::Chat).into() }
    }

    /// The model's answer, or the recorded one; written down if that is wanted.
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
        let reply = answer(self, key, ask, (now, cut)).await?;
        if let Some(recorder) = &self.exchange.recorder {
            recorder.keep(&key.step, &ask.request, &reply, &self.redactor);
        }
        Ok(reply)
    }
}

impl Performer {
    /// The program's answer, or the recorded one; what it did to the workspace is not replayed.
    async fn turn(&self, key: &CallKey, turn: &Turn, bounds: &Bounds, cut: impl Future<Output = Failure>) -> Answer {
        if let Some(replay) = &self.exchange.replay {
            return match replay.answer(&key.step, &turn.request) {
                Ok(reply) => Answer { reply: Ok(reply), cost: None, work: Work::default() },
                Err(failure) => failure.into(),
            };
        }
        let words = Turn { request: with_contract(turn.request.clone()), ..turn.clone() };
        let answer = program(self, key, &words, bounds, cut).await;
        if let (Some(recorder), Ok(reply)) = (&self.exchange.recorder, &answer.reply) {
            recorder.keep(&key.step, &turn.request, reply, &self.redactor);
        }
        answer
    }
}

/// Shows a text while it comes, without secrets: one may begin in one piece and end in the next.
struct Shown<'a> {
    own: &'a Performer,
    key: &'a CallKey,
    pieces: Mutex<Pieces<'a>>,
}

impl<'a> Shown<'a> {
    fn new(own: &'a Performer, key: &'a CallKey) -> Self {
        Self { own, key, pieces: Mutex::new(Pieces::new(&own.redactor)) }
    }

    fn push(&self, text: &str) {
        self.tell(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).push(text));
    }

    fn end(self) {
        let (own, key) = (self.own, self.key);
        let rest = self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner).end();
        Shown::new(own, key).tell(rest);
    }

    fn tell(&self, text: String) {
        if !text.is_empty() {
            self.own.observer.signal(&Signal::Text(self.key.clone(), text));
        }
    }
}

async fn program(
    own: &Performer,
    key: &CallKey,
    turn: &Turn,
    bounds: &Bounds,
    cut: impl Future<Output = Failure>,
) -> Answer {
    let (workspace, homes, variables) = (own.workspace.clone(), own.homes.clone(), own.variables.clone());
    let place = Place { workspace, homes, artifacts: own.artifacts.clone(), variables };
    own.observer.signal(&Signal::Sent(key.clone()));
    let shown = Shown::new(own, key);
    let sink = |sign: Sign| match sign {
        Sign::Text(text) => shown.push(&text),
        Sign::Tool(line) => own.observer.signal(&Signal::Output(key.clone(), own.redactor.text(&line))),
        Sign::Session(_) => {}
    };
    let answer = take_turn(turn, &place, bounds, &sink, cut).await;
    shown.end();
    answer
}

async fn answer(
    own: &Performer,
    key: &CallKey,
    ask: &Ask,
    (now, cut): (Timestamp, &CancellationToken),
) -> Result<ChatReply, Failure> {
    let observer = own.observer.as_ref();
    let provider = own.models.provider(&ask.request.model.provider)?;
    let mut limits = Limits { clock: own.clock.clone(), cut: cut.clone(), ..provider.limits() };
    if let Some(millis) = ask.timeout_ms {
        limits.total = Duration::from_millis(millis);
        // Whoever allows a request more time has a slow server, whose first byte is late too.
        limits.first_byte = limits.total;
    }
    if let Some(until) = ask.until {
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if left.is_zero() {
            return Err(
                Failure::new(Class::Timeout, "the step's deadline is over").with_hint("raise `deadline:` of the step")
            );
        }
        limits.total = limits.total.min(left);
    }
    limits.first_byte = limits.first_byte.min(limits.total);
    observer.signal(&Signal::Sent(key.clone()));
    let shown = Shown::new(own, key);
    let sink = |heard: Heard| match heard {
        Heard::Reading { done, total } => observer.signal(&Signal::Reading(key.clone(), done, total)),
        Heard::Text(text) => shown.push(&text),
        Heard::Reasoning(text) => observer.signal(&Signal::Reasoning(key.clone(), text.len())),
    };
    let reply = if provider.constrains() {
        provider.chat(&ask.request, &limits, &sink).await
    } else {
        provider.chat(&with_contract(ask.request.clone()), &limits, &sink).await
    };
    shown.end();
    reply
}
