//! Determines what the cursor in a file is on, for completion, hover, definitions and references.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::documents::Documents;
use super::outline::Outline;
use super::outline_entry::{OutlineEntry, PathSegment, ValueStyle};
use super::projects::{FileRole, ProjectFile, classify_file};
use super::template_cursor::{self, TemplatePosition};
use crate::model::name_scope::TextScope;

/// The meaning of a value in a YAML file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum YamlRole {
    /// The name of an agent.
    Agent,
    /// An artifact that a step reads.
    Artifact,
    /// The artifact that a step produces.
    Output,
    /// A file in `prompts/`.
    Prompt,
    /// A file in `schemas/`.
    Schema,
    /// Another pipeline.
    Pipeline,
    /// A model.
    Model,
    /// An expression, with its scope.
    Expression(TextScope),
    /// A template.
    Template,
    /// Anything else.
    Plain,
}

/// The cursor in a YAML file.
pub(super) struct YamlPosition {
    /// The path to the value or key at the cursor.
    pub(super) path: Vec<PathSegment>,
    /// Whether the cursor is on a key. The path then ends with that key.
    pub(super) is_key: bool,
    /// The bytes of the key or value at the cursor.
    pub(super) word_range: Range<usize>,
    /// Whether the value is on the line of its key, so that no nested key can follow.
    pub(super) is_inline: bool,
    /// The meaning of the value.
    pub(super) role: YamlRole,
    /// The cursor inside the template or expression, if the value is one.
    pub(super) template: Option<TemplatePosition>,
    /// The last byte at which the cursor still belongs to the value.
    pub(super) editable_end: usize,
    /// The outline of the text.
    pub(super) outline: Outline,
}

/// The cursor in a file of a project.
pub(super) struct EditorCursor {
    pub(super) path: PathBuf,
    pub(super) project_file: ProjectFile,
    pub(super) text: Arc<str>,
    pub(super) offset: usize,
    pub(super) position: FilePosition,
}

/// The cursor in a file, by the format of the file.
pub(super) enum FilePosition {
    /// The cursor in a prompt file.
    Prompt(TemplatePosition),
    /// The cursor in a YAML file.
    Yaml(YamlPosition),
    /// The cursor in a schema.
    Schema,
}

impl EditorCursor {
    /// Determines what the cursor is on; returns `None` if it is on nothing that the server knows.
    pub(super) fn from_position(path: &Path, offset: usize, documents: &Documents) -> Option<Self> {
        let text = Arc::clone(&documents.get(path)?.text);
        let project_file = classify_file(path, &documents.sources())?;
        let position = match &project_file.role {
            FileRole::Prompt(_) => {
                FilePosition::Prompt(template_cursor::template_position(&text, 0..text.len(), offset, false)?)
            }
            FileRole::Schema(_) => FilePosition::Schema,
            FileRole::Pipeline | FileRole::TestCase | FileRole::Settings => {
                FilePosition::Yaml(field_at(&text, offset, &project_file.role)?)
            }
        };
        Some(Self { path: path.to_owned(), project_file, text, offset, position })
    }
}

fn field_at(text: &str, offset: usize, file_role: &FileRole) -> Option<YamlPosition> {
    let outline = Outline::parse(text, Some(offset));
    let is_on_key =
        |entry: &&OutlineEntry| entry.key_range.as_ref().is_some_and(|key| key.start <= offset && offset <= key.end);
    if let Some(entry) = outline.entries.iter().find(is_on_key) {
        let (path, word_range, editable_end) = (entry.path.clone(), entry.key_range.clone()?, entry.editable_end);
        return Some(YamlPosition {
            path,
            is_key: true,
            word_range,
            is_inline: false,
            role: YamlRole::Plain,
            template: None,
            editable_end,
            outline,
        });
    }
    let is_on_value = |entry: &&OutlineEntry| {
        let is_empty_block = entry.style == ValueStyle::Block && entry.value_range.is_empty();
        entry.style != ValueStyle::Flow
            && !is_empty_block
            && entry.value_range.start <= offset
            && offset <= entry.editable_end
    };
    // An empty value extends to the start of the word after it. At that byte, the word takes precedence.
    let entry = outline
        .entries
        .iter()
        .filter(is_on_value)
        .max_by_key(|entry| (entry.style != ValueStyle::Empty, entry.value_range.start))?;
    let role = yaml_role(file_role, &entry.path);
    let region = entry.value_range.start..entry.editable_end.max(entry.value_range.end);
    let template = match role {
        YamlRole::Expression(_) => template_cursor::template_position(text, region, offset, true),
        YamlRole::Template => template_cursor::template_position(text, region, offset, false),
        _ => None,
    };
    let word_range = match entry.style {
        ValueStyle::Empty => offset..offset,
        // The protocol requires that a completion's edit is on one line.
        _ if text.get(entry.value_range.clone()).is_some_and(|value| value.contains('\n')) => offset..offset,
        ValueStyle::Scalar | ValueStyle::Block | ValueStyle::Flow => entry.value_range.clone(),
    };
    let (path, is_inline, editable_end) = (entry.path.clone(), entry.key_range.is_some(), entry.editable_end);
    Some(YamlPosition { path, is_key: false, word_range, is_inline, role, template, editable_end, outline })
}

/// Returns the number of segments of a path that lead to its step, as in `/steps/0/parallel/1`; 0 outside of steps.
fn step_path_length(path: &[PathSegment]) -> usize {
    let is_key = |index: usize, names: &[&str]| match path.get(index) {
        Some(PathSegment::Key(name)) => names.contains(&name.as_str()),
        Some(PathSegment::Item(_)) | None => false,
    };
    let is_item = |index: usize| matches!(path.get(index), Some(PathSegment::Item(_)));
    if !(is_key(0, &["steps", "finally"]) && is_item(1)) {
        return 0;
    }
    let mut length = 2;
    loop {
        if is_key(length, &["parallel", "steps"]) && is_item(length + 1) {
            length += 2;
        } else if is_key(length, &["repeat"]) && is_key(length + 1, &["steps"]) && is_item(length + 2) {
            length += 3;
        } else {
            return length;
        }
    }
}

/// Returns the path of the step that contains a path; `None` outside of steps.
pub(super) fn step_path(path: &[PathSegment]) -> Option<&[PathSegment]> {
    path.get(..step_path_length(path)).filter(|step| !step.is_empty())
}

/// Converts a path to a JSON pointer.
pub(super) fn json_pointer(path: &[PathSegment]) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        PathSegment::Key(name) => crate::config::child_pointer(&pointer, name),
        PathSegment::Item(index) => crate::config::item_pointer(&pointer, *index),
    })
}

/// Returns the meaning of a value, which its path determines.
pub(super) fn yaml_role(file_role: &FileRole, path: &[PathSegment]) -> YamlRole {
    let path_in_step = path.get(step_path_length(path)..).unwrap_or_default();
    let segments: Vec<&str> = path_in_step
        .iter()
        .map(|segment| match segment {
            PathSegment::Key(name) => name.as_str(),
            PathSegment::Item(_) => "-",
        })
        .collect();
    match (file_role, step_path(path).is_some(), segments.as_slice()) {
        (FileRole::Pipeline, true, ["agent"]) => YamlRole::Agent,
        (FileRole::Pipeline, true, ["inputs", "-"]) => YamlRole::Artifact,
        (FileRole::Pipeline, true, ["output"]) => YamlRole::Output,
        (FileRole::Pipeline, true, ["prompt"]) => YamlRole::Prompt,
        (FileRole::Pipeline, true, ["schema"]) => YamlRole::Schema,
        (FileRole::Pipeline, true, ["pipeline"])
        | (FileRole::Pipeline, false, ["agents", _, "pipelines", "-"])
        | (FileRole::TestCase, _, ["pipeline"]) => YamlRole::Pipeline,
        (FileRole::Pipeline, true, ["fallback", "-"]) | (FileRole::Pipeline, false, ["agents", _, "model"]) => {
            YamlRole::Model
        }
        (FileRole::Settings, _, ["defaults", "model"] | ["models", _] | ["models", _, "model"]) => YamlRole::Model,
        (FileRole::Pipeline, true, ["when"]) => YamlRole::Expression(TextScope::Condition),
        (FileRole::Pipeline, true, ["for_each"]) => YamlRole::Expression(TextScope::List),
        (FileRole::Pipeline, true, ["write" | "stdin"] | ["with", _]) => YamlRole::Expression(TextScope::Step),
        (FileRole::Pipeline, true, ["accept", "-", "that"]) => YamlRole::Expression(TextScope::Reply),
        (FileRole::Pipeline, false, ["success"] | ["outputs", _]) => YamlRole::Expression(TextScope::Step),
        (FileRole::Pipeline, true, ["repeat", "until"]) => YamlRole::Expression(TextScope::Iteration),
        (FileRole::Pipeline, true, ["message" | "approve" | "cwd" | "run"] | ["run", "-"] | ["args", _, ..]) => {
            YamlRole::Template
        }
        _ => YamlRole::Plain,
    }
}
