//! The interface between the interpreter and the implementation of durability and concurrency.
//!
//! The interpreter in `engine` is a pure function of a plan, the inputs and recorded outcomes. It requests each
//! external effect as a [`Call`], reports its decisions through [`Durable::begin`] and [`Durable::record`], and passes
//! branches that may run in parallel to [`Durable::run_branches`]. It never joins, selects, spawns, sleeps or reads a
//! clock, so the same interpreter can run on a local journal and on a distributed engine.
//!
//! An implementation receives a [`Perform`] when it is built. It guarantees that an outcome returned by
//! [`Durable::call`] is durable, that it performs a call at most once per recorded outcome, and that it never loses a
//! fact that [`Durable::record`] acknowledged.

mod observer;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::observer::{CallProgress, Observer};
use crate::model::call::reported_usage;
pub use crate::model::effect::{CommandSpec, Effect, FilesToWrite, ModelRequest};
pub use crate::model::event::CallReply;
use crate::model::event::{
    ApprovalDecision, FingerprintPart, ReplyParsed, StepCompleted, StepFailed, StepSkipped, StepStarted,
};
use crate::model::{
    AgentActivity, Artifact, CallKey, Digest, EstimatedUsage, Failure, Fingerprint, ReportedUsage, SandboxUse, StepKey,
    UsageTotal,
};

/// One external effect of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The key of the call, unique in a run.
    pub key: CallKey,
    /// The digest of the request. orch returns a recorded outcome only for the same request.
    pub request_digest: Digest,
    /// The effect to perform.
    pub effect: Effect,
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
    /// The activity of a CLI agent in a turn that returned no reply.
    pub agent_activity: Option<Box<AgentActivity>>,
    /// The cost in US dollars, if a price applies and the usage is known.
    pub cost: Option<f64>,
    /// The upper bound of the usage that the provider did not report.
    pub estimated: Option<EstimatedUsage>,
    /// The upper bound of the cost in US dollars, if the cost is unknown and the usage is estimated.
    pub estimated_cost: Option<f64>,
    /// Files of earlier steps that a command or a turn deleted or reverted.
    pub reverted_files: Vec<String>,
    /// How the program of the call was confined, if it was.
    pub sandbox: Option<Box<SandboxUse>>,
}

impl CallOutcome {
    /// The usage that the provider reported, with a reply or with a failure.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        let (reply, failure) = match &self.result {
            Ok(reply) => (reply.chat(), None),
            Err(failure) => (None, Some(failure)),
        };
        reported_usage(reply, failure, self.agent_activity.as_deref())
    }

    /// Whether a model may have generated tokens: it replied, or the request was interrupted.
    pub fn may_have_generated(&self) -> bool {
        match &self.result {
            Ok(reply) => reply.chat().is_some(),
            Err(failure) => failure.interrupted,
        }
    }

    /// The usage of a call to a model, including estimated and unknown parts.
    pub fn usage(&self) -> UsageTotal {
        UsageTotal::from_call(self.reported_usage(), self.estimated, self.may_have_generated())
    }
}

/// A step that is about to run, with the fingerprints that a recorded result must match to be reused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepSpec {
    /// The step.
    pub step: StepKey,
    /// The digests of everything that determines its result.
    pub fingerprint: Fingerprint,
    /// Other fingerprints whose results are equally valid: the same list of models without its last fallbacks. The
    /// request to the model that replied does not depend on the fallbacks after it.
    pub alternative_fingerprints: Vec<Fingerprint>,
    /// The artifacts that the step may read, whether they exist or not.
    pub inputs: Vec<String>,
    /// The artifact that it produces, if any.
    pub output: Option<String>,
    /// The workspace file that contains the artifact, as a relative path.
    pub path: Option<String>,
    /// The parts of the fingerprint, each with a kind and a digest. They show the user why a result is no longer valid.
    pub fingerprint_parts: Vec<FingerprintPart>,
    /// Whether other runs may reuse a result with the same fingerprint.
    pub reusable: bool,
    /// Whether the step reads or changes the workspace. If so, only its latest result can be reused: an older one no
    /// longer describes the workspace.
    pub depends_on_workspace: bool,
}

/// Identifies one execution of a step. Results that depend on one execution are not valid after another.
pub type ExecutionId = u64;

/// The result of [`Durable::begin`].
#[derive(Clone, Debug)]
pub enum BeginOutcome {
    /// A recorded result has this fingerprint and is still valid: its artifact, and the id of the execution that
    /// produced it.
    Reusable(Option<Box<Artifact>>, ExecutionId),
    /// The same request was sent before, but orch parsed its reply by other rules. The interpreter parses the recorded
    /// replies again, latest first. If none fits, it continues with `attempt`.
    Reparse {
        /// The recorded replies.
        replies: Vec<CallReply>,
        /// The attempt to continue with.
        attempt: u32,
        /// Why the step runs again, if it ran before.
        rerun_reason: Option<String>,
    },
    /// No recorded result is valid. The interpreter continues with this attempt, which may have started already. If the
    /// step ran before, the text says why it runs again.
    Attempt(u32, Option<String>),
}

/// A reason to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A duration between these two, in milliseconds. The implementation chooses one that differs between runs, so that
    /// parallel runs do not all retry at once.
    DurationBetween(u64, u64),
    /// The user's decision about an approval.
    Approval(ApprovalRequest),
}

/// A request for the user's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The text that the user sees.
    pub text: String,
    /// How long the run waits for the decision, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitOutcome {
    /// The time has passed.
    Elapsed,
    /// The user decided.
    Answered(ApprovalDecision),
}

/// Why the interpreter must stop without an outcome. orch never records it as an outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Interrupt {
    /// The user or the system asked the run to stop.
    #[error("the run was interrupted")]
    Cancelled,
    /// No step can continue before the user decides about an approval.
    #[error("the run waits for an approval")]
    Parked,
    /// A parallel step failed and halted its group, so no step of the group starts any more.
    #[error("a parallel step failed")]
    GroupHalted,
    /// A call does not fit the budget.
    #[error("{0}")]
    OverBudget(Failure),
    /// The journal, a blob or the workspace failed.
    #[error("{0}")]
    Storage(Failure),
}

/// A decision of the interpreter to record.
#[derive(Clone, Debug)]
pub enum StepFact {
    /// An attempt started.
    Started(StepStarted),
    /// A reply was parsed, or could not be parsed.
    ReplyParsed(ReplyParsed),
    /// The step completed. The fact follows from outcomes that are durable already. It becomes durable before every
    /// later fact, and orch writes the artifact file only then.
    Completed(StepCompleted),
    /// The step failed and is not retried.
    Failed(StepFailed),
    /// The step is skipped.
    Skipped(StepSkipped),
    /// A `finally` started, and only these steps of it remain. They run in every session, even if they ended in an
    /// earlier one. After a stop they still have its grace period, and a time budget does not limit them.
    FinallyStarted(Vec<StepKey>),
}

/// A future that may run in parallel with others.
pub type Branch<'a> = BoxFuture<'a, Result<BranchOutcome, Interrupt>>;

/// Whether the following steps may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFlow {
    /// They may run.
    Continue,
    /// They may not run: a step failed whose failure stops the run.
    Halt,
}

/// How a branch ended.
#[derive(Clone, Debug)]
pub enum BranchOutcome {
    /// It ran to its end: the additions to the scope, and whether it halts the group.
    Ended(Box<ScopeDelta>, RunFlow),
    /// orch ended it early, because a parallel branch failed.
    Cancelled,
    /// It did not start, because a parallel branch had failed.
    NotStarted,
}

/// The additions of a group of steps to the scope of the steps that follow.
#[derive(Clone, Debug, Default)]
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, Arc<Value>>,
    /// How the steps ended, by step id.
    pub steps: IndexMap<String, StepOutcome>,
    /// The first failure of a step, at any depth.
    pub first_failure: Option<Failure>,
    /// The step that halted the sequence, and why it failed.
    pub halted_by: Option<(String, Failure)>,
    /// The digest that represents the state of the workspace after these steps.
    pub workspace_version: Option<Digest>,
    /// The result of an item: its value, if it has one, or why it failed.
    pub item_result: Option<Result<Option<Arc<Value>>, Failure>>,
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

/// A computation for [`Durable::compute`].
pub type Computation = Box<dyn FnOnce() + Send>;

/// Durable execution, the interface that the interpreter uses.
pub trait Durable: Send + Sync {
    /// Opens a step: returns a recorded result that is still valid, recorded replies to parse again, or the attempt to
    /// run.
    fn begin<'a>(&'a self, spec: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>>;

    /// Performs a call, or returns its recorded outcome.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>>;

    /// Records a fact that the interpreter decided. A fact that is recorded already is not recorded twice. For a step
    /// that completed or failed, returns the id of this execution.
    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>>;

    /// Runs the branches of a group, at most `limit` at once: the next one starts as soon as one ends. The outcomes
    /// have the order of the branches. After a branch halts the group, no step of the group starts any more. Calls in
    /// flight run to their end, and then their branches end too ([`Interrupt::GroupHalted`]).
    fn run_branches<'a>(
        &'a self,
        group: StepKey,
        branches: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>>;

    /// Runs a computation that depends only on its captured values and may take long, so that it delays neither other
    /// steps nor a stop. Nothing is recorded: a resume repeats the computation.
    fn compute(&self, _step: StepKey, computation: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        computation();
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until a time has passed or the user has decided. A resume does not repeat a wait that had ended.
    fn wait(&self, key: CallKey, wait: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>>;
}

/// A permit for one call under the limits of a run; released when dropped.
pub type Permit = Box<dyn Send>;

/// Performs calls. The implementation of [`Durable`] receives it when it is built.
pub trait Perform: Send + Sync + 'static {
    /// Waits until the limits of the run and of the provider allow the call, and returns a permit that the caller holds
    /// until the call ends. `in_finally` is whether the call belongs to a step of `finally`.
    fn acquire_permit<'a>(&'a self, call: &'a Call, in_finally: bool) -> BoxFuture<'a, Result<Permit, Interrupt>>;

    /// Performs the call once; every failure is part of the outcome. When `stop` resolves, the call ends. Its outcome is
    /// then a failure of the class [`FailureClass::Cancelled`](crate::model::FailureClass::Cancelled), with the usage
    /// and activity until then. Calls that [run to their end](crate::model::effect::CallEnding::RunToEnd) ignore `stop`;
    /// the caller ends them by dropping the future.
    fn perform(&self, call: Call, in_finally: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome>;

    /// Notifies the implementation that the outcome of a call is durable.
    fn on_recorded(&self, _call: &Call) {}

    /// Returns the outcome of a call that started at `started` and that the caller dropped after a stop. The call has
    /// no reply, but its time and usage count.
    fn cancelled_outcome<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome>;
}
