//! The events of a run, in the order in which they happened.
//!
//! orch only appends events, and never changes an event. A fact is an object whose only key is its kind
//! (`{"step_started": {…}}`), since serde loses digits of numbers when it reads internally tagged enums. Within one
//! format of the journal, new versions of orch only add fields, each with a default.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::approval::{ApprovalAnswered, ApprovalAsked, ApprovalDecision};
pub use super::call::{CallEnded, CallStarted, ReplyParsed};
pub use super::call_reply::{CallOutput, CallReply, CommandOutput};
pub use super::effect::CallKind;
use super::failure::Failure;
pub use super::fingerprint::{Fingerprint, FingerprintPart, PartDigest, PartKind};
use super::id::{Digest, RunId, StepKey};
use super::mcp::ToolsListed;
use super::name::ModelRef;
pub use super::run_event::{MissingFile, RunEnded, RunLocation, RunReplay, RunResumed, RunStarted, RunStatus};
pub use super::run_request::{BudgetRaised, CancelRequested};
pub use super::skip::{MissingProducer, SkipKind, SkipReason};
use super::step::Access;

/// One event of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The id of the run.
    pub run: RunId,
    /// The number of the event in its run, from 1 without gaps.
    pub seq: u64,
    /// When orch recorded the event.
    pub at: Timestamp,
    /// What happened.
    pub fact: Fact,
}

/// The content of an event: what happened, without the event's run, number and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "most facts are about calls, so that a box would cost an allocation for most of them"
)]
pub enum Fact {
    /// A run started.
    RunStarted(RunStarted),
    /// orch resumed a run.
    RunResumed(RunResumed),
    /// A step reuses its result from an earlier session.
    StepReused(StepReused),
    /// An attempt of a step started.
    StepStarted(StepStarted),
    /// A call started: it has its permit, and the effect begins now.
    CallStarted(CallStarted),
    /// A call ended with a reply or a failure. orch records the reply unchanged, before parsing it.
    CallEnded(CallEnded),
    /// orch parsed a reply.
    ReplyParsed(ReplyParsed),
    /// A step completed, with an artifact if it has an output.
    StepCompleted(StepCompleted),
    /// A step failed, and orch does not retry it.
    StepFailed(StepFailed),
    /// orch skipped a step.
    StepSkipped(StepSkipped),
    /// A session of a run ended: the run completed, failed, stopped, or waits for an approval.
    RunEnded(RunEnded),
    /// The user accepted an edited artifact in place of the artifact that the step produced.
    ArtifactAccepted(ArtifactAccepted),
    /// A step asked the user for an approval.
    ApprovalAsked(ApprovalAsked),
    /// The user answered an approval.
    ApprovalAnswered(ApprovalAnswered),
    /// An MCP server listed its tools. The list applies to the steps that begin after it.
    ToolsListed(ToolsListed),
    /// Another process asked the run to stop.
    CancelRequested(CancelRequested),
    /// Another process raised the budget of the run.
    BudgetRaised(BudgetRaised),
}

impl Fact {
    /// The kind of the fact, which is the key of its JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted(_) => "run_started",
            Self::RunResumed(_) => "run_resumed",
            Self::RunEnded(_) => "run_ended",
            Self::StepReused(_) => "step_reused",
            Self::StepStarted(_) => "step_started",
            Self::CallStarted(_) => "call_started",
            Self::CallEnded(_) => "call_ended",
            Self::ReplyParsed(_) => "reply_parsed",
            Self::StepCompleted(_) => "step_completed",
            Self::StepFailed(_) => "step_failed",
            Self::StepSkipped(_) => "step_skipped",
            Self::ArtifactAccepted(_) => "artifact_accepted",
            Self::ApprovalAsked(_) => "approval_asked",
            Self::ApprovalAnswered(_) => "approval_answered",
            Self::ToolsListed(_) => "tools_listed",
            Self::CancelRequested(_) => "cancel_requested",
            Self::BudgetRaised(_) => "budget_raised",
        }
    }

    /// The step that the fact is about; `None` for facts about the run.
    pub fn step(&self) -> Option<&StepKey> {
        match self {
            Self::RunStarted(_)
            | Self::RunResumed(_)
            | Self::RunEnded(_)
            | Self::ToolsListed(_)
            | Self::CancelRequested(_)
            | Self::BudgetRaised(_) => None,
            Self::StepReused(fact) => Some(&fact.step),
            Self::StepStarted(fact) => Some(&fact.step),
            Self::CallStarted(fact) => Some(&fact.call.step),
            Self::CallEnded(fact) => Some(&fact.call.step),
            Self::ReplyParsed(fact) => Some(&fact.call.step),
            Self::StepCompleted(fact) => Some(&fact.step),
            Self::StepFailed(fact) => Some(&fact.step),
            Self::StepSkipped(fact) => Some(&fact.step),
            Self::ArtifactAccepted(fact) => Some(&fact.step),
            Self::ApprovalAsked(fact) => Some(&fact.step),
            Self::ApprovalAnswered(fact) => Some(&fact.step),
        }
    }
}

/// The kind of a step, as journals and reports name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Calls an agent.
    #[default]
    Agent,
    /// Runs a command.
    Command,
    /// Calls a tool.
    Call,
    /// Writes files.
    Write,
    /// Asks the user for an approval.
    Approve,
    /// Runs steps in parallel.
    Parallel,
    /// Repeats steps in a loop.
    Repeat,
    /// Runs steps in sequence.
    Sequence,
    /// Calls another pipeline.
    Pipeline,
}

impl StepKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Command => "command",
            Self::Call => "call",
            Self::Write => "write",
            Self::Approve => "approve",
            Self::Parallel => "parallel",
            Self::Repeat => "repeat",
            Self::Sequence => "sequence",
            Self::Pipeline => "pipeline",
        }
    }

    /// Whether the step consists of other steps.
    pub fn is_group(self) -> bool {
        match self {
            Self::Parallel | Self::Repeat | Self::Sequence | Self::Pipeline => true,
            Self::Agent | Self::Command | Self::Call | Self::Write | Self::Approve => false,
        }
    }
}

/// A step of the plan, as recorded when a session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedStep {
    /// The key of the step, without items and iterations.
    pub step: StepKey,
    /// The kind of the step.
    #[serde(default)]
    pub kind: StepKind,
    /// The name of the agent; empty for other kinds of steps.
    #[serde(default)]
    pub agent: String,
    /// The model of the agent, resolved from its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The name of the artifact that the step produces, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether the step can run several times, because it is inside a `for_each` or a `repeat`.
    #[serde(default)]
    pub many: bool,
}

/// A step reuses its result from an earlier session, without any call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReused {
    /// The key of the step.
    pub step: StepKey,
    /// The `seq` of the `step_completed` event whose result the step reuses.
    pub result_seq: u64,
    /// The artifact under its new name, if the user has renamed the step or its output since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_artifact: Option<Artifact>,
}

impl StepReused {
    /// A reused result whose artifact still has its name.
    pub fn new(step: StepKey, result_seq: u64) -> Self {
        Self { step, result_seq, renamed_artifact: None }
    }
}

/// An attempt of a step started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepStarted {
    /// The key of the step.
    pub step: StepKey,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The name of the agent; empty for other kinds of steps.
    #[serde(default)]
    pub agent: String,
    /// The model that this attempt calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// How the step uses the workspace.
    pub access: Access,
    /// The step's fingerprint.
    pub fingerprint: Fingerprint,
    /// The parts of the fingerprint.
    #[serde(default, rename = "parts", skip_serializing_if = "Vec::is_empty")]
    pub fingerprint_parts: Vec<FingerprintPart>,
    /// Why the step runs although it ran before: `prompt planner.md changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A step completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepCompleted {
    /// The key of the step.
    pub step: StepKey,
    /// The number of the attempt that completed the step.
    pub attempt: u32,
    /// The step's fingerprint.
    pub fingerprint: Fingerprint,
    /// The run that produced the result, if the result is reused from another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<RunId>,
    /// The artifact that the step produced, if the step has an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// A named value that a step produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// The artifact's name.
    pub name: String,
    /// The path of the artifact's file, relative to the workspace: `plan.json`, `notes.md`. Absent for an artifact that
    /// is local to an item or to a called pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The digest of the file's bytes.
    pub digest: Digest,
    /// The value of the artifact.
    pub value: Value,
}

impl Artifact {
    /// Builds an artifact and computes its digest.
    pub fn new(name: &str, value: Value, path: Option<String>) -> Self {
        let mut artifact = Self { name: name.to_owned(), path, digest: Digest::compute(b""), value };
        artifact.digest = Digest::compute(&artifact.file_bytes());
        artifact
    }

    /// The path of an artifact's file, relative to the workspace: Markdown for text, else JSON.
    pub fn file_path(name: &str, is_text: bool) -> String {
        format!("{name}.{}", if is_text { "md" } else { "json" })
    }

    /// Whether the artifact's file contains a text, and not JSON.
    pub fn is_text(&self) -> bool {
        self.value.is_string() && self.path.as_ref().is_none_or(|path| path.ends_with(".md"))
    }

    /// The bytes of the artifact's file: a text, or JSON indented by two spaces, with a newline at the end.
    pub fn file_bytes(&self) -> Vec<u8> {
        let mut text = match &self.value {
            Value::String(text) if self.is_text() => text.clone(),
            value => format!("{value:#}"),
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// A step failed, and orch does not retry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepFailed {
    /// The key of the step.
    pub step: StepKey,
    /// The number of the last attempt; 0 if no attempt started.
    pub attempt: u32,
    /// Why the step failed.
    pub failure: Failure,
    /// Whether the failure stops the run.
    pub stops: bool,
}

/// orch skipped a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepSkipped {
    /// The key of the step.
    pub step: StepKey,
    /// Why orch skipped the step.
    pub reason: SkipReason,
}

/// The user accepted an edited artifact in place of the artifact that the step produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactAccepted {
    /// The step that produced the artifact.
    pub step: StepKey,
    /// The `seq` of the `step_completed` event whose artifact the edited one replaces.
    pub result_seq: u64,
    /// The edited artifact.
    pub artifact: Artifact,
}
