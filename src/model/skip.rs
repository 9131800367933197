//! Why a step was not run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::step_status::StepStatus;

/// Why a step was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkipReason {
    /// The reason, for programs.
    #[serde(flatten)]
    pub kind: SkipKind,
    /// The reason, for people, such as "input `code` missing: step `code` failed".
    pub message: String,
}

/// The reasons for which orch skips a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SkipKind {
    /// A required input does not exist.
    MissingInput {
        /// The name of the input.
        input: String,
        /// The step that would have produced it, if that step ended without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        producer: Option<MissingProducer>,
    },
    /// The condition under `when` is false.
    ConditionFalse {
        /// The condition.
        expression: String,
    },
    /// An earlier or parallel step failed, and its failure stops the steps around it.
    StepFailed {
        /// The id of the failed step.
        step: String,
    },
}

/// A step that ended without producing an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingProducer {
    /// The step's id.
    pub step: String,
    /// How it ended.
    pub status: StepStatus,
}

impl SkipReason {
    /// The reason with its message.
    pub fn new(kind: SkipKind) -> Self {
        let message = kind.to_string();
        Self { kind, message }
    }
}

impl fmt::Display for SkipKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingInput { input, producer: Some(MissingProducer { step, status }) } => {
                write!(f, "input `{input}` missing: step `{step}` {}", status.as_str())
            }
            Self::MissingInput { input, producer: None } => write!(f, "input `{input}` missing"),
            Self::ConditionFalse { expression } => write!(f, "when: {expression} is false"),
            Self::StepFailed { step } => write!(f, "step `{step}` failed"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
