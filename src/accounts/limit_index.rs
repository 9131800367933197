//! Finds the budgets that cover a step.

use std::collections::HashMap;

use crate::model::StepKey;
use crate::model::budget::BudgetScope;

/// The limits that cover each step, by their position. So the time of a look-up does not depend on the number of limits,
/// of which there may be one for each step.
pub struct LimitIndex {
    /// The limits of the run.
    whole_run: Vec<usize>,
    /// The limits of each step, which also cover the steps inside it.
    by_step: HashMap<StepKey, Vec<usize>>,
    /// The limits of agents, by the steps of the agents.
    by_agent_step: HashMap<StepKey, Vec<usize>>,
}

impl LimitIndex {
    /// Creates the index of limits with these scopes.
    pub fn new<'s>(scopes: impl IntoIterator<Item = &'s BudgetScope>) -> Self {
        let mut index = Self { whole_run: Vec::new(), by_step: HashMap::new(), by_agent_step: HashMap::new() };
        for (position, scope) in scopes.into_iter().enumerate() {
            match scope {
                BudgetScope::Run => index.whole_run.push(position),
                BudgetScope::Step(step) => index.by_step.entry(step.clone()).or_default().push(position),
                BudgetScope::Agent(_, agent_steps) => {
                    for step in agent_steps {
                        index.by_agent_step.entry(step.clone()).or_default().push(position);
                    }
                }
            }
        }
        index
    }

    /// The positions of the limits that cover a step, in ascending order.
    pub fn covering(&self, step: &StepKey) -> Vec<usize> {
        let step = step.declared_key();
        let ancestors = step.ancestors();
        let step_limits = ancestors.iter().chain([&step]).filter_map(|step| self.by_step.get(step));
        let step_limits = step_limits.chain(self.by_agent_step.get(&step)).flatten();
        let mut positions: Vec<usize> = self.whole_run.iter().chain(step_limits).copied().collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(scope: &BudgetScope, step: &StepKey) -> bool {
        let step = step.declared_key();
        match scope {
            BudgetScope::Run => true,
            BudgetScope::Step(scope_step) => step == *scope_step || step.is_within(scope_step),
            BudgetScope::Agent(_, agent_steps) => agent_steps.contains(&step),
        }
    }

    #[test]
    fn a_limit_covers_the_steps_of_its_scope() {
        let outer = StepKey::root("outer");
        let (inner, other) = (outer.child("inner"), StepKey::root("other"));
        let scopes = [
            BudgetScope::Step(StepKey::root("out")),
            BudgetScope::Agent("a".to_owned(), vec![inner.clone(), other.clone()]),
            BudgetScope::Step(outer.clone()),
            BudgetScope::Run,
        ];
        let index = LimitIndex::new(&scopes);
        for step in [outer.clone(), inner, other, outer.item(2).child("inner")] {
            let expected: Vec<usize> = (0..scopes.len()).filter(|position| covers(&scopes[*position], &step)).collect();
            assert_eq!(index.covering(&step), expected, "{step}");
        }
    }
}
