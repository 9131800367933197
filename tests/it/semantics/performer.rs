//! Performs the calls of a run with the outcomes and durations of a script. A virtual time determines their order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::durable::{Call, CallOutcome, CallProgress, CallReply, Effect, Interrupt, Observer, Perform, Permit};
use orch::files::{ChangeSet, PathIndex, ReservedFiles, Tree, parse_entries};
use orch::model::effect::CallEnding;
use orch::model::event::{ApprovalDecision, CallOutput};
use orch::model::{ChatReply, Content, Event, Failure, FailureClass, StepKey, StopReason, Usage};
use orch::store::ApprovalPrompter;
use tokio::sync::oneshot;

use super::script::{Script, ScriptedOutcome, answer};
use crate::support::command_output::command_output;

/// The start, the end and the step of a call.
pub(crate) type TimedCall = (u64, u64, String);

/// Performs the calls of one session.
#[derive(Clone)]
pub(crate) struct ScriptedPerformer {
    script: Script,
    session: u32,
    workspace: std::path::PathBuf,
    artifact_files: Arc<PathIndex>,
    state: Arc<Mutex<PerformerState>>,
}

#[derive(Default)]
struct PerformerState {
    now: u64,
    pending_calls: Vec<PendingCall>,
    call_counts: HashMap<String, usize>,
    ended_calls: Vec<TimedCall>,
    recorded_facts: u64,
    /// Whether a step has started to wait for a retry since the last check.
    has_backoff: bool,
}

/// A call in flight, or a question without an answer.
struct PendingCall {
    start: u64,
    end: u64,
    path: String,
    outcome: ScriptedOutcome,
    sender: oneshot::Sender<ScriptedOutcome>,
}

impl ScriptedPerformer {
    /// Creates the performer of a session. It continues the call counts of the previous session.
    pub(crate) fn new(
        script: Script,
        session: u32,
        workspace: &std::path::Path,
        artifact_files: Vec<String>,
        previous: Option<&Self>,
    ) -> Self {
        let call_counts = previous.map(|performer| performer.lock().call_counts.clone()).unwrap_or_default();
        let state = PerformerState { call_counts, ..PerformerState::default() };
        let artifact_files = Arc::new(PathIndex::new(artifact_files));
        Self { script, session, workspace: workspace.to_owned(), artifact_files, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, PerformerState> {
        self.state.lock().unwrap()
    }

    /// The number of calls in flight.
    pub(crate) fn calls_in_flight(&self) -> usize {
        let mut state = self.lock();
        // The run has dropped the receivers of cancelled calls and questions.
        state.pending_calls.retain(|call| !call.sender.is_closed());
        state.pending_calls.len()
    }

    /// The virtual time.
    pub(crate) fn now(&self) -> u64 {
        self.lock().now
    }

    /// The number of recorded facts.
    pub(crate) fn recorded_facts(&self) -> u64 {
        self.lock().recorded_facts
    }

    /// Whether a step has started to wait for a retry since the last call of this method.
    pub(crate) fn take_backoff(&self) -> bool {
        std::mem::take(&mut self.lock().has_backoff)
    }

    /// The calls that have ended.
    pub(crate) fn ended_calls(&self) -> Vec<TimedCall> {
        self.lock().ended_calls.clone()
    }

    /// Ends the call with the earliest end, and advances the virtual time to this end.
    pub(crate) fn end_next_call(&self) {
        let mut state = self.lock();
        let next = (0..state.pending_calls.len()).min_by_key(|position| state.pending_calls[*position].end).unwrap();
        let call = state.pending_calls.remove(next);
        state.now = call.end;
        if call.outcome != ScriptedOutcome::Unanswered {
            *state.call_counts.entry(call.path.clone()).or_default() += 1;
        }
        state.ended_calls.push((call.start, call.end, call.path));
        drop(state);
        call.sender.send(call.outcome).ok();
    }

    /// Schedules a call of a step. The receiver gets the outcome when the call ends.
    fn schedule_call(&self, step: &StepKey, is_question: bool) -> oneshot::Receiver<ScriptedOutcome> {
        let (sender, receiver) = oneshot::channel();
        let path = step.to_string();
        let mut state = self.lock();
        let number = state.call_counts.get(&path).copied().unwrap_or(0);
        let outcome = self.script.outcome(self.session, &path, number, is_question);
        let end = state.now + self.script.call_duration(self.session, &path, number);
        let start = state.now;
        state.pending_calls.push(PendingCall { start, end, path, outcome, sender });
        receiver
    }

    #[allow(clippy::match_wildcard_for_single_variants, reason = "no pipeline here makes calls of other kinds")]
    fn perform_effect(&self, effect: &Effect, outcome: ScriptedOutcome) -> Result<CallReply, Failure> {
        let tree = || Tree::open(&self.workspace);
        let unwrap_json = |value: Result<serde_json::Value, serde_json::Error>| value.unwrap();
        if let Effect::ModelRequest(_) | Effect::Command(_) = effect
            && outcome == ScriptedOutcome::TransientFailure
        {
            return Err(Failure::new(FailureClass::Timeout, "it takes too long"));
        }
        match effect {
            Effect::ModelRequest(_) if outcome == ScriptedOutcome::PermanentFailure => {
                Err(Failure::new(FailureClass::BadRequest, "no"))
            }
            Effect::ModelRequest(model_request) => {
                let text = match outcome {
                    ScriptedOutcome::NotJson => "nothing to see".to_owned(),
                    _ => answer(&model_request.request.messages[0].content.text()).to_string(),
                };
                let (stop, usage) = (StopReason::End, Usage::default());
                let reply = ChatReply {
                    content: Content::from_text(text),
                    stop,
                    usage: usage.into(),
                    model: None,
                    id: None,
                    constrained: false,
                    details: Box::default(),
                };
                Ok(CallReply::Chat(reply))
            }
            Effect::Command(command) => {
                let stdout = match outcome {
                    ScriptedOutcome::NotJson => "nothing to see".to_owned(),
                    _ => answer(&command.argv[1]).to_string(),
                };
                let exit_code = if outcome == ScriptedOutcome::PermanentFailure { 7 } else { 0 };
                Ok(command_output(exit_code, stdout))
            }
            Effect::Snapshot(files) => {
                let change_set = tree()?.prepare(
                    &parse_entries(&files.files)?,
                    ReservedFiles { artifacts: &self.artifact_files, ..ReservedFiles::default() },
                )?;
                Ok(CallReply::Output(CallOutput::Snapshot(unwrap_json(serde_json::to_value(change_set)))))
            }
            Effect::Write(record) => {
                let change_set: ChangeSet = serde_json::from_value(record.clone()).unwrap();
                Ok(CallReply::Output(CallOutput::Applied(unwrap_json(serde_json::to_value(
                    tree()?.apply(&change_set)?,
                )))))
            }
            other => panic!("no pipeline here makes this call: {other:?}"),
        }
    }
}

fn cancelled_call(time: Timestamp) -> CallOutcome {
    CallOutcome::new(time, time, Err(Failure::new(FailureClass::Cancelled, "the call was cancelled")))
}

impl Perform for ScriptedPerformer {
    fn acquire_permit<'a>(&'a self, _: &'a Call, _: bool) -> BoxFuture<'a, Result<Permit, Interrupt>> {
        async { Ok(Box::new(()) as Permit) }.boxed()
    }

    fn perform(&self, call: Call, _: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome> {
        let performer = self.clone();
        let receiver = self.schedule_call(&call.key.step, false);
        let ends_early = call.effect.properties().ending != CallEnding::RunToEnd;
        async move {
            tokio::select! {
                biased;
                outcome = receiver => {
                    let outcome = outcome.unwrap_or(ScriptedOutcome::PermanentFailure);
                    let result = performer.perform_effect(&call.effect, outcome);
                    CallOutcome::new(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, result)
                }
                () = stop, if ends_early => cancelled_call(Timestamp::UNIX_EPOCH),
            }
        }
        .boxed()
    }

    fn cancelled_outcome<'a>(&'a self, _: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome> {
        std::future::ready(cancelled_call(started)).boxed()
    }
}

impl ApprovalPrompter for ScriptedPerformer {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let receiver = self.schedule_call(&step, true);
        async move {
            let outcome = receiver.await.unwrap_or(ScriptedOutcome::Unanswered);
            let (note, by, at) = (String::new(), "test".to_owned(), Timestamp::now());
            (outcome != ScriptedOutcome::Unanswered).then_some(ApprovalDecision {
                approved: outcome == ScriptedOutcome::Success,
                note,
                by,
                at,
            })
        }
        .boxed()
    }
}

impl Observer for ScriptedPerformer {
    fn on_event(&self, _: &Event) {
        self.lock().recorded_facts += 1;
    }

    fn on_progress(&self, signal: &CallProgress) {
        if let CallProgress::Backoff(..) = signal {
            self.lock().has_backoff = true;
        }
    }
}
