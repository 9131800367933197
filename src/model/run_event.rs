//! The facts of a run as a whole: that it started, was resumed or ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::chat::ModelRef;
use super::event::PlannedStep;
use super::failure::Failure;
use super::id::StepKey;

/// A run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The model given for all agents (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What each model name in the files resolved to, including `auto` and aliases.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether the run continues after a failure of a step that does not set this itself.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The limits given for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// The document of an external tracker that the run belongs to (`--workflow-id`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// The version of orch that started the run.
    pub version: String,
}

/// A run was resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {
    /// What each model name resolves to now.
    pub models: BTreeMap<String, ModelRef>,
    /// The model given for all agents now (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the run continues after a failure of a step that does not set this itself.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The step that must run again, without reusing its result (`--from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StepKey>,
    /// The limits given for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The last heartbeat of the previous session's process, if it died while it owned the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_owner_last_heartbeat: Option<Timestamp>,
    /// Where the project is now, if it has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocated_to: Option<RunPlace>,
    /// Files of steps that were found deleted or reverted; the run continues without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
    /// The steps that the files have now, in order.
    pub steps: Vec<PlannedStep>,
    /// The version of orch that resumed the run.
    pub version: String,
}

/// Where a run's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlace {
    /// The project's root, absolute.
    pub root: String,
    /// The workspace, absolute.
    pub workspace: String,
}

/// A file that is not as its step wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// The path relative to the workspace.
    pub path: String,
    /// The `seq` of the [`StepCompleted`](super::event::StepCompleted) of the step that wrote it, if the user chose to
    /// continue without the file. For later steps this counts as a change of the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is in progress, or its process died: its lock shows which.
    Running,
    /// It waits for the user.
    Waiting,
    /// Every step completed or was skipped as the pipeline says, and `success` is true.
    Completed,
    /// A step failed, or `success` is false.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Its process died. This is never stored, but derived from the lock.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    /// Its status.
    pub status: RunStatus,
    /// Why it failed, if no step's failure says so: `success` is false, or storage failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The value of the pipeline's `outputs:`, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}
