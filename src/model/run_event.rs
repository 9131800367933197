//! Events of a run as a whole: it started, was resumed or ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::command_mode::CommandModes;
use super::event::PlannedStep;
use super::failure::Failure;
use super::id::StepKey;
use super::name::ModelRef;

/// A run started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunStarted {
    /// The pipeline's name.
    pub pipeline: String,
    /// The project's root, absolute.
    #[serde(default)]
    pub root: String,
    /// The pipeline file, relative to the root.
    pub file: String,
    /// The workspace, absolute.
    pub workspace: String,
    /// The values of the inputs.
    pub inputs: Map<String, Value>,
    /// The model that the user chose for all agents (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The models and CLI agents that the user chose for single agents (`--agent`), by the agent's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, String>,
    /// The model to which each name in the files resolved, including `auto` and aliases.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether the run continues after the failure of a step without `on_error`.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The budget that the user set for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The recordings that the run replays, if it calls no models (`--replay`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<RunReplay>,
    /// The folder into which the run records its calls (`--record`), if any: relative to the project's root if it is in
    /// the project, else absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_folder: Option<String>,
    /// The steps, in the order of the file.
    pub steps: Vec<PlannedStep>,
    /// The document of an external tracker that the run belongs to (`--workflow-id`), if any.
    #[serde(default, rename = "workflow_id", skip_serializing_if = "Option::is_none")]
    pub tracker_workflow_id: Option<String>,
    /// The version of orch that started the run.
    pub version: String,
}

/// A run was resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResumed {
    /// The model to which each name resolves now.
    pub models: BTreeMap<String, ModelRef>,
    /// The model that the user now chose for all agents (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The models and CLI agents that the user now chose for single agents (`--agent`), by the agent's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, String>,
    /// Whether the run continues after the failure of a step without `on_error`.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The step that must run again, without reusing its result (`--from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StepKey>,
    /// The budget that the user set for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The recordings that the run replays from now on, if it calls no models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<RunReplay>,
    /// The folder into which the run records its calls from now on, if any: relative to the project's root if it is in
    /// the project, else absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_folder: Option<String>,
    /// The last heartbeat of the previous session's process, if it died while it owned the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_owner_last_heartbeat: Option<Timestamp>,
    /// The project's new location, if it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocated_to: Option<RunLocation>,
    /// Files that steps wrote and that were deleted or reverted since; the run continues without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
    /// The current steps, in the order of the file.
    pub steps: Vec<PlannedStep>,
    /// The version of orch that resumed the run.
    pub version: String,
}

/// The recordings that a run replays instead of calling models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunReplay {
    /// The folder of the recordings: relative to the project's root if it is in the project, else absolute.
    pub folder: String,
    /// Which commands the run replays (`--commands`). Absent if that depends on the recordings.
    #[serde(default, skip_serializing_if = "CommandModes::is_empty")]
    pub commands: CommandModes,
}

/// The location of a run's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunLocation {
    /// The project's root, absolute.
    pub root: String,
    /// The workspace, absolute.
    pub workspace: String,
}

/// A file that was deleted or reverted after its step wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingFile {
    /// The path relative to the workspace.
    pub path: String,
    /// The `seq` of the `step_completed` of the step that wrote it, if the user chose to
    /// continue without the file. For later steps this counts as a change of the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_seq: Option<u64>,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is in progress, or its process died; the lock shows which.
    Running,
    /// It waits for the user.
    Waiting,
    /// It succeeded: `success` is true, or without `success` no step failed.
    Completed,
    /// It failed: a step failed, or `success` is false.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Its process died. orch never records this status, but derives it from the lock.
    Interrupted,
}

impl RunStatus {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnded {
    /// Its status.
    pub status: RunStatus,
    /// The failure, if no step has it: `success` is false, or storage failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The value of the pipeline's `outputs:`, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}
