//! What a run or a step may spend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits that are checked before each call, against an upper estimate of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// US dollars, by the list prices of the models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 2.0)]
    pub usd: Option<f64>,
    /// Tokens, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 500_000)]
    pub tokens: Option<u64>,
    /// Seconds: of a run, while a process owns it; of a step, in its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 3600)]
    pub seconds: Option<u64>,
    /// Whether a model without a known price may be asked under `usd` (`refuse`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"allow")]
    pub unpriced: Option<Unpriced>,
    /// What becomes of a reply that does not report what it used of a unit that the budget limits (`estimate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"refuse")]
    pub unreported: Option<Unreported>,
}

/// What becomes of a reply that does not report what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreported {
    /// It counts as much as it can have used at most. A turn of an agent program, for which no such bound is
    /// known, counts as the agent's `estimate` says, and stops the run with `usage_unknown` without one.
    Estimate,
    /// The reply is kept and the run stops with `usage_unknown`.
    Refuse,
}

/// What becomes of a model without a known price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// The run does not start.
    Refuse,
    /// It is asked, and counts as free.
    Allow,
}
