//! Completion and targets for a `$ref` in a schema.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::complete::{Choice, CompletionKind, files};
use super::cursor::EditorCursor;
use super::definition::DefinitionTarget;
use super::documents::Documents;
use super::facts;
use super::projects::FileRole;
use crate::config::{self, Document};
use crate::diagnostic::SourceFile;

/// The value of the `$ref` at a position, and its bytes. The closing quote may be missing.
pub(super) fn reference(text: &str, offset: usize) -> Option<(String, Range<usize>)> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(start..)?.lines().next()?;
    // The last `$ref` on the line that begins before the position.
    let key = line.match_indices("\"$ref\"").map(|(at, _)| at + 6).filter(|at| start + at <= offset).last()?;
    let colon = key + line.get(key..)?.find(':')?;
    let open = colon + line.get(colon..)?.find('"')? + 1;
    let length = line.get(open..)?.find('"').unwrap_or(line.len() - open);
    let range = start + open..start + open + length;
    (range.start <= offset && offset <= range.end)
        .then(|| (text.get(range.clone()).unwrap_or_default().to_owned(), range))
}

/// Returns completions for a `$ref`: the definitions in this file, and other files.
pub(super) fn choices(cursor: &EditorCursor, documents: &Documents) -> Vec<Choice> {
    let Some((_, replace)) = reference(&cursor.text, cursor.offset) else { return Vec::new() };
    let FileRole::Schema(own) = &cursor.member.kind else { return Vec::new() };
    let new = |label: String, sort, detail: &str, about: Option<&str>| {
        let (insert, replace) = (label.clone(), replace.clone());
        Choice { label, sort, detail: detail.to_owned(), about: about.map(str::to_owned), insert, replace }
    };
    let mut list = Vec::new();
    // JSON with an open quote can't be parsed, so close it.
    let closed = format!("{}\"", cursor.text.get(..replace.end).unwrap_or_default());
    let rest = cursor.text.get(replace.end..).unwrap_or_default().trim_start_matches('"');
    let value: Value = serde_json::from_str(&format!("{closed}{rest}")).unwrap_or_default();
    for group in ["$defs", "definitions"] {
        for (name, schema) in value.get(group).and_then(Value::as_object).into_iter().flatten() {
            let about = schema.get("description").and_then(Value::as_str);
            list.push(new(format!("#/{group}/{name}"), CompletionKind::Value, "", about));
        }
    }
    let others = files(cursor, "schemas", documents).into_iter();
    let others = others.filter(|name| name != own && Path::new(name).extension().is_some_and(|end| end == "json"));
    list.extend(others.map(|name| new(name, CompletionKind::File, "schema", None)));
    list
}

/// A parsed schema file, with the byte range of each value.
pub(super) fn document(file: &Arc<SourceFile>) -> Option<Document> {
    config::parse(file).ok()
}

/// The target of the `$ref` at a position, the schema there, and the bytes of the `$ref`.
pub(super) fn target(cursor: &EditorCursor, documents: &Documents) -> Option<(DefinitionTarget, Value, Range<usize>)> {
    let (name, at) = reference(&cursor.text, cursor.offset)?;
    let (file, fragment) = name.split_once('#').unwrap_or((&name, ""));
    let path = match file.strip_prefix("./").unwrap_or(file) {
        "" => cursor.path.clone(),
        file => config::member_path(&cursor.member.root, "schemas", file)?,
    };
    let document = document(&facts::file(&path, documents)?)?;
    let value = document.value.pointer(fragment)?.clone();
    let span = if fragment.is_empty() { 0..0 } else { document.spans.key(fragment) };
    Some((DefinitionTarget { file: document.file, span }, value, at))
}
