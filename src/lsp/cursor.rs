//! Finds out what a position in a file is about. Completion, hover, definitions and references start from here.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::documents::Documents;
use super::outline::{Outline, OutlineEntry, Seg, ValueStyle};
use super::projects::{FileRole, ProjectFile, member};
use super::template_cursor::{self, TemplateSpot};
use crate::check::Sight;

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
    /// An expression, with what it can see beyond what its step sees.
    Expression(Sight),
    /// A template.
    Template,
    /// Anything else.
    Plain,
}

/// A position in a YAML file.
pub(super) struct Field {
    /// The path to the value or key at the position.
    pub(super) path: Vec<Seg>,
    /// Whether the position is on a key. The path then ends with that key.
    pub(super) is_key: bool,
    /// The bytes of the key or value at the position.
    pub(super) word: Range<usize>,
    /// Whether the value is on the line of its key, where no nested key can follow.
    pub(super) inline: bool,
    /// The meaning of the value.
    pub(super) role: YamlRole,
    /// The position inside the template or expression, if the value is one.
    pub(super) spot: Option<TemplateSpot>,
    /// The last byte at which the position still belongs to the value.
    pub(super) reach: usize,
    pub(super) outline: Outline,
}

/// A position in a file of a project.
pub(super) struct EditorCursor {
    pub(super) path: PathBuf,
    pub(super) member: ProjectFile,
    pub(super) text: Arc<str>,
    pub(super) offset: usize,
    pub(super) focus: Focus,
}

/// The kind of position, which depends on the file.
pub(super) enum Focus {
    /// A position in a prompt file.
    Prompt(TemplateSpot),
    /// A position in a YAML file.
    Field(Field),
    /// A position in a schema.
    Schema,
}

impl EditorCursor {
    /// Describes a position; returns `None` if nothing is known about it.
    pub(super) fn at(path: &Path, offset: usize, documents: &Documents) -> Option<Self> {
        let text = Arc::clone(&documents.get(path)?.text);
        let member = member(path, &documents.sources())?;
        let focus = match &member.kind {
            FileRole::Prompt(_) => Focus::Prompt(template_cursor::at(&text, 0..text.len(), offset, false)?),
            FileRole::Schema(_) => Focus::Schema,
            FileRole::Pipeline | FileRole::Case | FileRole::Settings => {
                Focus::Field(field(&text, offset, &member.kind)?)
            }
        };
        Some(Self { path: path.to_owned(), member, text, offset, focus })
    }
}

fn field(text: &str, offset: usize, kind: &FileRole) -> Option<Field> {
    let outline = Outline::of(text, Some(offset));
    let on_key = |entry: &&OutlineEntry| entry.key.as_ref().is_some_and(|key| key.start <= offset && offset <= key.end);
    if let Some(entry) = outline.entries.iter().find(on_key) {
        let (path, word, reach) = (entry.path.clone(), entry.key.clone()?, entry.reach);
        return Some(Field {
            path,
            is_key: true,
            word,
            inline: false,
            role: YamlRole::Plain,
            spot: None,
            reach,
            outline,
        });
    }
    let on_value = |entry: &&OutlineEntry| {
        let block = entry.form == ValueStyle::Block && entry.value.is_empty();
        entry.form != ValueStyle::Flow && !block && entry.value.start <= offset && offset <= entry.reach
    };
    // An empty value extends to the start of the word after it. At that byte, the word takes precedence.
    let found = outline
        .entries
        .iter()
        .filter(on_value)
        .max_by_key(|entry| (entry.form != ValueStyle::Empty, entry.value.start))?;
    let role = role(kind, &found.path);
    let region = found.value.start..found.reach.max(found.value.end);
    let spot = match role {
        YamlRole::Expression(_) => template_cursor::at(text, region, offset, true),
        YamlRole::Template => template_cursor::at(text, region, offset, false),
        _ => None,
    };
    let word = match found.form {
        ValueStyle::Empty => offset..offset,
        // The protocol requires that a completion's edit is on one line.
        _ if text.get(found.value.clone()).is_some_and(|value| value.contains('\n')) => offset..offset,
        ValueStyle::Scalar | ValueStyle::Block | ValueStyle::Flow => found.value.clone(),
    };
    let (path, inline, reach) = (found.path.clone(), found.key.is_some(), found.reach);
    Some(Field { path, is_key: false, word, inline, role, spot, reach, outline })
}

/// The number of segments of a path that lead to its step, as in `/steps/0/parallel/1`; 0 outside of steps.
fn step_length(path: &[Seg]) -> usize {
    let key =
        |at: usize, names: &[&str]| matches!(path.get(at), Some(Seg::Key(name)) if names.contains(&name.as_str()));
    let item = |at: usize| matches!(path.get(at), Some(Seg::Item(_)));
    if !(key(0, &["steps", "finally"]) && item(1)) {
        return 0;
    }
    let mut length = 2;
    loop {
        if key(length, &["parallel", "steps"]) && item(length + 1) {
            length += 2;
        } else if key(length, &["repeat"]) && key(length + 1, &["steps"]) && item(length + 2) {
            length += 3;
        } else {
            return length;
        }
    }
}

/// The path of the step that contains a path; `None` outside of steps.
pub(super) fn step_of(path: &[Seg]) -> Option<&[Seg]> {
    path.get(..step_length(path)).filter(|step| !step.is_empty())
}

/// A path as a JSON pointer.
pub(super) fn pointer(path: &[Seg]) -> String {
    path.iter().fold(String::new(), |at, seg| match seg {
        Seg::Key(name) => crate::config::child(&at, name),
        Seg::Item(index) => crate::config::item(&at, *index),
    })
}

/// The meaning of a value, which its path determines.
pub(super) fn role(kind: &FileRole, path: &[Seg]) -> YamlRole {
    let inside = path.get(step_length(path)..).unwrap_or_default();
    let words: Vec<&str> = inside
        .iter()
        .map(|seg| match seg {
            Seg::Key(name) => name.as_str(),
            Seg::Item(_) => "-",
        })
        .collect();
    match (kind, step_of(path).is_some(), words.as_slice()) {
        (FileRole::Pipeline, true, ["agent"]) => YamlRole::Agent,
        (FileRole::Pipeline, true, ["inputs", "-"]) => YamlRole::Artifact,
        (FileRole::Pipeline, true, ["output"]) => YamlRole::Output,
        (FileRole::Pipeline, true, ["prompt"]) => YamlRole::Prompt,
        (FileRole::Pipeline, true, ["schema"]) => YamlRole::Schema,
        (FileRole::Pipeline, true, ["pipeline"]) | (FileRole::Case, _, ["pipeline"]) => YamlRole::Pipeline,
        (FileRole::Pipeline, true, ["fallback", "-"]) | (FileRole::Pipeline, false, ["agents", _, "model"]) => {
            YamlRole::Model
        }
        (FileRole::Settings, _, ["defaults", "model"] | ["models", _] | ["models", _, "model"]) => YamlRole::Model,
        (FileRole::Pipeline, true, ["when" | "for_each" | "write" | "stdin"] | ["with", _]) => {
            YamlRole::Expression(Sight::Step)
        }
        (FileRole::Pipeline, true, ["accept", "-", "that"]) => YamlRole::Expression(Sight::Reply),
        (FileRole::Pipeline, false, ["success"] | ["outputs", _]) => YamlRole::Expression(Sight::Step),
        (FileRole::Pipeline, true, ["repeat", "until"]) => YamlRole::Expression(Sight::Round),
        (FileRole::Pipeline, true, ["message" | "approve" | "cwd" | "run"] | ["run", "-"]) => YamlRole::Template,
        _ => YamlRole::Plain,
    }
}
