//! The interface between the interpreter and the implementation of durability and concurrency.
//!
//! The interpreter in `engine` is a pure function of a plan, the inputs and recorded outcomes. It requests each
//! external effect as a [`Call`], reports its decisions through [`Durable::begin`] and [`Durable::record`], and passes
//! whatever may run in parallel to [`Durable::branches`]. It never joins, selects, spawns, sleeps or reads a clock, so
//! the same interpreter can run on a local journal and on a distributed engine.
//!
//! An implementation receives a [`Perform`] when it is built. It promises: an outcome that [`Durable::call`] returned
//! is durable; it performs a call at most once per recorded outcome; it never loses what [`Durable::record`]
//! acknowledged.

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

/// One external effect of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The key of the call, unique in a run.
    pub key: CallKey,
    /// The digest of the request: a recorded outcome is returned only for the same request.
    pub request_digest: Digest,
    /// The effect to perform.
    pub effect: Effect,
}

/// The kinds of effect that a call can have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Asks a model.
    Ask(Ask),
    /// Lets a CLI agent take a turn.
    Turn(Box<AgentTurn>),
    /// Runs a command in the workspace.
    Command(CommandSpec),
    /// Takes a snapshot of the files that are about to be written.
    Look(Files),
    /// Writes the files; the value is the recorded output of [`Effect::Look`].
    Write(Value),
}

impl Effect {
    /// The model or CLI agent that answers; `None` for commands and files.
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
    /// Environment variables that carry the values of a shell line: names with values.
    pub values: Vec<(String, String)>,
    /// Names of variables that the command inherits from the environment of the run.
    pub env: Vec<String>,
    /// The folder in which the command runs, relative to the workspace.
    pub cwd: String,
    /// The text that it receives on standard input.
    pub stdin: Option<String>,
    /// The time limit, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// Files to put into the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// The list of files, as JSON, as the artifact contains it.
    pub files: Value,
    /// Workspace paths of artifact files, which `write` must not overwrite.
    pub reserved: Vec<String>,
}

/// A model request with its time limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The request.
    pub request: ChatRequest,
    /// The upper bound of its usage, computed from the request.
    pub max_usage: Usage,
    /// The time limit of the whole request, in milliseconds; the provider's default when absent.
    pub timeout_ms: Option<u64>,
    /// The end of the step's deadline; the request ends then at the latest.
    pub until: Option<Timestamp>,
}

/// How a call ended, as the journal records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallOutcome {
    /// When the call started.
    pub started: Timestamp,
    /// When the call ended.
    pub ended: Timestamp,
    /// The reply or output, or the failure.
    pub result: Result<CallReply, Failure>,
    /// What a CLI agent did in a turn that returned no reply.
    pub agent_activity: Option<Box<AgentActivity>>,
    /// The cost in US dollars, if a price applies and the usage is known.
    pub cost: Option<f64>,
    /// The upper bound of the usage that was not reported.
    pub estimated: Option<EstimatedUsage>,
    /// The upper bound of the cost in US dollars, if the cost is unknown and the usage is estimated.
    pub estimated_cost: Option<f64>,
    /// Files of earlier steps that a command or a turn deleted or reverted.
    pub reverted_files: Vec<String>,
}

impl CallOutcome {
    /// The usage that the provider reported, with a reply or with a failure.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        let (reply, failure) = match &self.result {
            Ok(CallReply::Chat(reply)) => (Some(reply), None),
            Ok(CallReply::Output(_)) => (None, None),
            Err(failure) => (None, Some(failure)),
        };
        reported_usage(reply, failure, self.agent_activity.as_deref())
    }

    /// Whether a model may have generated tokens: it replied, or the request was cut off.
    pub fn at_work(&self) -> bool {
        match &self.result {
            Ok(reply) => matches!(reply, CallReply::Chat(_)),
            Err(failure) => failure.interrupted,
        }
    }

    /// The usage of a call to a model, including estimated and unknown parts.
    pub fn usage(&self) -> UsageTotal {
        UsageTotal::of_call(self.reported_usage(), self.estimated, self.at_work())
    }
}

/// A step that is about to run: what it is, and what a recorded result must match to be reused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepSpec {
    /// The step.
    pub step: StepKey,
    /// The digests that determine its result.
    pub fingerprint: Fingerprint,
    /// Other fingerprints whose results are equally valid: those without the last fallback models. The request to the
    /// model that answered does not depend on the fallbacks after it.
    pub also: Vec<Fingerprint>,
    /// The artifacts that the step may read, also those that do not exist.
    pub reads: Vec<String>,
    /// The artifact that it produces, if any.
    pub output: Option<String>,
    /// The workspace file that shows the artifact, as a relative path.
    pub path: Option<String>,
    /// The parts of the fingerprint, each with a name and a digest. They show the user why a result is no longer valid.
    pub parts: Vec<FingerprintPart>,
    /// Whether other runs may reuse a result with the same fingerprint.
    pub reusable: bool,
    /// Whether the step reads or changes the workspace. Only its latest result can be reused then, since an older one
    /// no longer describes the workspace.
    pub depends_on_workspace: bool,
}

/// Identifies one execution of a step. Results that depend on one execution are not valid after another.
pub type ExecutionId = u64;

/// The answer to [`Durable::begin`].
#[derive(Clone, Debug)]
pub enum BeginOutcome {
    /// A recorded result has this fingerprint and is still valid: its artifact, and the id of the execution that made
    /// it.
    Reusable(Option<Box<Artifact>>, ExecutionId),
    /// The request was the same before, but its reply was decoded by other rules. The interpreter decodes the recorded
    /// replies again, latest first; if none fits, it continues with `attempt`.
    Reread {
        /// The recorded replies.
        replies: Vec<CallReply>,
        /// The attempt to continue with.
        attempt: u32,
        /// Why the step runs again, if it ran before.
        why: Option<String>,
    },
    /// No recorded result is valid. Continue with this attempt, which may have started already; the text says why the
    /// step runs again, if it ran before.
    Attempt(u32, Option<String>),
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A duration between these two, in milliseconds. The implementation chooses one that differs between runs, so that
    /// parallel runs do not all retry at once.
    Between(u64, u64),
    /// The user's answer to an approval.
    Approval(Approval),
}

/// An approval that the user is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The text that the user sees.
    pub shown: String,
    /// How long the run waits for the answer, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitOutcome {
    /// The time has passed.
    Elapsed,
    /// The user answered.
    Answered(ApprovalDecision),
}

/// Why the interpreter must stop without an outcome. Never recorded as an outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Interrupt {
    /// The user or the system asked the run to stop.
    #[error("the run was interrupted")]
    Cancelled,
    /// Nothing can continue before the user answers an approval.
    #[error("the run waits for a person")]
    Parked,
    /// A parallel step failed, so that nothing new begins in its group.
    #[error("a step beside this one failed")]
    Dropped,
    /// A call does not fit the budget.
    #[error("{0}")]
    OverBudget(Failure),
    /// The journal, a blob or the workspace failed.
    #[error("{0}")]
    Storage(Failure),
}

/// A fact that the interpreter decided, in contrast to the effects, which are [`Call`]s.
#[derive(Clone, Debug)]
pub enum StepFact {
    /// An attempt started.
    Started(StepStarted),
    /// A reply was parsed, or could not be.
    Parsed(ReplyParsed),
    /// The step completed. The fact follows from outcomes that are durable already. It becomes durable before any fact
    /// that follows from it, and the artifact file is written only after that.
    Completed(StepCompleted),
    /// The step failed and is not retried.
    Failed(StepFailed),
    /// The step is skipped.
    Skipped(StepSkipped),
    /// Only these steps, those of `finally`, remain. They run in every session, also if they ended in an earlier one;
    /// after a stop they still have its grace period, and a time budget does not limit them.
    Finally(Vec<StepKey>),
}

/// One of several futures that may run in parallel.
pub type Branch<'a> = BoxFuture<'a, Result<BranchOutcome, Interrupt>>;

/// Whether the following steps may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFlow {
    /// They may run.
    Go,
    /// They may not run: a step that stops the run failed.
    Halt,
}

/// How a branch ended.
#[derive(Clone, Debug)]
pub enum BranchOutcome {
    /// It ran to its end; what it added to the scope, and whether it halts the group.
    Ended(Box<ScopeDelta>, RunFlow),
    /// It was dropped before its end, because a parallel branch failed.
    Dropped,
    /// It did not start, because a parallel branch had failed.
    NotBegun,
}

/// What a group of steps added to the scope of the steps that follow.
#[derive(Clone, Debug, Default)]
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, Arc<Value>>,
    /// How the steps ended, by step id.
    pub steps: IndexMap<String, StepOutcome>,
    /// The first failure of any step, at any depth.
    pub failed: Option<Failure>,
    /// The step that halted the sequence, and why it failed.
    pub stopped: Option<(String, Failure)>,
    /// The digest that represents the state of the workspace after these steps.
    pub workspace_version: Option<Digest>,
    /// The result of an item: its value, if it has one, or why it failed.
    pub value: Option<Result<Option<Arc<Value>>, Failure>>,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepOutcome {
    /// `completed`, `failed`, `skipped` or `cancelled`.
    pub status: crate::model::StepStatus,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// The artifacts that the step produces when it completes.
    pub outputs: Arc<[String]>,
}

/// The work that [`Durable::compute`] does.
pub type Computation = Box<dyn FnOnce() + Send>;

/// Durable execution, as the interpreter sees it.
pub trait Durable: Send + Sync {
    /// Opens a step: returns a recorded result that is still valid, recorded replies to decode again, or the attempt to
    /// run.
    fn begin<'a>(&'a self, open: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>>;

    /// Performs a call, or returns its recorded outcome.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>>;

    /// Records a fact that the interpreter decided. A fact that is recorded already is not recorded twice. For a step
    /// that completed or failed, returns the id of this execution.
    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>>;

    /// Runs the branches of a group, at most `limit` at once: the next one starts as soon as one ends. The outcomes
    /// have the order of the list. After [`RunFlow::Halt`] nothing new begins in the group: calls in flight run to
    /// their end, everything else is dropped.
    fn branches<'a>(
        &'a self,
        group: StepKey,
        list: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>>;

    /// Does work that depends only on its arguments and may take long, in a way that delays neither other steps nor a
    /// stop. Nothing is recorded: a resume repeats the work.
    fn compute(&self, _step: StepKey, work: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        work();
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until a time has passed or the user has answered. A resume does not repeat a wait that had ended.
    fn wait(&self, key: CallKey, on: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>>;
}

/// A permit for one call under the limits of a run; released when dropped.
pub type Permit = Box<dyn Send>;

/// Performs calls. The implementation of [`Durable`] receives it when it is built.
pub trait Perform: Send + Sync + 'static {
    /// Waits until the limits of the run and of the provider allow the call, and returns a permit that the caller holds
    /// until the call ends. `closing` says whether the call belongs to a step of `finally`.
    fn admit<'a>(&'a self, call: &'a Call, closing: bool) -> BoxFuture<'a, Result<Permit, Interrupt>>;

    /// Performs the call once; every failure is part of the outcome. When `stop` resolves, a model request, a command
    /// or a turn ends, and its outcome contains what it did until then, as
    /// [`Class::Cancelled`](crate::model::Class::Cancelled). File operations ignore `stop`; the caller ends them by
    /// dropping the future.
    fn perform(&self, call: Call, closing: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome>;

    /// Called once the outcome of a call is durable.
    fn recorded(&self, _call: &Call) {}

    /// Returns the record of a call that a stop dropped and that began at `started`. It is not an outcome, but its time
    /// and usage count.
    fn given_up<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome>;
}
