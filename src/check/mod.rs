//! Static checks of a loaded project: do its parts fit together?
//!
//! Each file checks one concern. All checks run, and orch reports all their findings. A project that passes does not
//! fail at run time for a reason that its files could have shown. Checks read files only through `config`, and start no
//! processes.

mod agent_texts;
mod agents;
mod all_of;
mod argument_fit;
mod arithmetic;
mod assignments;
mod bindings;
mod booleans;
mod budgeted_steps;
mod call_arguments;
mod call_inputs;
mod call_steps;
mod call_values;
mod calls;
mod case_values;
mod cli_agent_usage;
mod cli_agents;
mod command_outputs;
mod comparison_truth;
mod compatible_alternatives;
mod condition;
mod condition_narrowings;
mod constant_paths;
mod contradictions;
mod cut_off;
mod dependent_properties;
mod endpoints;
mod established_facts;
mod exports;
mod expression_keys;
mod file;
mod file_entries;
mod filters;
mod flow;
mod implication;
mod impossible_status;
mod index_paths;
mod indexes;
mod ineffective_keywords;
mod infer;
mod item_filters;
mod item_positions;
mod iteration_truth;
mod joined_items;
mod kinds;
mod line_breaks;
mod list_items;
mod loop_assignments;
mod loop_facts;
mod loop_variable;
mod mapped_filters;
mod mapped_lists;
mod mcp;
mod mcp_names;
mod mcp_tools;
mod member_conditions;
mod missing_values;
mod model_calls;
mod model_names;
mod model_text;
mod models;
mod names;
mod namespaces;
mod narrowing;
mod normalizers;
mod null_texts;
mod number_narrowing;
mod number_range;
mod object_properties;
mod operands;
mod operators;
mod options;
mod origins;
mod placeholders;
mod portability;
mod probe;
mod program_lists;
mod properties;
mod range_calls;
mod refined_types;
mod retries;
mod run_budgets;
mod sandbox;
mod scalars;
mod schema_keywords;
mod schema_walk;
mod schemas;
mod scope;
mod scope_walker;
mod selection;
mod settings;
mod shell_values;
mod slices;
mod statements;
mod step_conditions;
mod step_scopes;
mod stored_values;
mod strictness;
mod suppression_comments;
mod suppressions;
mod tags;
mod template_errors;
mod test_case;
mod tested_values;
mod texts;
mod tool_names;
mod tools;
mod truth;
mod type_members;
mod type_size;
mod type_union;
mod types;
mod unchecked;
mod unconfined;
mod unpacking;
mod value_fit;
mod value_paths;
mod written_files;

pub use self::file::check_file;
pub use self::mcp_tools::{ServerTools, named_servers, unlisted_tools};
pub use self::models::{named_models, resolve_reference};
pub use self::normalizers::check_case_normalizers;
pub use self::portability::check_portability;
pub use self::probe::{COMPLETION_MARKER, NameOrigin, ProbedText, VisibleName, visible_artifacts, visible_names};
use self::run_budgets::RunBudgets;
pub use self::settings::load_valid_settings;
use self::step_scopes::ScopedSteps;
pub use self::strictness::Strictness;
pub use self::suppressions::SharedSuppressions;
use self::suppressions::SuppressionOptions;
pub use self::test_case::check_case;
pub use self::texts::check_prompt;
use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, sort_and_dedup};

/// The findings that the content of `orch.yaml` decides about. If it has mistakes, orch does not know its content.
const DEPENDENT_ON_SETTINGS: &[Code] = &[
    Code::UnconfinedCommand,
    Code::SandboxTooLoose,
    Code::UnusableTool,
    Code::UnknownMcpServer,
    Code::McpToolNotAllowed,
    Code::InvalidModel,
    Code::UnknownProvider,
    Code::MissingBaseUrl,
    Code::UnknownPrice,
    Code::UnsupportedParameter,
    Code::ContextWindowExceeded,
    Code::UsageNotReported,
    Code::CutsRepliesOff,
    Code::MisspeltModel,
    Code::ModelWithoutTools,
];

/// Checks a project and the pipelines that it calls. Returns all findings that no comment suppresses, sorted by file and
/// position.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    check_with_suppressions(project, Strictness::Normal).0
}

/// Like [`check`], with a choice of the findings. Also returns the suppressions that the checks of other pipelines may
/// use too.
pub fn check_with_suppressions(project: &Project, strictness: Strictness) -> (Vec<Diagnostic>, SharedSuppressions) {
    // These findings depend on the callers of a pipeline, but the comments in its own file apply to them.
    let unconfined_commands = unconfined::check(project);
    let (artifact_files, budgets) = (constant_paths::artifact_files(project), RunBudgets::of_run(project));
    let check_with_calls = |called: &Project| {
        let path = &called.document.file.path;
        let is_in_file = |finding: &&Diagnostic| finding.file.as_ref().is_some_and(|file| file.path == *path);
        let mut findings = check_pipeline(called, &budgets, strictness);
        findings.extend(constant_paths::check(called, &artifact_files));
        findings.extend(unconfined_commands.iter().filter(is_in_file).cloned());
        if called.has_unusable_settings() {
            findings.retain(|finding| !DEPENDENT_ON_SETTINGS.contains(&finding.code));
        }
        findings
    };
    let projects = project.with_called_projects();
    let checked: Vec<_> = projects.into_iter().map(|called| (called, check_with_calls(called))).collect();
    let has_errors = checked.iter().flat_map(|(_, new_diagnostics)| new_diagnostics).any(Diagnostic::is_error);
    let suppression_options = SuppressionOptions { strictness, has_errors };
    let (mut diagnostics, mut shared) = (Vec::new(), SharedSuppressions::default());
    for (index, (project, mut new_diagnostics)) in checked.into_iter().enumerate() {
        shared.merge(suppressions::apply(project, &mut new_diagnostics, suppression_options));
        if index > 0 {
            // Called pipelines share prompts, schemas and settings with their callers. Report each finding only once.
            new_diagnostics.retain(|diagnostic| !diagnostics.contains(diagnostic));
        }
        diagnostics.append(&mut new_diagnostics);
    }
    sort_and_dedup(&mut diagnostics);
    (diagnostics, shared)
}

/// Checks one pipeline and the files that it names.
fn check_pipeline(project: &Project, budgets: &RunBudgets<'_>, strictness: Strictness) -> Vec<Diagnostic> {
    let scoped_steps = ScopedSteps::from_project(project);
    let mut diagnostics = project.diagnostics.clone();
    diagnostics.extend(kinds::check(project));
    diagnostics.extend(retries::check(project));
    diagnostics.extend(file_entries::check(project));
    diagnostics.extend(program_lists::check(project));
    diagnostics.extend(names::check(project));
    diagnostics.extend(agents::check(project));
    diagnostics.extend(models::check(project, budgets.of_pipeline(project)));
    diagnostics.extend(model_names::check(project));
    diagnostics.extend(options::check(project));
    diagnostics.extend(cut_off::check(project));
    diagnostics.extend(cli_agents::check(project));
    diagnostics.extend(tools::check(project));
    diagnostics.extend(model_calls::check(project));
    diagnostics.extend(call_steps::check(project));
    if let Some(document) = &project.settings_document {
        diagnostics.extend(settings::check(document, &project.settings));
    }
    diagnostics.extend(sandbox::check(project));
    diagnostics.extend(flow::check(project, &scoped_steps));
    diagnostics.extend(schemas::check(project));
    diagnostics.extend(texts::check(project, &scoped_steps, strictness));
    if strictness.reports(Code::UnportableYaml) {
        diagnostics.extend(portability::check(project));
    }
    diagnostics
}
