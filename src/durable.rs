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

mod earlier_call;
mod observer;
mod pipeline_call;
mod tool_listing;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::earlier_call::EarlierCall;
pub use self::observer::{CallProgress, Observer};
pub use self::pipeline_call::{PipelineCall, PipelineCallEnded, PipelineCallStart};
pub use self::tool_listing::{ListTools, ListedTools, ListingFreshness};
use crate::model::call::reported_usage;
pub use crate::model::effect::{CommandSpec, Effect, FilesToWrite, ModelRequest};
pub use crate::model::event::CallReply;
use crate::model::event::{
    ApprovalDecision, FingerprintPart, ReplyParsed, StepCompleted, StepFailed, StepSkipped, StepStarted,
};
use crate::model::{
    AgentActivity, Artifact, CallKey, Digest, EstimatedUsage, Failure, FailureClass, Fingerprint, McpServerSpec,
    ReportedUsage, SandboxUse, StepKey, ToolsListed, UsageTotal,
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
    /// The activity of a CLI agent in a turn that returned no reply, or the files that a tool changed.
    pub agent_activity: Option<Box<AgentActivity>>,
    /// The cost in US dollars, if a price applies and the usage is known.
    pub cost: Option<f64>,
    /// The upper bound of the usage that the provider did not report.
    pub estimated: Option<EstimatedUsage>,
    /// The upper bound of the cost in US dollars, if the cost is unknown and the usage is estimated.
    pub estimated_cost: Option<f64>,
    /// Files of earlier steps that a command or a turn deleted or reverted.
    pub reverted_files: Vec<String>,
    /// The sandbox of the call's program, if orch confined it.
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
    /// Other fingerprints whose results are equally valid: those of the same list of models without the last fallbacks.
    /// The fallbacks after the model that replied do not change its request.
    pub alternative_fingerprints: Vec<Fingerprint>,
    /// The artifacts that the step may read, including those that do not exist.
    pub inputs: Vec<String>,
    /// The name of the artifact that it produces, if any.
    pub output: Option<String>,
    /// The workspace file that contains the artifact, as a relative path.
    pub path: Option<String>,
    /// The parts of the fingerprint, each with a kind and a digest. orch compares them to explain why a result is no
    /// longer valid.
    pub fingerprint_parts: Vec<FingerprintPart>,
    /// Whether other runs may reuse a result with the same fingerprint.
    pub reusable: bool,
    /// Whether the step reads or changes the workspace. If so, orch reuses only its latest result, since older results
    /// do not match the current workspace.
    pub depends_on_workspace: bool,
    /// Whether the step may change the workspace. If so, the fingerprints of later steps contain the id of its execution.
    pub may_write: bool,
    /// Whether the model must call a tool before it answers. If so, a reply before the first one with tool calls never
    /// contains the value of the step.
    pub requires_call: bool,
}

/// Identifies one execution of a step. A result that depends on an execution is not valid after another execution of
/// the same step.
pub type ExecutionId = u64;

/// The result of [`Durable::begin`].
#[derive(Clone, Debug)]
pub enum BeginOutcome {
    /// A recorded result with this fingerprint is still valid. Contains its artifact, and the id of the execution that
    /// produced it.
    Reusable(Option<Box<Artifact>>, ExecutionId),
    /// orch sent the same request before, but parsed its reply by other rules. The interpreter parses the recorded
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
    /// A pause between these two durations, in milliseconds. The implementation chooses a duration that differs between
    /// runs, so that parallel runs do not all retry at once.
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

/// Why the interpreter must stop before the current step has an outcome. orch never records an interrupt as an outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Interrupt {
    /// The user or the system asked the run to stop.
    #[error("the run was interrupted")]
    Cancelled,
    /// No step can continue before the user decides about an approval, so the process ends and the run waits.
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
    /// The step completed. The interpreter derives this fact from outcomes that are durable already. It becomes durable
    /// before every later fact, and orch writes the artifact file only then.
    Completed(StepCompleted),
    /// The step failed and is not retried.
    Failed(StepFailed),
    /// The step is skipped.
    Skipped(StepSkipped),
    /// A pipeline that a model called ended. The record is durable before the model receives the result.
    PipelineCallEnded(PipelineCallEnded),
    /// These steps of a `finally` start now. They run in every session, even if they ended in an earlier one. After a
    /// stop, calls of these steps get a grace period. Time budgets do not limit these steps.
    FinallyStarted(Vec<StepKey>),
}

/// A future that may run in parallel with others.
pub type Branch<'a> = BoxFuture<'a, Result<BranchOutcome, Interrupt>>;

/// Whether the steps after a step may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFlow {
    /// They may run.
    Continue,
    /// They may not run, because a step failed and its failure stops the steps after it.
    Halt,
}

/// How a branch ended.
#[derive(Clone, Debug)]
pub enum BranchOutcome {
    /// It ran to its end. Contains what its steps added to the scope, and whether it halts the group.
    Ended(Box<ScopeDelta>, RunFlow),
    /// orch ended it early, because a parallel branch failed.
    Cancelled,
    /// It did not start, because a parallel branch had failed.
    NotStarted,
}

/// What a group of steps adds to the scope of the steps that follow.
#[derive(Clone, Debug, Default)]
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, Arc<Value>>,
    /// How the steps ended, by step id.
    pub steps: IndexMap<String, StepOutcome>,
    /// The first failure of a step, at any depth.
    pub first_failure: Option<Failure>,
    /// The id of the step that halted the sequence, and its failure.
    pub halted_by: Option<(String, Failure)>,
    /// A digest that identifies the state of the workspace after these steps.
    pub workspace_version: Option<Digest>,
    /// The result of an item of a `for_each`: its value, if it has one, or its failure.
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
    /// Opens a step. Returns a recorded result that is still valid, recorded replies to parse again, or the number of
    /// the attempt to run.
    fn begin<'a>(&'a self, spec: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>>;

    /// Performs a call, or returns its recorded outcome.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>>;

    /// Returns the calls of a step and of the steps inside of it that changed something, or may have done so, in the order
    /// in which they started: those since the step last completed, or since the user asked to run it again. With the
    /// number of an attempt, these are only the calls that the conversation of this attempt does not contain.
    fn earlier_calls<'a>(
        &'a self,
        _spec: &'a StepSpec,
        _attempt: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Begins a call of a pipeline by a model, unless the call has a recorded result.
    fn begin_pipeline_call<'a>(
        &'a self,
        _call: &'a PipelineCall,
    ) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
        Box::pin(std::future::ready(Ok(PipelineCallStart::Started(Timestamp::UNIX_EPOCH))))
    }

    /// Performs calls of one step that may run in parallel, and returns their outcomes in the order of the calls. If
    /// one of them is interrupted, those in flight run to their end, so that their outcomes are recorded.
    fn call_all(&self, calls: Vec<Call>) -> BoxFuture<'_, Result<Vec<CallOutcome>, Interrupt>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(calls.len());
            for call in calls {
                outcomes.push(self.call(call).await?);
            }
            Ok(outcomes)
        })
    }

    /// Records a fact that the interpreter decided, unless it is recorded already. For a step that completed or failed,
    /// returns the id of this execution.
    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>>;

    /// Runs the branches of a group, at most `limit` at once: the next branch starts as soon as another ends. Returns
    /// the outcomes in the order of the branches. After a branch halts the group, no further step of the group starts.
    /// Calls in flight run to their end, and then their branches end too ([`Interrupt::GroupHalted`]).
    fn run_branches<'a>(
        &'a self,
        group: StepKey,
        branches: Vec<Branch<'a>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>>;

    /// Runs a computation that may take long, without delaying other steps or a stop. Its result must depend only on
    /// its captured values: orch does not record it, and a resume repeats the computation.
    fn compute(&self, _step: StepKey, computation: Computation) -> BoxFuture<'_, Result<(), Interrupt>> {
        computation();
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns the tools of an MCP server. If the list is not recorded, or differs from the recorded one, the
    /// implementation records it before it returns it. By default, no server can be reached.
    fn list_tools(&self, request: ListTools) -> BoxFuture<'_, Result<ListedTools, Interrupt>> {
        Box::pin(std::future::ready(Ok(Err(unreachable_server(&request.server)))))
    }

    /// Waits until a time has passed or the user has decided. A resume does not repeat a wait that has ended already.
    fn wait(&self, key: CallKey, wait: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>>;
}

/// The failure of an implementation that can't reach MCP servers.
fn unreachable_server(server: &McpServerSpec) -> Failure {
    Failure::new(FailureClass::Internal, format!("the MCP server `{}` can't be reached here", server.name))
}

/// A permit for one call under the limits of a run. Dropping it releases it.
pub type Permit = Box<dyn Send>;

/// Performs calls. The implementation of [`Durable`] receives it when it is built.
pub trait Perform: Send + Sync + 'static {
    /// Waits until the limits of the run and of the provider allow the call. Returns a permit that the caller must hold
    /// until the call ends. `in_finally` is whether the call belongs to a step of `finally`.
    fn acquire_permit<'a>(&'a self, call: &'a Call, in_finally: bool) -> BoxFuture<'a, Result<Permit, Interrupt>>;

    /// Performs the call once; the outcome contains any failure. When `stop` resolves, the call ends with a failure of
    /// the class [`FailureClass::Cancelled`], and the outcome contains the usage
    /// and activity until then. Calls that [run to their end](crate::model::effect::CallEnding::RunToEnd) ignore
    /// `stop`; the caller ends them by dropping the future.
    fn perform(&self, call: Call, in_finally: bool, stop: BoxFuture<'static, ()>) -> BoxFuture<'static, CallOutcome>;

    /// Starts an MCP server if it does not run yet, and lists its tools. By default, no server can be reached.
    fn list_tools(&self, server: McpServerSpec) -> BoxFuture<'static, Result<ToolsListed, Failure>> {
        Box::pin(std::future::ready(Err(unreachable_server(&server))))
    }

    /// Notifies the implementation that the outcome of a call is durable.
    fn on_recorded(&self, _call: &Call) {}

    /// Notifies the implementation that a call is not performed, because an earlier session recorded its outcome.
    fn on_reused(&self, _call: &Call) {}

    /// Returns the outcome of a call that started at `started` and that the caller dropped after a stop. The outcome
    /// has no reply, but its time and usage count against the budgets.
    fn cancelled_outcome<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome>;
}
