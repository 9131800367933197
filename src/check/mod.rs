//! Static checks of a loaded project: do its parts fit together?
//!
//! Each file checks one concern. All checks run, and orch reports all their findings. A project that passes does not
//! fail at run time for a reason that its files could have shown. Checks read files only through `config`, and start no
//! processes.

mod agents;
mod all_of;
mod case;
mod cli_agent_usage;
mod cli_agents;
mod contradictions;
mod cut_off;
mod endpoints;
mod file;
mod filters;
mod flow;
mod infer;
mod kinds;
mod model_text;
mod models;
mod names;
mod narrowing;
mod operators;
mod options;
mod placeholders;
mod probe;
mod properties;
mod sandbox;
mod schemas;
mod scope;
mod statements;
mod step_scopes;
mod template_errors;
mod texts;
mod tools;
mod type_members;
mod types;
mod unconfined;

pub use self::case::check_case;
pub use self::file::check_file;
pub use self::models::{named_models, resolve_reference};
pub use self::probe::{
    COMPLETION_MARKER, NameOrigin, ProbedText, TextScope, VisibleName, visible_artifacts, visible_names,
};
use self::step_scopes::ScopedSteps;
pub use self::texts::check_prompt;
use crate::config::Project;
use crate::diagnostic::{Diagnostic, sort_and_dedup};

/// Checks a project and the pipelines that it calls. Returns all findings, sorted by file and position.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (index, project) in project.with_called_projects().into_iter().enumerate() {
        let mut new_diagnostics = check_pipeline(project);
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
fn check_pipeline(project: &Project) -> Vec<Diagnostic> {
    let scoped_steps = ScopedSteps::from_project(project);
    let mut diagnostics = project.diagnostics.clone();
    diagnostics.extend(kinds::check(project));
    diagnostics.extend(names::check(project));
    diagnostics.extend(agents::check(project));
    diagnostics.extend(models::check(project));
    diagnostics.extend(options::check(project));
    diagnostics.extend(cut_off::check(project));
    diagnostics.extend(cli_agents::check(project));
    diagnostics.extend(tools::check(project));
    diagnostics.extend(endpoints::check(project));
    diagnostics.extend(sandbox::check(project));
    diagnostics.extend(flow::check(project, &scoped_steps));
    diagnostics.extend(schemas::check(project));
    diagnostics.extend(texts::check(project, &scoped_steps));
    diagnostics
}
