//! Finds the budgets that apply to the pipelines of a run.

use std::collections::BTreeMap;

use crate::config::{Project, step_and_ancestors, steps_with_pointers};
use crate::model::budget::Budget;

/// The budgets that apply to all steps of a pipeline, by the file of the pipeline.
pub(super) struct RunBudgets<'a>(BTreeMap<&'a str, Vec<&'a Budget>>);

impl<'a> RunBudgets<'a> {
    /// The budgets of a run of a project. A budget also covers the pipelines that its steps and agents call.
    pub(super) fn of_run(root: &'a Project) -> Self {
        let run_budget = root.pipeline.budget.as_ref().or(root.settings.budget.as_ref());
        let mut budgets = BTreeMap::from([(file_of(root), Vec::from_iter(run_budget))]);
        for project in root.with_called_projects() {
            let outer_budgets = budgets.get(file_of(project)).cloned().unwrap_or_default();
            for (pointer, step) in steps_with_pointers(&project.pipeline) {
                let agent = step.agent.as_ref().and_then(|name| project.pipeline.agents.get(name));
                let agent_budget = agent.and_then(|agent| agent.budget.as_ref());
                for called in project.projects_called_by(step) {
                    let steps = step_and_ancestors(&project.pipeline, &pointer).into_iter();
                    let step_budgets = steps.filter_map(|(_, step)| step.budget.as_ref());
                    let call_budgets = step_budgets.chain(agent_budget).chain(&called.pipeline.budget);
                    budgets
                        .entry(file_of(called))
                        .or_default()
                        .extend(outer_budgets.iter().copied().chain(call_budgets));
                }
            }
        }
        Self(budgets)
    }

    /// The budgets that apply to all steps of a pipeline.
    pub(super) fn of_pipeline(&self, project: &Project) -> &[&'a Budget] {
        self.0.get(file_of(project)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn file_of(project: &Project) -> &str {
    &project.document.file.path
}
