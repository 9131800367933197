//! Approvals as recorded: what the user is asked and what the user answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{Digest, StepKey};

/// The user is asked to approve something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAsked {
    /// The step that asks.
    pub step: StepKey,
    /// The step's attempt.
    pub attempt: u32,
    /// The text that is shown to the user.
    pub shown: String,
    /// The digest of that text; an answer is valid for nothing else.
    pub shown_digest: Digest,
    /// The deadline for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The user answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAnswered {
    /// The step that asked.
    pub step: StepKey,
    /// The step's attempt.
    pub attempt: u32,
    /// The digest of the text that was shown.
    pub shown_digest: Digest,
    /// The answer.
    pub answer: ApprovalDecision,
}

/// The user's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDecision {
    /// Whether the user approved.
    pub approved: bool,
    /// Why, or what to do instead; may be empty.
    #[serde(default)]
    pub note: String,
    /// Who answered.
    #[serde(default)]
    pub by: String,
    /// When the user answered.
    pub at: Timestamp,
}
