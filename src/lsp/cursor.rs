//! What a place of a file is about.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::documents::Documents;
use super::outline::{Entry, Form, Outline, Seg};
use super::projects::{Kind, Member, member};
use super::tags::{self, Spot};
use crate::check::Sight;

/// What a value of a YAML file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
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
    /// An expression, with what it sees beside what its step does.
    Expression(Sight),
    /// A template.
    Template,
    /// Anything else.
    Plain,
}

/// A place in a YAML file.
pub(super) struct Field {
    /// Where it is.
    pub(super) path: Vec<Seg>,
    /// Whether it is a key, which the path ends with.
    pub(super) is_key: bool,
    /// The word that stands there: the key or the value.
    pub(super) word: Range<usize>,
    /// Whether the value stands on the line of its key, so that no key can follow.
    pub(super) inline: bool,
    /// What the value means.
    pub(super) role: Role,
    /// The place in the template or expression that the value is.
    pub(super) spot: Option<Spot>,
    /// How far the value reaches.
    pub(super) reach: usize,
    pub(super) outline: Outline,
}

/// A place of a file of a project.
pub(super) struct Cursor {
    pub(super) path: PathBuf,
    pub(super) member: Member,
    pub(super) text: Arc<str>,
    pub(super) offset: usize,
    pub(super) focus: Focus,
}

/// What the file makes of the place.
pub(super) enum Focus {
    /// A place in a template of its own.
    Prompt(Spot),
    /// A place in a YAML file.
    Field(Field),
    /// A place in a schema.
    Schema,
}

impl Cursor {
    /// What a place is about; `None` where nothing is known of it.
    pub(super) fn at(path: &Path, offset: usize, documents: &Documents) -> Option<Self> {
        let text = Arc::clone(&documents.get(path)?.text);
        let member = member(path, &documents.sources())?;
        let focus = match &member.kind {
            Kind::Prompt(_) => Focus::Prompt(tags::at(&text, 0..text.len(), offset, false)?),
            Kind::Schema(_) => Focus::Schema,
            Kind::Pipeline | Kind::Case | Kind::Settings => Focus::Field(field(&text, offset, &member.kind)?),
        };
        Some(Self { path: path.to_owned(), member, text, offset, focus })
    }
}

fn field(text: &str, offset: usize, kind: &Kind) -> Option<Field> {
    let outline = Outline::of(text, Some(offset));
    let on_key = |entry: &&Entry| entry.key.as_ref().is_some_and(|key| key.start <= offset && offset <= key.end);
    if let Some(entry) = outline.entries.iter().find(on_key) {
        let (path, word, reach) = (entry.path.clone(), entry.key.clone()?, entry.reach);
        return Some(Field { path, is_key: true, word, inline: false, role: Role::Plain, spot: None, reach, outline });
    }
    let on_value = |entry: &&Entry| {
        let block = entry.form == Form::Block && entry.value.is_empty();
        entry.form != Form::Flow && !block && entry.value.start <= offset && offset <= entry.reach
    };
    // An empty place reaches up to the word behind it.
    let found =
        outline.entries.iter().filter(on_value).max_by_key(|entry| (entry.form != Form::Empty, entry.value.start))?;
    let role = role(kind, &found.path);
    let region = found.value.start..found.reach.max(found.value.end);
    let spot = match role {
        Role::Expression(_) => tags::at(text, region, offset, true),
        Role::Template => tags::at(text, region, offset, false),
        _ => None,
    };
    let word = match found.form {
        Form::Empty => offset..offset,
        // An edit of a completion stays on one line.
        _ if text.get(found.value.clone()).is_some_and(|value| value.contains('\n')) => offset..offset,
        Form::Scalar | Form::Block | Form::Flow => found.value.clone(),
    };
    let (path, inline, reach) = (found.path.clone(), found.key.is_some(), found.reach);
    Some(Field { path, is_key: false, word, inline, role, spot, reach, outline })
}

/// How much of a path leads to a step: `/steps/0/parallel/1`.
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

/// The path of the step that a path leads into; `None` outside of steps.
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

/// What a value means, by its place.
pub(super) fn role(kind: &Kind, path: &[Seg]) -> Role {
    let inside = path.get(step_length(path)..).unwrap_or_default();
    let words: Vec<&str> = inside
        .iter()
        .map(|seg| match seg {
            Seg::Key(name) => name.as_str(),
            Seg::Item(_) => "-",
        })
        .collect();
    match (kind, step_of(path).is_some(), words.as_slice()) {
        (Kind::Pipeline, true, ["agent"]) => Role::Agent,
        (Kind::Pipeline, true, ["inputs", "-"]) => Role::Artifact,
        (Kind::Pipeline, true, ["output"]) => Role::Output,
        (Kind::Pipeline, true, ["prompt"]) => Role::Prompt,
        (Kind::Pipeline, true, ["schema"]) => Role::Schema,
        (Kind::Pipeline, true, ["pipeline"]) | (Kind::Case, _, ["pipeline"]) => Role::Pipeline,
        (Kind::Pipeline, true, ["fallback", "-"]) | (Kind::Pipeline, false, ["agents", _, "model"]) => Role::Model,
        (Kind::Settings, _, ["defaults", "model"] | ["models", _] | ["models", _, "model"]) => Role::Model,
        (Kind::Pipeline, true, ["when" | "for_each" | "write" | "stdin"] | ["with", _]) => {
            Role::Expression(Sight::Step)
        }
        (Kind::Pipeline, true, ["accept", "-", "that"]) => Role::Expression(Sight::Reply),
        (Kind::Pipeline, false, ["success"] | ["outputs", _]) => Role::Expression(Sight::Step),
        (Kind::Pipeline, true, ["repeat", "until"]) => Role::Expression(Sight::Round),
        (Kind::Pipeline, true, ["message" | "approve" | "cwd" | "run"] | ["run", "-"]) => Role::Template,
        _ => Role::Plain,
    }
}
