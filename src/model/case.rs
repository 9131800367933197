//! A test case of a pipeline, as written under `pipelines/tests/`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::event::RunStatus;
use super::step_state::StepStatus;

/// A test case: a pipeline, what it is given, the recordings that answer, and what must come out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The pipeline file, relative to this file.
    #[schemars(length(min = 1), example = &"../default.yaml")]
    pub pipeline: String,
    /// What the case shows, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"a task becomes a reviewed change")]
    pub description: Option<String>,
    /// The values given to the run.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({"task": "Create a User model"}))]
    pub inputs: Map<String, Value>,
    /// The folder of recordings, relative to this file (the name of this file, without its ending).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &"default")]
    pub recordings: Option<String>,
    /// A folder, relative to this file, whose files are in the workspace before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &"default-files")]
    pub workspace: Option<String>,
    /// Commands that run in the workspace before the run, one after another, as programs and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!([["git", "init", "-q"]]))]
    pub setup: Vec<Vec<String>>,
    /// What a person says: the note of a yes, or of a no, by the approval's id.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"sign_off": {"approved": true, "note": "fine"}}))]
    pub answers: IndexMap<String, CannedAnswer>,
    /// What must come out.
    #[serde(default)]
    #[schemars(example = json!({"status": "completed"}))]
    pub expect: Expected,
}

/// What a person says in a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CannedAnswer {
    /// Yes or no.
    #[schemars(example = true)]
    pub approved: bool,
    /// Why, or what to do instead.
    #[serde(default)]
    #[schemars(example = &"fine")]
    pub note: String,
}

/// What must come out of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// How the run must end (`completed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<EndStatus>", example = &"failed")]
    pub status: Option<RunStatus>,
    /// How steps must end, by key; steps that are not named may end in any way.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "IndexMap<String, EndOfStep>", example = json!({"plan": "completed", "review": "skipped"}))]
    pub steps: IndexMap<String, StepStatus>,
    /// Expressions over the artifacts, by name, that must be true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!(["plan.steps | length > 0", "review.score >= 1"]))]
    pub assert: Vec<String>,
    /// Files that must be in the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!(["plan.json"]))]
    pub files: Vec<String>,
}

/// How a run may end.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "names for the schema")]
enum EndStatus {
    Completed,
    Failed,
    Waiting,
}

/// How a step may end.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "names for the schema")]
enum EndOfStep {
    Completed,
    Failed,
    Skipped,
    Waiting,
    Cancelled,
}
