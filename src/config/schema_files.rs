//! The schema files of a root: those that commands use by the names of their outputs, and those that can't be read.

use std::collections::BTreeMap;
use std::path::Path;

use super::project::schema_file;
use super::sources::Sources;
use super::spans::Document;
use super::{files, root};
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::{Pipeline, Step, StepAction};
use crate::schema::SchemaSet;

/// The schema file that a command without `schema` uses if the file exists: the one with the name of its output. `None`
/// for other steps.
pub(super) fn command_schema_file(step: &Step) -> Option<String> {
    let is_command = step.schema.is_none() && matches!(step.action(), Some(StepAction::Command(_)));
    step.output.as_ref().filter(|_| is_command).map(|output| schema_file(output))
}

/// Sets the `schema` of each command whose output has the name of an existing schema file. Agents use the schema with
/// the name of their output in the same way, but a command needs none.
pub(super) fn set_command_schemas(pipeline: &mut Pipeline, root: &Path, sources: &Sources) {
    let folder = root.join("schemas");
    pipeline.for_each_step_mut(&mut |step| {
        let Some(file) = command_schema_file(step) else { return };
        if files::join_in_folder(&folder, &file).is_ok_and(|path| sources.exists(&path)) {
            step.schema = Some(file);
        }
    });
}

/// The diagnostic for a listed schema that is a link out of its folder, or whose name is not UTF-8. In a pipeline, the
/// check of the step that names such a schema reports it instead.
pub(super) fn unreadable_schema(sources: &Sources, root: &Path, name: &str) -> Option<Diagnostic> {
    let display_path = root::display_path(root, &format!("schemas/{name}"));
    if files::check_link_target(root, &root.join("schemas").join(name), &display_path).is_some() {
        // `load_schema_files` has reported this already.
        return None;
    }
    match files::resolve_in_folder(&root.join("schemas"), name) {
        Err(reason) => {
            Some(Diagnostic::error(Code::PathOutsideFolder, reason).with_file(&SourceFile::new(display_path, "")))
        }
        Ok(path) if !sources.exists(&path) => sources.read(&path, &display_path).err().map(|diagnostic| *diagnostic),
        Ok(_) => None,
    }
}

pub(super) fn schema_set(documents: &BTreeMap<String, Document>) -> SchemaSet {
    let mut schemas = SchemaSet::default();
    for (name, document) in documents {
        schemas.insert(name, document.value.clone());
    }
    schemas
}
