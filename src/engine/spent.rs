//! Computes what a call counts against budgets: tokens and dollars, and how certain each amount is.

use std::collections::HashMap;
use std::time::Duration;

use crate::agent::{ModelRegistry, REPLAY};
use crate::model::budget::Unreported;
use crate::model::{Class, Failure, ModelRef, Program, ProgramKind, StepKey, TurnEstimate, UsageTotal};

use super::account::{Amount, Unit};
use super::budget::Limit;
use super::plan::Plan;

/// What one call used, according to its event.
pub(super) struct Spent {
    pub(super) step: StepKey,
    pub(super) model: Option<ModelRef>,
    pub(super) usage: UsageTotal,
    /// The cost in US dollars, if it is known.
    pub(super) cost: Option<f64>,
    /// The upper bound of the cost, if one was recorded.
    pub(super) estimated_cost: Option<f64>,
    /// Whether a complete reply arrived.
    pub(super) replied: bool,
    pub(super) time: Duration,
}

/// How certain the usage of a call is, for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The provider reported it, or it follows from what the provider reported.
    Reported,
    /// It is an upper estimate of usage that was not reported.
    Estimated,
    /// No price applies.
    Unpriced,
    /// It was not reported, and no estimate exists.
    Unknown,
}

/// What a call counts against budgets.
pub(super) struct CountedUsage {
    pub(super) amount: Amount,
    pub(super) tokens: Certainty,
    pub(super) usd: Certainty,
}

/// What the plan says about each model and CLI agent, by step and model.
#[derive(Default)]
pub(super) struct StepModels(HashMap<(StepKey, ModelRef), StepModel>);

/// A model or CLI agent that a step asks.
#[derive(Clone)]
pub(super) struct StepModel {
    /// The agent's name.
    pub(super) agent: String,
    pub(super) program: Option<ProgramKind>,
    tells_cost: bool,
    priced_as: Option<ModelRef>,
    estimate: TurnEstimate,
}

impl StepModels {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut found = HashMap::new();
        for (step, agent) in plan.agents() {
            for model in &agent.models {
                let program = model.program.as_ref();
                let asker = StepModel {
                    agent: agent.agent.clone(),
                    program: program.map(|program| program.kind),
                    tells_cost: program.is_some_and(Program::tells_cost),
                    priced_as: program.map_or_else(|| Some(model.reference.clone()), Program::priced_as),
                    estimate: model.estimate,
                };
                found.insert((step.clone(), model.reference.clone()), asker);
            }
        }
        Self(found)
    }

    /// Returns the plan's entry for the model that the call asked; `None` when the plan no longer has it.
    pub(super) fn of_call(&self, spent: &Spent) -> Option<&StepModel> {
        self.0.get(&(spent.step.place(), spent.model.clone()?))
    }

    /// Returns what a call counts, by the current estimates and prices.
    pub(super) fn count(&self, spent: &Spent, models: &ModelRegistry) -> CountedUsage {
        let asker = self.of_call(spent);
        let estimate = asker.map(|asker| asker.estimate).unwrap_or_default();
        let (tokens, usd) = (tokens(spent, estimate.tokens), dollars(spent, asker, models));
        let amount = Amount { tokens: tokens.0, usd: usd.0, time: spent.time };
        CountedUsage { amount, tokens: tokens.1, usd: usd.1 }
    }
}

impl StepModels {
    /// The failure of a run that can't continue, because a call's usage of a limited unit is unknown.
    pub(super) fn unknown(&self, spent: &Spent, limit: &Limit, unit: Unit, counted: &CountedUsage) -> Failure {
        let (holder, budget) = limit;
        let (key, certainty, what) = match unit {
            Unit::Tokens => ("tokens", counted.tokens, "how many tokens it took"),
            Unit::Usd => ("usd", counted.usd, "what it cost"),
        };
        let step = &spent.step;
        let model = spent.model.as_ref().map(ToString::to_string).unwrap_or_default();
        if certainty == Certainty::Unpriced {
            let why =
                format!("{model} has no known price, and the budget of {holder} limits `usd`: step {step} asked it");
            let hint = "give its prices under `models:` in orch.yaml, or say `unpriced: allow` in the budget; \
                        then resume the run";
            return Failure::new(Class::UsageUnknown, why).with_hint(hint);
        }
        let why = format!("{model} did not report {what} in step {step}, and the budget of {holder} limits `{key}`");
        let way = match (certainty, self.of_call(spent)) {
            (Certainty::Estimated, _) => {
                "say `unreported: estimate` in the budget, so that it counts as much as it can have used".to_owned()
            }
            (_, Some(asker)) if asker.program.is_some() => {
                let refuses = budget.unreported == Some(Unreported::Refuse);
                let allow = if refuses { " and `unreported: estimate` in the budget" } else { "" };
                format!(
                    "say under `estimate: {{ {key}: … }}` of agent `{}` what one turn takes at most{allow}, or leave `{key}` out of the budget",
                    asker.agent
                )
            }
            _ => format!("leave `{key}` out of the budget"),
        };
        let hint = format!("{way}; then resume the run: what was answered is kept");
        Failure::new(Class::UsageUnknown, why).with_hint(hint)
    }
}

/// Whether a recording answered the call, so that nothing about its usage is unknown.
fn is_replayed(spent: &Spent) -> bool {
    spent.model.as_ref().is_some_and(|model| model.provider == REPLAY)
}

fn tokens(spent: &Spent, estimate: Option<u64>) -> (u64, Certainty) {
    let usage = &spent.usage;
    match estimate {
        _ if is_replayed(spent) => (usage.total(), Certainty::Reported),
        _ if usage.is_reported() => (usage.total(), Certainty::Reported),
        _ if usage.unknown_calls == 0 => (usage.total(), Certainty::Estimated),
        Some(most) => (usage.total().max(most), Certainty::Estimated),
        None => (usage.total(), Certainty::Unknown),
    }
}

fn dollars(spent: &Spent, asker: Option<&StepModel>, models: &ModelRegistry) -> (f64, Certainty) {
    if let Some(usd) = spent.cost {
        return (usd, Certainty::Reported);
    }
    if spent.usage.is_nothing() || is_replayed(spent) {
        return (0.0, Certainty::Reported);
    }
    // For a model that the plan no longer has, only the name is known, so the price is looked up by that.
    let priced_as = asker.map_or(spent.model.as_ref(), |asker| asker.priced_as.as_ref());
    let price = priced_as.and_then(|model| models.cost(model, &spent.usage.divided()));
    let undivided = spent.usage.estimated.is_some_and(|estimated| estimated.undivided > 0);
    if let Some(usd) = price.filter(|_| spent.usage.unknown_calls == 0 && !undivided) {
        let reported = spent.usage.is_reported();
        return (usd, if reported { Certainty::Reported } else { Certainty::Estimated });
    }
    let estimate = asker.and_then(|asker| asker.estimate.usd).or(spent.estimated_cost);
    match estimate {
        Some(usd) => (usd, Certainty::Estimated),
        None if price.is_some() || asker.is_some_and(|asker| asker.tells_cost) => (0.0, Certainty::Unknown),
        None => (0.0, Certainty::Unpriced),
    }
}
