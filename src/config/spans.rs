//! Maps the parts of a file to byte ranges, by JSON pointer.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::SourceFile;

/// A parsed file: its text, its value, and the byte range of each part.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file.
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

    /// The byte range of a value, or of its nearest known ancestor if the value itself is unknown.
    pub fn value(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer).map_or(0..0, |entry| entry.value.clone())
    }

    /// The byte range of a value's key, or of the value if it has no key.
    pub fn key(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer).map_or(0..0, |entry| entry.key.clone().unwrap_or_else(|| entry.value.clone()))
    }

    /// Whether the value itself is known, and not only an ancestor.
    pub fn has(&self, pointer: &str) -> bool {
        self.entries.contains_key(pointer)
    }

    /// Every pointer, in no particular order.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn nearest(&self, pointer: &str) -> Option<&SpanEntry> {
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
pub fn child(parent: &str, token: &str) -> String {
    let mut out = String::with_capacity(parent.len() + token.len() + 1);
    out.push_str(parent);
    push_child(&mut out, token);
    out
}

/// The pointer of an item below `parent`, counted from 0.
pub fn item(parent: &str, index: usize) -> String {
    let mut out = parent.to_owned();
    push_item(&mut out, index);
    out
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
    /// The range in the file for a range of a string value, such as an expression within a template that is written in
    /// the YAML file. Returns the range of the whole value if the two texts differ too much, as with escapes.
    pub fn within(&self, pointer: &str, range: Range<usize>) -> Range<usize> {
        let whole = self.spans.value(pointer);
        let written = self.file.text.get(whole.clone()).unwrap_or_default();
        let Some(value) = self.value.pointer(pointer).and_then(Value::as_str) else { return whole };
        let (start, end) = (range.start.min(value.len()), range.end.min(value.len()));
        match align(value, written, start, end) {
            Some(found) => whole.start + found.start..whole.start + found.end,
            None => whole,
        }
    }
}

/// Finds where `start..end` of `value` is in the text that it was parsed from. Both must have the same characters in
/// the same order; the text may have more white space, quotes around it, or a block header before it.
fn align(value: &str, written: &str, start: usize, end: usize) -> Option<Range<usize>> {
    if start == value.len() && start > 0 {
        let last = value.char_indices().next_back().map_or(0, |(at, _)| at);
        let found = align(value, written, last, start)?;
        return Some(found.end..found.end);
    }
    let header = match written.chars().next()? {
        mark if value.starts_with(mark) => 0,
        '|' | '>' => written.find('\n')? + 1,
        '"' | '\'' => 1,
        _ => 0,
    };
    let (mut at, mut from) = (header, None);
    let last = value.get(start..end)?.char_indices().next_back().map_or(start, |(i, _)| start + i);
    for (offset, wanted) in value.char_indices() {
        loop {
            let found = written.get(at..)?.chars().next()?;
            if found == wanted {
                break;
            }
            if wanted.is_whitespace() && !found.is_whitespace() {
                break; // a folded break that the text has consumed already
            }
            if !found.is_whitespace() {
                return None;
            }
            at += found.len_utf8();
        }
        if offset >= start && from.is_none() {
            from = Some(at);
        }
        let width = if written.get(at..)?.starts_with(wanted) { wanted.len_utf8() } else { 0 };
        at += width;
        if offset >= last {
            let from = from?;
            return Some(from..if start == end { from } else { at });
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
        for (value, written) in [
            ("a.b == c", "a.b == c"),
            ("a.b == c", "\"a.b == c\""),
            ("x\n  a.b\ny\n", "|\n    x\n      a.b\n    y\n"),
            ("x a.b y\n", ">-\n    x\n    a.b\n    y\n"),
            ("é a.b", "'é a.b'"),
        ] {
            let start = value.find("a.b").unwrap();
            let found = align(value, written, start, start + 3).expect(written);
            assert_eq!(&written[found], "a.b", "{written}");
        }
        assert_eq!(align("a ==", "'a =='", 4, 4), Some(5..5));
        assert_eq!(align("a\"b", "\"a\\\"b\"", 2, 3), None);
    }
}
