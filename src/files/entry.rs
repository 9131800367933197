//! Reads an artifact's list of files from JSON.

use std::collections::HashMap;

use serde_json::Value;

use crate::model::{Failure, FailureClass};

use super::path::normalize;
use super::problem::{Problems, escaped_path};

/// A file that an artifact lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The path relative to the workspace, without redundant parts (`./`).
    pub path: String,
    /// The text of the file; `None` deletes it.
    pub content: Option<String>,
    /// The permission bits, if the artifact gives them.
    pub mode: Option<u32>,
}

/// Parses the entries of an artifact: a list of `{path, content, mode?, delete?}`, or an object with such a list as
/// `files`. Ignores other fields, and entries that repeat an earlier one exactly. The failure lists all problems.
pub fn parse_entries(value: &Value) -> Result<Vec<FileEntry>, Failure> {
    let list = match value {
        Value::Array(list) => Some(list),
        Value::Object(object) => object.get("files").and_then(Value::as_array),
        _ => None,
    };
    let Some(list) = list else {
        return Err(Failure::new(FailureClass::SchemaMismatch, "the artifact is no list of files")
            .with_hint("give a list of `{path, content}`, or an object that has it as `files`"));
    };
    let mut problems = Problems::default();
    let mut entries = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        match parse_entry(item) {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.add(format!("{} {problem}", item_label(index, item))),
        }
    }
    problems.into_result(
        FailureClass::SchemaMismatch,
        "the artifact's files can't be read",
        "a file is `{path, content}`, with `mode` as an octal string like \"0755\", or `{path, delete: true}`",
    )?;
    Ok(without_repetitions(entries))
}

/// Removes entries that equal the first entry for their path.
fn without_repetitions(mut entries: Vec<FileEntry>) -> Vec<FileEntry> {
    let mut first_by_path: HashMap<&str, &FileEntry> = HashMap::new();
    let is_repetition: Vec<bool> = entries
        .iter()
        .map(|entry| {
            let first = first_by_path.get(entry.path.as_str()).copied();
            first_by_path.entry(&entry.path).or_insert(entry);
            first == Some(entry)
        })
        .collect();
    let mut is_repetition = is_repetition.into_iter();
    entries.retain(|_| !is_repetition.next().unwrap_or(false));
    entries
}

/// The words that name an item of the list in a message.
fn item_label(index: usize, item: &Value) -> String {
    match item.get("path").and_then(Value::as_str) {
        Some(path) => format!("file {} (`{}`)", index + 1, escaped_path(path)),
        None => format!("file {}", index + 1),
    }
}

fn parse_entry(item: &Value) -> Result<FileEntry, String> {
    if !item.is_object() {
        return Err("is no object".to_owned());
    }
    // Schemas for models often require every field, so `null` counts as absent.
    let field = |name: &str| item.get(name).filter(|value| !value.is_null());
    let path = match field("path") {
        Some(Value::String(path)) => normalize(path),
        Some(_) => return Err("has a `path` that is no string".to_owned()),
        None => return Err("has no `path`".to_owned()),
    };
    let delete = match field("delete") {
        None => false,
        Some(Value::Bool(delete)) => *delete,
        Some(_) => return Err("has a `delete` that is neither true nor false".to_owned()),
    };
    let content = match field("content") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err("has a `content` that is no string".to_owned()),
        None => None,
    };
    let mode = field("mode").map(parse_mode).transpose()?;
    match (delete, content) {
        (true, Some(text)) if !text.is_empty() => Err("has both `content` and `delete: true`".to_owned()),
        (true, _) => Ok(FileEntry { path, content: None, mode: None }),
        (false, None) => Err("has no `content`".to_owned()),
        (false, content) => Ok(FileEntry { path, content, mode }),
    }
}

/// The highest mode: the permission bits of user, group and others, without bits that grant privileges, such as setuid.
pub(super) const MAX_MODE: u32 = 0o777;

/// The problem with the permission bits of an entry, as the end of a sentence about the file; `None` if they are valid.
pub fn mode_problem(mode: &Value) -> Option<String> {
    parse_mode(mode).err()
}

/// Parses the permission bits of an entry.
fn parse_mode(value: &Value) -> Result<u32, String> {
    let text = value.as_str().ok_or("has a `mode` that is no string")?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= MAX_MODE)
        .ok_or_else(|| format!("has the mode `{}`, which is none from \"0000\" to \"0777\"", escaped_path(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_and_an_object_with_files_give_the_same_entries() {
        let list = json!([{"path": "a", "content": "x", "language": "rust", "mode": "0755", "delete": false},
            {"path": "b", "delete": true, "content": null, "mode": null}, {"path": "c", "content": ""}]);
        let parsed_entries = parse_entries(&list).unwrap();
        assert_eq!(parsed_entries, parse_entries(&json!({"summary": "s", "files": list})).unwrap());
        assert_eq!(
            parsed_entries[0],
            FileEntry { path: "a".to_owned(), content: Some("x".to_owned()), mode: Some(0o755) }
        );
        assert_eq!(parsed_entries[1], FileEntry { path: "b".to_owned(), content: None, mode: None });
        assert_eq!(parsed_entries[2].content.as_deref(), Some(""));
    }

    #[test]
    fn equal_entries_count_once() {
        let file = |path: &str, content: &str| json!({"path": path, "content": content});
        let parsed_entries =
            parse_entries(&json!([file("a", "x"), file("./a", "x"), file("b", "x"), file("a", "x"), file("b", "y")]))
                .unwrap();
        let paths: Vec<_> =
            parsed_entries.iter().map(|entry| (entry.path.as_str(), entry.content.as_deref())).collect();
        assert_eq!(paths, [("a", Some("x")), ("b", Some("x")), ("b", Some("y"))]);
    }

    #[test]
    fn one_failure_lists_every_malformed_entry() {
        let failure = parse_entries(&json!([
            1, {"content": "x"}, {"path": 1, "content": ""}, {"path": "a"}, {"path": "b", "content": {}},
            {"path": "c", "content": "x", "delete": true}, {"path": "d", "content": "", "mode": 755},
            {"path": "e", "content": "", "mode": "4755"}, {"path": "f", "content": "", "mode": "9"},
            {"path": "g", "content": "", "delete": "yes"}, {"path": "h"}, {"path": "ok", "content": ""},
        ]))
        .unwrap_err();
        assert_eq!(failure.class, FailureClass::SchemaMismatch);
        for part in ["file 1 is no object", "file 2 has no `path`", "file 6 (`c`)", "`4755`", "and 1 more"] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
        for value in [json!({}), json!("x"), json!(null), json!({"files": {}})] {
            assert_eq!(parse_entries(&value).unwrap_err().class, FailureClass::SchemaMismatch);
        }
    }
}
