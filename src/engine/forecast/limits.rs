//! Compares the budgets of a plan with the forecast.

use crate::model::StepKey;
use crate::model::budget::Budget;

use super::{CostEstimate, Range, StepForecast};
use crate::engine::budget::BudgetScope;
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
        let limits = plan.budgets().into_iter();
        limits.map(|(scope, limit)| Self { status: compare_limit(&scope, &limit, steps), scope, limit }).collect()
    }
}

fn compare_limit(scope: &BudgetScope, limit: &Budget, steps: &[StepForecast]) -> LimitStatus {
    let (mut tokens, mut usd) = (Range::exactly(0), CostEstimate { min: 0.0, max: Some(0.0) });
    let mut may_run_out_at = None;
    for step in steps.iter().filter(|step| scope.covers(&step.step)) {
        let Some(requests) = &step.requests else { continue };
        let is_certain = step.executions.min > 0;
        let min_tokens = tokens.min.saturating_add(if is_certain { requests.reserved_tokens } else { 0 });
        let min_usd = usd.min + if is_certain { requests.reserved_usd.unwrap_or_default() } else { 0.0 };
        tokens = tokens.plus(requests.turn_tokens.unwrap_or_else(|| requests.input.plus(requests.output)));
        usd = usd.plus(requests.cost.unwrap_or(CostEstimate { min: 0.0, max: None }));
        let exceeds_limit = limit.tokens.is_some_and(|max| min_tokens.max(tokens.min) > max)
            || limit.usd.is_some_and(|max| min_usd.max(usd.min) > max);
        if exceeds_limit {
            return LimitStatus::RunsOut(step.step.clone());
        }
        let may_exceed = limit.tokens.is_some_and(|max| tokens.max.is_none_or(|tokens| tokens > max))
            || limit.usd.is_some_and(|max| usd.max.is_none_or(|usd| usd > max));
        if may_exceed && may_run_out_at.is_none() {
            may_run_out_at = Some(step.step.clone());
        }
    }
    may_run_out_at.map_or(LimitStatus::Enough, LimitStatus::MayRunOut)
}
