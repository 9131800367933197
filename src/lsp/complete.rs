//! Completion: what the user can write at a position.

use std::ops::Range;
use std::path::Path;

use super::case;
use super::checks::Checks;
use super::cursor::{EditorCursor, Field, Focus, YamlRole, step_of};
use super::documents::Documents;
use super::facts;
use super::keys::{self, KeyNode};
use super::outline::{Outline, Seg};
use super::projects::FileRole;
use super::template_cursor::{ExpectedSyntax, TemplateSpot};
use crate::check::{NameOrigin, VisibleName};
use crate::config::SETTINGS_FILE;
use crate::template::{FILTERS, FUNCTIONS, TESTS};

/// The most agents that completion offers. Each one costs a search through all values of the text for its model.
const MAX_NAMES: usize = 1_000;

/// The kind of a choice, which determines its icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompletionKind {
    Key,
    Value,
    Variable,
    Property,
    Agent,
    File,
    Function,
    Keyword,
}

/// A completion that the user can choose.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) sort: CompletionKind,
    /// A short note that the editor shows beside the label.
    pub(super) detail: String,
    /// A description in sentences.
    pub(super) about: Option<String>,
    /// The text to insert; it replaces the range `replace`.
    pub(super) insert: String,
    pub(super) replace: Range<usize>,
}

/// The first words of template tags.
const STATEMENTS: &[&str] = &[
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "set",
    "endset",
    "include",
    "with",
    "endwith",
    "filter",
    "endfilter",
    "raw",
    "endraw",
    "continue",
    "break",
];

/// The keywords of JSON Schema that completion offers in the schema of an input.
const OF_INPUTS: &[(&str, &str)] = &[
    ("type", "What the value is: `string`, `integer`, `number`, `boolean`, `array` or `object`."),
    ("description", "What the value is for."),
    ("default", "The value when none is given; it makes the input optional."),
    ("enum", "The values that are allowed."),
    ("items", "What each item of a list is."),
    ("properties", "What an object has."),
    ("required", "The properties that an object must have."),
];

/// Returns all completions for a position.
pub(super) fn at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Vec<Choice> {
    let Some(cursor) = EditorCursor::at(path, offset, documents) else { return Vec::new() };
    match &cursor.focus {
        Focus::Prompt(spot) => in_tag(&cursor, spot, documents, checks),
        Focus::Field(field) => match &field.spot {
            Some(spot) => in_tag(&cursor, spot, documents, checks),
            None => in_field(&cursor, field, documents),
        },
        Focus::Schema => super::schemas::choices(&cursor, documents),
    }
}

fn in_tag(cursor: &EditorCursor, spot: &TemplateSpot, documents: &Documents, checks: &Checks) -> Vec<Choice> {
    let plain = |names: &[&str], sort, detail: &str| {
        let words = names.iter().filter(|name| name.starts_with(char::is_alphabetic));
        words.map(|name| choice(name, sort, detail, None, &spot.name_at)).collect::<Vec<_>>()
    };
    match spot.wanted {
        ExpectedSyntax::Variable | ExpectedSyntax::Property => {
            let found = facts::names(cursor, documents, checks);
            let mut list: Vec<Choice> = found.iter().map(|found| of_found(found, &spot.name_at)).collect();
            if spot.wanted == ExpectedSyntax::Variable {
                list.extend(plain(FUNCTIONS, CompletionKind::Function, "function"));
            }
            list
        }
        ExpectedSyntax::Filter => plain(FILTERS, CompletionKind::Function, "filter"),
        ExpectedSyntax::Test => plain(TESTS, CompletionKind::Function, "test"),
        ExpectedSyntax::Statement => plain(STATEMENTS, CompletionKind::Keyword, ""),
        ExpectedSyntax::Include => files(cursor, "prompts", documents)
            .iter()
            .map(|name| choice(name, CompletionKind::File, "prompt", None, &spot.name_at))
            .collect(),
        ExpectedSyntax::Nothing => Vec::new(),
    }
}

fn choice(label: &str, sort: CompletionKind, detail: &str, about: Option<&str>, replace: &Range<usize>) -> Choice {
    let (label, detail, about) = (label.to_owned(), detail.to_owned(), about.map(str::to_owned));
    Choice { insert: label.clone(), label, sort, detail, about, replace: replace.clone() }
}

fn of_found(found: &VisibleName, replace: &Range<usize>) -> Choice {
    let origin = match found.origin {
        NameOrigin::Input => ", input",
        NameOrigin::Artifact => ", artifact",
        NameOrigin::Local | NameOrigin::Property => "",
    };
    let maybe = if found.maybe { ", may be missing" } else { "" };
    let sort = if found.origin == NameOrigin::Property { CompletionKind::Property } else { CompletionKind::Variable };
    choice(&found.name, sort, &format!("{}{origin}{maybe}", found.ty), found.about.as_deref(), replace)
}

/// The names of the files in a folder of the project.
pub(super) fn files(cursor: &EditorCursor, folder: &str, documents: &Documents) -> Vec<String> {
    documents.sources().list(&cursor.member.root.join(folder))
}

fn in_field(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<Choice> {
    let Some(root) = keys::schema(&cursor.member.kind) else { return Vec::new() };
    let (parent, at) = match field.path.split_last() {
        Some((Seg::Key(_), parent)) if field.is_key => (parent, None),
        _ => (field.path.as_slice(), KeyNode::at(root, &field.path)),
    };
    let node = if field.is_key { KeyNode::at(root, parent) } else { at };
    if field.is_key || (!field.inline && node.is_some_and(KeyNode::is_mapping)) {
        return in_mapping(cursor, field, parent, documents);
    }
    let named = named(cursor, field, documents);
    let values = node.map(KeyNode::values).unwrap_or_default();
    let values = values.iter().map(|(name, about)| choice(name, CompletionKind::Value, "", *about, &field.word));
    let mut list: Vec<Choice> = named.into_iter().chain(values).collect();
    // `agent:` needs a space before its value.
    if cursor.text.get(..field.word.start).is_some_and(|before| before.ends_with(':')) {
        for choice in &mut list {
            choice.insert.insert(0, ' ');
        }
    }
    list
}

/// The keys that a mapping may have and does not have yet.
fn in_mapping(cursor: &EditorCursor, field: &Field, parent: &[Seg], documents: &Documents) -> Vec<Choice> {
    let Some(root) = keys::schema(&cursor.member.kind) else { return Vec::new() };
    let here = |word: &Range<usize>| *word == field.word;
    let written: Vec<&str> = field
        .outline
        .keys(parent)
        .filter(|(_, entry)| !entry.key.as_ref().is_some_and(here))
        .map(|(name, _)| name)
        .collect();
    let free = |name: &str| !written.contains(&name);
    let colon = |node: Option<KeyNode>| if field.is_key { "" } else { node.map_or(": ", KeyNode::after_colon) };
    let mut list: Vec<Choice> = Vec::new();
    for (name, node, needed) in KeyNode::at(root, parent).map(|node| node.keys(root)).unwrap_or_default() {
        if free(name) {
            let detail = format!("{}{}", node.words(), if needed { ", required" } else { "" });
            let choice = choice(name, CompletionKind::Key, &detail, node.about(), &field.word);
            list.push(Choice { insert: format!("{name}{}", colon(Some(node))), ..choice });
        }
    }
    list.sort_by_key(|choice| !choice.detail.ends_with("required"));
    if matches!((&cursor.member.kind, parent), (FileRole::Pipeline, [Seg::Key(first), Seg::Key(_)]) if first == "inputs")
    {
        for (name, about) in OF_INPUTS.iter().filter(|(name, _)| free(name)) {
            let choice = choice(name, CompletionKind::Key, "JSON Schema", Some(about), &field.word);
            list.push(Choice { insert: format!("{name}{}", colon(None)), ..choice });
        }
    }
    for (name, detail, about) in of_pipeline(cursor, field, parent, documents) {
        if free(&name) {
            let choice = choice(&name, CompletionKind::Key, detail, about.as_deref(), &field.word);
            list.push(Choice { insert: format!("{name}{}", colon(None)), ..choice });
        }
    }
    list
}

/// The keys that depend on another pipeline: the inputs of a pipeline that a step calls, and the names that a test case
/// uses.
fn of_pipeline(cursor: &EditorCursor, field: &Field, parent: &[Seg], documents: &Documents) -> Vec<case::Name> {
    if cursor.member.kind == FileRole::Case {
        return case::keys(cursor, field, parent, documents);
    }
    let Some(step) = step_of(parent) else { return Vec::new() };
    if parent != [step, &[Seg::Key("with".to_owned())]].concat() {
        return Vec::new();
    }
    let file = field.outline.find(&[step, &[Seg::Key("pipeline".to_owned())]].concat());
    let file = file.and_then(|entry| cursor.text.get(entry.value.clone()));
    file.map(|file| case::called(cursor, file, documents)).unwrap_or_default()
}

/// The names from the project that a value can have.
fn named(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<Choice> {
    let new = |name: &str, sort, detail: &str| choice(name, sort, detail, None, &field.word);
    match field.role {
        YamlRole::Agent => {
            let agents = [Seg::Key("agents".to_owned())];
            let names = field.outline.keys(&agents).take(MAX_NAMES).map(|(name, entry)| {
                let model = field.outline.find(&[entry.path.as_slice(), &[Seg::Key("model".to_owned())]].concat());
                let model = model.and_then(|entry| cursor.text.get(entry.value.clone())).unwrap_or_default();
                new(name, CompletionKind::Agent, model)
            });
            names.collect()
        }
        YamlRole::Artifact => artifacts(cursor, field, documents),
        YamlRole::Prompt => {
            files(cursor, "prompts", documents).iter().map(|name| new(name, CompletionKind::File, "prompt")).collect()
        }
        YamlRole::Schema | YamlRole::Output => {
            let names = files(cursor, "schemas", documents);
            let names = names.iter().filter_map(|name| name.strip_suffix(".schema.json"));
            let mut list: Vec<Choice> = names.map(|name| new(name, CompletionKind::File, "schema")).collect();
            if field.role == YamlRole::Schema {
                list.push(new("text", CompletionKind::Value, "a string as it is"));
                list.push(new("any", CompletionKind::Value, "any JSON"));
            }
            list
        }
        YamlRole::Pipeline => pipelines(cursor, field, documents),
        YamlRole::Model => models(cursor, field, documents),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => Vec::new(),
    }
}

fn artifacts(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<Choice> {
    let list = field.path.split_last().map(|(_, list)| list).unwrap_or_default();
    let listed = field.outline.entries.iter().filter(|entry| {
        entry.path.len() == list.len() + 1 && entry.path.starts_with(list) && entry.value != field.word
    });
    let listed: Vec<&str> = listed
        .filter_map(|entry| cursor.text.get(entry.value.clone()))
        .map(|name| name.trim_end_matches('?'))
        .collect();
    let found = facts::artifacts(cursor, field, documents);
    let free = found.iter().filter(|found| !listed.contains(&found.name.as_str()));
    let each = free.map(|found| {
        let name = if found.maybe { format!("{}?", found.name) } else { found.name.clone() };
        choice(&name, CompletionKind::Variable, &found.ty, found.about.as_deref(), &field.word)
    });
    each.collect()
}

/// The other pipelines, each with the path that this file would use for it.
fn pipelines(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<Choice> {
    let folder = cursor.path.parent().unwrap_or(Path::new(""));
    let is_case = cursor.member.kind == FileRole::Case;
    let files = facts::pipelines(cursor, documents).into_iter().filter(|file| *file != cursor.path);
    let names = files.filter_map(|file| match file.strip_prefix(folder) {
        Ok(name) => Some(name.to_string_lossy().replace('\\', "/")),
        Err(_) if is_case => {
            let name = file.strip_prefix(folder.parent()?).ok()?.to_string_lossy().replace('\\', "/");
            Some(format!("../{name}"))
        }
        Err(_) => None,
    });
    names.map(|name| choice(&name, CompletionKind::File, "pipeline", None, &field.word)).collect()
}

fn models(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<Choice> {
    let new = |name: &str, detail: &str| choice(name, CompletionKind::Value, detail, None, &field.word);
    let settings = facts::file(&cursor.member.root.join(SETTINGS_FILE), documents);
    let text = settings.as_ref().map(|file| file.text.as_str()).unwrap_or_default();
    let outline = Outline::of(text, None);
    let [aliases, providers] = ["models", "providers"].map(|key| vec![Seg::Key(key.to_owned())]);
    let mut list: Vec<Choice> = Vec::new();
    // Completion offers no aliases in the definition of an alias, which must not refer to itself.
    if field.path.first() != aliases.first() {
        list.extend(outline.keys(&aliases).map(|(name, _)| new(name, "alias of orch.yaml")));
    }
    list.push(new("auto", "what is set up: a key, a server, or the embedded model"));
    list.push(new("local", "the embedded model"));
    list.extend(outline.keys(&providers).map(|(name, _)| new(&format!("{name}/"), "provider of orch.yaml")));
    list
}
