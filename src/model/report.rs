//! The report that `--output json` prints for a run, built from its state.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{ApprovalDecision, RunStatus, SkipReason, StepKind};
use super::failure::Failure;
use super::sandbox::SandboxLevel;
use super::step_state::{ExtractionSummary, StepState};
use super::step_status::StepStatus;
use super::usage::UsageTotal;

/// The report that `--output json` prints: one object per run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The version of orch that made the report.
    pub version: String,
    /// The run's short id.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its status.
    pub status: RunStatus,
    /// Whether it completed.
    pub success: bool,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The number of its sessions: how often a process started or resumed it.
    #[serde(default)]
    pub sessions: u32,
    /// The total time of its sessions in milliseconds.
    #[serde(default)]
    pub worked_ms: u64,
    /// The workspace, absolute.
    pub workspace: String,
    /// Why it failed, if no step has the error.
    pub error: Option<Failure>,
    /// The steps, in the order of the file.
    pub steps: Vec<StepReport>,
    /// The artifacts.
    pub artifacts: Vec<ArtifactReport>,
    /// The tokens of all steps.
    pub usage: UsageTotal,
    /// The cost in US dollars; null if no price applies to a call, or a call's usage is unknown.
    pub cost_usd: Option<f64>,
    /// An upper bound of the cost, if a part is estimated and every other part is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost_usd: Option<f64>,
    /// The value of the pipeline's `outputs:`, else the output of its last step that has one; null if that step did not
    /// complete.
    pub result: Option<Value>,
}

/// One step of a report.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// The step's key.
    pub name: String,
    /// Its kind.
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    pub agent: String,
    /// The model of its latest call; empty for other kinds.
    pub model: String,
    /// Its status.
    pub status: StepStatus,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended_at: Option<Timestamp>,
    /// The number of started attempts.
    pub attempts: u32,
    /// The number of requests.
    pub calls: u32,
    /// The number of tool calls of its model. Absent if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tool_calls: u32,
    /// Whether the result was reused from an earlier session.
    pub reused: bool,
    /// The earlier run whose result was reused (`--reuse`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<String>,
    /// The question to the user, while the step waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The answer to the question, if the run has not continued with it yet: `orch pipeline resume` does. Absent while
    /// the question is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ApprovalDecision>,
    /// The tokens of all its calls.
    pub usage: UsageTotal,
    /// The cost in US dollars; null if no price applies to a call, or a call's usage is unknown.
    pub cost_usd: Option<f64>,
    /// An upper bound of the cost, if a part is estimated and every other part is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost_usd: Option<f64>,
    /// The id of the last session with a CLI agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The weakest level of the sandboxes of its programs. Absent if orch confined none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxLevel>,
    /// Why orch may not know all files that its CLI agent or its tools changed, one phrase for each reason. Absent if it
    /// knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial_changes: Vec<String>,
    /// How orch extracted the value from the reply.
    pub extraction: Option<ExtractionSummary>,
    /// The artifact's value.
    pub output: Option<Value>,
    /// Why it failed: `class`, `message`, `hint`.
    pub error: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<SkipReason>,
}

/// Whether a count is zero, so that the report omits it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl StepReport {
    pub(super) fn from_state(step: &StepState) -> Self {
        Self {
            name: step.key.to_string(),
            kind: step.kind,
            agent: step.agent.clone(),
            model: step.model.as_ref().map_or_else(String::new, ToString::to_string),
            status: step.status,
            started_at: step.started,
            ended_at: step.ended,
            attempts: step.attempts,
            calls: step.calls,
            tool_calls: step.tool_calls,
            reused: step.reused,
            reused_from: step.reused_from.map(|run| run.to_string()),
            question: step.question.clone().filter(|_| step.status == StepStatus::Waiting),
            answer: step.pending_answer().cloned(),
            usage: step.usage,
            cost_usd: step.cost.exact(),
            estimated_cost_usd: step.cost.upper_bound(),
            session: step.session.clone(),
            sandbox: step.sandbox,
            partial_changes: step.partial_changes.clone(),
            extraction: step.extraction.clone(),
            output: step.artifact.as_ref().map(|artifact| artifact.value.clone()),
            error: step.failure.clone(),
            reason: step.reason.clone(),
        }
    }
}

/// One artifact of a report.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactReport {
    /// The artifact's name.
    pub name: String,
    /// The format of its file.
    pub kind: ArtifactKind,
    /// Its file, absolute.
    pub path: String,
    /// The BLAKE3 digest of the file's bytes, in hexadecimal.
    pub digest: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The value; absent if the file is larger than 64 KiB. In that case, `path` and `digest` identify it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The maximum size of an artifact's file in bytes for which [`ArtifactReport::value`] is present.
pub const MAX_REPORTED_VALUE: u64 = 64 * 1024;

/// The format of an artifact's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// JSON that matches the schema of the step.
    Json,
    /// Text, in a Markdown file.
    Text,
}
