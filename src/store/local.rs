//! One run on this machine: [`Durable`] over the journal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::durable::{
    Answer, Begin, Branch, BranchEnd, Call, Decided, Durable, Observer, Open, Outcome, Perform, Stop, Wait,
};
use crate::model::event::{CallEnded, Event, Fact, StepKept};
use crate::model::{Artifact, CallKey, Class, Digest, Failure, RunId, RunState};

use super::index::Index;
use super::writer::Writer;
use super::{Journal, StoreError, View};

/// How long model requests in flight may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// How urgently a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Run,
    Stop,
    Abort,
}

/// The switch by which a person or a signal stops a run.
#[derive(Clone, Debug)]
pub struct StopSwitch(watch::Sender<Level>);

impl Default for StopSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(Level::Run))
    }
}

impl StopSwitch {
    /// Asks for a stop: no new call starts, calls in flight get a grace time. The second time
    /// calls in flight are given up at once. Returns whether this was the first time.
    pub fn press(&self) -> bool {
        let first = *self.0.borrow() == Level::Run;
        self.0.send_replace(if first { Level::Stop } else { Level::Abort });
        first
    }

    fn level(&self) -> Level {
        *self.0.borrow()
    }

    async fn reached(&self, level: Level) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|now| *now >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a [`LocalRun`] is built of.
pub struct RunParts {
    /// The run.
    pub run: RunId,
    /// The workspace.
    pub view: View,
    /// Does the calls.
    pub perform: Arc<dyn Perform>,
    /// Follows the run.
    pub observer: Arc<dyn Observer>,
    /// Stops the run.
    pub switch: StopSwitch,
}

/// A run that this process owns.
pub struct LocalRun {
    run: RunId,
    view: View,
    workspace: Arc<str>,
    perform: Arc<dyn Perform>,
    observer: Arc<dyn Observer>,
    switch: StopSwitch,
    writer: Writer,
    inner: Mutex<Inner>,
}

struct Inner {
    seq: u64,
    state: RunState,
    index: Index,
}

impl LocalRun {
    /// Takes up a run with the events recorded so far (none for a new one).
    pub fn open(journal: &Journal, parts: RunParts, events: &[Event]) -> Result<Self, StoreError> {
        let inner = Inner {
            seq: events.last().map_or(0, |event| event.seq),
            state: RunState::fold(parts.run, events),
            index: Index::of(events),
        };
        Ok(Self {
            run: parts.run,
            workspace: parts.view.name().into(),
            view: parts.view,
            perform: parts.perform,
            writer: journal.writer(parts.observer.clone())?,
            observer: parts.observer,
            switch: parts.switch,
            inner: Mutex::new(inner),
        })
    }

    /// The run as it stands.
    pub fn state(&self) -> RunState {
        self.lock().state.clone()
    }

    /// Records a fact of the run as a whole, durably.
    pub async fn announce(&self, fact: Fact) -> Result<(), Stop> {
        self.append(fact).await
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held can't leave the index half-changed in a way that matters:
        // the journal is the truth.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a fact in order; the future resolves once it is durable.
    fn append(&self, fact: Fact) -> impl Future<Output = Result<(), Stop>> + Send + use<> {
        let done = {
            let mut inner = self.lock();
            inner.seq += 1;
            let event = Event { run: self.run, seq: inner.seq, at: now(), fact };
            inner.state.apply(&event);
            inner.index.apply(&event);
            // Sent under the lock, so that the journal has events in the order of their numbers.
            self.writer.append(event, self.workspace.clone())
        };
        async move {
            let why = match done.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => "the journal's writer has ended".to_owned(),
            };
            Err(Stop::Storage(Failure::new(Class::Storage, why).with_hint(
                "nothing that was recorded is lost; free some space or make the folder writable, then resume the run",
            )))
        }
    }

    /// A number up to `most` that depends on the run and the key alone.
    fn jitter(&self, key: &CallKey, most: u64) -> u64 {
        let seed = Digest::of(format!("{} {key}", self.run.0).as_bytes());
        let number = u64::from_str_radix(seed.as_str().get(..12).unwrap_or_default(), 16).unwrap_or_default();
        number.checked_rem(most.saturating_add(1)).unwrap_or_default()
    }

    fn show(&self, artifact: &Artifact) -> Result<(), Stop> {
        self.view.show(artifact).map_err(|error| Stop::Storage(error.failure()))
    }

    async fn begin_step(&self, open: &Open) -> Result<Begin, Stop> {
        let claim = self.lock().index.claim(open);
        let Some((completed, artifact)) = claim else {
            let inner = self.lock();
            let attempt = inner.index.next_attempt(open);
            let replies = inner.index.replies(open);
            return Ok(if replies.is_empty() { Begin::Attempt(attempt) } else { Begin::Reread { replies, attempt } });
        };
        let moved = artifact.name != open.output || artifact.path != open.path;
        let artifact = Artifact { name: open.output.clone(), path: open.path.clone(), ..artifact };
        let mut kept = StepKept::same(open.step.clone(), completed);
        kept.moved = moved.then(|| artifact.clone());
        self.append(Fact::StepKept(kept)).await?;
        self.show(&artifact)?;
        Ok(Begin::Stands(Box::new(artifact)))
    }

    async fn make_call(&self, call: Call) -> Result<Outcome, Stop> {
        if let Some(outcome) = self.lock().index.outcome(&call.key, &call.ask) {
            return Ok(outcome);
        }
        if self.switch.level() > Level::Run {
            return Err(Stop::Cancelled);
        }
        let (key, ask) = (call.key.clone(), call.ask.clone());
        let crate::durable::Effect::Ask(effect) = &call.effect;
        let model = effect.request.model.clone();
        let outcome = self.perform_until_stopped(call).await?;
        let (reply, failure) = match outcome.result.clone() {
            Ok(reply) => (Some(reply), None),
            Err(failure) => (None, Some(failure)),
        };
        let fact = CallEnded {
            call: key,
            ask,
            model,
            started: outcome.started,
            ended: outcome.ended,
            reply,
            failure,
            cost: outcome.cost,
        };
        self.append(Fact::CallEnded(fact)).await?;
        Ok(outcome)
    }

    async fn perform_until_stopped(&self, call: Call) -> Result<Outcome, Stop> {
        let mut task = tokio::spawn(self.perform.perform(call));
        let given_up = async {
            self.switch.reached(Level::Stop).await;
            tokio::select! {
                () = self.switch.reached(Level::Abort) => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        };
        tokio::select! {
            biased;
            joined = &mut task => joined.map_err(|error| Stop::Storage(
                Failure::new(Class::AgentError, format!("the call broke off: {error}")).with_hint("this is a defect of orch; resume the run"),
            )),
            () = given_up => {
                task.abort();
                Err(Stop::Cancelled)
            }
        }
    }

    async fn decide(&self, fact: Decided) -> Result<(), Stop> {
        match fact {
            Decided::Started(fact) => {
                if !self.lock().index.is_announced(&fact) {
                    // Not waited for: the call's outcome is recorded after it, in order.
                    drop(self.append(Fact::StepStarted(fact)));
                }
                Ok(())
            }
            Decided::Read(fact) => {
                if !self.lock().index.has_read(&fact.call) {
                    drop(self.append(Fact::ReplyRead(fact)));
                }
                Ok(())
            }
            Decided::Completed(fact) => {
                let artifact = fact.artifact.clone();
                self.append(Fact::StepCompleted(fact)).await?;
                self.show(&artifact)
            }
            Decided::Failed(fact) => self.append(Fact::StepFailed(fact)).await,
            Decided::Skipped(fact) => self.append(Fact::StepSkipped(fact)).await,
        }
    }
}

impl Durable for LocalRun {
    fn begin<'a>(&'a self, open: &'a Open) -> BoxFuture<'a, Result<Begin, Stop>> {
        self.begin_step(open).boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Outcome, Stop>> {
        self.make_call(call).boxed()
    }

    fn record(&self, fact: Decided) -> BoxFuture<'_, Result<(), Stop>> {
        self.decide(fact).boxed()
    }

    fn branches<'a>(&'a self, list: Vec<Branch<'a>>, limit: usize) -> BoxFuture<'a, Result<Vec<BranchEnd>, Stop>> {
        async move {
            let ends: Vec<_> = stream::iter(list).buffered(limit.max(1)).collect().await;
            ends.into_iter().collect()
        }
        .boxed()
    }

    fn wait(&self, key: CallKey, on: Wait) -> BoxFuture<'_, Result<Answer, Stop>> {
        async move {
            let Wait::Between(least, most) = on;
            let millis = least + self.jitter(&key, most.saturating_sub(least));
            // What came after the wait is on record: it was waited out before.
            if self.lock().index.has_attempt(&key) {
                return Ok(Answer::Elapsed);
            }
            self.observer.signal(&crate::durable::Signal::Backoff(key.step, millis));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(Answer::Elapsed),
                () = self.switch.reached(Level::Stop) => Err(Stop::Cancelled),
            }
        }
        .boxed()
    }
}

/// The time now in whole microseconds, as the journal keeps it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
