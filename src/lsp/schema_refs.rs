//! Completes and resolves a `$ref` in a schema.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::completion::{Completion, CompletionKind};
use super::cursor::EditorCursor;
use super::definition_target::DefinitionTarget;
use super::documents::Documents;
use super::lookups;
use super::projects::FileRole;
use crate::config::{self, Document};
use crate::diagnostic::SourceFile;

/// Returns the value of the `$ref` at the cursor, and its bytes. The closing quote may be missing.
pub(super) fn ref_at(text: &str, offset: usize) -> Option<(String, Range<usize>)> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..)?.lines().next()?;
    // Uses the last `$ref` on the line that begins before the cursor.
    let key_end =
        line.match_indices("\"$ref\"").map(|(index, _)| index + 6).filter(|end| start + end <= offset).last()?;
    let colon = key_end + line.get(key_end..)?.find(':')?;
    let value_start = colon + line.get(colon..)?.find('"')? + 1;
    let length = line.get(value_start..)?.find('"').unwrap_or(line.len() - value_start);
    let range = start + value_start..start + value_start + length;
    (range.start <= offset && offset <= range.end)
        .then(|| (text.get(range.clone()).unwrap_or_default().to_owned(), range))
}

/// Returns completions for a `$ref`: the definitions in this file, and other files.
pub(super) fn ref_completions(cursor: &EditorCursor, documents: &Documents) -> Vec<Completion> {
    let Some((_, replace_range)) = ref_at(&cursor.text, cursor.offset) else { return Vec::new() };
    let FileRole::Schema(own_name) = &cursor.project_file.role else { return Vec::new() };
    let new_completion = |label: String, kind, detail: &str, description: Option<&str>| {
        let (insert_text, replace_range) = (label.clone(), replace_range.clone());
        Completion {
            label,
            kind,
            detail: detail.to_owned(),
            documentation: description.map(str::to_owned),
            insert_text,
            replace_range,
        }
    };
    let mut completions = Vec::new();
    // JSON with an open quote can't be parsed, so this closes the quote.
    let closed = format!("{}\"", cursor.text.get(..replace_range.end).unwrap_or_default());
    let remaining = cursor.text.get(replace_range.end..).unwrap_or_default().trim_start_matches('"');
    let value: Value = serde_json::from_str(&format!("{closed}{remaining}")).unwrap_or_default();
    for group in ["$defs", "definitions"] {
        for (name, schema) in value.get(group).and_then(Value::as_object).into_iter().flatten() {
            let description = schema.get("description").and_then(Value::as_str);
            completions.push(new_completion(format!("#/{group}/{name}"), CompletionKind::Value, "", description));
        }
    }
    let other_files = lookups::folder_files(cursor, "schemas", documents).into_iter();
    let other_files = other_files
        .filter(|name| name != own_name && Path::new(name).extension().is_some_and(|extension| extension == "json"));
    completions.extend(other_files.map(|name| new_completion(name, CompletionKind::File, "schema", None)));
    completions
}

/// Parses a schema file; the result contains the byte range of each value.
pub(super) fn parse_schema_file(file: &Arc<SourceFile>) -> Option<Document> {
    config::parse(file).ok()
}

/// Returns the target of the `$ref` at the cursor, the schema at the target, and the bytes of the `$ref`.
pub(super) fn resolve_ref(
    cursor: &EditorCursor,
    documents: &Documents,
) -> Option<(DefinitionTarget, Value, Range<usize>)> {
    let (name, range) = ref_at(&cursor.text, cursor.offset)?;
    let (file, fragment) = name.split_once('#').unwrap_or((&name, ""));
    let path = match file.strip_prefix("./").unwrap_or(file) {
        "" => cursor.path.clone(),
        file => config::path_in_folder(&cursor.project_file.root, "schemas", file)?,
    };
    let document = parse_schema_file(&lookups::current_file(&path, documents)?)?;
    let value = document.value.pointer(fragment)?.clone();
    let span = if fragment.is_empty() { 0..0 } else { document.spans.key(fragment) };
    Some((DefinitionTarget { file: document.file, span }, value, range))
}
