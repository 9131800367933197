//! Indexes the byte ranges of the parts of a JSON text, in one pass over a text that a JSON parser has accepted.
//!
//! The YAML parser also finds ranges and could read most JSON files, but it takes ten times as long, and most files of
//! a project are schemas.

use std::ops::Range;
use std::sync::Arc;

use super::spans::{SpanIndex, push_child, push_item};
use super::yaml::MAX_NODES;
use crate::diagnostic::{Code, Diagnostic, SourceFile};

/// The reason why the pass returned no index.
pub(super) enum IndexError {
    /// The text has duplicate keys; one diagnostic for each.
    DuplicateKeys(Vec<Diagnostic>),
    /// The text has more values than the index may hold.
    TooManyValues(Box<Diagnostic>),
}

/// Indexes the byte ranges of a valid JSON text, of any depth that its parser accepts.
pub(super) fn index(file: &Arc<SourceFile>) -> Result<SpanIndex, IndexError> {
    let mut pass = JsonPass {
        file,
        bytes: file.text.as_bytes(),
        offset: 0,
        pointer: String::new(),
        spans: SpanIndex::default(),
        node_count: 0,
        duplicate_depth: 0,
        duplicates: Vec::new(),
    };
    if pass.visit_value(None).is_none() {
        let message = format!("the file holds more than {MAX_NODES} values");
        let diagnostic = Diagnostic::error(Code::YamlTooComplex, message).with_file(file);
        let diagnostic = diagnostic.with_help("divide the schema into files that refer to one another by `$ref`");
        return Err(IndexError::TooManyValues(Box::new(diagnostic)));
    }
    if pass.duplicates.is_empty() { Ok(pass.spans) } else { Err(IndexError::DuplicateKeys(pass.duplicates)) }
}

struct JsonPass<'a> {
    file: &'a Arc<SourceFile>,
    bytes: &'a [u8],
    offset: usize,
    pointer: String,
    spans: SpanIndex,
    node_count: usize,
    /// How many of the enclosing values belong to a duplicate key. The pass does not index values inside such a value.
    duplicate_depth: usize,
    duplicates: Vec<Diagnostic>,
}

impl JsonPass<'_> {
    /// Reads a value and records its range. Returns `None` if the text has too many values.
    fn visit_value(&mut self, key: Option<Range<usize>>) -> Option<()> {
        self.node_count += 1;
        if self.node_count > MAX_NODES {
            return None;
        }
        self.skip_whitespace();
        let start = self.offset;
        match self.bytes.get(self.offset) {
            Some(b'{') => self.visit_object()?,
            Some(b'[') => self.visit_list()?,
            Some(b'"') => self.skip_string(),
            _ => self.skip_while(|byte| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')),
        }
        if self.duplicate_depth == 0 {
            self.spans.insert(self.pointer.clone(), key, start..self.offset);
        }
        Some(())
    }

    fn visit_list(&mut self) -> Option<()> {
        let parent_length = self.pointer.len();
        let mut index = 0;
        while self.next_member() {
            push_item(&mut self.pointer, index);
            self.visit_value(None)?;
            self.pointer.truncate(parent_length);
            index += 1;
        }
        Some(())
    }

    fn visit_object(&mut self) -> Option<()> {
        let parent_length = self.pointer.len();
        while self.next_member() {
            let start = self.offset;
            self.skip_string();
            let key = start..self.offset;
            let name = self.key_name(&key);
            push_child(&mut self.pointer, &name);
            let is_duplicate = self.duplicate_depth == 0 && self.spans.contains(&self.pointer);
            if is_duplicate {
                let first = self.spans.key(&self.pointer);
                let diagnostic = Diagnostic::error(Code::DuplicateKey, format!("the key `{name}` is written twice"));
                self.duplicates.push(diagnostic.with_span(self.file, key.clone()).with_secondary_label(
                    self.file,
                    first,
                    "first written here",
                ));
            }
            self.duplicate_depth += usize::from(is_duplicate);
            self.skip_whitespace();
            // Skips the colon.
            self.offset += 1;
            self.visit_value(Some(key))?;
            self.duplicate_depth -= usize::from(is_duplicate);
            self.pointer.truncate(parent_length);
        }
        Some(())
    }

    /// Skips the bracket or comma before the next member and stops at that member's start. Returns false after the last
    /// member, with the closing bracket skipped.
    fn next_member(&mut self) -> bool {
        if matches!(self.bytes.get(self.offset), Some(b'{' | b'[')) {
            self.offset += 1;
        }
        self.skip_whitespace();
        if self.bytes.get(self.offset) == Some(&b',') {
            self.offset += 1;
            self.skip_whitespace();
        }
        let is_end = matches!(self.bytes.get(self.offset), None | Some(b'}' | b']'));
        self.offset += usize::from(is_end);
        !is_end
    }

    fn key_name(&self, key: &Range<usize>) -> String {
        let source = self.file.text.get(key.clone()).unwrap_or_default();
        let unquoted = source.trim_matches('"');
        if unquoted.contains('\\') { serde_json::from_str(source).unwrap_or_default() } else { unquoted.to_owned() }
    }

    fn skip_string(&mut self) {
        self.offset += 1;
        while let Some(byte) = self.bytes.get(self.offset) {
            self.offset += match byte {
                b'"' => break,
                b'\\' => 2,
                _ => 1,
            };
        }
        self.offset += 1;
    }

    fn skip_whitespace(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    }

    fn skip_while(&mut self, accepts: impl Fn(u8) -> bool) {
        let remaining = self.bytes.get(self.offset..).unwrap_or_default();
        self.offset += remaining.iter().take_while(|byte| accepts(**byte)).count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::config::yaml;

    fn values() -> impl Strategy<Value = Value> {
        let text = "[a-z~/\"\\\\é\n ]{0,6}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((text, inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// Checks that the YAML parser finds the same ranges in a text.
    fn assert_same_as_yaml(text: &str) {
        let file = SourceFile::new("a.json", text);
        let actual = index(&file).unwrap_or_else(|_| panic!("{text}"));
        let expected = yaml::index(&file).unwrap();
        let pointers: std::collections::BTreeSet<_> = expected.pointers().chain(actual.pointers()).collect();
        for pointer in pointers {
            assert_eq!(actual.contains(pointer), expected.contains(pointer), "{pointer:?} in {text}");
            assert_eq!(actual.value(pointer), expected.value(pointer), "{pointer:?} in {text}");
            assert_eq!(actual.key(pointer), expected.key(pointer), "{pointer:?} in {text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_equal_those_of_the_yaml_parser(value in values()) {
            assert_same_as_yaml(&serde_json::to_string(&value).unwrap());
            assert_same_as_yaml(&serde_json::to_string_pretty(&value).unwrap());
        }
    }

    #[test]
    fn a_duplicate_key_is_reported_with_both_ranges() {
        let text = r#"{ "a": { "b": 1, "c": [1] }, "\u0061": { "b": 2, "b": 3 }, "a": 0 }"#;
        let Err(IndexError::DuplicateKeys(diagnostics)) = index(&SourceFile::new("a.json", text)) else {
            panic!("not refused")
        };
        let messages: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        assert_eq!(messages, ["the key `a` is written twice"; 2]);
        assert_eq!(diagnostics[0].span.clone().map(|span| &text[span]), Some("\"\\u0061\""));
    }

    #[test]
    fn a_text_with_too_many_values_has_no_index() {
        let text = format!("[{}0]", "0,".repeat(MAX_NODES));
        assert!(matches!(index(&SourceFile::new("a.json", text)), Err(IndexError::TooManyValues(_))));
    }
}
