//! Parses JSON files into values with the byte range of each part, and collects the references in schemas.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::files;
use super::json_spans::{self, IndexError};
use super::spans::{Document, SpanIndex};
use crate::diagnostic::{Code, Diagnostic, SourceFile};

/// Reads a JSON file that does not belong to the project, such as an artifact. Messages name it by `display_path`.
///
/// # Errors
/// The reason why the file can't be read or parsed, or the keys that it contains twice.
pub fn load_json(path: &Path, display_path: &str) -> Result<Document, Vec<Diagnostic>> {
    json_document(files::read_file(path, display_path).map_err(|diagnostic| vec![*diagnostic])?)
}

/// Parses JSON that does not belong to the project, such as the inputs of a run.
///
/// # Errors
/// The reason why the text can't be parsed, or the keys that it contains twice.
pub fn json_document(file: Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let value = parse_json_value(&file)?;
    let spans = match json_spans::index(&file) {
        Ok(spans) => spans,
        Err(IndexError::DuplicateKeys(diagnostics)) => return Err(diagnostics),
        // Data may have more values than the index allows. Messages about such data have no positions.
        Err(IndexError::TooManyValues(_)) => SpanIndex::default(),
    };
    Ok(Document { file, value, spans })
}

/// Parses a JSON file of the project. Preserves all digits of numbers.
pub(super) fn parse_json(file: &Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let value = parse_json_value(file)?;
    let spans = json_spans::index(file).map_err(|error| match error {
        IndexError::DuplicateKeys(diagnostics) => diagnostics,
        IndexError::TooManyValues(diagnostic) => vec![*diagnostic],
    })?;
    Ok(Document { file: Arc::clone(file), value, spans })
}

pub(super) fn parse_json_value(file: &Arc<SourceFile>) -> Result<Value, Vec<Diagnostic>> {
    serde_json::from_str::<Value>(&file.text).map_err(|error| {
        let start = byte_offset(&file.text, error.line(), error.column());
        let text = error.to_string().to_lowercase();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        vec![Diagnostic::error(Code::JsonSyntax, message).with_span(file, start..start)]
    })
}

/// The byte offset of a line and column. Both count from 1, the column in bytes.
fn byte_offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// Collects the file names and the `$id`s to which a schema refers.
pub(super) fn collect_references(value: &Value, file_names: &mut Vec<String>, ids: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                match member {
                    Value::String(target) if key == "$ref" => {
                        let name = target.split('#').next().unwrap_or_default();
                        let name = name.strip_prefix("./").unwrap_or(name);
                        match name {
                            "" => {}
                            id if id.contains("://") => ids.push(id.to_owned()),
                            name => file_names.push(name.to_owned()),
                        }
                    }
                    member => collect_references(member, file_names, ids),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|member| collect_references(member, file_names, ids)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
