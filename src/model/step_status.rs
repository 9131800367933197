//! The status of a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It has not started.
    #[default]
    Pending,
    /// An attempt is in progress.
    InProgress,
    /// It waits for the user.
    Waiting,
    /// It completed, and orch recorded its artifact, if it has one.
    Completed,
    /// It failed, and orch does not retry it.
    Failed,
    /// It was not run.
    Skipped,
    /// It was stopped with its run.
    Cancelled,
}

impl StepStatus {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}
