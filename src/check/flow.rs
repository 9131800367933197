//! Checks the data flow: each artifact that a step reads must be in scope, and an earlier step must produce it. Also
//! checks that prompts exist, and that a step passes all required inputs, and no unknown inputs, to a called pipeline.

use std::ffi::OsStr;
use std::path::Path;

use super::step_scopes::{ScopedStep, ScopedSteps};
use crate::config::{NamedFolder, Project, child_pointer, item_pointer, steps_with_pointers, unusable_link};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::name_scope::ExportedNames;
use crate::model::{Step, StepAction};

pub(super) fn check(project: &Project, scoped_steps: &ScopedSteps<'_>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let producers = artifact_producers(project);
    for scoped_step in &scoped_steps.steps {
        let mut seen_names: Vec<&str> = Vec::new();
        for (index, entry) in scoped_step.step.inputs.iter().enumerate() {
            let pointer = item_pointer(&child_pointer(&scoped_step.pointer, "inputs"), index);
            let (name, _) = parse_input_entry(entry);
            if seen_names.contains(&name) {
                let span = project.document.spans.value(&pointer);
                let message = format!("`{name}` is listed twice");
                diagnostics
                    .push(Diagnostic::error(Code::DuplicateName, message).with_span(&project.document.file, span));
            } else {
                diagnostics.extend(unreadable_artifact(project, scoped_step, name, &pointer, &producers));
            }
            seen_names.push(name);
        }
        if let Some(name) = &scoped_step.step.prompt {
            diagnostics.extend(check_prompt_file(project, name, &child_pointer(&scoped_step.pointer, "prompt")));
        }
        diagnostics.extend(check_call(project, scoped_step));
    }
    diagnostics
}

/// Splits an entry of `inputs` into the artifact's name and whether it is optional.
pub(super) fn parse_input_entry(entry: &str) -> (&str, bool) {
    entry.strip_suffix('?').map_or((entry, false), |name| (name, true))
}

/// A step that produces an artifact.
struct Producer<'a> {
    /// The name of the artifact.
    name: &'a str,
    /// The pointer of the step.
    pointer: String,
    /// The pointer of the value that names the artifact.
    name_pointer: String,
}

fn artifact_producers(project: &Project) -> Vec<Producer<'_>> {
    let mut producers = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        match (step.exported_names(), &step.pipeline) {
            (ExportedNames::Output(name), _) => {
                producers.push(Producer { name, name_pointer: child_pointer(&pointer, "output"), pointer });
            }
            (ExportedNames::OfCalledPipeline, Some(file)) => {
                let called = project.called_projects.get(file).into_iter();
                for name in called.flat_map(|called| called.pipeline.outputs.keys()) {
                    producers.push(Producer {
                        name,
                        name_pointer: child_pointer(&pointer, "pipeline"),
                        pointer: pointer.clone(),
                    });
                }
            }
            (ExportedNames::OfCalledPipeline | ExportedNames::OfChildren | ExportedNames::Nothing, _) => {}
        }
    }
    producers
}

/// The pointer of the value that names an artifact, in the step that produces it; `None` if no step produces it.
pub(super) fn producer_pointer(project: &Project, name: &str) -> Option<String> {
    artifact_producers(project).into_iter().find(|producer| producer.name == name).map(|producer| producer.name_pointer)
}

/// Returns a diagnostic for an artifact that a step can't read; `None` if it can.
fn unreadable_artifact(
    project: &Project,
    scoped_step: &ScopedStep<'_>,
    name: &str,
    pointer: &str,
    producers: &[Producer<'_>],
) -> Option<Diagnostic> {
    let span = project.document.spans.value(pointer);
    let new_diagnostic =
        |code: Code, message: String| Diagnostic::error(code, message).with_span(&project.document.file, span.clone());
    if scoped_step.scope.names.artifact(name).is_some() {
        return None;
    }
    let Some(producer) = producers.iter().find(|producer| producer.name == name) else {
        if project.calls_unusable_pipeline() {
            return None;
        }
        return Some(unknown_artifact(project, scoped_step, name, new_diagnostic));
    };
    let previous_value = scoped_step.scope.names.previous_artifact(name).map(|expression| {
        format!(
            "`{expression}` is its value in the previous iteration: use that in the texts, and remove it from `inputs`"
        )
    });
    if producer.pointer == scoped_step.pointer {
        let message = format!("step `{}` cannot read its own output `{name}`", scoped_step.step.id);
        let diagnostic = new_diagnostic(Code::ArtifactUsedTooEarly, message);
        return Some(previous_value.into_iter().fold(diagnostic, Diagnostic::with_help));
    }
    let producer_span = project.document.spans.value(&producer.name_pointer);
    let is_earlier = producer_span.start < project.document.spans.value(&scoped_step.pointer).start;
    let is_enclosing = scoped_step.pointer.starts_with(&format!("{}/", producer.pointer));
    let diagnostic = if is_enclosing {
        new_diagnostic(
            Code::ArtifactUsedTooEarly,
            format!("`{name}` is the list of the results of all items; an item cannot read it"),
        )
    } else if is_earlier {
        new_diagnostic(Code::ArtifactNotInScope, format!("`{name}` is not in scope here")).with_help(
            "parallel steps cannot read each other's artifacts; those of a `for_each` item are visible only inside it",
        )
    } else {
        let help = previous_value.unwrap_or_else(|| "steps run from top to bottom".to_owned());
        new_diagnostic(Code::ArtifactUsedTooEarly, format!("a later step produces `{name}`")).with_help(help)
    };
    Some(diagnostic.with_secondary_label(&project.document.file, producer_span, "produced here"))
}

fn unknown_artifact(
    project: &Project,
    scoped_step: &ScopedStep<'_>,
    name: &str,
    new_diagnostic: impl Fn(Code, String) -> Diagnostic,
) -> Diagnostic {
    if project.pipeline.inputs.contains_key(name) {
        let diagnostic =
            new_diagnostic(Code::UnknownArtifact, format!("`{name}` is an input of the run, not an artifact"));
        return diagnostic.with_help("every step can use an input of the run without listing it");
    }
    let artifacts_in_scope = scoped_step.scope.names.artifacts().keys().copied();
    let diagnostic = new_diagnostic(Code::UnknownArtifact, format!("no step produces `{name}`"))
        .with_suggestion(name, artifacts_in_scope);
    let step = steps_with_pointers(&project.pipeline).into_iter().find(|(_, step)| step.id == name);
    match step.and_then(|(_, step): (String, &Step)| step.output.clone()) {
        Some(output) => diagnostic.with_help(format!("step `{name}` produces `{output}`")),
        None => diagnostic,
    }
}

/// Checks the inputs that a step passes to the pipeline that it calls: reports unknown and missing inputs.
fn check_call(project: &Project, scoped_step: &ScopedStep<'_>) -> Vec<Diagnostic> {
    let Some(StepAction::Pipeline(file)) = scoped_step.step.action() else { return Vec::new() };
    let Some(called) = project.called_projects.get(file) else { return Vec::new() };
    let (document, inputs) = (&project.document, &called.pipeline.inputs);
    let mut diagnostics = Vec::new();
    for name in scoped_step.step.with.keys().filter(|name| !inputs.contains_key(*name)) {
        let span = document.spans.key(&child_pointer(&child_pointer(&scoped_step.pointer, "with"), name));
        let message = format!("pipeline `{}` has no input `{name}`", called.pipeline.name);
        let diagnostic = Diagnostic::error(Code::UnknownPipelineInput, message).with_span(&document.file, span);
        diagnostics.push(diagnostic.with_suggestion(name, inputs.keys().map(String::as_str)));
    }
    for (name, schema) in inputs {
        if !scoped_step.step.with.contains_key(name) && !schema.contains_key("default") {
            let span = document.spans.value(&child_pointer(&scoped_step.pointer, "pipeline"));
            let message = format!("pipeline `{}` needs the input `{name}`", called.pipeline.name);
            let diagnostic = Diagnostic::error(Code::MissingPipelineInput, message).with_span(&document.file, span);
            diagnostics.push(diagnostic.with_help(format!("set it under `with:`: `{name}: …`")));
        }
    }
    diagnostics
}

fn check_prompt_file(project: &Project, name: &str, pointer: &str) -> Option<Diagnostic> {
    if project.prompts.contains_key(name) || has_load_diagnostic(project, &format!("prompts/{name}")) {
        return None;
    }
    let diagnostic = Diagnostic::error(Code::PromptNotFound, format!("there is no prompt `prompts/{name}`"));
    let mut diagnostic = diagnostic.with_span(&project.document.file, project.document.spans.value(pointer));
    if is_prose(name) {
        diagnostic.message = "`prompt` is a prompt's text, not the name of a file in `prompts/`".to_owned();
        return Some(diagnostic.with_help("put the text into a file of `prompts/`, and write `prompt: FILE.md`"));
    }
    Some(add_missing_prompt_advice(project, diagnostic, name))
}

/// Whether the value is a prompt's text rather than the name of a file: it has several words or lines, or a tag.
fn is_prose(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let has_extension = (1..=4).contains(&extension.len()) && extension.chars().all(|c| c.is_ascii_alphanumeric());
    name.contains(['\n', '{']) || (!has_extension && name.split_whitespace().count() > 1)
}

/// Whether loading the file has already produced a diagnostic, so that the checks need not report the file again.
pub(super) fn has_load_diagnostic(project: &Project, path: &str) -> bool {
    project.diagnostics.iter().any(|d| d.file.as_ref().is_some_and(|file| file.path.ends_with(path)))
}

/// Adds advice to a diagnostic about a prompt that does not exist. `name` is the name in the pipeline or template.
pub(super) fn add_missing_prompt_advice(project: &Project, diagnostic: Diagnostic, name: &str) -> Diagnostic {
    if project.prompt_names.iter().any(|other| other == name) {
        return unusable_link(diagnostic, &format!("prompts/{name}"));
    }
    let folder = NamedFolder { folder: "prompts", names: &project.prompt_names, endings: &[".md"] };
    folder.add_advice(diagnostic, name)
}
