//! Computes how many tokens and dollars a call counts against budgets, and how certain each amount is.

use std::collections::HashMap;
use std::time::Duration;

use crate::accounts::{Amount, Certainty, CountedUsage, UncountedLimit, Unit};
use crate::agent::{ModelRegistry, REPLAY_PROVIDER};
use crate::model::budget::Unreported;
use crate::model::{
    CliAgent, CliAgentKind, Failure, FailureClass, ModelRef, PricedModel, StepKey, TurnEstimate, UsageTotal,
};

use super::plan::Plan;

/// The usage of one call, from its outcome or from its recorded event.
pub(super) struct CallSpend {
    pub(super) step: StepKey,
    pub(super) model: Option<ModelRef>,
    pub(super) usage: UsageTotal,
    /// The cost in US dollars, if it is known.
    pub(super) cost: Option<f64>,
    /// The upper bound of the cost, if the cost is unknown and a bound was recorded.
    pub(super) estimated_cost: Option<f64>,
    /// Whether a complete reply arrived.
    pub(super) replied: bool,
    pub(super) time: Duration,
}

/// The models and CLI agents of a plan, by step and model.
#[derive(Default)]
pub(super) struct StepModels(HashMap<(StepKey, ModelRef), StepModel>);

/// A model or CLI agent that a step calls.
#[derive(Clone)]
pub(super) struct StepModel {
    /// The agent's name.
    pub(super) agent: String,
    pub(super) program: Option<CliAgentKind>,
    reports_cost: bool,
    priced_as: Option<PricedModel>,
    estimate: TurnEstimate,
}

impl StepModels {
    pub(super) fn from_plan(plan: &Plan) -> Self {
        let mut models = HashMap::new();
        for (step, agent) in plan.agents() {
            for model in &agent.models {
                let program = model.program.as_ref();
                let step_model = StepModel {
                    agent: agent.agent.clone(),
                    program: program.map(|program| program.kind),
                    reports_cost: program.is_some_and(CliAgent::always_reports_cost),
                    priced_as: model.priced_model(),
                    estimate: model.estimate,
                };
                models.insert((step.clone(), model.reference.clone()), step_model);
            }
        }
        Self(models)
    }

    /// Returns the plan's entry for the model of a call; `None` if the plan no longer contains this model.
    pub(super) fn find(&self, call: &CallSpend) -> Option<&StepModel> {
        self.0.get(&(call.step.declared_key(), call.model.clone()?))
    }

    /// Returns the amount that a call counts, with the current estimates and prices.
    pub(super) fn count_usage(&self, call: &CallSpend, models: &ModelRegistry) -> CountedUsage {
        let step_model = self.find(call);
        let estimate = step_model.map(|step_model| step_model.estimate).unwrap_or_default();
        let (tokens, usd) = (count_tokens(call, estimate.tokens), count_dollars(call, step_model, models));
        let amount = Amount { tokens: tokens.0, usd: usd.0, time: call.time };
        CountedUsage {
            step: call.step.clone(),
            amount,
            tokens_certainty: tokens.1,
            usd_certainty: usd.1,
            replied: call.replied,
        }
    }
}

impl StepModels {
    /// The failure that ends a run because the usage of a call is unknown in a unit that a budget limits.
    pub(super) fn unknown_usage_failure(
        &self,
        call: &CallSpend,
        uncounted: &UncountedLimit,
        counted: &CountedUsage,
    ) -> Failure {
        let UncountedLimit { scope, limit, unit } = uncounted;
        let (key, certainty, quantity) = match unit {
            Unit::Tokens => ("tokens", counted.tokens_certainty, "its token count"),
            Unit::Usd => ("usd", counted.usd_certainty, "its cost"),
        };
        let step = &call.step;
        let model = call.model.as_ref().map(ToString::to_string).unwrap_or_default();
        if certainty == Certainty::Unpriced {
            let priced_model = self.find(call).and_then(|step_model| step_model.priced_as.as_ref());
            let model = priced_model
                .filter(|priced_model| priced_model.changed_by.is_some())
                .map_or(model, ToString::to_string);
            let message = format!(
                "{model} has no known price, and the budget of {scope} limits `usd`: step `{step}` used this model"
            );
            let hint = "set its prices under `models:` in orch.yaml, or set `unpriced: allow` in the budget; \
                        then resume the run";
            return Failure::new(FailureClass::UsageUnknown, message).with_hint(hint);
        }
        let message =
            format!("{model} did not report {quantity} in step `{step}`, and the budget of {scope} limits `{key}`");
        let fix = match (certainty, self.find(call)) {
            (Certainty::Estimated, _) => {
                "set `unreported: estimate` in the budget, so that orch counts the upper estimate".to_owned()
            }
            (_, Some(step_model)) if step_model.program.is_some() => {
                let refuses_estimates = limit.unreported == Some(Unreported::Refuse);
                let budget_change = if refuses_estimates { " and `unreported: estimate` in the budget" } else { "" };
                format!(
                    "set the maximum of one turn as `estimate: {{ {key}: … }}` of agent `{}`{budget_change}, or remove `{key}` from the budget",
                    step_model.agent
                )
            }
            _ => format!("remove `{key}` from the budget"),
        };
        let hint = format!("{fix}; then resume the run, which reuses the recorded replies");
        Failure::new(FailureClass::UsageUnknown, message).with_hint(hint)
    }
}

/// Whether the reply came from a recording. Its usage counts as reported.
fn is_replayed(call: &CallSpend) -> bool {
    call.model.as_ref().is_some_and(|model| model.provider == REPLAY_PROVIDER)
}

fn count_tokens(call: &CallSpend, estimate: Option<u64>) -> (u64, Certainty) {
    let usage = &call.usage;
    match estimate {
        _ if is_replayed(call) => (usage.total(), Certainty::Reported),
        _ if usage.is_fully_reported() => (usage.total(), Certainty::Reported),
        _ if usage.calls_with_unknown_usage == 0 => (usage.total(), Certainty::Estimated),
        Some(max_tokens) => (usage.total().max(max_tokens), Certainty::Estimated),
        None => (usage.total(), Certainty::Unknown),
    }
}

fn count_dollars(call: &CallSpend, step_model: Option<&StepModel>, models: &ModelRegistry) -> (f64, Certainty) {
    if let Some(usd) = call.cost {
        return (usd, Certainty::Reported);
    }
    if call.usage.is_empty() || is_replayed(call) {
        return (0.0, Certainty::Reported);
    }
    // If the plan no longer contains the model, use the price of the model's name.
    let own_model = || call.model.clone().map(PricedModel::from);
    let priced_as = step_model.map_or_else(own_model, |step_model| step_model.priced_as.clone());
    let price = priced_as.and_then(|priced_model| models.cost_of(&priced_model, &call.usage.priced_tokens()));
    // A price needs separate numbers of input and output tokens.
    let has_unsplit_tokens = call.usage.estimated.is_some_and(|estimated| estimated.unsplit > 0);
    if let Some(usd) = price.filter(|_| call.usage.calls_with_unknown_usage == 0 && !has_unsplit_tokens) {
        let reported = call.usage.is_fully_reported();
        return (usd, if reported { Certainty::Reported } else { Certainty::Estimated });
    }
    let estimate = step_model.and_then(|step_model| step_model.estimate.usd).or(call.estimated_cost);
    match estimate {
        Some(usd) => (usd, Certainty::Estimated),
        None if price.is_some() || step_model.is_some_and(|step_model| step_model.reports_cost) => {
            (0.0, Certainty::Unknown)
        }
        None => (0.0, Certainty::Unpriced),
    }
}
