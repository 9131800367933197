//! Hover: describes the name or value at the cursor.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::checks::Checks;
use super::cursor::{EditorCursor, FilePosition, YamlPosition, YamlRole};
use super::definition::find_model_alias;
use super::documents::Documents;
use super::keys::{self, KeyNode};
use super::lookups;
use super::named_files::{expected_output_type, resolve_file_name};
use super::outline::Outline;
use super::outline_entry::PathSegment;
use super::projects::FileRole;
use super::schema_refs;
use super::template_cursor::{ExpectedSyntax, TemplatePosition};
use crate::check::{NameOrigin, VisibleName};
use crate::config::{self, OutputType};

/// The text to show for a range of a file.
#[derive(Debug)]
pub(super) struct Hover {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// The maximum length, in characters, of a text from the user's files.
const MAX_TEXT_CHARS: usize = 2_000;

/// Describes the name or value at the cursor.
pub(super) fn hover_at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Option<Hover> {
    let cursor = EditorCursor::from_position(path, offset, documents)?;
    match &cursor.position {
        FilePosition::Prompt(template) => hover_in_template(&cursor, template, documents, checks),
        FilePosition::Yaml(field) => match &field.template {
            Some(template) => hover_in_template(&cursor, template, documents, checks),
            None => hover_in_field(&cursor, field, documents),
        },
        FilePosition::Schema => {
            let (target, schema, span) = schema_refs::resolve_ref(&cursor, documents)?;
            Some(Hover { text: describe_schema(&target.file.path, &schema), span })
        }
    }
}

fn hover_in_template(
    cursor: &EditorCursor,
    template: &TemplatePosition,
    documents: &Documents,
    checks: &Checks,
) -> Option<Hover> {
    let text = match template.expected {
        ExpectedSyntax::Filter if !template.name.is_empty() => format!("filter `{}`", template.name),
        ExpectedSyntax::Test if !template.name.is_empty() => format!("test `{}`", template.name),
        ExpectedSyntax::Include => describe_prompt(cursor, &template.name, documents)?,
        ExpectedSyntax::Variable | ExpectedSyntax::Property => {
            let names = lookups::visible_names(cursor, documents, checks);
            describe_name(names.iter().find(|visible| visible.name == template.name)?, template.base.as_deref())
        }
        ExpectedSyntax::Filter | ExpectedSyntax::Test | ExpectedSyntax::Statement | ExpectedSyntax::Nothing => {
            return None;
        }
    };
    Some(Hover { text, span: template.name_range.clone() })
}

/// Describes a name: its type, its origin, and the description in its schema.
fn describe_name(visible: &VisibleName, base: Option<&str>) -> String {
    let path = base.map_or_else(|| visible.name.clone(), |base| format!("{base}.{}", visible.name));
    let origin = match visible.origin {
        NameOrigin::Input => "input of the run",
        NameOrigin::Artifact => "artifact",
        NameOrigin::Local => "variable",
        NameOrigin::Property => "property",
    };
    let optional = if visible.may_be_absent { ", may be missing" } else { "" };
    with_description(format!("`{path}`: {} ({origin}{optional})", visible.ty), visible.description.as_deref())
}

fn with_description(heading: String, description: Option<&str>) -> String {
    match description.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => format!("{heading}\n\n{}", text.chars().take(MAX_TEXT_CHARS).collect::<String>()),
        None => heading,
    }
}

fn hover_in_field(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Option<Hover> {
    let root = keys::format_schema(&cursor.project_file.role)?;
    let name = cursor.text.get(field.word_range.clone())?;
    let text = match field.role {
        YamlRole::Agent => describe_agent(cursor, field, name),
        YamlRole::Artifact => {
            let artifacts = lookups::readable_artifacts(cursor, field, documents);
            let artifact = artifacts.iter().find(|artifact| artifact.name == name.trim_end_matches('?'));
            artifact.map(|artifact| describe_name(artifact, None))
        }
        YamlRole::Prompt => describe_prompt(cursor, name, documents),
        YamlRole::Schema => describe_named_schema(cursor, name, documents),
        YamlRole::Output => match expected_output_type(&cursor.text, &field.outline, &field.path)? {
            OutputType::Text => describe_named_schema(cursor, "text", documents),
            OutputType::Any => describe_named_schema(cursor, "any", documents),
            OutputType::File(file) => describe_named_schema(cursor, &file, documents),
            OutputType::BuiltIn(_) => None,
        },
        YamlRole::Pipeline => describe_pipeline(cursor, name, documents),
        YamlRole::Model => find_model_alias(cursor, name, documents).and_then(|target| {
            let outline = Outline::parse(&target.file.text, None);
            let entry = outline.find(&[PathSegment::Key("models".to_owned()), PathSegment::Key(name.to_owned())])?;
            Some(format!("model `{name}`, an alias: `{}`", target.file.text.get(entry.value_range.clone())?))
        }),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    };
    let is_agent = matches!(field.path.as_slice(), [PathSegment::Key(first), PathSegment::Key(_)] if first == "agents");
    let describe_word = || {
        if field.is_key && is_agent && cursor.project_file.role == FileRole::Pipeline {
            return describe_agent(cursor, field, name);
        }
        describe_key(KeyNode::find(root, &field.path)?, field, name)
    };
    Some(Hover { text: text.or_else(describe_word)?, span: field.word_range.clone() })
}

/// Describes a key of the file format and, if it is one of a fixed set, the value at the cursor.
fn describe_key(node: KeyNode, field: &YamlPosition, value: &str) -> Option<String> {
    let name = field.path.iter().rev().find_map(|segment| match segment {
        PathSegment::Key(name) => Some(name.as_str()),
        PathSegment::Item(_) => None,
    })?;
    let mut text = with_description(format!("`{name}`: {}", node.type_label()), node.description());
    let described_value = node.values().into_iter().find(|(known, _)| !field.is_key && known == value);
    if let Some((value, Some(description))) = described_value {
        text = format!("{text}\n\n`{value}`: {description}");
    }
    Some(match node.example() {
        Some(example) => format!("{text}\n\nexample: `{}`", example.replace('\n', " ")),
        None => text,
    })
}

fn describe_agent(cursor: &EditorCursor, field: &YamlPosition, name: &str) -> Option<String> {
    let entry = field.outline.find(&[PathSegment::Key("agents".to_owned()), PathSegment::Key(name.to_owned())])?;
    let settings = field.outline.mapping_entries(&entry.path).map(|(key, entry)| {
        let value = cursor.text.get(entry.value_range.clone()).unwrap_or_default();
        format!("- `{key}`: `{value}`")
    });
    let settings: Vec<String> = settings.collect();
    Some(with_description(format!("agent `{name}`"), Some(&settings.join("\n"))))
}

fn describe_prompt(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    let file = lookups::current_file(&config::path_in_folder(&cursor.project_file.root, "prompts", name)?, documents)?;
    let first_line = file.text.trim().lines().next().map(str::to_owned);
    Some(with_description(format!("prompt `prompts/{name}`"), first_line.as_deref()))
}

fn describe_named_schema(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    match name {
        "text" => return Some("`text`: a plain string".to_owned()),
        "any" => return Some("`any`: any JSON value".to_owned()),
        _ => {}
    }
    let file = lookups::current_file(&resolve_file_name(cursor, YamlRole::Schema, name)?, documents)?;
    let document = schema_refs::parse_schema_file(&file)?;
    Some(describe_schema(&file.path, &document.value))
}

/// Describes a schema with its description and its properties.
fn describe_schema(path: &str, schema: &Value) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let description = schema.get("description").and_then(Value::as_str);
    let text = with_description(format!("schema `{name}`"), description);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten().take(30);
    let lines = properties.map(|(name, property)| {
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        format!("- `{name}`{}{description}", if description.is_empty() { "" } else { ": " })
    });
    with_description(text, Some(&lines.collect::<Vec<_>>().join("\n")))
}

fn describe_pipeline(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<String> {
    let project = lookups::load_named_pipeline(cursor, name, documents)?;
    let heading =
        with_description(format!("pipeline `{}`", project.pipeline.name), project.pipeline.description.as_deref());
    let inputs = lookups::pipeline_inputs(&project).map(|(name, description)| match description {
        Some(description) => format!("- `{name}`: {description}"),
        None => format!("- `{name}`"),
    });
    let inputs: Vec<String> = inputs.collect();
    Some(if inputs.is_empty() { heading } else { format!("{heading}\n\ninputs:\n\n{}", inputs.join("\n")) })
}
