//! The interface between the interpreter and the implementation of durability and concurrency.
//!
//! The interpreter in `engine` is a pure function of a plan, the inputs and recorded outcomes. It requests each
//! external effect as a [`Call`], reports its decisions through [`Durable::begin`] and [`Durable::record`], and passes
//! branches that may run in parallel to [`Durable::branches`]. It never joins, selects, spawns, sleeps or reads a
//! clock, so the same interpreter can run on a local journal and on a distributed engine.
//!
//! An implementation receives a [`Perform`] when it is built. It guarantees that an outcome returned by
//! [`Durable::call`] is durable, that it performs a call at most once per recorded outcome, and that it never loses a
//! fact that [`Durable::record`] acknowledged.
//!
//! The rules below hold for every implementation. The module `history` computes them from the recorded events, so an
//! implementation adds only storage, concurrency and time.
//!
//! # Reuse
//!
//! A recorded result is valid for a step whose fingerprint, or an alternative one, equals that of the result. A step
//! takes its own latest result first, then the latest one of any step of the run. Each result is taken once. It is not
//! valid if the user asked since to run the step again, and if the step depends on the workspace, only the latest result
//! of a step is. The recorded outcome of a call is valid for the call with the same key and the same request. Replies of
//! models and results of tools are also valid for the same request of another attempt or step, each once.
//!
//! # Execution ids
//!
//! The events of a run form one history, over all its sessions. The position of an event is its `seq`, from 1. The
//! [`ExecutionId`] of an execution is the position of the event with which the step completed or failed. If an execution
//! has the same request as the last one of its step, it has the id of that one in two cases: no call since then may have
//! changed the workspace, or both ended in the same way (with the same artifact, or with the same failure). In both
//! cases, the user must not have asked in between to run the step again. If the user deleted or reverted files that an
//! execution wrote, its id becomes the position of the event that records this.
//!
//! # Halted groups
//!
//! A branch that ends with [`RunFlow::Halt`] halts its group. From then on, no branch of the group starts
//! ([`BranchOutcome::NotStarted`]), and no step below the key of the group starts or makes a call. Calls in flight run to
//! their end and are recorded. Then their branches end at their next call or wait, with [`Interrupt::GroupHalted`]: the
//! group to which the halt belongs turns this into [`BranchOutcome::Cancelled`], and a group inside of it ends with the
//! interrupt. No event records a halt, since a resume reaches it again from the recorded failure.
//!
//! A failure to write files ([`Interrupt::Storage`]) halts the group too, and the group ends with it. A group in which a
//! branch waits for the user ends with [`Interrupt::Parked`], unless it is halted: its failure ends it whatever the user
//! decides.
//!
//! # Branches
//!
//! A branch is data ([`BranchSpec`]): a step of a plan with a digest, its key, and a snapshot of what it sees. An
//! implementation may run each branch in another process, with `engine::run_branch` and a plan of the same digest, or
//! in this one ([`GroupBranches::run`]), where the branches share the values in scope. Both give the same outcome. A
//! group ends when all of its branches have ended.
//!
//! A snapshot contains references to recorded artifacts, by the key of the step and the digest of the value. A
//! reference is to the last artifact that the step completed with or reused, since the step does not run again before
//! the branch has ended. [`Durable::artifact`] returns the artifact also before its record is durable.
//!
//! # `finally`
//!
//! [`StepFact::FinallyStarted`] names the steps of a `finally` before the first of them begins. From then on, until the
//! end of the session, these rules hold for them and for the steps inside of them:
//!
//! - They reuse no recorded result of the run.
//! - A halted group around them does not halt them; a halted group inside of them does.
//! - After a stop, they still start and make calls, each with a grace period. A second request to stop ends them too.
//! - Time budgets do not limit them. Other budgets do, call by call, even after one of them has ended the run.
//!
//! No event records this fact either: the interpreter reports it in each session.
//!
//! # What crosses the interface
//!
//! All arguments and results of [`Durable`] can be serialized, and are the same after deserialization, except for
//! [`GroupBranches`], whose branches are data ([`GroupBranches::spec`]), and [`Computation`]: it is code, which only
//! the process of the interpreter can run. Only in the outcome of a branch does a [`Failure`] keep `unusable_values`,
//! from which the engine derives hints before it records the failure.

mod branch;
mod delta_data;
mod earlier_call;
mod observer;
mod pipeline_call;
mod scope_snapshot;
mod step;
mod tool_listing;
mod wait;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::branch::{BranchOutcome, BranchSpec, GroupBranches, RunFlow, ScopeDelta, StepOutcome};
pub use self::earlier_call::EarlierCall;
pub use self::observer::{CallProgress, Observer};
pub use self::pipeline_call::{PipelineCall, PipelineCallEnded, PipelineCallStart};
pub use self::scope_snapshot::{
    ArtifactRef, PreviousIteration, ScopeArtifact, ScopeItem, ScopeSnapshot, SnapshotArtifact, SnapshotIteration,
};
pub use self::step::{BeginOutcome, ExecutionId, StepFact, StepSpec};
pub use self::tool_listing::{ListTools, ListedTools, ListingFreshness};
pub use self::wait::{ApprovalRequest, Wait, WaitOutcome};
use crate::model::call::reported_usage;
pub use crate::model::effect::{CommandSpec, Effect, FilesToWrite, ModelRequest};
use crate::model::event::ApprovalDecision;
pub use crate::model::event::CallReply;
use crate::model::{
    AgentActivity, CallKey, Digest, EstimatedUsage, Failure, FailureClass, McpServerSpec, ReportedUsage, SandboxUse,
    StepKey, ToolsListed, UsageTotal,
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
    /// The outcome of a call about which orch knows only its result and its times.
    pub fn new(started: Timestamp, ended: Timestamp, result: Result<CallReply, Failure>) -> Self {
        Self {
            started,
            ended,
            result,
            agent_activity: None,
            cost: None,
            estimated: None,
            estimated_cost: None,
            reverted_files: Vec::new(),
            sandbox: None,
        }
    }

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

/// Why the interpreter must stop before the current step has an outcome. orch never records an interrupt as an outcome.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
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
    /// The journal, a blob or the workspace failed, or orch has a defect.
    #[error("{0}")]
    Storage(Failure),
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
        spec: &'a StepSpec,
        attempt: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>>;

    /// Begins a call of a pipeline by a model, unless the call has a recorded result.
    fn begin_pipeline_call<'a>(&'a self, call: &'a PipelineCall)
    -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>>;

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
    /// the outcomes in the order of the branches, after all of them have ended. After a branch halts the group, no
    /// further step of the group starts. Calls in flight run to their end, and then their branches end too
    /// ([`Interrupt::GroupHalted`]).
    fn branches<'a>(
        &'a self,
        group: StepKey,
        branches: &'a dyn GroupBranches,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>>;

    /// Returns the value of a recorded artifact, to which a [`BranchSpec`] refers. By default there is none, for an
    /// implementation that runs every branch in the process of its group.
    fn artifact<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Arc<Value>, Interrupt>> {
        Box::pin(std::future::ready(Err(reference.missing())))
    }

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

    /// Notifies the implementation of the answer to the question of an approval step. Returns the name of the person who
    /// answered it in the recorded run, if this run is a replay.
    fn on_answered(&self, _step: &StepKey, _question: &str, _decision: &ApprovalDecision) -> Option<String> {
        None
    }

    /// Returns the outcome of a call that started at `started` and that the caller dropped after a stop. The outcome
    /// has no reply, but its time and usage count against the budgets.
    fn cancelled_outcome<'a>(&'a self, call: &'a Call, started: Timestamp) -> BoxFuture<'a, CallOutcome>;
}

#[cfg(test)]
mod tests;
