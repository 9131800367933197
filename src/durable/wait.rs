//! Waits of the interpreter.

use serde::{Deserialize, Serialize};

use crate::model::event::ApprovalDecision;

/// A reason to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A pause between these two durations, in milliseconds. The implementation chooses a duration that differs between
    /// runs, so that parallel runs do not all retry at once.
    DurationBetween(u64, u64),
    /// The user's decision about an approval.
    Approval(ApprovalRequest),
}

/// A request for the user's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The text that the user sees.
    pub text: String,
    /// How long the run waits for the decision, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitOutcome {
    /// The time has passed.
    Elapsed,
    /// The user decided.
    Answered(ApprovalDecision),
}
