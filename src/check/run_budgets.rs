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
        for project in callers_first(root) {
            let outer_budgets = budgets.get(file_of(project)).cloned().unwrap_or_default();
            for (pointer, step) in steps_with_pointers(&project.pipeline) {
                let agent = step.agent.as_ref().and_then(|name| project.pipeline.agents.get(name));
                let agent_budget = agent.and_then(|agent| agent.budget.as_ref());
                for called in project.projects_called_by(step) {
                    let steps = step_and_ancestors(&project.pipeline, &pointer).into_iter();
                    let step_budgets = steps.filter_map(|(_, step)| step.budget.as_ref());
                    let call_budgets = step_budgets.chain(agent_budget).chain(&called.pipeline.budget);
                    let called_budgets = budgets.entry(file_of(called)).or_default();
                    add_new_budgets(called_budgets, outer_budgets.iter().copied().chain(call_budgets));
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

/// Adds budgets that a list does not contain yet. If a pipeline calls another one several times, the budgets of the
/// caller apply to the called pipeline only once; otherwise their number could double at each level of calls.
fn add_new_budgets<'a>(budgets: &mut Vec<&'a Budget>, added: impl Iterator<Item = &'a Budget>) {
    for budget in added {
        if !budgets.iter().any(|known| std::ptr::eq(*known, budget)) {
            budgets.push(budget);
        }
    }
}

/// A project and the projects of all pipelines that it calls, directly or indirectly. Each pipeline comes after all of
/// its callers, so the budgets of the callers are complete when they are passed on to it.
fn callers_first(root: &Project) -> Vec<&Project> {
    fn add_after_called<'a>(project: &'a Project, projects: &mut Vec<&'a Project>) {
        if projects.iter().any(|added| file_of(added) == file_of(project)) {
            return;
        }
        for called in project.called_projects.values() {
            add_after_called(called, projects);
        }
        projects.push(project);
    }
    let mut projects = Vec::new();
    add_after_called(root, &mut projects);
    projects.reverse();
    projects
}

fn file_of(project: &Project) -> &str {
    &project.document.file.path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_budget_counts_once_for_a_pipeline_that_is_called_many_times() {
        const LEVELS: usize = 20;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pipelines")).unwrap();
        let file_at = |level: usize| folder.path().join(format!("pipelines/level{level}.yaml"));
        for level in 0..LEVELS {
            let called = level + 1;
            let text = format!(
                "name: level\nbudget: {{ usd: 1 }}\nsteps:\n  - {{ id: a, pipeline: level{called}.yaml }}\n  \
                 - {{ id: b, pipeline: level{called}.yaml }}\n"
            );
            std::fs::write(file_at(level), text).unwrap();
        }
        std::fs::write(file_at(LEVELS), "name: last\nsteps:\n  - { id: a, run: [ls] }\n").unwrap();
        let root = load(&file_at(0)).unwrap();
        let budgets = RunBudgets::of_run(&root);
        let last = callers_first(&root).pop().unwrap();
        assert_eq!(budgets.of_pipeline(last).len(), LEVELS);
    }
}
