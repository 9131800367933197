//! Checks before a run that orch can count each unit that a budget limits.

use crate::accounts::LimitIndex;
use crate::agent::ModelRegistry;
use crate::model::budget::{Budget, Limit, Unpriced, Unreported};
use crate::model::{CliAgent, ModelRef, StepKey, TurnEstimate, Usage};

use super::planned_model::PlannedModel;

/// Finds the first CLI agent that never reports its usage although a budget needs it. Returns the agent, the unit of
/// the budget, and whether the budget refuses estimates.
///
/// A limit of `tokens` needs the usage if the agent has no estimate or the budget refuses estimates. A limit of `usd`
/// needs it only if the agent has an estimate that the budget refuses.
pub fn find_uncounted_agent<'a>(
    limits: &[Limit],
    models: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
) -> Option<(ModelRef, &'static str, bool)> {
    let uncounted_unit = |budget: &Budget, estimate: TurnEstimate| {
        let refuses_estimates = budget.unreported == Some(Unreported::Refuse);
        let needs_tokens = budget.tokens.is_some() && (refuses_estimates || estimate.tokens.is_none());
        // An agent without an estimate counts as a model without a price; see `find_unpriced_model`.
        let needs_usd = budget.usd.is_some() && refuses_estimates && estimate.usd.is_some();
        let unit = needs_tokens.then_some("tokens").or_else(|| needs_usd.then_some("usd"));
        unit.map(|unit| (unit, refuses_estimates))
    };
    let index = LimitIndex::new(limits.iter().map(|(scope, _)| scope));
    let never_reports_usage =
        |model: &PlannedModel| model.program.as_ref().is_some_and(|program| !program.kind.capabilities().usage);
    models.into_iter().filter(|(_, model)| never_reports_usage(model)).find_map(|(step, model)| {
        let covering = index.covering(&step).into_iter().filter_map(|position| limits.get(position));
        let mut units = covering.filter_map(|(_, budget)| uncounted_unit(budget, model.estimate));
        let (unit, refuses_estimates) = units.next()?;
        Some((model.reference.clone(), unit, refuses_estimates))
    })
}

/// Finds the first model without a known price whose budget limits `usd` and refuses models without a price.
pub fn find_unpriced_model<'a>(
    limits: &[Limit],
    step_models: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
    models: &ModelRegistry,
) -> Option<&'a PlannedModel> {
    let index = LimitIndex::new(limits.iter().map(|(scope, _)| scope));
    let refuses_unpriced = |step: &StepKey| {
        let mut covering = index.covering(step).into_iter().filter_map(|position| limits.get(position));
        covering.any(|(_, budget)| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow))
    };
    let sample_usage = Usage { input: 1, output: 1, ..Usage::default() };
    let is_priced = |model: &PlannedModel| {
        let has_price =
            || model.priced_model().is_some_and(|priced_model| models.cost_of(&priced_model, &sample_usage).is_some());
        model.estimate.usd.is_some() || model.program.as_ref().is_some_and(CliAgent::always_reports_cost) || has_price()
    };
    let mut step_models = step_models.into_iter();
    step_models.find(|(step, model)| !is_priced(model) && refuses_unpriced(step)).map(|(_, model)| model)
}
