//! Maps the JSON pointer of each part of a file to a byte range.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::SourceFile;

/// A parsed file: its text, its value, and the byte range of each part.
#[derive(Clone, Debug)]
pub struct Document {
    /// The text of the file, and its path.
    pub file: Arc<SourceFile>,
    /// The parsed value.
    pub value: Value,
    /// The byte range of each key and value.
    pub spans: SpanIndex,
}

/// The byte range of every key and value of a file, by JSON pointer.
#[derive(Clone, Debug, Default)]
pub struct SpanIndex {
    entries: HashMap<String, SpanEntry>,
    unportable_scalars: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
struct SpanEntry {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl SpanIndex {
    /// Records the range of a value, and of its key if it has one.
    pub(super) fn insert(&mut self, pointer: String, key: Option<Range<usize>>, value: Range<usize>) {
        self.entries.insert(pointer, SpanEntry { key, value });
    }

    /// Records the range of a scalar that YAML 1.1 parsers refuse.
    pub(super) fn add_unportable_scalar(&mut self, range: Range<usize>) {
        self.unportable_scalars.push(range);
    }

    /// The ranges of plain scalars with a `?` between brackets or braces, which YAML 1.1 parsers such as PyYAML refuse.
    pub fn unportable_scalars(&self) -> &[Range<usize>] {
        &self.unportable_scalars
    }

    /// The byte range of a value, or of its nearest indexed ancestor if the index does not contain the value.
    pub fn value(&self, pointer: &str) -> Range<usize> {
        self.nearest_entry(pointer).map_or(0..0, |entry| entry.value.clone())
    }

    /// The byte range of a value's key, or of the value if it has no key.
    pub fn key(&self, pointer: &str) -> Range<usize> {
        self.nearest_entry(pointer).map_or(0..0, |entry| entry.key.clone().unwrap_or_else(|| entry.value.clone()))
    }

    /// Whether the index contains the value itself, and not only an ancestor.
    pub fn contains(&self, pointer: &str) -> bool {
        self.entries.contains_key(pointer)
    }

    /// Every pointer, in no particular order.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The ranges of all keys, in no particular order.
    pub(super) fn key_ranges(&self) -> impl Iterator<Item = &Range<usize>> {
        self.entries.values().filter_map(|entry| entry.key.as_ref())
    }

    /// The entry of the value, or of its nearest indexed ancestor.
    fn nearest_entry(&self, pointer: &str) -> Option<&SpanEntry> {
        let mut pointer = pointer;
        loop {
            if let Some(entry) = self.entries.get(pointer) {
                return Some(entry);
            }
            pointer = pointer.get(..pointer.rfind('/')?)?;
        }
    }
}

/// The pointer of a member or item below `parent`.
pub fn child_pointer(parent: &str, token: &str) -> String {
    let mut pointer = String::with_capacity(parent.len() + token.len() + 1);
    pointer.push_str(parent);
    push_child(&mut pointer, token);
    pointer
}

/// The pointer of an item below `parent`, counted from 0.
pub fn item_pointer(parent: &str, index: usize) -> String {
    let mut pointer = parent.to_owned();
    push_item(&mut pointer, index);
    pointer
}

/// Extends a pointer to a member of the value.
pub(super) fn push_child(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// Extends a pointer to an item of the value, counted from 0.
pub(super) fn push_item(pointer: &mut String, index: usize) {
    // Writing to a string can't fail.
    let _ = write!(pointer, "/{index}");
}

impl Document {
    /// Maps a range of a string value to a range of the file, for example the range of an expression in a template.
    /// Returns the range of the full value if the string and its source differ too much, for example by escapes.
    pub fn span_in_value(&self, pointer: &str, range: Range<usize>) -> Range<usize> {
        let full_span = self.spans.value(pointer);
        let source = self.file.text.get(full_span.clone()).unwrap_or_default();
        let Some(value) = self.value.pointer(pointer).and_then(Value::as_str) else { return full_span };
        let (start, end) = (range.start.min(value.len()), range.end.min(value.len()));
        match find_in_source(value, source, start, end) {
            Some(aligned) => full_span.start + aligned.start..full_span.start + aligned.end,
            None => full_span,
        }
    }
}

/// Maps `start..end` of `value` to a range of `source`, the YAML text of that value. Both must have the same
/// characters in the same order; the source may have more white space, quotes around it, or a block header before it.
fn find_in_source(value: &str, source: &str, start: usize, end: usize) -> Option<Range<usize>> {
    if start == value.len() && start > 0 {
        let last_char = value.char_indices().next_back().map_or(0, |(offset, _)| offset);
        let range = find_in_source(value, source, last_char, start)?;
        return Some(range.end..range.end);
    }
    let header = match source.chars().next()? {
        first if value.starts_with(first) => 0,
        '|' | '>' => source.find('\n')? + 1,
        '"' | '\'' => 1,
        _ => 0,
    };
    let (mut position, mut range_start) = (header, None);
    let last_offset = value.get(start..end)?.char_indices().next_back().map_or(start, |(i, _)| start + i);
    for (offset, expected) in value.char_indices() {
        loop {
            let actual = source.get(position..)?.chars().next()?;
            if actual == expected {
                break;
            }
            if expected.is_whitespace() && !actual.is_whitespace() {
                break; // The source has already passed this folded line break.
            }
            if !actual.is_whitespace() {
                return None;
            }
            position += actual.len_utf8();
        }
        if offset >= start && range_start.is_none() {
            range_start = Some(position);
        }
        let is_in_source = source.get(position..)?.starts_with(expected);
        position += if is_in_source { expected.len_utf8() } else { 0 };
        if offset >= last_offset {
            let range_start = range_start?;
            return Some(range_start..if start == end { range_start } else { position });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_falls_back_to_the_nearest_ancestor() {
        let mut index = SpanIndex::default();
        index.insert(String::new(), None, 0..10);
        index.insert("/a".into(), Some(0..1), 3..10);
        assert_eq!(index.value("/a/b/c"), 3..10);
        assert_eq!(index.key("/a"), 0..1);
        assert_eq!(index.value("/x"), 0..10);
        assert_eq!(SpanIndex::default().value("/x"), 0..0);
    }

    #[test]
    fn ranges_are_found_in_plain_quoted_and_block_text() {
        for (value, source) in [
            ("a.b == c", "a.b == c"),
            ("a.b == c", "\"a.b == c\""),
            ("x\n  a.b\ny\n", "|\n    x\n      a.b\n    y\n"),
            ("x a.b y\n", ">-\n    x\n    a.b\n    y\n"),
            ("é a.b", "'é a.b'"),
        ] {
            let start = value.find("a.b").unwrap();
            let range = find_in_source(value, source, start, start + 3).expect(source);
            assert_eq!(&source[range], "a.b", "{source}");
        }
        assert_eq!(find_in_source("a ==", "'a =='", 4, 4), Some(5..5));
        assert_eq!(find_in_source("a\"b", "\"a\\\"b\"", 2, 3), None);
    }
}
