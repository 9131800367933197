//! Compares the budgets of a plan with the forecast.

use crate::model::StepKey;
use crate::model::budget::Budget;

use super::{CostEstimate, Foreseen, Range};
use crate::engine::budget::BudgetScope;
use crate::engine::plan::Plan;

/// A limit, and whether the forecast fits it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitForecast {
    /// What the limit applies to.
    pub holder: BudgetScope,
    /// The limit.
    pub limit: Budget,
    /// Whether the limit is enough. Time is not part of the forecast.
    pub outlook: Outlook,
}

/// Whether a limit is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is enough, whatever the replies are.
    Enough,
    /// It may be used up at this step.
    MayRunOut(StepKey),
    /// It is used up at this step even by the lower estimate.
    RunsOut(StepKey),
}

impl LimitForecast {
    /// Compares each limit of a plan with the forecast of its steps.
    pub fn of(plan: &Plan, steps: &[Foreseen]) -> Vec<Self> {
        let limits = plan.budgets().into_iter();
        limits.map(|(holder, limit)| Self { outlook: outlook(&holder, &limit, steps), holder, limit }).collect()
    }
}

fn outlook(holder: &BudgetScope, limit: &Budget, steps: &[Foreseen]) -> Outlook {
    let (mut tokens, mut usd) = (Range::exactly(0), CostEstimate { least: 0.0, most: Some(0.0) });
    let mut may = None;
    for step in steps.iter().filter(|step| holder.holds(&step.step)) {
        let Some(asks) = &step.asks else { continue };
        let certain = step.times.least > 0;
        let first_tokens = tokens.least.saturating_add(if certain { asks.reserves } else { 0 });
        let first_usd = usd.least + if certain { asks.reserves_usd.unwrap_or_default() } else { 0.0 };
        tokens = tokens.plus(asks.turns.unwrap_or_else(|| asks.input.plus(asks.output)));
        usd = usd.plus(asks.cost.unwrap_or(CostEstimate { least: 0.0, most: None }));
        let used_up = limit.tokens.is_some_and(|most| first_tokens.max(tokens.least) > most)
            || limit.usd.is_some_and(|most| first_usd.max(usd.least) > most);
        if used_up {
            return Outlook::RunsOut(step.step.clone());
        }
        let may_be = limit.tokens.is_some_and(|most| tokens.most.is_none_or(|tokens| tokens > most))
            || limit.usd.is_some_and(|most| usd.most.is_none_or(|usd| usd > most));
        if may_be && may.is_none() {
            may = Some(step.step.clone());
        }
    }
    may.map_or(Outlook::Enough, Outlook::MayRunOut)
}
