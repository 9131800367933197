//! One run on this machine: [`Durable`] over the journal.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::clock::{Clock, Hold};
use crate::durable::{
    BeginOutcome, Branch, BranchOutcome, Call, CallOutcome, Computation, Durable, ExecutionId, Interrupt, Observer,
    Perform, StepFact, StepSpec, Wait, WaitOutcome,
};
use crate::model::event::{Event, Fact, StepCompleted, StepReused};
use crate::model::{Artifact, CallKey, Class, Digest, Failure, RunId, RunState, StepKey};

use super::cancel::CancelSwitch;
use super::finally_steps::FinallySteps;
use super::halt::Halted;
use super::index::Index;
use super::writer::{JournalWriter, Promise};
use super::{ApprovalPrompter, Heartbeat, Journal, ResultCache, StoreError, WorkspaceView, branches};

/// The parts of a [`LocalRun`].
pub struct RunParts {
    /// The run.
    pub run: RunId,
    /// The workspace.
    pub view: WorkspaceView,
    /// Performs the calls.
    pub perform: Arc<dyn Perform>,
    /// Receives the events and the progress of the run.
    pub observer: Arc<dyn Observer>,
    /// The switch that stops the run.
    pub switch: CancelSwitch,
    /// Asks the user at the terminal, if there is one.
    pub asker: Option<Arc<dyn ApprovalPrompter>>,
    /// Results of earlier runs, if they may be reused (`--reuse`).
    pub reuse: Option<ResultCache>,
    /// Shows other processes until when this one owned the run.
    pub heartbeat: Heartbeat,
    /// The clock for the times of events and the deadlines of questions.
    pub clock: Arc<dyn Clock>,
}

/// A run that this process owns.
pub struct LocalRun {
    run: RunId,
    view: WorkspaceView,
    pub(super) perform: Arc<dyn Perform>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) switch: CancelSwitch,
    pub(super) asker: Option<Arc<dyn ApprovalPrompter>>,
    reuse: Option<ResultCache>,
    pub(super) clock: Arc<dyn Clock>,
    writer: JournalWriter,
    pub(super) halted: Halted,
    closing: FinallySteps,
    /// Whether an event could not be recorded.
    broken: Arc<AtomicBool>,
    inner: Mutex<LocalRunState>,
}

pub(super) struct LocalRunState {
    seq: u64,
    state: RunState,
    pub(super) index: Index,
    /// Artifact files that this session produced; the writer may not have written them yet.
    made: HashSet<String>,
}

impl LocalRun {
    /// Opens a run with the events recorded so far (none for a new one).
    pub fn open(journal: &Journal, parts: RunParts, events: &[Event]) -> Result<Self, StoreError> {
        let inner = LocalRunState {
            seq: events.last().map_or(0, |event| event.seq),
            state: RunState::fold(parts.run, events),
            index: Index::of(events),
            made: HashSet::new(),
        };
        Ok(Self {
            run: parts.run,
            writer: journal.writer(parts.observer.clone(), parts.view.clone(), parts.heartbeat)?,
            view: parts.view,
            perform: parts.perform,
            observer: parts.observer,
            switch: parts.switch,
            asker: parts.asker,
            reuse: parts.reuse,
            clock: parts.clock,
            halted: Halted::default(),
            broken: Arc::default(),
            closing: FinallySteps::default(),
            inner: Mutex::new(inner),
        })
    }

    /// The current state of the run.
    pub fn state(&self) -> RunState {
        self.lock().state.clone()
    }

    /// Records a fact of the run as a whole, without waiting; it is durable before anything that follows from it.
    pub fn announce(&self, fact: Fact) {
        self.queue(fact);
    }

    /// Records how the run ended, and waits until that is durable.
    pub async fn conclude(&self, fact: Fact) -> Result<(), Interrupt> {
        self.append(fact).await.map(drop)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LocalRunState> {
        // A panic while the lock is held can't leave the index wrong in a way that matters: the journal is the source
        // of truth.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, fact: Fact, urgent: bool) -> (ExecutionId, Promise) {
        let mut inner = self.lock();
        inner.seq += 1;
        let event = Event { run: self.run, seq: inner.seq, at: self.clock.now(), fact };
        inner.state.apply(&event);
        inner.index.apply(&event);
        if let Fact::StepCompleted(StepCompleted { artifact: Some(Artifact { path: Some(path), .. }), .. }) =
            &event.fact
        {
            inner.made.insert(path.clone());
        }
        // Sent while the lock is held, so that the writer receives the events in the order of their numbers.
        (inner.seq, self.writer.append(event, urgent))
    }

    /// Queues a fact without waiting for it: it is durable before anything that follows from it.
    fn queue(&self, fact: Fact) -> ExecutionId {
        self.send(fact, false).0
    }

    /// Queues a fact in order; the future resolves once it is durable.
    pub(super) fn append(&self, fact: Fact) -> impl Future<Output = Result<ExecutionId, Interrupt>> + Send + use<> {
        let hold = self.clock.hold();
        let (mark, done) = self.send(fact, true);
        let broken = self.broken.clone();
        async move {
            let result = kept(done, hold).await;
            if result.is_err() {
                broken.store(true, Ordering::Release);
            }
            result.map(|()| mark)
        }
    }

    /// Whether the journal still records events, even if files of the workspace can't be written.
    fn records(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// Waits until everything recorded so far is durable and its files are written.
    pub async fn settle(&self) -> Result<(), Interrupt> {
        let hold = self.clock.hold();
        let done = self.writer.flush();
        kept(done, hold).await
    }

    /// A number from 0 to `most` that is derived from the run and the key alone.
    fn jitter(&self, key: &CallKey, most: u64) -> u64 {
        let seed = Digest::of(format!("{} {key}", self.run.0).as_bytes());
        let number = u64::from_str_radix(seed.as_str().get(..12).unwrap_or_default(), 16).unwrap_or_default();
        number.checked_rem(most.saturating_add(1)).unwrap_or_default()
    }

    async fn begin_step(&self, open: &StepSpec) -> Result<BeginOutcome, Interrupt> {
        // A step of `finally` runs in each session, even if a result is recorded.
        let closes = self.closing(&open.step).is_some();
        let claim = if closes { None } else { self.lock().index.claim(open) };
        let Some((completed, artifact)) = claim else { return self.start_attempt(open) };
        // Thousands of reused steps in a row would keep the thread from other work, such as a stop request.
        tokio::task::coop::consume_budget().await;
        let mut kept = StepReused::same(open.step.clone(), completed);
        let artifact = match (artifact, &open.output) {
            (Some(old), Some(name)) => {
                let artifact = Artifact { name: name.clone(), path: open.path.clone(), ..old.clone() };
                kept.renamed_artifact =
                    (artifact.name != old.name || artifact.path != old.path).then(|| artifact.clone());
                Some(artifact)
            }
            (_, None) | (None, _) => None,
        };
        self.queue(Fact::StepReused(kept));
        // Usually the file is there as it was written, and then there is nothing to wait for.
        let failed = |error: StoreError| Interrupt::Storage(error.failure_of_run());
        if let Some(artifact) = artifact.as_ref().filter(|artifact| artifact.path.is_some())
            && (self.is_made(artifact) || !self.view.shows(artifact).map_err(failed)?)
        {
            self.settle().await?;
            self.view.show(artifact).map_err(failed)?;
        }
        let mark = self.lock().index.mark(completed);
        Ok(BeginOutcome::Reusable(artifact.map(Box::new), mark))
    }

    /// Whether this session produced the file of an artifact: then the file on disk may not be up to date yet.
    fn is_made(&self, artifact: &Artifact) -> bool {
        artifact.path.as_ref().is_some_and(|path| self.lock().made.contains(path))
    }

    /// Called if no result of this run can be reused: takes one of an earlier run if `--reuse` allows it, else returns
    /// the attempt to run.
    fn start_attempt(&self, open: &StepSpec) -> Result<BeginOutcome, Interrupt> {
        if let Some(earlier) = self.reuse.as_ref().filter(|_| open.reusable) {
            let mut recipes = std::iter::once(&open.fingerprint).chain(&open.also);
            let found = recipes.find_map(|recipe| Some((earlier.find(recipe).transpose()?, recipe)));
            let found = found.map(|(found, recipe)| Ok((found?, recipe))).transpose();
            let found = found.map_err(|error: StoreError| Interrupt::Storage(error.failure_of_run()))?;
            if let (Some(((run, artifact), recipe)), Some(name)) = (found, &open.output) {
                let artifact = Artifact { name: name.clone(), path: open.path.clone(), ..artifact };
                let fact = StepCompleted {
                    step: open.step.clone(),
                    attempt: 0,
                    fingerprint: recipe.clone(),
                    reused_from: Some(run),
                    artifact: Some(artifact.clone()),
                };
                let mark = self.queue(Fact::StepCompleted(fact));
                return Ok(BeginOutcome::Reusable(Some(Box::new(artifact)), mark));
            }
        }
        let inner = self.lock();
        let attempt = inner.index.next_attempt(open);
        let replies = inner.index.replies(open);
        let why = inner.index.why(open);
        Ok(if replies.is_empty() {
            BeginOutcome::Attempt(attempt, why)
        } else {
            BeginOutcome::Reread { replies, attempt, why }
        })
    }

    /// The innermost begun `finally` step that `step` is or is inside of.
    pub(super) fn closing(&self, step: &StepKey) -> Option<StepKey> {
        self.closing.around(step)
    }

    async fn decide(&self, fact: StepFact) -> Result<ExecutionId, Interrupt> {
        Ok(match fact {
            StepFact::Started(fact) => {
                if self.lock().index.is_announced(&fact) {
                    return Ok(0);
                }
                // A step that may not make a call does not start.
                if let Some(stop) = self.barred(&fact.step) {
                    return Err(stop);
                }
                self.queue(Fact::StepStarted(fact))
            }
            StepFact::Parsed(fact) => {
                if self.lock().index.has_read(&fact.call) {
                    return Ok(0);
                }
                // Urgent if orch re-asks: it reaches the disk while the model answers, and after a kill it shows what
                // that request may use.
                let asks = fact.max_usage.is_some();
                self.send(Fact::ReplyParsed(fact), asks).0
            }
            // It follows from durable facts; the writer writes its file after it is durable too.
            StepFact::Completed(fact) => self.queue(Fact::StepCompleted(fact)),
            StepFact::Failed(fact) => self.append(Fact::StepFailed(fact)).await?,
            StepFact::Skipped(fact) => self.queue(Fact::StepSkipped(fact)),
            StepFact::Finally(steps) => {
                self.closing.begin(steps);
                0
            }
        })
    }
}

/// Waits until the writer acknowledges.
async fn kept(done: Promise, _hold: Hold) -> Result<(), Interrupt> {
    let failure = match done.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(Class::Storage, "the journal's writer has ended").with_hint("this is a defect of orch"),
    };
    Err(Interrupt::Storage(failure))
}

impl Durable for LocalRun {
    fn begin<'a>(&'a self, open: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        self.begin_step(open).boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        self.make_call(call).boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        self.decide(fact).boxed()
    }

    fn branches<'a>(
        &'a self,
        group: StepKey,
        list: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        branches::run(&self.halted, || self.records(), group, list, limit).boxed()
    }

    fn compute(&self, step: StepKey, work: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        self.compute_until_stopped(step, work).boxed()
    }

    fn wait(&self, key: CallKey, on: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        async move {
            let (least, most) = match on {
                Wait::Between(least, most) => (least, most),
                Wait::Approval(approval) => return self.ask_person(key, approval).await,
            };
            let millis = least + self.jitter(&key, most.saturating_sub(least));
            // The attempt that follows the wait is on record, so an earlier session has waited already.
            if self.lock().index.has_attempt(&key) {
                return Ok(WaitOutcome::Elapsed);
            }
            self.observer.signal(&crate::durable::CallProgress::Backoff(key.step.clone(), millis));
            let closing = self.closing(&key.step);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(WaitOutcome::Elapsed),
                () = self.halted.reaches(&key.step, closing.as_ref()) => Err(Interrupt::Dropped),
                () = self.given_up(closing.is_some(), Duration::ZERO) => Err(Interrupt::Cancelled),
            }
        }
        .boxed()
    }
}
