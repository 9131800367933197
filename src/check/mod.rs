//! Static checks of a loaded project: do its parts fit together?
//!
//! Each file checks one concern. All checks run, and orch reports all their findings. A project that passes does not
//! fail at run time for a reason that its files could have shown. Checks read files only through `config`, and start no
//! processes.

mod agents;
mod all_of;
mod arithmetic;
mod bindings;
mod call_inputs;
mod call_values;
mod calls;
mod case;
mod cli_agent_usage;
mod cli_agents;
mod comparison_truth;
mod condition;
mod constant_paths;
mod contradictions;
mod cut_off;
mod endpoints;
mod exports;
mod expression_keys;
mod file;
mod filters;
mod flow;
mod implication;
mod impossible_status;
mod index_paths;
mod indexes;
mod infer;
mod item_filters;
mod kinds;
mod list_items;
mod loop_facts;
mod loop_variable;
mod missing_values;
mod model_names;
mod model_text;
mod models;
mod names;
mod narrowing;
mod number_range;
mod number_signs;
mod object_properties;
mod operators;
mod options;
mod placeholders;
mod probe;
mod properties;
mod refined_types;
mod round_truth;
mod run_budgets;
mod sandbox;
mod schema_keywords;
mod schemas;
mod scope;
mod selection;
mod statements;
mod step_conditions;
mod step_scopes;
mod template_errors;
mod texts;
mod truth;
mod type_members;
mod type_union;
mod types;
mod unchecked;
mod unconfined;
mod unpacking;
mod written_files;

pub use self::case::check_case;
pub use self::file::check_file;
pub use self::models::{named_models, resolve_reference};
pub use self::probe::{COMPLETION_MARKER, NameOrigin, ProbedText, VisibleName, visible_artifacts, visible_names};
use self::run_budgets::RunBudgets;
use self::step_scopes::ScopedSteps;
pub use self::texts::check_prompt;
use crate::config::Project;
use crate::diagnostic::{Diagnostic, sort_and_dedup};

/// Which findings a check reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Mistakes, and what may go wrong with the values that the schemas describe.
    Normal,
    /// Also the values about which the schemas say too little to check their uses.
    Strict,
}

/// Checks a project and the pipelines that it calls. Returns all findings, sorted by file and position.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    check_with(project, Strictness::Normal)
}

/// Like [`check`], with a choice of the findings.
pub fn check_with(project: &Project, strictness: Strictness) -> Vec<Diagnostic> {
    let (artifact_files, budgets) = (constant_paths::artifact_files(project), RunBudgets::of_run(project));
    let mut diagnostics = Vec::new();
    for (index, project) in project.with_called_projects().into_iter().enumerate() {
        let mut new_diagnostics = check_pipeline(project, &budgets, strictness);
        new_diagnostics.extend(constant_paths::check(project, &artifact_files));
        if index > 0 {
            // Called pipelines share prompts, schemas and settings with their callers. Report each finding only once.
            new_diagnostics.retain(|diagnostic| !diagnostics.contains(diagnostic));
        }
        diagnostics.append(&mut new_diagnostics);
    }
    diagnostics.extend(unconfined::check(project));
    sort_and_dedup(&mut diagnostics);
    diagnostics
}

/// Checks one pipeline and the files that it names.
fn check_pipeline(project: &Project, budgets: &RunBudgets<'_>, strictness: Strictness) -> Vec<Diagnostic> {
    let scoped_steps = ScopedSteps::from_project(project);
    let mut diagnostics = project.diagnostics.clone();
    diagnostics.extend(kinds::check(project));
    diagnostics.extend(names::check(project));
    diagnostics.extend(agents::check(project));
    diagnostics.extend(models::check(project, budgets.of_pipeline(project)));
    diagnostics.extend(model_names::check(project));
    diagnostics.extend(options::check(project));
    diagnostics.extend(cut_off::check(project));
    diagnostics.extend(cli_agents::check(project));
    diagnostics.extend(endpoints::check(project));
    diagnostics.extend(sandbox::check(project));
    diagnostics.extend(flow::check(project, &scoped_steps));
    diagnostics.extend(schemas::check(project));
    diagnostics.extend(texts::check(project, &scoped_steps, strictness));
    diagnostics
}
