//! The files that values of a pipeline name: prompts, schemas and other pipelines.

use std::path::PathBuf;

use super::cursor::{EditorCursor, YamlRole, step_path};
use super::outline::Outline;
use super::outline_entry::PathSegment;
use super::projects::FileRole;
use crate::config::{self, OutputType};

/// Returns the type that the output at a path of a pipeline must have, determined by the keys of its step.
pub(super) fn expected_output_type(text: &str, outline: &Outline, path: &[PathSegment]) -> Option<OutputType> {
    let step = step_path(path)?;
    let entry = |name: &str| outline.find(&[step, &[PathSegment::Key(name.to_owned())]].concat());
    let value = |name: &str| text.get(entry(name)?.value_range.clone());
    config::draft_output_type(value("output")?, value("schema"), |name| entry(name).is_some())
}

/// Returns the schema file of an output type, or `None` for a type without a schema file.
pub(super) fn schema_file(cursor: &EditorCursor, output: &OutputType) -> Option<PathBuf> {
    match output {
        OutputType::File(name) => config::path_in_folder(&cursor.project_file.root, "schemas", name),
        OutputType::Text | OutputType::Any | OutputType::BuiltIn(_) => None,
    }
}

/// Returns the path of the file that a value names.
pub(super) fn resolve_file_name(cursor: &EditorCursor, role: YamlRole, name: &str) -> Option<PathBuf> {
    let root = &cursor.project_file.root;
    match role {
        YamlRole::Prompt => config::path_in_folder(root, "prompts", name),
        YamlRole::Schema => schema_file(cursor, &config::output_type_from_name(name)),
        YamlRole::Pipeline => {
            let folder = cursor.path.parent()?;
            match name.strip_prefix("../") {
                Some(remaining) if cursor.project_file.role == FileRole::TestCase => {
                    Some(folder.parent()?.join(remaining))
                }
                _ => Some(folder.join(name)),
            }
        }
        YamlRole::Agent
        | YamlRole::Artifact
        | YamlRole::Output
        | YamlRole::Model
        | YamlRole::Expression(_)
        | YamlRole::Template
        | YamlRole::Plain => None,
    }
}
