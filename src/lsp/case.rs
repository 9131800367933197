//! The names that a test case can use from its pipeline.

use super::cursor::{EditorCursor, Field};
use super::documents::Documents;
use super::facts;
use super::outline::Seg;
use crate::config::{Project, places};
use crate::model::StepAction;

/// A name, its kind, and its description.
pub(super) type Name = (String, &'static str, Option<String>);

/// Returns the keys for a mapping of a test case: the pipeline's inputs, approvals or steps.
pub(super) fn keys(cursor: &EditorCursor, field: &Field, parent: &[Seg], documents: &Documents) -> Vec<Name> {
    let words: Vec<&str> = parent
        .iter()
        .filter_map(|seg| match seg {
            Seg::Key(name) => Some(name.as_str()),
            Seg::Item(_) => None,
        })
        .collect();
    let Some(project) = pipeline(cursor, field, documents) else { return Vec::new() };
    let steps = places(&project.pipeline);
    match words.as_slice() {
        ["inputs"] => inputs(&project),
        ["answers"] => {
            let asking = steps.iter().filter(|(_, step)| matches!(step.kind(), Some(StepAction::Approve(_))));
            asking.map(|(_, step)| (step.id.clone(), "approval", None)).collect()
        }
        ["expect", "steps"] => steps.iter().map(|(_, step)| (step.id.clone(), "step", None)).collect(),
        _ => Vec::new(),
    }
}

fn pipeline(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Option<Project> {
    let entry = field.outline.find(&[Seg::Key("pipeline".to_owned())])?;
    facts::named_pipeline(cursor, cursor.text.get(entry.value.clone())?, documents)
}

fn inputs(project: &Project) -> Vec<Name> {
    facts::inputs(project).map(|(name, about)| (name.to_owned(), "input", about.map(str::to_owned))).collect()
}

/// Returns the inputs of a pipeline that a step calls, found through the file that the step names.
pub(super) fn called(cursor: &EditorCursor, file: &str, documents: &Documents) -> Vec<Name> {
    facts::named_pipeline(cursor, file, documents).map(|project| inputs(&project)).unwrap_or_default()
}
