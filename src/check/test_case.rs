//! Checks test cases: the inputs, approvals, commands and steps that they name must exist in their pipeline.

use super::case_values::{assertion_diagnostics, input_diagnostics};
use super::normalizers::check_case_normalizers;
use super::program_lists::check_setup;
use crate::config::{Document, Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic, did_you_mean, sort_and_dedup};
use crate::model::test_case::TestCase;
use crate::model::{Step, StepAction};

/// Checks a test case against the pipeline of `project`. Reports inputs, approvals, commands and steps that the pipeline
/// does not have, values that do not fit the inputs, mistakes in assertions, and patterns that can't be parsed.
pub fn check_case(document: &Document, case: &TestCase, project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let inputs = &project.pipeline.inputs;
    for name in case.inputs.keys().filter(|name| !inputs.contains_key(*name)) {
        let message = format!("the pipeline has no input `{name}`");
        let diagnostic = diagnostic_at(document, Code::UnknownPipelineInput, message, &child_pointer("/inputs", name));
        diagnostics.push(add_name_advice(diagnostic, name, inputs.keys().map(String::as_str)));
    }
    let is_missing = |name: &&String| {
        let has_default = inputs.get(*name).is_some_and(|schema| schema.get("default").is_some());
        !has_default && !case.inputs.contains_key(*name)
    };
    for name in inputs.keys().filter(is_missing) {
        let message = format!("the pipeline needs the input `{name}`");
        let diagnostic = Diagnostic::error(Code::MissingPipelineInput, message)
            .with_span(&document.file, document.spans.key("/inputs"));
        diagnostics.push(diagnostic.with_help(format!("set it under `inputs:`, as `{name}: …`")));
    }
    let steps: Vec<_> = steps_with_pointers(&project.pipeline).into_iter().map(|(_, step)| step).collect();
    diagnostics.extend(answer_diagnostics(document, case, project));
    // A key with `/` may name a step of a called pipeline. This check does not know the steps of called pipelines.
    let calls_pipelines = |step: &&Step| matches!(step.action(), Some(StepAction::Pipeline(_)));
    let has_calls =
        steps.iter().any(calls_pipelines) || project.pipeline.agents.values().any(|agent| !agent.pipelines.is_empty());
    let commands = || steps.iter().filter(|step| matches!(step.action(), Some(StepAction::Command(_))));
    // The name may also be that of a step of a called pipeline.
    let is_unknown = |name: &&str| !has_calls && commands().all(|step| step.id != step_id(name));
    for name in case.commands.step_names().filter(is_unknown) {
        let message = format!("no step `{name}` runs a command");
        let diagnostic = diagnostic_at(document, Code::WrongValue, message, &child_pointer("/commands", name));
        diagnostics.push(add_name_advice(diagnostic, name, commands().map(|step| step.id.as_str())));
    }
    diagnostics.extend(check_case_normalizers(document, &case.normalize));
    for key in case.expect.steps.keys().filter(|key| steps.iter().all(|step| step.id != step_id(key))) {
        if has_calls && key.contains('/') {
            continue;
        }
        let diagnostic = diagnostic_at(
            document,
            Code::WrongValue,
            format!("there is no step `{key}`"),
            &child_pointer("/expect/steps", key),
        );
        diagnostics.push(add_name_advice(diagnostic, step_id(key), steps.iter().map(|step| step.id.as_str())));
    }
    diagnostics.extend(check_setup(document, case));
    diagnostics.extend(input_diagnostics(document, case, project));
    diagnostics.extend(assertion_diagnostics(document, case, project));
    sort_and_dedup(&mut diagnostics);
    diagnostics
}

/// Returns a diagnostic for each answer to a step that asks nothing. Called pipelines have steps that ask, too.
fn answer_diagnostics(document: &Document, case: &TestCase, project: &Project) -> Vec<Diagnostic> {
    let projects = project.with_called_projects();
    let steps: Vec<(&Project, &Step)> = projects
        .iter()
        .flat_map(|project| steps_with_pointers(&project.pipeline).into_iter().map(|(_, step)| (*project, step)))
        .collect();
    let asking_ids: Vec<&str> = steps
        .iter()
        .filter(|(project, step)| project.asks_for_approval(step))
        .map(|(_, step)| step.id.as_str())
        .collect();
    let to_diagnostic = |name: &String| {
        let message = format!("no step `{name}` asks for approval");
        let diagnostic = diagnostic_at(document, Code::WrongValue, message, &child_pointer("/answers", name));
        if steps.iter().any(|(_, step)| step.id == step_id(name)) {
            return diagnostic.with_help("a step asks if it has `approve`, or if its agent has `approve_tools`");
        }
        add_name_advice(diagnostic, name, asking_ids.iter().copied())
    };
    case.answers.keys().filter(|name| !asking_ids.contains(&step_id(name))).map(to_diagnostic).collect()
}

/// The id of the step that a key names: `code` of `fix[0]/code`.
fn step_id(key: &str) -> &str {
    let last_segment = key.rsplit('/').next().unwrap_or(key);
    last_segment.split('[').next().unwrap_or(last_segment)
}

fn diagnostic_at(document: &Document, code: Code, message: String, pointer: &str) -> Diagnostic {
    Diagnostic::error(code, message).with_span(&document.file, document.spans.key(pointer))
}

fn add_name_advice<'a>(
    diagnostic: Diagnostic,
    unknown_name: &str,
    known_names: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let known_names: Vec<&str> = known_names.collect();
    match did_you_mean(unknown_name, known_names.iter().copied()) {
        Some(_) => diagnostic.with_suggestion(unknown_name, known_names.iter().copied()),
        None if known_names.is_empty() => diagnostic,
        None => diagnostic.with_help(format!("known names: `{}`", known_names.join("`, `"))),
    }
}
