//! Steps: what determines whether a result is valid, how a step begins, and the facts about it.

use serde::{Deserialize, Serialize};

use crate::model::event::{
    CallReply, FingerprintPart, ReplyParsed, StepCompleted, StepFailed, StepSkipped, StepStarted,
};
use crate::model::{Artifact, Fingerprint, StepKey};

use super::PipelineCallEnded;

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

/// Identifies one execution of a step: the position of its end in the history of the run, or that of an earlier
/// execution that it repeats ([contract](super#execution-ids)). A result that depends on an execution is not valid after
/// another execution of the same step.
pub type ExecutionId = u64;

/// The result of [`Durable::begin`](super::Durable::begin).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// A decision of the interpreter to record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// These steps of a `finally` start now. They run in every session, even if they ended in an earlier one
    /// ([contract](super#finally)).
    FinallyStarted(Vec<StepKey>),
}
