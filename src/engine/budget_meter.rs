//! Measures calls for the budgets: what a call may use, what it used, and what this counts at the current prices.
//!
//! The account of the budgets ([`BudgetAccount`]) knows only amounts. The plan and the prices are here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::accounts::{Amount, AmountEstimate, BudgetAccount, BudgetClaim, LocalBudgets, RatedRequest, ReservedAmount};
use crate::agent::ModelRegistry;
use crate::durable::{Call, CallOutcome};
use crate::model::effect::ModelUse;
use crate::model::event::Event;
use crate::model::{ModelRef, PricedModel, StepKey, Usage, UsageTotal};

use super::call_spend::{CallSpend, StepModels};
use super::plan::Plan;
use super::request_size::max_text_usage;
use super::spend_history::SpendHistory;

/// Converts calls to the amounts that count against budgets and rate limits.
pub struct BudgetMeter {
    models: Arc<ModelRegistry>,
    step_models: StepModels,
    /// Whether a budget limits `usd`.
    has_usd_limit: bool,
}

impl BudgetMeter {
    /// Creates the meter for the models of a plan.
    pub fn new(plan: &Plan, models: Arc<ModelRegistry>) -> Self {
        let has_usd_limit = plan.budgets().iter().any(|(_, limit)| limit.usd.is_some());
        Self { models, step_models: StepModels::from_plan(plan), has_usd_limit }
    }

    /// Creates the budgets of a plan in this process, with the usage so far according to the run's events. If the process
    /// of the last session died, `died_at` is the time when it was last alive.
    pub fn local_budgets(&self, plan: &Plan, events: &[Event], died_at: Option<Timestamp>) -> Arc<LocalBudgets> {
        let history = SpendHistory::from_events(events, died_at);
        let budgets = LocalBudgets::new(plan.budgets(), history.owned_duration);
        history.calls.iter().for_each(|call| self.count_usage(&*budgets, call));
        budgets
    }

    /// What a call needs from the budgets before it starts.
    pub(super) fn claim(&self, call: &Call, in_finally: bool) -> BudgetClaim {
        let model_use = call.effect.profile().model_use;
        let amount = model_use.map_or(ReservedAmount::NOTHING, |model_use| self.amount_to_reserve(&model_use));
        BudgetClaim { step: call.key.step.clone(), in_finally, amount }
    }

    /// Counts the usage of a call: the reported part, and an estimate of the unreported part. Ends the run if the usage
    /// is unknown in a unit that a budget limits.
    pub(super) fn settle(
        &self,
        account: &dyn BudgetAccount,
        step: &StepKey,
        model: Option<&ModelRef>,
        outcome: &CallOutcome,
    ) {
        let spend = CallSpend {
            step: step.clone(),
            model: model.cloned(),
            usage: model.map_or_else(UsageTotal::default, |_| outcome.usage()),
            cost: outcome.cost,
            estimated_cost: outcome.estimated_cost,
            replied: outcome.result.is_ok(),
            time: Duration::try_from(outcome.ended.duration_since(outcome.started)).unwrap_or_default(),
        };
        self.count_usage(account, &spend);
    }

    fn count_usage(&self, account: &dyn BudgetAccount, call: &CallSpend) {
        let counted = self.step_models.count_usage(call, &self.models);
        if let Some(uncounted) = account.settle(&counted) {
            account.end_run(&self.step_models.unknown_usage_failure(call, &uncounted, &counted));
        }
    }

    /// Returns the amount that a call to a model reserves: the user's `estimate:`, or else the upper bound that follows
    /// from the request, or else the size of the prompt. The prompt is only a lower bound, since orch can't know what a
    /// CLI agent sends to its model.
    fn amount_to_reserve(&self, model_use: &ModelUse<'_>) -> ReservedAmount {
        let ModelUse { request, bound, .. } = model_use;
        let prompt_usage = || Usage { output: 0, ..max_text_usage(request) };
        let usage = bound.max_usage.unwrap_or_else(prompt_usage);
        let usd = bound.priced_as.as_ref().map_or(0.0, |priced_model| self.cost_in_usd(priced_model, &usage));
        let estimate_kind = |is_estimated: bool| {
            if is_estimated || bound.max_usage.is_some() { AmountEstimate::Upper } else { AmountEstimate::Lower }
        };
        let estimate = bound.estimate;
        ReservedAmount {
            amount: Amount {
                tokens: estimate.tokens.unwrap_or(usage.total()),
                usd: estimate.usd.unwrap_or(usd),
                time: Duration::ZERO,
            },
            tokens_estimate: estimate_kind(estimate.tokens.is_some()),
            usd_estimate: estimate_kind(estimate.usd.is_some()),
        }
    }

    /// Returns the cost of a usage. Without a budget that limits `usd`, returns 0 and looks up no price.
    fn cost_in_usd(&self, priced_model: &PricedModel, usage: &Usage) -> f64 {
        if self.has_usd_limit { self.models.cost_of(priced_model, usage).unwrap_or_default() } else { 0.0 }
    }
}

/// The request of a call that counts against the limits of its provider; `None` if no provider limits the call.
pub(super) fn rated_request(call: &Call) -> Option<RatedRequest> {
    let model_use = call.effect.profile().model_use?;
    Some(RatedRequest { provider: model_use.request.model.provider.clone(), tokens: model_use.rate_limited_tokens? })
}
