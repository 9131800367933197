//! Approvals as recorded: orch's question and the user's answer.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{CallKey, Digest, StepKey};
use super::visible::one_line;

/// The maximum length of a name or a note in a message about an answer, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// A step asked the user for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalAsked {
    /// The step that asks.
    pub step: StepKey,
    /// The step's attempt.
    pub attempt: u32,
    /// The number of the request within the attempt, from 1.
    pub ordinal: u32,
    /// The position of the tool call that needs the approval, in the reply to that request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<u32>,
    /// For questions of an MCP server, the number of the call that will have the answers, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_round: Option<u32>,
    /// The text that orch shows to the user.
    pub question: String,
    /// The digest of that text; an answer is only valid for this text.
    pub question_digest: Digest,
    /// The deadline for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl ApprovalAsked {
    /// The key of the request.
    pub fn key(&self) -> CallKey {
        let Self { step, attempt, ordinal, tool_call, input_round, .. } = self;
        CallKey {
            step: step.clone(),
            attempt: *attempt,
            ordinal: *ordinal,
            tool_call: *tool_call,
            input_round: *input_round,
        }
    }
}

/// The user answered an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalAnswered {
    /// The step that asked.
    pub step: StepKey,
    /// The step's attempt.
    pub attempt: u32,
    /// The number of the request within the attempt, from 1.
    pub ordinal: u32,
    /// The position of the tool call that needs the approval, in the reply to that request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<u32>,
    /// For questions of an MCP server, the number of the call that will have the answers, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_round: Option<u32>,
    /// The digest of the text that orch showed.
    pub question_digest: Digest,
    /// The answer.
    pub answer: ApprovalDecision,
}

impl ApprovalAnswered {
    /// The key of the request.
    pub fn key(&self) -> CallKey {
        let Self { step, attempt, ordinal, tool_call, input_round, .. } = self;
        CallKey {
            step: step.clone(),
            attempt: *attempt,
            ordinal: *ordinal,
            tool_call: *tool_call,
            input_round: *input_round,
        }
    }

    /// Whether another answer is to the same question.
    pub fn answers_same_question(&self, other: &Self) -> bool {
        self.key() == other.key() && self.question_digest == other.question_digest
    }
}

/// The user's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalDecision {
    /// Whether the user approved.
    pub approved: bool,
    /// The reason, or what to do instead; may be empty.
    #[serde(default)]
    pub note: String,
    /// The name of the user who answered.
    #[serde(default)]
    pub by: String,
    /// When the user answered.
    pub at: Timestamp,
}

impl ApprovalDecision {
    /// Who answered and how, for messages: `answered by ana (approved: looks fine)`.
    pub fn summary(&self) -> String {
        format!("{} ({})", self.answered_by(), self.verdict())
    }

    /// `answered by ana`, or `answered` if the name is not known.
    pub fn answered_by(&self) -> String {
        if self.by.is_empty() {
            return "answered".to_owned();
        }
        format!("answered by {}", one_line(&self.by, MAX_SHOWN_CHARS))
    }

    /// `approved` or `rejected`, with the note if there is one.
    pub fn verdict(&self) -> String {
        let verdict = if self.approved { "approved" } else { "rejected" };
        if self.note.trim().is_empty() {
            return verdict.to_owned();
        }
        format!("{verdict}: {}", one_line(&self.note, MAX_SHOWN_CHARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_an_answer_names_the_person_and_stays_on_one_line() {
        let decision = |approved, note: &str, by: &str| ApprovalDecision {
            approved,
            note: note.to_owned(),
            by: by.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(decision(true, "", "ana").summary(), "answered by ana (approved)");
        assert_eq!(decision(false, "too\nrisky ", "bob").summary(), "answered by bob (rejected: too\\nrisky)");
        assert_eq!(decision(true, "", "").summary(), "answered (approved)");
    }
}
