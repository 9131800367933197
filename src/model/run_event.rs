//! The facts of a run as a whole: it began, was resumed, ended.

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
    /// The values given to the run.
    pub inputs: Map<String, Value>,
    /// The model given for all agents (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What each model name of the files resolved to, `auto` and aliases included.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether steps that say nothing themselves go on after a failure.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The limits given for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// The document of an outside tracker that the run belongs to (`--workflow-id`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// The version of orch that started the run.
    pub version: String,
}

/// A run was taken up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {
    /// What each model name resolves to now.
    pub models: BTreeMap<String, ModelRef>,
    /// The model given for all agents now (`--model`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether steps that say nothing themselves go on after a failure.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The step whose result no longer stands (`--from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StepKey>,
    /// The limits given for the run (`--budget`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// When the process of the session before was last alive, if it died as the owner of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_owner_last_heartbeat: Option<Timestamp>,
    /// Where the project is now, when it is elsewhere than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocated_to: Option<RunPlace>,
    /// Files that steps made and that were found gone, or as they were before: the run continues without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
    /// The steps as the files say now, in order.
    pub steps: Vec<PlannedStep>,
    /// The version of orch that took the run up.
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

/// A file that a step made and that is not as the step made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// The path from the workspace.
    pub path: String,
    /// The `seq` of the [`StepCompleted`] whose step made it, when a person said to go on without it:
    /// to the steps after that one the workspace is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is going on, or its process died: the lock tells.
    Running,
    /// It waits for a person.
    Waiting,
    /// Every step completed or was skipped as written, and `success` holds.
    Completed,
    /// A step failed, or `success` does not hold.
    Failed,
    /// It was stopped by a person.
    Cancelled,
    /// Its process died; never stored, told from the lock.
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
    /// How.
    pub status: RunStatus,
    /// Why, when that is not told by a step: `success` is false, or storage failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the pipeline's `outputs:` gave, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}
