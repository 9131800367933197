//! Lists the names of a pipeline that its test cases can use.

use super::cursor::{EditorCursor, YamlPosition};
use super::documents::Documents;
use super::lookups;
use super::outline_entry::PathSegment;
use crate::config::{Project, steps_with_pointers};
use crate::model::StepAction;

/// A name, its kind, and its description.
pub(super) type NamedItem = (String, &'static str, Option<String>);

/// Returns the possible keys of a mapping in a test case: the pipeline's inputs, approvals, commands or steps.
pub(super) fn mapping_keys(
    cursor: &EditorCursor,
    field: &YamlPosition,
    parent: &[PathSegment],
    documents: &Documents,
) -> Vec<NamedItem> {
    let mapping_path: Vec<&str> = parent
        .iter()
        .filter_map(|segment| match segment {
            PathSegment::Key(name) => Some(name.as_str()),
            PathSegment::Item(_) => None,
        })
        .collect();
    let Some(project) = load_pipeline(cursor, field, documents) else { return Vec::new() };
    let steps = steps_with_pointers(&project.pipeline);
    match mapping_path.as_slice() {
        ["inputs"] => input_names(&project),
        ["answers"] => {
            let asking_steps = steps.iter().filter(|(_, step)| project.asks_for_approval(step));
            asking_steps.map(|(_, step)| (step.id.clone(), "approval", None)).collect()
        }
        ["commands"] => {
            let commands = steps.iter().filter(|(_, step)| matches!(step.action(), Some(StepAction::Command(_))));
            commands.map(|(_, step)| (step.id.clone(), "command", None)).collect()
        }
        ["expect", "steps"] => steps.iter().map(|(_, step)| (step.id.clone(), "step", None)).collect(),
        _ => Vec::new(),
    }
}

fn load_pipeline(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Option<Project> {
    let entry = field.outline.find(&[PathSegment::Key("pipeline".to_owned())])?;
    lookups::load_named_pipeline(cursor, cursor.text.get(entry.value_range.clone())?, documents)
}

fn input_names(project: &Project) -> Vec<NamedItem> {
    lookups::pipeline_inputs(project)
        .map(|(name, description)| (name.to_owned(), "input", description.map(str::to_owned)))
        .collect()
}

/// Returns the inputs of the pipeline file that a step calls.
pub(super) fn called_inputs(cursor: &EditorCursor, file: &str, documents: &Documents) -> Vec<NamedItem> {
    lookups::load_named_pipeline(cursor, file, documents).map(|project| input_names(&project)).unwrap_or_default()
}
