//! Performs the calls of a run as a script says, one at a time, in the order of a virtual time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::durable::{Call, CallOutcome, CallProgress, CallReply, Effect, Interrupt, Observer, Perform, Permit};
use orch::files::{ChangeSet, ReservedFiles, Tree, parse_entries};
use orch::model::effect::CallEnding;
use orch::model::event::{ApprovalDecision, CallOutput, CommandOutput};
use orch::model::{ChatReply, Content, Event, Failure, FailureClass, StepKey, StopReason, Usage};
use orch::store::ApprovalPrompter;
use tokio::sync::oneshot;

use super::script::{Script, ScriptedOutcome, answer};

/// A call: when it began and ended, and its step.
pub(crate) type TimedCall = (u64, u64, String);

/// Performs the calls of one session.
#[derive(Clone)]
pub(crate) struct ScriptedPerformer {
    script: Script,
    session: u32,
    workspace: std::path::PathBuf,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    now: u64,
    waiting: Vec<Waiting>,
    counts: HashMap<String, usize>,
    made: Vec<TimedCall>,
    recorded: u64,
    /// Whether a step waits before a retry.
    pause: bool,
}

struct Waiting {
    begun: u64,
    end: u64,
    path: String,
    say: ScriptedOutcome,
    go: oneshot::Sender<ScriptedOutcome>,
}

impl ScriptedPerformer {
    pub(crate) fn new(script: Script, session: u32, workspace: &std::path::Path, before: Option<&Self>) -> Self {
        let counts = before.map(|performer| performer.lock().counts.clone()).unwrap_or_default();
        let inner = Inner { counts, ..Inner::default() };
        Self { script, session, workspace: workspace.to_owned(), inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// How many calls are in flight.
    pub(crate) fn waiting(&self) -> usize {
        let mut inner = self.lock();
        // A question whose sender is gone does not wait any more.
        inner.waiting.retain(|call| !call.go.is_closed());
        inner.waiting.len()
    }

    pub(crate) fn now(&self) -> u64 {
        self.lock().now
    }

    /// How many facts were recorded.
    pub(crate) fn recorded(&self) -> u64 {
        self.lock().recorded
    }

    /// Whether a step began to wait before a retry since the last call of this function.
    pub(crate) fn pauses(&self) -> bool {
        std::mem::take(&mut self.lock().pause)
    }

    /// The calls that have ended.
    pub(crate) fn ended_calls(&self) -> Vec<TimedCall> {
        self.lock().made.clone()
    }

    /// Ends the call that is due first.
    pub(crate) fn end_next_call(&self) {
        let mut inner = self.lock();
        let due = (0..inner.waiting.len()).min_by_key(|at| inner.waiting[*at].end).unwrap();
        let call = inner.waiting.remove(due);
        inner.now = call.end;
        if call.say != ScriptedOutcome::Later {
            *inner.counts.entry(call.path.clone()).or_default() += 1;
        }
        inner.made.push((call.begun, call.end, call.path));
        drop(inner);
        call.go.send(call.say).ok();
    }

    /// Waits until the call of a step is due.
    fn when_due(&self, step: &StepKey, is_question: bool) -> oneshot::Receiver<ScriptedOutcome> {
        let (go, turn) = oneshot::channel();
        let path = step.to_string();
        let mut inner = self.lock();
        let number = inner.counts.get(&path).copied().unwrap_or(0);
        let say = self.script.outcome(self.session, &path, number, is_question);
        let end = inner.now + self.script.takes(self.session, &path, number);
        let begun = inner.now;
        inner.waiting.push(Waiting { begun, end, path, say, go });
        turn
    }

    #[allow(clippy::match_wildcard_for_single_variants, reason = "no pipeline here makes calls of other kinds")]
    fn perform_effect(&self, effect: &Effect, say: ScriptedOutcome) -> Result<CallReply, Failure> {
        let tree = || Tree::open(&self.workspace);
        let json = |value: Result<serde_json::Value, serde_json::Error>| value.unwrap();
        if let Effect::ModelRequest(_) | Effect::Command(_) = effect
            && say == ScriptedOutcome::Busy
        {
            return Err(Failure::new(FailureClass::Timeout, "it takes too long"));
        }
        match effect {
            Effect::ModelRequest(_) if say == ScriptedOutcome::No => Err(Failure::new(FailureClass::BadRequest, "no")),
            Effect::ModelRequest(ask) => {
                let text = match say {
                    ScriptedOutcome::Garbage => "nothing to see".to_owned(),
                    _ => answer(&ask.request.messages[0].content.text()).to_string(),
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
                let stdout = match say {
                    ScriptedOutcome::Garbage => "nothing to see".to_owned(),
                    _ => answer(&command.argv[1]).to_string(),
                };
                let exit_code = if say == ScriptedOutcome::No { 7 } else { 0 };
                Ok(CallReply::Output(CallOutput::Command(CommandOutput {
                    exit_code,
                    stdout,
                    stderr: String::new(),
                    cut: false,
                    folder: String::new(),
                    probable_limit: None,
                })))
            }
            Effect::Snapshot(files) => {
                let look = tree()?.prepare(
                    &parse_entries(&files.files)?,
                    ReservedFiles { artifacts: &files.reserved, project: &[] },
                )?;
                Ok(CallReply::Output(CallOutput::Snapshot(json(serde_json::to_value(look)))))
            }
            Effect::Write(record) => {
                let look: ChangeSet = serde_json::from_value(record.clone()).unwrap();
                Ok(CallReply::Output(CallOutput::Applied(json(serde_json::to_value(tree()?.apply(&look)?)))))
            }
            other => panic!("no pipeline here makes this call: {other:?}"),
        }
    }
}

fn outcome(at: Timestamp, result: Result<CallReply, Failure>) -> CallOutcome {
    CallOutcome {
        started: at,
        ended: at,
        result,
        agent_activity: None,
        cost: None,
        estimated: None,
        estimated_cost: None,
        reverted_files: Vec::new(),
        sandbox: None,
    }
}

fn given_up(at: Timestamp) -> CallOutcome {
    outcome(at, Err(Failure::new(FailureClass::Cancelled, "it was given up")))
}

impl Perform for ScriptedPerformer {
    fn acquire_permit<'a>(&'a self, _: &'a Call, _: bool) -> BoxFuture<'a, Result<Permit, Interrupt>> {
        async { Ok(Box::new(()) as Permit) }.boxed()
    }

    fn perform(&self, call: Call, _: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome> {
        let own = self.clone();
        let turn = self.when_due(&call.key.step, false);
        let heeds = call.effect.properties().ending != CallEnding::RunToEnd;
        async move {
            tokio::select! {
                biased;
                say = turn => outcome(Timestamp::UNIX_EPOCH, own.perform_effect(&call.effect, say.unwrap_or(ScriptedOutcome::No))),
                () = stop, if heeds => given_up(Timestamp::UNIX_EPOCH),
            }
        }
        .boxed()
    }

    fn cancelled_outcome<'a>(&'a self, _: &'a Call, at: Timestamp) -> BoxFuture<'a, CallOutcome> {
        std::future::ready(given_up(at)).boxed()
    }
}

impl ApprovalPrompter for ScriptedPerformer {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let turn = self.when_due(&step, true);
        async move {
            let say = turn.await.unwrap_or(ScriptedOutcome::Later);
            let (note, by, at) = (String::new(), "test".to_owned(), Timestamp::now());
            (say != ScriptedOutcome::Later).then_some(ApprovalDecision {
                approved: say == ScriptedOutcome::Well,
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
        self.lock().recorded += 1;
    }

    fn on_progress(&self, signal: &CallProgress) {
        if let CallProgress::Backoff(..) = signal {
            self.lock().pause = true;
        }
    }
}
