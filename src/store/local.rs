//! Implements [`Durable`] for one run on this machine, over the journal.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::sync::Notify;

use crate::clock::{Clock, VirtualTimeHold};
use crate::durable::{
    ArtifactRef, BeginOutcome, BranchOutcome, Call, CallOutcome, Computation, Durable, EarlierCall, ExecutionId,
    GroupBranches, Interrupt, ListTools, ListedTools, Observer, Perform, PipelineCall, PipelineCallStart, StepFact,
    StepSpec, Wait, WaitOutcome,
};
use crate::history::{EarlierResult, HistoryIndex, ReusedStep, StepRecord, completed_with};
use crate::model::effect::CallKind;
use crate::model::event::{Event, Fact, StepCompleted};
use crate::model::{Artifact, CallKey, Digest, Failure, FailureClass, RunId, RunState, StepKey};

use super::branch_activity::BranchActivity;
use super::branches::{GroupContext, run_branches};
use super::halt_signal::HaltSignal;
use super::listings::CurrentListings;
use super::stop_signal::StopSignal;
use super::sync_policy::{may_repeat, needs_sync};
use super::write_job::AckReceiver;
use super::writer::JournalWriter;
use super::{ApprovalPrompter, Heartbeat, Journal, ResultCache, StoreError, Workspace};

/// The parts of a [`LocalRun`].
pub struct RunParts {
    /// The run.
    pub run: RunId,
    /// The workspace.
    pub workspace: Workspace,
    /// Performs the calls.
    pub perform: Arc<dyn Perform>,
    /// Receives the events and the progress of the run.
    pub observer: Arc<dyn Observer>,
    /// Stops the run.
    pub stop_signal: StopSignal,
    /// Prompts the user at the terminal, if there is one.
    pub prompter: Option<Arc<dyn ApprovalPrompter>>,
    /// The results of earlier runs, if this run reuses them (`--reuse`).
    pub result_cache: Option<ResultCache>,
    /// Updates the time of the run's lock file, from which other processes learn when this process died.
    pub heartbeat: Heartbeat,
    /// The clock for the times of events and the deadlines of approvals.
    pub clock: Arc<dyn Clock>,
}

/// A run that this process owns.
pub struct LocalRun {
    pub(super) run: RunId,
    workspace: Workspace,
    pub(super) perform: Arc<dyn Perform>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop_signal: StopSignal,
    pub(super) prompter: Option<Arc<dyn ApprovalPrompter>>,
    result_cache: Option<ResultCache>,
    pub(super) clock: Arc<dyn Clock>,
    /// The database of the journal.
    pub(super) journal_path: PathBuf,
    pub(super) writer: JournalWriter,
    pub(super) halt_signal: HaltSignal,
    pub(super) activity: Arc<BranchActivity>,
    /// Notified when orch has taken a message of another process.
    pub(super) message_taken: Notify,
    pub(super) current_listings: CurrentListings,
    /// Whether the journal failed to record an event.
    has_write_failure: Arc<AtomicBool>,
    shared: Mutex<LocalRunState>,
}

pub(super) struct LocalRunState {
    seq: u64,
    state: RunState,
    pub(super) index: HistoryIndex,
    /// Artifact files that this session produced; the writer may not have written them yet.
    produced_files: HashSet<String>,
    /// The questions for whose answers this session does not wait any more.
    pub(super) parked_questions: Vec<(CallKey, Digest)>,
    /// Why a server gave no list of its tools, for the steps that wait before they ask again.
    pub(super) listing_failures: HashMap<StepKey, Failure>,
}

impl LocalRun {
    /// Opens a run with the events recorded so far; a new run has none.
    pub fn open(journal: &Journal, parts: RunParts, events: &[Event]) -> Result<Self, StoreError> {
        let shared = LocalRunState {
            seq: events.last().map_or(0, |event| event.seq),
            state: RunState::fold(parts.run, events),
            index: HistoryIndex::from_events(events),
            produced_files: HashSet::new(),
            parked_questions: Vec::new(),
            listing_failures: HashMap::new(),
        };
        Ok(Self {
            run: parts.run,
            writer: journal.start_writer(parts.observer.clone(), parts.workspace.clone(), parts.heartbeat, events)?,
            workspace: parts.workspace,
            perform: parts.perform,
            observer: parts.observer,
            stop_signal: parts.stop_signal,
            prompter: parts.prompter,
            result_cache: parts.result_cache,
            clock: parts.clock,
            journal_path: journal.path.clone(),
            halt_signal: HaltSignal::default(),
            activity: Arc::default(),
            message_taken: Notify::new(),
            has_write_failure: Arc::default(),
            current_listings: CurrentListings::default(),
            shared: Mutex::new(shared),
        })
    }

    /// The current state of the run.
    pub fn state(&self) -> RunState {
        self.lock().state.clone()
    }

    /// Queues a fact for the journal without waiting for its commit. The writer commits facts in order, so no later fact
    /// becomes durable before this one.
    pub fn enqueue(&self, fact: Fact) -> ExecutionId {
        let needs_sync = needs_sync(&fact);
        self.send_event(fact, false, needs_sync).0
    }

    /// Records the end of the run, and waits until the record is durable.
    pub async fn finish(&self, fact: Fact) -> Result<(), Interrupt> {
        self.append(fact).await.map(drop)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LocalRunState> {
        // Ignore that another thread panicked while it held the lock: the journal is the source of truth, and a resume
        // builds the index again.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a fact to the writer as the next event of the run. If the fact is not urgent, the writer may delay it, so
    /// that several events share a commit.
    fn send_event(&self, fact: Fact, is_urgent: bool, needs_sync: bool) -> (ExecutionId, AckReceiver) {
        self.send_next(fact, |writer, event| writer.append(event, is_urgent, needs_sync))
    }

    /// Applies a fact to the state and the index as the next event of the run, and sends the event to the writer.
    pub(super) fn send_next(
        &self,
        fact: Fact,
        send: impl FnOnce(&JournalWriter, Event) -> AckReceiver,
    ) -> (ExecutionId, AckReceiver) {
        let mut shared = self.lock();
        shared.seq += 1;
        let event = Event { run: self.run, seq: shared.seq, at: self.clock.now(), fact };
        shared.state.apply(&event);
        shared.index.apply(&event);
        if let Fact::StepCompleted(StepCompleted { artifact: Some(Artifact { path: Some(path), .. }), .. }) =
            &event.fact
        {
            shared.produced_files.insert(path.clone());
        }
        // Send while holding the lock, so that the writer receives the events in the order of their numbers.
        (shared.seq, send(&self.writer, event))
    }

    /// Queues a fact at once. The returned future resolves when the fact is committed, and on disk if it needs a sync.
    pub(super) fn append(&self, fact: Fact) -> impl Future<Output = Result<ExecutionId, Interrupt>> + Send + use<> {
        let needs_sync = needs_sync(&fact);
        self.append_urgently(fact, needs_sync)
    }

    /// Like [`append`](Self::append), for the outcome of a call of this kind.
    pub(super) fn append_outcome(
        &self,
        fact: Fact,
        kind: CallKind,
    ) -> impl Future<Output = Result<ExecutionId, Interrupt>> + Send + use<> {
        self.append_urgently(fact, !may_repeat(kind))
    }

    fn append_urgently(
        &self,
        fact: Fact,
        needs_sync: bool,
    ) -> impl Future<Output = Result<ExecutionId, Interrupt>> + Send + use<> {
        let hold = self.clock.hold_virtual_time();
        let (execution_id, ack) = self.send_event(fact, true, needs_sync);
        let committed = self.until_committed(ack, hold);
        async move { committed.await.map(|()| execution_id) }
    }

    /// Waits for the commit of an event, and records whether the journal failed to record it.
    pub(super) fn until_committed(
        &self,
        ack: AckReceiver,
        hold: VirtualTimeHold,
    ) -> impl Future<Output = Result<(), Interrupt>> + Send + use<> {
        let has_write_failure = self.has_write_failure.clone();
        async move {
            let result = wait_until_committed(ack, hold).await;
            if result.is_err() {
                has_write_failure.store(true, Ordering::Release);
            }
            result
        }
    }

    /// Whether the journal still records events. A failure to write files of the workspace does not change this.
    fn can_record(&self) -> bool {
        !self.has_write_failure.load(Ordering::Acquire)
    }

    /// Waits until all facts recorded so far are committed and their files are written.
    pub async fn flush(&self) -> Result<(), Interrupt> {
        let hold = self.clock.hold_virtual_time();
        let ack = self.writer.flush();
        wait_until_committed(ack, hold).await
    }

    async fn begin_step(&self, spec: &StepSpec) -> Result<BeginOutcome, Interrupt> {
        let reused = self.lock().index.reuse_step(spec);
        let Some(ReusedStep { fact, artifact, execution_id }) = reused else { return self.start_attempt(spec) };
        // Thousands of reused steps in a row would delay other work on the thread, such as a stop request.
        tokio::task::coop::consume_budget().await;
        self.enqueue(Fact::StepReused(fact));
        // The file is usually up to date, so flush only if it is not.
        let storage_failure = |error: StoreError| Interrupt::Storage(error.run_failure());
        if let Some(artifact) = artifact.as_ref().filter(|artifact| artifact.path.is_some())
            && (self.is_produced(artifact) || !self.workspace.is_up_to_date(artifact).map_err(storage_failure)?)
        {
            self.record_reused_file(artifact).await?;
            self.workspace.write_artifact(artifact).map_err(storage_failure)?;
        }
        Ok(BeginOutcome::Reusable(artifact.map(Box::new), execution_id))
    }

    /// The id of the execution whose end has this `seq`.
    fn execution_id(&self, seq: u64) -> ExecutionId {
        self.lock().index.execution_id(seq)
    }

    /// Whether this session produced the file of an artifact, so that the file on disk may not be up to date yet.
    fn is_produced(&self, artifact: &Artifact) -> bool {
        artifact.path.as_ref().is_some_and(|path| self.lock().produced_files.contains(path))
    }

    /// Starts a step for which this run has no reusable result. With `--reuse`, a result of an earlier run may replace
    /// the attempt.
    fn start_attempt(&self, spec: &StepSpec) -> Result<BeginOutcome, Interrupt> {
        if let Some(cache) = self.result_cache.as_ref().filter(|_| spec.reusable) {
            let mut fingerprints = std::iter::once(&spec.fingerprint).chain(&spec.alternative_fingerprints);
            let cached =
                fingerprints.find_map(|fingerprint| Some((cache.next_result(fingerprint).transpose()?, fingerprint)));
            let cached = cached.map(|(result, fingerprint)| Ok((result?, fingerprint))).transpose();
            let cached = cached.map_err(|error: StoreError| Interrupt::Storage(error.run_failure()))?;
            let earlier = cached.map(|((run, artifact), fingerprint)| {
                let fingerprint = fingerprint.clone();
                EarlierResult { run, fingerprint, artifact }
            });
            if let Some(fact) = earlier.and_then(|result| completed_with(result, spec)) {
                let artifact = fact.artifact.clone().map(Box::new);
                let execution_id = self.enqueue(Fact::StepCompleted(fact));
                return Ok(BeginOutcome::Reusable(artifact, execution_id));
            }
        }
        Ok(self.lock().index.open_attempt(spec))
    }

    /// The step of a `finally` that has started and that contains `step` or is `step` itself.
    pub(super) fn finally_step(&self, step: &StepKey) -> Option<StepKey> {
        self.lock().index.finally_step(step)
    }

    /// The value of the artifact to which a branch refers.
    fn recorded_artifact(&self, reference: &ArtifactRef) -> Result<Arc<Value>, Interrupt> {
        let shared = self.lock();
        let artifact = shared.state.step(&reference.step).and_then(|step| step.artifact.as_ref());
        let value = artifact.map(|artifact| &artifact.value).filter(|value| reference.is_to(value));
        value.map(|value| Arc::new(value.clone())).ok_or_else(|| reference.missing())
    }

    async fn record_fact(&self, fact: StepFact) -> Result<ExecutionId, Interrupt> {
        let record = self.lock().index.record_of(fact, self.clock.now());
        let seq = match record {
            StepRecord::Nothing => return Ok(0),
            StepRecord::Start(fact) => {
                // A step does not start if it could not make a call now.
                if let Some(interrupt) = self.pending_interrupt(&fact.step) {
                    return Err(interrupt);
                }
                self.enqueue(Fact::StepStarted(fact))
            }
            StepRecord::Queue(fact) => self.enqueue(fact),
            StepRecord::Await(fact) => self.append(fact).await?,
        };
        Ok(self.execution_id(seq))
    }
}

/// Waits until the writer acknowledges a fact or a flush.
async fn wait_until_committed(ack: AckReceiver, _hold: VirtualTimeHold) -> Result<(), Interrupt> {
    let failure = match ack.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(FailureClass::Storage, "can't write to the journal any more: its writer has ended")
            .with_hint("this is a defect of orch"),
    };
    Err(Interrupt::Storage(failure))
}

impl Durable for LocalRun {
    fn begin<'a>(&'a self, spec: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        self.begin_step(spec).boxed()
    }

    fn earlier_calls<'a>(
        &'a self,
        spec: &'a StepSpec,
        attempt: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
        let calls = self.lock().index.earlier_calls(spec, attempt);
        std::future::ready(Ok(calls)).boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        self.make_call(call).boxed()
    }

    fn begin_pipeline_call<'a>(
        &'a self,
        call: &'a PipelineCall,
    ) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
        std::future::ready(self.begin_called_pipeline(call)).boxed()
    }

    fn call_all(&self, calls: Vec<Call>) -> BoxFuture<'_, Result<Vec<CallOutcome>, Interrupt>> {
        let outcomes = join_all(calls.into_iter().map(|call| self.make_call(call)));
        outcomes.map(|outcomes| outcomes.into_iter().collect()).boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        self.record_fact(fact).boxed()
    }

    fn branches<'a>(
        &'a self,
        group: StepKey,
        branches: &'a dyn GroupBranches,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        let context = GroupContext { halt_signal: &self.halt_signal, activity: &self.activity };
        run_branches(context, || self.can_record(), group, branches, limit).boxed()
    }

    fn artifact<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Arc<Value>, Interrupt>> {
        std::future::ready(self.recorded_artifact(reference)).boxed()
    }

    fn compute(&self, step: StepKey, computation: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        self.compute_until_stopped(step, computation).boxed()
    }

    fn list_tools(&self, request: ListTools) -> BoxFuture<'_, Result<ListedTools, Interrupt>> {
        self.listed_tools(request).boxed()
    }

    fn wait(&self, key: CallKey, wait: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        match wait {
            Wait::DurationBetween(min, max) => self.pause(key, min, max).boxed(),
            Wait::Approval(approval) => self.request_approval(key, approval).boxed(),
        }
    }
}
