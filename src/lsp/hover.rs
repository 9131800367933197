//! Hover: describes the word at a position.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::checks::Checks;
use super::cursor::{EditorCursor, Field, Focus, YamlRole};
use super::definition::{alias, named_file, output_type};
use super::documents::Documents;
use super::facts;
use super::keys::{self, KeyNode};
use super::outline::{Outline, Seg};
use super::projects::FileRole;
use super::schemas;
use super::template_cursor::{ExpectedSyntax, TemplateSpot};
use crate::check::{NameOrigin, VisibleName};
use crate::config::{self, OutputType};

/// A description of a word.
#[derive(Debug)]
pub(super) struct Hover {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// The most characters that are shown of a text from the user's files.
const MAX_SHOWN: usize = 2_000;

/// Describes the word at a position.
pub(super) fn at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Option<Hover> {
    let cursor = EditorCursor::at(path, offset, documents)?;
    match &cursor.focus {
        Focus::Prompt(spot) => in_tag(&cursor, spot, documents, checks),
        Focus::Field(field) => match &field.spot {
            Some(spot) => in_tag(&cursor, spot, documents, checks),
            None => in_field(&cursor, field, documents),
        },
        Focus::Schema => {
            let (target, schema, span) = schemas::target(&cursor, documents)?;
            Some(Hover { text: about_schema(&target.file.path, &schema), span })
        }
    }
}

fn in_tag(cursor: &EditorCursor, spot: &TemplateSpot, documents: &Documents, checks: &Checks) -> Option<Hover> {
    let text = match spot.wanted {
        ExpectedSyntax::Filter if !spot.name.is_empty() => format!("filter `{}`", spot.name),
        ExpectedSyntax::Test if !spot.name.is_empty() => format!("test `{}`", spot.name),
        ExpectedSyntax::Include => prompt(cursor, &spot.name, documents)?,
        ExpectedSyntax::Variable | ExpectedSyntax::Property => {
            let all = facts::names(cursor, documents, checks);
            told(all.iter().find(|found| found.name == spot.name)?, spot.base.as_deref())
        }
        ExpectedSyntax::Filter | ExpectedSyntax::Test | ExpectedSyntax::Statement | ExpectedSyntax::Nothing => {
            return None;
        }
    };
    Some(Hover { text, span: spot.name_at.clone() })
}

/// Describes a name: its type, its origin, and the description in its schema.
fn told(found: &VisibleName, base: Option<&str>) -> String {
    let whole = base.map_or_else(|| found.name.clone(), |base| format!("{base}.{}", found.name));
    let origin = match found.origin {
        NameOrigin::Input => "input of the run",
        NameOrigin::Artifact => "artifact",
        NameOrigin::Local => "variable",
        NameOrigin::Property => "property",
    };
    let maybe = if found.maybe { ", may be missing" } else { "" };
    with_text(format!("`{whole}`: {} ({origin}{maybe})", found.ty), found.about.as_deref())
}

fn with_text(head: String, text: Option<&str>) -> String {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => format!("{head}\n\n{}", text.chars().take(MAX_SHOWN).collect::<String>()),
        None => head,
    }
}

fn in_field(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Option<Hover> {
    let root = keys::schema(&cursor.member.kind)?;
    let name = cursor.text.get(field.word.clone())?;
    let text = match field.role {
        YamlRole::Agent => agent(cursor, field, name),
        YamlRole::Artifact => {
            let all = facts::artifacts(cursor, field, documents);
            let found = all.iter().find(|found| found.name == name.trim_end_matches('?'));
            found.map(|found| told(found, None))
        }
        YamlRole::Prompt => prompt(cursor, name, documents),
        YamlRole::Schema => schema(cursor, name, documents),
        YamlRole::Output => match output_type(&cursor.text, &field.outline, &field.path)? {
            OutputType::Text => schema(cursor, "text", documents),
            OutputType::Any => schema(cursor, "any", documents),
            OutputType::File(file) => schema(cursor, &file, documents),
            OutputType::Built(_) => None,
        },
        YamlRole::Pipeline => pipeline(cursor, name, documents),
        YamlRole::Model => alias(cursor, name, documents).and_then(|target| {
            let outline = Outline::of(&target.file.text, None);
            let entry = outline.find(&[Seg::Key("models".to_owned()), Seg::Key(name.to_owned())])?;
            Some(format!("model `{name}`, an alias: `{}`", target.file.text.get(entry.value.clone())?))
        }),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    };
    let is_agent = matches!(field.path.as_slice(), [Seg::Key(first), Seg::Key(_)] if first == "agents");
    let own = || {
        if field.is_key && is_agent && cursor.member.kind == FileRole::Pipeline {
            return agent(cursor, field, name);
        }
        key(KeyNode::at(root, &field.path)?, field, name)
    };
    Some(Hover { text: text.or_else(own)?, span: field.word.clone() })
}

/// Describes a key of the file format and, if it is one of a fixed set, the value at the position.
fn key(node: KeyNode, field: &Field, value: &str) -> Option<String> {
    let name = field.path.iter().rev().find_map(|seg| match seg {
        Seg::Key(name) => Some(name.as_str()),
        Seg::Item(_) => None,
    })?;
    let mut text = with_text(format!("`{name}`: {}", node.words()), node.about());
    let of_value = node.values().into_iter().find(|(known, _)| !field.is_key && known == value);
    if let Some((value, Some(about))) = of_value {
        text = format!("{text}\n\n`{value}`: {about}");
    }
    Some(match node.example() {
        Some(example) => format!("{text}\n\nexample: `{}`", example.replace('\n', " ")),
        None => text,
    })
}

fn agent(cursor: &EditorCursor, field: &Field, name: &str) -> Option<String> {
    let entry = field.outline.find(&[Seg::Key("agents".to_owned()), Seg::Key(name.to_owned())])?;
    let settings = field.outline.keys(&entry.path).map(|(key, entry)| {
        let value = cursor.text.get(entry.value.clone()).unwrap_or_default();
        format!("- `{key}`: `{value}`")
    });
    let settings: Vec<String> = settings.collect();
    Some(with_text(format!("agent `{name}`"), Some(&settings.join("\n"))))
}

fn prompt(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    let file = facts::file(&config::member_path(&cursor.member.root, "prompts", name)?, documents)?;
    let first = file.text.trim().lines().next().map(str::to_owned);
    Some(with_text(format!("prompt `prompts/{name}`"), first.as_deref()))
}

fn schema(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    match name {
        "text" => return Some("`text`: a string, taken as it is".to_owned()),
        "any" => return Some("`any`: any JSON".to_owned()),
        _ => {}
    }
    let file = facts::file(&named_file(cursor, YamlRole::Schema, name)?, documents)?;
    let document = schemas::document(&file)?;
    Some(about_schema(&file.path, &document.value))
}

/// Describes a schema with its description and its properties.
fn about_schema(path: &str, schema: &Value) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let about = schema.get("description").and_then(Value::as_str);
    let text = with_text(format!("schema `{name}`"), about);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten().take(30);
    let lines = properties.map(|(name, property)| {
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
        format!("- `{name}`{}{about}", if about.is_empty() { "" } else { ": " })
    });
    with_text(text, Some(&lines.collect::<Vec<_>>().join("\n")))
}

fn pipeline(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    let project = facts::named_pipeline(cursor, name, documents)?;
    let head = with_text(format!("pipeline `{}`", project.pipeline.name), project.pipeline.description.as_deref());
    let inputs = facts::inputs(&project).map(|(name, about)| match about {
        Some(about) => format!("- `{name}`: {about}"),
        None => format!("- `{name}`"),
    });
    let inputs: Vec<String> = inputs.collect();
    Some(if inputs.is_empty() { head } else { format!("{head}\n\ninputs:\n\n{}", inputs.join("\n")) })
}
