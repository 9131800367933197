//! What `--output json` prints for a run, built from its state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{RunStatus, StepKind};
use super::failure::Failure;
use super::step_state::{ExtractionSummary, StepState, StepStatus};
use super::usage::UsageTotal;

/// What `--output json` prints: one object per run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The run's short id.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its status.
    pub status: RunStatus,
    /// Whether it completed.
    pub success: bool,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many processes worked on it, one after another.
    #[serde(default)]
    pub sessions: u32,
    /// How long they worked in total, in milliseconds, without the time in between.
    #[serde(default)]
    pub worked_ms: u64,
    /// The workspace, absolute.
    pub workspace: String,
    /// Why it failed, if no step's error says so.
    pub error: Option<Failure>,
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// What was produced.
    pub artifacts: Vec<ArtifactReport>,
    /// Tokens of all steps.
    pub usage: UsageTotal,
    /// Cost in US dollars; null if no price applies to a call, or a call's usage is unknown.
    pub cost_usd: Option<f64>,
    /// The most that it may cost, if a part is estimated and every other part is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost_usd: Option<f64>,
    /// The value of the pipeline's `outputs:`, else the output of its last step that has one (in the default pipeline:
    /// the review); null if that step did not complete.
    pub result: Option<Value>,
}

/// One step of a [`RunReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepReport {
    /// The step's key.
    pub name: String,
    /// Its kind.
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    pub agent: String,
    /// The model that answered or was asked last; empty for other kinds.
    pub model: String,
    /// Its status.
    pub status: StepStatus,
    /// Start of the first attempt.
    pub started_at: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended_at: Option<Timestamp>,
    /// Attempts started.
    pub attempts: u32,
    /// Requests made.
    pub calls: u32,
    /// Whether the result was reused from an earlier session.
    pub reused: bool,
    /// The earlier run whose result was reused (`--reuse`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<String>,
    /// What the user is asked, while the step waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Tokens of all its calls.
    pub usage: UsageTotal,
    /// Cost in US dollars; null if no price applies to a call, or a call's usage is unknown.
    pub cost_usd: Option<f64>,
    /// The most that it may cost, if a part is estimated and every other part is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost_usd: Option<f64>,
    /// The session of the CLI agent that was asked last, as the agent names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How the value was found in the reply.
    pub extraction: Option<ExtractionSummary>,
    /// The artifact's value.
    pub output: Option<Value>,
    /// Why it failed: `class`, `message`, `hint`.
    pub error: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<String>,
}

impl StepReport {
    pub(super) fn of(step: &StepState) -> Self {
        Self {
            name: step.step.to_string(),
            kind: step.kind,
            agent: step.agent.clone(),
            model: step.model.as_ref().map_or_else(String::new, ToString::to_string),
            status: step.status,
            started_at: step.started,
            ended_at: step.ended,
            attempts: step.attempts,
            calls: step.calls,
            reused: step.reused,
            reused_from: step.reused_from.map(|run| run.to_string()),
            question: step.question.clone(),
            usage: step.usage,
            cost_usd: step.cost.known(),
            estimated_cost_usd: step.cost.estimated(),
            session: step.session.clone(),
            extraction: step.extraction.clone(),
            output: step.artifact.as_ref().map(|artifact| artifact.value.clone()),
            error: step.failure.clone(),
            reason: step.reason.clone(),
        }
    }
}

/// One artifact of a [`RunReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactReport {
    /// The artifact's name.
    pub name: String,
    /// The file that shows it, absolute.
    pub path: String,
    /// BLAKE3 of that file's bytes, in hexadecimal.
    pub digest: String,
}
