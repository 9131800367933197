//! Parses JSON files into values with the byte range of each part, and finds what schemas refer to.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::files;
use super::json_spans::{self, Refused};
use super::spans::{Document, SpanIndex};
use crate::diagnostic::{Code, Diagnostic, SourceFile};

/// Reads a JSON file that is not a file of the project, such as an artifact.
///
/// # Errors
/// Why it can't be read or parsed, or the keys that it contains twice.
pub fn load_json(path: &Path, shown: &str) -> Result<Document, Vec<Diagnostic>> {
    json_document(files::read(path, shown).map_err(|problem| vec![*problem])?)
}

/// Parses JSON that is not a file of the project, such as the inputs of a run.
///
/// # Errors
/// Why it can't be parsed, or the keys that it contains twice.
pub fn json_document(file: Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let value = json_value(&file)?;
    let spans = match json_spans::index(&file) {
        Ok(spans) => spans,
        Err(Refused::Twice(found)) => return Err(found),
        // Data may have more values than are indexed; messages about it then have no positions.
        Err(Refused::Large(_)) => SpanIndex::default(),
    };
    Ok(Document { file, value, spans })
}

/// Parses a JSON file of the project. Numbers keep their digits.
pub(super) fn parse_json(file: &Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let value = json_value(file)?;
    let spans = json_spans::index(file).map_err(|refused| match refused {
        Refused::Twice(found) => found,
        Refused::Large(problem) => vec![*problem],
    })?;
    Ok(Document { file: Arc::clone(file), value, spans })
}

pub(super) fn json_value(file: &Arc<SourceFile>) -> Result<Value, Vec<Diagnostic>> {
    serde_json::from_str::<Value>(&file.text).map_err(|error| {
        let at = offset(&file.text, error.line(), error.column());
        let text = error.to_string().to_lowercase();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        vec![Diagnostic::error(Code::JsonSyntax, message).at(file, at..at)]
    })
}

/// The byte offset of a line and column. Both count from 1, the column in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// Collects the file names and the `$id`s that a schema refers to.
pub(super) fn references(value: &Value, wanted: &mut Vec<String>, ids: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner {
                    Value::String(target) if key == "$ref" => {
                        let name = target.split('#').next().unwrap_or_default();
                        let name = name.strip_prefix("./").unwrap_or(name);
                        match name {
                            "" => {}
                            id if id.contains("://") => ids.push(id.to_owned()),
                            name => wanted.push(name.to_owned()),
                        }
                    }
                    inner => references(inner, wanted, ids),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, wanted, ids)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
