//! Budgets of runs, agents and steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StepKey;

/// A budget. Before each call, orch checks an upper bound of the call's usage against it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The maximum cost in US dollars, at the list prices of the models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 2.0)]
    pub usd: Option<f64>,
    /// The maximum number of tokens, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 500_000)]
    pub tokens: Option<u64>,
    /// The maximum time in seconds. For a run, it is the time during which a process of orch owns the run. For a step
    /// or an agent, it is the sum of the durations of its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 3600)]
    pub seconds: Option<u64>,
    /// Whether a budget with `usd` allows models without a known price. Default: `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"allow")]
    pub unpriced: Option<Unpriced>,
    /// How to count a reply that does not report the tokens or the cost that the budget limits. Default: `estimate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"refuse")]
    pub unreported: Option<Unreported>,
}

impl Budget {
    /// Raises the limits that this budget has to those of `limits`. Adds no limit, and lowers none.
    pub fn raise(&mut self, limits: &Self) {
        self.usd = self.usd.map(|own| limits.usd.map_or(own, |new| own.max(new)));
        self.tokens = self.tokens.map(|own| limits.tokens.map_or(own, |new| own.max(new)));
        self.seconds = self.seconds.map(|own| limits.seconds.map_or(own, |new| own.max(new)));
    }
}

/// How to count a reply that does not report its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreported {
    /// orch counts an upper bound of the reply's usage. For a turn of a CLI agent, the bound is the agent's `estimate`;
    /// without one, the run stops with `usage_unknown`.
    Estimate,
    /// orch records the reply and stops the run with `usage_unknown`.
    Refuse,
}

/// How to treat a model without a known price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// The run does not start.
    Refuse,
    /// The model may be called, and its calls count as free.
    Allow,
}

/// What a budget limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// The whole run.
    Run,
    /// A step and the steps inside it.
    Step(StepKey),
    /// An agent, by its name, in these steps.
    Agent(String, Vec<StepKey>),
}

impl BudgetScope {
    /// The scope for JSON: `the run`, or `step ID` or `agent NAME` without quotes around the name.
    pub(crate) fn plain_name(&self) -> String {
        match self {
            Self::Run => self.to_string(),
            Self::Step(step) => format!("step {step}"),
            Self::Agent(name, _) => format!("agent {name}"),
        }
    }
}

impl std::fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run => f.write_str("the run"),
            Self::Step(step) => write!(f, "step `{step}`"),
            Self::Agent(name, _) => write!(f, "agent `{name}`"),
        }
    }
}

/// A budget with its scope.
pub type Limit = (BudgetScope, Budget);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_a_budget_neither_adds_nor_lowers_a_limit() {
        let mut budget = Budget { usd: Some(2.0), tokens: Some(500), ..Budget::default() };
        budget.raise(&Budget { usd: Some(1.0), tokens: Some(900), seconds: Some(60), ..Budget::default() });
        assert_eq!(budget, Budget { usd: Some(2.0), tokens: Some(900), ..Budget::default() });
    }
}
