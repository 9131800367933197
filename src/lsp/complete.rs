//! Completion: the keys, values and names that are valid at the cursor.

use std::ops::Range;
use std::path::Path;

use super::checks::Checks;
use super::completion::{Completion, CompletionKind, new_completion};
use super::cursor::{EditorCursor, FilePosition, YamlPosition, YamlRole, step_path};
use super::documents::Documents;
use super::keys::{self, KeyNode};
use super::lookups;
use super::outline::Outline;
use super::outline_entry::PathSegment;
use super::projects::FileRole;
use super::template_cursor::{ExpectedSyntax, TemplatePosition};
use super::test_case;
use super::tool_names::{names_tool, tool_completions};
use crate::check::{NameOrigin, VisibleName};
use crate::config::SETTINGS_FILE;
use crate::template::{FILTERS, FUNCTIONS, TESTS};

/// The maximum number of agents that completion offers. For each agent, completion searches the text for its model.
const MAX_AGENTS: usize = 1_000;

/// The first words of template tags.
const TAG_KEYWORDS: &[&str] = &[
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
const INPUT_SCHEMA_KEYWORDS: &[(&str, &str)] = &[
    ("type", "The type of the value: `string`, `integer`, `number`, `boolean`, `array` or `object`."),
    ("description", "The purpose of the value."),
    ("default", "The value if a run provides none; it makes the input optional."),
    ("enum", "The allowed values."),
    ("items", "The schema of the items of a list."),
    ("properties", "The properties of an object."),
    ("required", "The required properties of an object."),
];

/// Returns all completions for the cursor.
pub(super) fn completions_at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Vec<Completion> {
    let Some(cursor) = EditorCursor::from_position(path, offset, documents) else { return Vec::new() };
    match &cursor.position {
        FilePosition::Prompt(template) => completions_in_template(&cursor, template, documents, checks),
        FilePosition::Yaml(field) => match &field.template {
            Some(template) => completions_in_template(&cursor, template, documents, checks),
            None => completions_in_field(&cursor, field, documents),
        },
        FilePosition::Schema => super::schema_refs::ref_completions(&cursor, documents),
    }
}

fn completions_in_template(
    cursor: &EditorCursor,
    template: &TemplatePosition,
    documents: &Documents,
    checks: &Checks,
) -> Vec<Completion> {
    let fixed_completions = |names: &[&str], kind, detail: &str| {
        let identifiers = names.iter().filter(|name| name.starts_with(char::is_alphabetic));
        identifiers.map(|name| new_completion(name, kind, detail, None, &template.name_range)).collect::<Vec<_>>()
    };
    match template.expected {
        ExpectedSyntax::Variable | ExpectedSyntax::Property => {
            let names = lookups::visible_names(cursor, documents, checks);
            let mut completions: Vec<Completion> =
                names.iter().map(|name| name_completion(name, &template.name_range)).collect();
            if template.expected == ExpectedSyntax::Variable {
                completions.extend(fixed_completions(FUNCTIONS, CompletionKind::Function, "function"));
            }
            completions
        }
        ExpectedSyntax::Filter => fixed_completions(FILTERS, CompletionKind::Function, "filter"),
        ExpectedSyntax::Test => fixed_completions(TESTS, CompletionKind::Function, "test"),
        ExpectedSyntax::Statement => fixed_completions(TAG_KEYWORDS, CompletionKind::Keyword, ""),
        ExpectedSyntax::Include => lookups::folder_files(cursor, "prompts", documents)
            .iter()
            .map(|name| new_completion(name, CompletionKind::File, "prompt", None, &template.name_range))
            .collect(),
        ExpectedSyntax::Nothing => Vec::new(),
    }
}

fn name_completion(name: &VisibleName, replaced_range: &Range<usize>) -> Completion {
    let origin = match name.origin {
        NameOrigin::Input => ", input",
        NameOrigin::Artifact => ", artifact",
        NameOrigin::Local | NameOrigin::Property => "",
    };
    let optional = if name.may_be_absent { ", may be missing" } else { "" };
    let kind = if name.origin == NameOrigin::Property { CompletionKind::Property } else { CompletionKind::Variable };
    let detail = format!("{}{origin}{optional}", name.ty);
    new_completion(&name.name, kind, &detail, name.description.as_deref(), replaced_range)
}

fn completions_in_field(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let Some(root) = keys::format_schema(&cursor.project_file.role) else { return Vec::new() };
    let mapping_path = match field.path.split_last() {
        Some((PathSegment::Key(_), parent)) if field.is_key => parent,
        _ => field.path.as_slice(),
    };
    let node = KeyNode::find(root, mapping_path);
    if field.is_key || (!field.is_inline && node.is_some_and(KeyNode::is_mapping)) {
        return key_completions(cursor, field, mapping_path, documents);
    }
    let values = node.map(KeyNode::values).unwrap_or_default();
    let values = values
        .iter()
        .map(|(name, description)| new_completion(name, CompletionKind::Value, "", *description, &field.word_range));
    let mut completions: Vec<Completion> =
        project_completions(cursor, field, documents).into_iter().chain(values).collect();
    // `agent:` needs a space before its value.
    if cursor.text.get(..field.word_range.start).is_some_and(|preceding| preceding.ends_with(':')) {
        for completion in &mut completions {
            completion.insert_text.insert(0, ' ');
        }
    }
    completions
}

/// Returns the keys that a mapping may have and does not have yet.
fn key_completions(
    cursor: &EditorCursor,
    field: &YamlPosition,
    parent: &[PathSegment],
    documents: &Documents,
) -> Vec<Completion> {
    let Some(root) = keys::format_schema(&cursor.project_file.role) else { return Vec::new() };
    let is_at_position = |word: &Range<usize>| *word == field.word_range;
    let present_names: Vec<&str> = field
        .outline
        .mapping_entries(parent)
        .filter(|(_, entry)| !entry.key_range.as_ref().is_some_and(is_at_position))
        .map(|(name, _)| name)
        .collect();
    let is_missing = |name: &str| !present_names.contains(&name);
    let key_suffix = |node: Option<KeyNode>| if field.is_key { "" } else { node.map_or(": ", KeyNode::key_suffix) };
    let mut completions: Vec<Completion> = Vec::new();
    for (name, node, is_required) in KeyNode::find(root, parent).map(|node| node.child_keys(root)).unwrap_or_default() {
        if is_missing(name) {
            let detail = format!("{}{}", node.type_label(), if is_required { ", required" } else { "" });
            let completion = new_completion(name, CompletionKind::Key, &detail, node.description(), &field.word_range);
            completions.push(Completion { insert_text: format!("{name}{}", key_suffix(Some(node))), ..completion });
        }
    }
    completions.sort_by_key(|completion| !completion.detail.ends_with("required"));
    if matches!((&cursor.project_file.role, parent), (FileRole::Pipeline, [PathSegment::Key(first), PathSegment::Key(_)]) if first == "inputs")
    {
        for (name, description) in INPUT_SCHEMA_KEYWORDS.iter().filter(|(name, _)| is_missing(name)) {
            let completion =
                new_completion(name, CompletionKind::Key, "JSON Schema", Some(description), &field.word_range);
            completions.push(Completion { insert_text: format!("{name}{}", key_suffix(None)), ..completion });
        }
    }
    for (name, detail, description) in other_pipeline_keys(cursor, field, parent, documents) {
        if is_missing(&name) {
            let completion =
                new_completion(&name, CompletionKind::Key, detail, description.as_deref(), &field.word_range);
            completions.push(Completion { insert_text: format!("{name}{}", key_suffix(None)), ..completion });
        }
    }
    completions
}

/// Returns the keys that depend on another pipeline: the inputs of a pipeline that a step calls, and the names that a
/// test case uses.
fn other_pipeline_keys(
    cursor: &EditorCursor,
    field: &YamlPosition,
    parent: &[PathSegment],
    documents: &Documents,
) -> Vec<test_case::NamedItem> {
    if cursor.project_file.role == FileRole::TestCase {
        return test_case::mapping_keys(cursor, field, parent, documents);
    }
    let Some(step) = step_path(parent) else { return Vec::new() };
    if parent != [step, &[PathSegment::Key("with".to_owned())]].concat() {
        return Vec::new();
    }
    let file = field.outline.find(&[step, &[PathSegment::Key("pipeline".to_owned())]].concat());
    let file = file.and_then(|entry| cursor.text.get(entry.value_range.clone()));
    file.map(|file| test_case::called_inputs(cursor, file, documents)).unwrap_or_default()
}

/// Returns the names from the project that are valid as the value.
fn project_completions(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let completion = |name: &str, kind, detail: &str| new_completion(name, kind, detail, None, &field.word_range);
    match field.role {
        YamlRole::Agent => {
            let agents = [PathSegment::Key("agents".to_owned())];
            let completions = field.outline.mapping_entries(&agents).take(MAX_AGENTS).map(|(name, entry)| {
                let model =
                    field.outline.find(&[entry.path.as_slice(), &[PathSegment::Key("model".to_owned())]].concat());
                let model = model.and_then(|entry| cursor.text.get(entry.value_range.clone())).unwrap_or_default();
                completion(name, CompletionKind::Agent, model)
            });
            completions.collect()
        }
        YamlRole::Artifact => artifact_completions(cursor, field, documents),
        YamlRole::Prompt => lookups::folder_files(cursor, "prompts", documents)
            .iter()
            .map(|name| completion(name, CompletionKind::File, "prompt"))
            .collect(),
        YamlRole::Schema | YamlRole::Output => {
            let names = lookups::folder_files(cursor, "schemas", documents);
            let names = names.iter().filter_map(|name| name.strip_suffix(".schema.json"));
            let mut completions: Vec<Completion> =
                names.map(|name| completion(name, CompletionKind::File, "schema")).collect();
            if field.role == YamlRole::Schema {
                completions.push(completion("text", CompletionKind::Value, "a plain string"));
                completions.push(completion("any", CompletionKind::Value, "any JSON value"));
            }
            completions
        }
        YamlRole::Pipeline => pipeline_completions(cursor, field, documents),
        YamlRole::Model => model_completions(cursor, field, documents),
        YamlRole::Plain if names_tool(&field.path) => tool_completions(cursor, field, documents),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => Vec::new(),
    }
}

fn artifact_completions(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let list_path = field.path.split_last().map(|(_, list_path)| list_path).unwrap_or_default();
    let other_items = field.outline.entries.iter().filter(|entry| {
        entry.path.len() == list_path.len() + 1
            && entry.path.starts_with(list_path)
            && entry.value_range != field.word_range
    });
    let listed_names: Vec<&str> = other_items
        .filter_map(|entry| cursor.text.get(entry.value_range.clone()))
        .map(|name| name.trim_end_matches('?'))
        .collect();
    let artifacts = lookups::readable_artifacts(cursor, field, documents);
    let unlisted = artifacts.iter().filter(|artifact| !listed_names.contains(&artifact.name.as_str()));
    let preceding = cursor.text.get(..field.word_range.start).unwrap_or_default();
    let is_quoted = preceding.ends_with(['"', '\'']);
    let completions = unlisted.map(|artifact| {
        let name = if artifact.may_be_absent { format!("{}?", artifact.name) } else { artifact.name.clone() };
        let completion = new_completion(
            &name,
            CompletionKind::Variable,
            &artifact.ty,
            artifact.description.as_deref(),
            &field.word_range,
        );
        // Other YAML tools read `?` in a list such as `[plan, code?]` as syntax.
        let needs_quotes = artifact.may_be_absent && !is_quoted;
        let insert_text = if needs_quotes { format!("\"{name}\"") } else { name };
        Completion { insert_text, ..completion }
    });
    completions.collect()
}

/// Returns the other pipelines, each by its path relative to the folder of this file.
fn pipeline_completions(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let folder = cursor.path.parent().unwrap_or(Path::new(""));
    let is_case = cursor.project_file.role == FileRole::TestCase;
    let files = lookups::project_pipelines(cursor, documents).into_iter().filter(|file| *file != cursor.path);
    let names = files.filter_map(|file| match file.strip_prefix(folder) {
        Ok(name) => Some(name.to_string_lossy().replace('\\', "/")),
        Err(_) if is_case => {
            let name = file.strip_prefix(folder.parent()?).ok()?.to_string_lossy().replace('\\', "/");
            Some(format!("../{name}"))
        }
        Err(_) => None,
    });
    names.map(|name| new_completion(&name, CompletionKind::File, "pipeline", None, &field.word_range)).collect()
}

fn model_completions(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let completion =
        |name: &str, detail: &str| new_completion(name, CompletionKind::Value, detail, None, &field.word_range);
    let settings = lookups::current_file(&cursor.project_file.root.join(SETTINGS_FILE), documents);
    let text = settings.as_ref().map(|file| file.text.as_str()).unwrap_or_default();
    let outline = Outline::parse(text, None);
    let [aliases, providers] = ["models", "providers"].map(|key| vec![PathSegment::Key(key.to_owned())]);
    let mut completions: Vec<Completion> = Vec::new();
    // Completion offers no aliases in the definition of an alias, which must not refer to itself.
    if field.path.first() != aliases.first() {
        completions.extend(outline.mapping_entries(&aliases).map(|(name, _)| completion(name, "alias of orch.yaml")));
    }
    completions.push(completion("auto", "the first available model: with a key, on a server, or embedded"));
    completions.push(completion("local", "the embedded model"));
    completions.extend(
        outline.mapping_entries(&providers).map(|(name, _)| completion(&format!("{name}/"), "provider of orch.yaml")),
    );
    completions
}
