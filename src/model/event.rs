//! The durable facts of a run, in the order in which they became true.
//!
//! Events are only ever appended. Variants are tagged by their key (`{"step_started": {…}}`), since internally tagged
//! enums lose the digits of numbers. Fields are only ever added, with a default, since journals are kept for years.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::approval::{ApprovalAnswered, ApprovalAsked, ApprovalDecision};
pub use super::call::{CallEnded, CallOutput, CallReply, CommandOutput, ReplyParsed};
use super::chat::ModelRef;
use super::failure::Failure;
use super::id::{Digest, RunId, StepKey};
pub use super::run_event::{MissingFile, RunEnded, RunPlace, RunResumed, RunStarted, RunStatus};
use super::usage::Usage;

/// One fact of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The run.
    pub run: RunId,
    /// The position in the run, from 1 without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What became true.
    pub fact: Fact,
}

/// What an event states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A run began.
    RunStarted(RunStarted),
    /// A run was resumed.
    RunResumed(RunResumed),
    /// A step reuses its result from an earlier session.
    StepReused(StepReused),
    /// An attempt of a step began.
    StepStarted(StepStarted),
    /// A call ended with a reply or a failure. The reply is recorded as it came, before it is parsed.
    CallEnded(CallEnded),
    /// A reply was parsed.
    ReplyParsed(ReplyParsed),
    /// A step completed, with an artifact if it has an output.
    StepCompleted(StepCompleted),
    /// A step failed for good.
    StepFailed(StepFailed),
    /// A step was not run.
    StepSkipped(StepSkipped),
    /// A run ended, or stopped in an orderly way.
    RunEnded(RunEnded),
    /// The user's edit of an artifact was accepted in place of what the step produced.
    ArtifactAccepted(ArtifactAccepted),
    /// The user is asked for an approval.
    ApprovalAsked(ApprovalAsked),
    /// The user answered.
    ApprovalAnswered(ApprovalAnswered),
}

/// The kind of a step, as journals and reports name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Asks an agent.
    #[default]
    Agent,
    /// Runs a command.
    Command,
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
            Self::Agent | Self::Command | Self::Write | Self::Approve => false,
        }
    }
}

/// A step of the plan, as announced when a session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The step's key, without items and rounds.
    pub step: StepKey,
    /// Its kind.
    #[serde(default)]
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    #[serde(default)]
    pub agent: String,
    /// The model that the agent resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The artifact that it produces, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether it may run several times, since it is inside a `for_each` or a `repeat`.
    #[serde(default)]
    pub many: bool,
}

/// A step reuses its result from an earlier session, without any call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReused {
    /// The step.
    pub step: StepKey,
    /// The `seq` of the [`StepCompleted`] that is reused.
    pub completed: u64,
    /// The artifact under its new name, if the step or its output was renamed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_artifact: Option<Artifact>,
}

impl StepReused {
    /// A reused result whose artifact kept its name.
    pub fn same(step: StepKey, completed: u64) -> Self {
        Self { step, completed, renamed_artifact: None }
    }
}

/// The two digests that decide whether a recorded result can be reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The request: dialect, models, parameters, system prompt, messages, the schema if sent.
    pub request: Digest,
    /// How the reply is decoded: the schema with its references, and the extract mode.
    pub decode: Digest,
}

/// An attempt of a step began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStarted {
    /// The step.
    pub step: StepKey,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The agent's name; empty for other kinds.
    #[serde(default)]
    pub agent: String,
    /// The model that is asked in this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The step's fingerprint.
    pub fingerprint: Fingerprint,
    /// The parts of the fingerprint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<FingerprintPart>,
    /// Why the step runs although it ran before: `prompt planner.md changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The most that its first request may use; it counts as used if the process dies during the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_usage: Option<Usage>,
}

/// A part of a fingerprint: its name in words, and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintPart {
    /// `prompt planner.md`, `input plan`, `model`, `schema`.
    pub name: String,
    /// The digest of its content.
    pub digest: Digest,
}

/// A step completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCompleted {
    /// The step.
    pub step: StepKey,
    /// The attempt that completed.
    pub attempt: u32,
    /// The step's fingerprint.
    pub fingerprint: Fingerprint,
    /// The run that produced the result, if the result is reused from another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<RunId>,
    /// What it produced, if it has an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// A named value that a step produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The artifact's name.
    pub name: String,
    /// The file that shows it, relative to the workspace: `plan.json`, `notes.md`. None for an artifact that is local
    /// to an item or to a called pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The digest of that file's bytes.
    pub digest: Digest,
    /// The value.
    pub value: Value,
}

impl Artifact {
    /// Builds an artifact and computes its digest.
    pub fn new(name: &str, value: Value, path: Option<String>) -> Self {
        let mut artifact = Self { name: name.to_owned(), path, digest: Digest::of(b""), value };
        artifact.digest = Digest::of(&artifact.bytes());
        artifact
    }

    /// The path of the file that shows an artifact, relative to the workspace: Markdown for text, else JSON.
    pub fn path_of(name: &str, as_text: bool) -> String {
        format!("{name}.{}", if as_text { "md" } else { "json" })
    }

    /// The bytes of that file: text, or JSON indented by two spaces, with a newline at the end.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = match &self.value {
            Value::String(text) if self.path.as_ref().is_none_or(|path| path.ends_with(".md")) => text.clone(),
            value => format!("{value:#}"),
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// A step failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailed {
    /// The step.
    pub step: StepKey,
    /// The last attempt; 0 if none was started.
    pub attempt: u32,
    /// Why it failed.
    pub failure: Failure,
    /// Whether the failure stops the run.
    pub stops: bool,
}

/// A step was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSkipped {
    /// The step.
    pub step: StepKey,
    /// Why, in words: `input code missing: step code failed`.
    pub reason: String,
}

/// The user's edit of an artifact file became the artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactAccepted {
    /// The step that produced the artifact before.
    pub step: StepKey,
    /// The `seq` of the [`StepCompleted`] whose value is replaced.
    pub completed: u64,
    /// The new value.
    pub artifact: Artifact,
}
