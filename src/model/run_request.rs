//! Events for what another process asked of a run as a whole: to stop, or to spend more.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::cost::format_dollars;
use super::count::counted;

/// Another process asked the run to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequested {
    /// The name of the user who asked.
    #[serde(default)]
    pub by: String,
    /// When the user asked. The event has the time at which the run heard it.
    pub at: Timestamp,
}

/// Another process raised the budget of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRaised {
    /// The budget of the run from now on; empty if the run has no budget.
    pub budget: Budget,
    /// The name of the user who raised it.
    #[serde(default)]
    pub by: String,
    /// When the user raised it. The event has the time at which the run heard it.
    pub at: Timestamp,
}

impl std::fmt::Display for BudgetRaised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Budget { usd, tokens, seconds, .. } = &self.budget;
        let limits = [
            usd.map(format_dollars),
            tokens.map(|tokens| counted(tokens, "token")),
            seconds.map(|seconds| format!("{seconds} s")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        if limits.is_empty() {
            return f.write_str("the run has no budget to raise");
        }
        write!(f, "the budget of the run is now {}, raised by {}", limits.join(", "), self.by)
    }
}
