//! The steps that budgets limit, and whether the cost of a model is known.

use std::collections::HashSet;

use crate::catalog;
use crate::config::Project;
use crate::model::budget::Budget;
use crate::model::{ModelRef, Step, Usage};

/// What a call of a model with few tokens costs, as orch computes it in a run; `None` if its price is unknown.
pub(super) fn sample_cost(project: &Project, model: &ModelRef) -> Option<f64> {
    let usage = Usage { input: 1, output: 1, ..Usage::default() };
    match project.settings.entry_with_prices(model) {
        Some(entry) => entry.cost(&usage),
        None => catalog::cost(model, &usage),
    }
}

/// The steps to which budgets with a certain property apply, such as a limit in dollars.
pub(super) struct BudgetedSteps<'a> {
    /// Whether a budget with the property applies to every step.
    applies_to_all: bool,
    /// The pointers of the steps whose own budget has the property.
    steps: HashSet<&'a str>,
}

impl<'a> BudgetedSteps<'a> {
    pub(super) fn new(steps: &'a [(String, &Step)], budgets: &[&Budget], has_property: fn(&Budget) -> bool) -> Self {
        let steps_with_budget = steps.iter().filter(|(_, step)| step.budget.as_ref().is_some_and(has_property));
        let steps = steps_with_budget.map(|(pointer, _)| pointer.as_str()).collect();
        Self { applies_to_all: budgets.iter().any(|budget| has_property(budget)), steps }
    }

    /// Whether a budget with the property applies to the step at this pointer: the budget of the run, of the step, or
    /// of an enclosing group.
    pub(super) fn contains(&self, pointer: &str) -> bool {
        let mut enclosing = pointer.match_indices('/').map(|(end, _)| &pointer[..end]).chain([pointer]);
        self.applies_to_all || enclosing.any(|ancestor| self.steps.contains(ancestor))
    }
}
