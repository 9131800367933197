//! Compares the budgets of a plan with the forecast.

use crate::accounts::LimitIndex;
use crate::model::StepKey;
use crate::model::budget::{Budget, BudgetScope, Limit};

use super::{CostEstimate, Range, StepForecast};
use crate::engine::plan::Plan;

/// A budget of the plan, and whether the forecast fits it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitForecast {
    /// The scope of the limit.
    pub scope: BudgetScope,
    /// The limit.
    pub limit: Budget,
    /// Whether the limit suffices. The forecast does not cover time.
    pub status: LimitStatus,
}

/// Whether a limit suffices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitStatus {
    /// It suffices for every possible reply.
    Enough,
    /// The run may exceed it at this step.
    MayRunOut(StepKey),
    /// The run exceeds it at this step even by the lower estimate.
    RunsOut(StepKey),
}

impl LimitForecast {
    /// Compares each budget of a plan with the forecast of its steps.
    pub fn compare(plan: &Plan, steps: &[StepForecast]) -> Vec<Self> {
        let mut usages: Vec<LimitUsage> = plan.budgets().into_iter().map(LimitUsage::new).collect();
        let index = LimitIndex::new(usages.iter().map(|usage| &usage.scope));
        for step in steps {
            for covering in index.covering(&step.step) {
                if let Some(usage) = usages.get_mut(covering) {
                    usage.add(step);
                }
            }
        }
        usages.into_iter().map(LimitUsage::into_forecast).collect()
    }
}

/// The usage of the steps that a limit covers, up to a step.
struct LimitUsage {
    scope: BudgetScope,
    limit: Budget,
    tokens: Range,
    usd: CostEstimate,
    may_run_out_at: Option<StepKey>,
    runs_out_at: Option<StepKey>,
}

impl LimitUsage {
    fn new((scope, limit): Limit) -> Self {
        let usd = CostEstimate { min: 0.0, max: Some(0.0) };
        Self { scope, limit, tokens: Range::exactly(0), usd, may_run_out_at: None, runs_out_at: None }
    }

    /// Adds the usage of the next step.
    fn add(&mut self, step: &StepForecast) {
        let Some(requests) = step.requests.as_ref().filter(|_| self.runs_out_at.is_none()) else { return };
        let is_certain = step.executions.min > 0;
        let min_tokens = self.tokens.min.saturating_add(if is_certain { requests.reserved_tokens } else { 0 });
        let min_usd = self.usd.min + if is_certain { requests.reserved_usd.unwrap_or_default() } else { 0.0 };
        self.tokens = self.tokens.plus(requests.turn_tokens.unwrap_or_else(|| requests.input.plus(requests.output)));
        self.usd = self.usd.plus(requests.cost.unwrap_or(CostEstimate { min: 0.0, max: None }));
        let exceeds_limit = self.limit.tokens.is_some_and(|max| min_tokens.max(self.tokens.min) > max)
            || self.limit.usd.is_some_and(|max| min_usd.max(self.usd.min) > max);
        let may_exceed = self.limit.tokens.is_some_and(|max| self.tokens.max.is_none_or(|tokens| tokens > max))
            || self.limit.usd.is_some_and(|max| self.usd.max.is_none_or(|usd| usd > max));
        if exceeds_limit {
            self.runs_out_at = Some(step.step.clone());
        } else if may_exceed && self.may_run_out_at.is_none() {
            self.may_run_out_at = Some(step.step.clone());
        }
    }

    fn into_forecast(self) -> LimitForecast {
        let status = match (self.runs_out_at, self.may_run_out_at) {
            (Some(step), _) => LimitStatus::RunsOut(step),
            (None, Some(step)) => LimitStatus::MayRunOut(step),
            (None, None) => LimitStatus::Enough,
        };
        LimitForecast { scope: self.scope, limit: self.limit, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::StepKind;

    #[test]
    fn the_first_step_that_exceeds_a_limit_decides() {
        let budget = Budget { tokens: Some(100), ..Budget::default() };
        let mut usage = LimitUsage::new((BudgetScope::Run, budget));
        for (id, min, max) in [("a", 10, 60), ("b", 10, 60), ("c", 90, 90), ("d", 90, 90)] {
            usage.add(&step_with_tokens(id, Range { min, max: Some(max) }));
        }
        assert_eq!(usage.may_run_out_at, Some(StepKey::root("b")));
        assert_eq!(usage.into_forecast().status, LimitStatus::RunsOut(StepKey::root("c")));
    }

    fn step_with_tokens(id: &str, tokens: Range) -> StepForecast {
        use crate::engine::forecast::{Prediction, RequestEstimate};
        let requests = RequestEstimate {
            agent: "a".to_owned(),
            models: Vec::new(),
            is_cli_agent: false,
            calls: Range::exactly(1),
            input: tokens,
            output: Range::exactly(0),
            cost: None,
            turn_tokens: None,
            reserved_tokens: 0,
            reserved_usd: None,
            exceeded_context_window: None,
        };
        StepForecast {
            step: StepKey::root(id),
            kind: StepKind::Agent,
            prediction: Prediction::Runs,
            executions: Range::exactly(1),
            reused: 0,
            repetition: None,
            reads: Vec::new(),
            output: None,
            path: None,
            texts: Vec::new(),
            requests: Some(requests),
        }
    }
}
