//! What people are asked and what they answer, as recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{Digest, StepKey};

/// A person is asked to agree to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAsked {
    /// The step that asks.
    pub step: StepKey,
    /// Its attempt.
    pub attempt: u32,
    /// What is shown to the person.
    pub shown: String,
    /// The digest of what is shown: an answer holds for nothing else.
    pub shown_digest: Digest,
    /// Until when an answer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A person answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAnswered {
    /// The step that asked.
    pub step: StepKey,
    /// Its attempt.
    pub attempt: u32,
    /// The digest of what was shown.
    pub shown_digest: Digest,
    /// The answer.
    pub answer: ApprovalDecision,
}

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDecision {
    /// Yes or no.
    pub approved: bool,
    /// Why, or what to do instead; may be empty.
    #[serde(default)]
    pub note: String,
    /// Who said it.
    #[serde(default)]
    pub by: String,
    /// When.
    pub at: Timestamp,
}
