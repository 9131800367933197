//! The seam to durability and to concurrency.
//!
//! The interpreter in `engine` is a pure function of a plan, the inputs and recorded
//! outcomes. Whatever it wants done in the world is a [`Call`]; whatever it decides is told
//! through [`Durable::begin`] and [`Durable::record`]; whatever may run side by side goes
//! through [`Durable::branches`]. It never joins, selects, spawns, sleeps or looks at a
//! clock, so the same interpreter runs on a local journal and on a distributed engine.
//!
//! An implementation is given a [`Perform`] when it is built. It promises: an outcome that
//! [`Durable::call`] returned is durable; the same call is performed at most once per
//! recorded outcome; what [`Durable::record`] acknowledged is never lost.

mod observer;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::observer::{CallProgress, Observer};
use crate::model::call::reported_usage;
pub use crate::model::event::CallReply;
use crate::model::event::{
    ApprovalDecision, FingerprintPart, ReplyParsed, StepCompleted, StepFailed, StepSkipped, StepStarted,
};
use crate::model::{
    AgentActivity, AgentTurn, Artifact, CallKey, ChatRequest, Digest, EstimatedUsage, Failure, Fingerprint, ModelRef,
    ReportedUsage, StepKey, Usage, UsageTotal,
};

/// One external effect of an attempt: a leaf of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Which call it is; unique in a run.
    pub key: CallKey,
    /// The digest of what is asked: a recorded outcome serves only the same request.
    pub request_digest: Digest,
    /// What is done.
    pub effect: Effect,
}

/// What a call does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Asks a model.
    Ask(Ask),
    /// Has an agent program take a turn.
    Turn(Box<AgentTurn>),
    /// Runs a command in the workspace.
    Command(CommandSpec),
    /// Looks at the files that are about to be written.
    Look(Files),
    /// Writes the files, given how they were when they were looked at.
    Write(Value),
}

impl Effect {
    /// Who answers, when anybody does.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Self::Ask(ask) => Some(&ask.request.model),
            Self::Turn(turn) => Some(&turn.request.model),
            Self::Command(_) | Self::Look(_) | Self::Write(_) => None,
        }
    }
}

/// A command to run in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables of its environment that hold values.
    pub values: Vec<(String, String)>,
    /// Names of variables that it takes over from the environment of the run.
    pub env: Vec<String>,
    /// The folder in which it runs, relative to the workspace.
    pub cwd: String,
    /// What it reads on standard input.
    pub stdin: Option<String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// Files to put into the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// The list of files, as the artifact has it.
    pub files: Value,
    /// Paths of the workspace that belong to artifacts, and may not be written.
    pub reserved: Vec<String>,
}

/// A model request with its time limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The request.
    pub request: ChatRequest,
    /// What it may use at most, reckoned from the request.
    pub max_usage: Usage,
    /// How long it may take in all, in milliseconds; the provider's default when absent.
    pub timeout_ms: Option<u64>,
    /// When the step's deadline is over; the request ends then at the latest.
    pub until: Option<Timestamp>,
}

/// How a call ended, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallOutcome {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it gave, or the failure.
    pub result: Result<CallReply, Failure>,
    /// What an agent program did in a turn that gave no reply.
    pub agent_activity: Option<Box<AgentActivity>>,
    /// What it cost in US dollars, when a price applies and what it used is known.
    pub cost: Option<f64>,
    /// What it may have used beyond what was reported, at most.
    pub estimated: Option<EstimatedUsage>,
    /// What it cost at most, when its cost is not known and its use is estimated.
    pub estimated_cost: Option<f64>,
    /// Files that steps before made, and that a command or a turn removed or put back.
    pub reverted_files: Vec<String>,
}

impl CallOutcome {
    /// What the provider reported, whether there is a reply or not.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        let (reply, failure) = match &self.result {
            Ok(CallReply::Chat(reply)) => (Some(reply), None),
            Ok(CallReply::Output(_)) => (None, None),
            Err(failure) => (None, Some(failure)),
        };
        reported_usage(reply, failure, self.agent_activity.as_deref())
    }

    /// Whether a model may have been at work: it answered, or was cut off.
    pub fn at_work(&self) -> bool {
        match &self.result {
            Ok(reply) => matches!(reply, CallReply::Chat(_)),
            Err(failure) => failure.interrupted,
        }
    }

    /// What a call of a model used, with what is estimated or unknown.
    pub fn usage(&self) -> UsageTotal {
        UsageTotal::of_call(self.reported_usage(), self.estimated, self.at_work())
    }
}

/// A step about to be run: what it is, and what would make a recorded result stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepSpec {
    /// The step.
    pub step: StepKey,
    /// What determines its result.
    pub fingerprint: Fingerprint,
    /// Other recipes whose result is as good: with fewer of the last models to fall back on, since a
    /// model that answered is asked the same whatever comes after it.
    pub also: Vec<Fingerprint>,
    /// The artifacts that it may read, those included that are not there.
    pub reads: Vec<String>,
    /// The artifact that it produces, if any.
    pub output: Option<String>,
    /// The file that shows the artifact, relative to the workspace.
    pub path: Option<String>,
    /// What the recipe is made of, in words with a digest each: tells why a result does not stand.
    pub parts: Vec<FingerprintPart>,
    /// Whether the same recipe gives a result that stands for other runs too.
    pub reusable: bool,
    /// Whether it sees or changes the workspace: a result that a later one took the place of is no longer true there.
    pub depends_on_workspace: bool,
}

/// Tells one execution of a step from every other: what followed from one does not follow from another.
pub type ExecutionId = u64;

/// What the implementation answers to [`Durable::begin`].
#[derive(Clone, Debug)]
pub enum BeginOutcome {
    /// A recorded result has this recipe and stands; the mark is that of its execution.
    Reusable(Option<Box<Artifact>>, ExecutionId),
    /// The step was asked exactly this before, but its reply was read in another way:
    /// these recorded replies, latest first, may fit now. If none does, go on with `attempt`.
    Reread {
        /// The recorded replies.
        replies: Vec<CallReply>,
        /// The attempt to go on with.
        attempt: u32,
        /// Why no result stands, if one stood before.
        why: Option<String>,
    },
    /// Nothing stands: go on with this attempt, begun or not; why, if something stood before.
    Attempt(u32, Option<String>),
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A time between the two, in milliseconds, that differs from run to run, so that a
    /// fleet of runs does not come back all at once.
    Between(u64, u64),
    /// A person's answer.
    Approval(Approval),
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What is shown.
    pub shown: String,
    /// How long an answer is waited for, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// What a wait gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitOutcome {
    /// The time is over.
    Elapsed,
    /// A person answered.
    Answered(ApprovalDecision),
}

/// Why the interpreter must stop without an outcome. Never recorded as one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Interrupt {
    /// A person or the system asked the run to stop.
    #[error("the run was interrupted")]
    Cancelled,
    /// Nothing can go on before a person answers.
    #[error("the run waits for a person")]
    Parked,
    /// A step beside this one failed, and nothing new begins.
    #[error("a step beside this one failed")]
    Dropped,
    /// A call does not fit the budget.
    #[error("{0}")]
    OverBudget(Failure),
    /// The journal, a blob or the workspace failed.
    #[error("{0}")]
    Storage(Failure),
}

/// A fact that the interpreter decided; what it did is in [`Call`]s.
#[derive(Clone, Debug)]
pub enum StepFact {
    /// An attempt begins.
    Started(StepStarted),
    /// A reply was read.
    Parsed(ReplyParsed),
    /// The step completed. It follows from what is durable, and is so itself before anything that
    /// follows from it; its file is written after that.
    Completed(StepCompleted),
    /// The step failed for good.
    Failed(StepFailed),
    /// The step is not run.
    Skipped(StepSkipped),
    /// Only these steps, those of `finally`, are left to do: they run in each session, after a stop they still get
    /// its grace time, and a budget of time does not hold them.
    Finally(Vec<StepKey>),
}

/// One of several things that may run side by side.
pub type Branch<'a> = BoxFuture<'a, Result<BranchOutcome, Interrupt>>;

/// Whether what comes after may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFlow {
    /// It may.
    Go,
    /// A step failed that stops the run.
    Halt,
}

/// How a branch ended.
#[derive(Clone, Debug)]
pub enum BranchOutcome {
    /// It came to its end.
    Ended(Box<ScopeDelta>, RunFlow),
    /// A branch beside it failed, and it was given up before its end.
    Dropped,
    /// A branch beside it failed before it began.
    NotBegun,
}

/// What some steps left for those that come after them.
#[derive(Clone, Debug, Default)]
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, Arc<Value>>,
    /// How steps ended, by id.
    pub steps: IndexMap<String, StepOutcome>,
    /// The first failure of any step, at any depth.
    pub failed: Option<Failure>,
    /// The step that ended the list, and why it failed.
    pub stopped: Option<(String, Failure)>,
    /// What stands for the state of the workspace.
    pub workspace_version: Option<Digest>,
    /// What an item gave: its value, if it has one, or why it failed.
    pub value: Option<Result<Option<Arc<Value>>, Failure>>,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// `completed`, `failed` or `skipped`.
    pub status: crate::model::StepStatus,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// The artifacts that it would have produced.
    pub outputs: Arc<[String]>,
}

/// Work of [`Durable::compute`].
pub type Computation = Box<dyn FnOnce() + Send>;

/// Durable execution, as the interpreter sees it.
pub trait Durable: Send + Sync {
    /// Opens a step: tells whether a recorded result stands, else which attempt to run.
    fn begin<'a>(&'a self, open: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>>;

    /// Performs a call, or returns its recorded outcome.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>>;

    /// Records what was decided. Facts that are recorded already are not recorded twice.
    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>>;

    /// Runs the branches of a group, at most `limit` at once: the next begins as soon as one ends.
    /// The ends come in the order of the list. After [`Flow::Halt`] nothing new begins in the
    /// group: its calls in flight are waited for, everything else is dropped.
    fn branches<'a>(
        &'a self,
        group: StepKey,
        list: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>>;

    /// Does work that follows from what it was given alone, and may take long, where it keeps neither other steps nor a
    /// stop waiting. Nothing of it is recorded: it is done again when the run is taken up again.
    fn compute(&self, _step: StepKey, work: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        work();
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits durably.
    fn wait(&self, key: CallKey, on: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>>;
}

/// A place under the limits of a run; given back when dropped.
pub type Permit = Box<dyn Send>;

/// Does what a call says. Given to the implementation of [`Durable`] when it is built.
pub trait Perform: Send + Sync + 'static {
    /// Waits until a call may be made: until there is room under the limits of the run and of
    /// the provider. What it gives is held while the call goes on. `closing` is whether it is of a step of
    /// `finally`.
    fn admit<'a>(&'a self, call: &'a Call, closing: bool) -> BoxFuture<'a, Result<Permit, Interrupt>>;

    /// Performs the call once; never fails otherwise than in the outcome. When `stop` resolves, a call of a
    /// program ends it, and tells what it did by then, as [`Class::Cancelled`](crate::model::Class::Cancelled); others
    /// take no notice, and are stopped by dropping them.
    fn perform(&self, call: Call, closing: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome>;

    /// Is told that the outcome of a call is durable.
    fn recorded(&self, _call: &Call) {}

    /// What is recorded of a call that is given up at a stop, and that began then: it is no outcome,
    /// but it took something.
    fn given_up<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome>;
}
