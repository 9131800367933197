//! The byte ranges of the parts of a JSON text, found in one pass over a text that a JSON parser has accepted already.
//!
//! The YAML parser finds ranges too and could read most JSON, but it takes ten times as long, and schemas make up most
//! of a project's files.

use std::ops::Range;
use std::sync::Arc;

use super::spans::{SpanIndex, push_child, push_item};
use super::yaml::MAX_NODES;
use crate::diagnostic::{Code, Diagnostic, SourceFile};

/// Why the pass gave no index.
pub(super) enum Refused {
    /// Keys that are written twice, as one diagnostic each.
    Twice(Vec<Diagnostic>),
    /// The text has more values than the index may hold.
    Large(Box<Diagnostic>),
}

/// Indexes the byte ranges of a valid JSON text, of any depth that its parser accepts.
pub(super) fn index(file: &Arc<SourceFile>) -> Result<SpanIndex, Refused> {
    let mut pass = JsonPass {
        file,
        bytes: file.text.as_bytes(),
        at: 0,
        pointer: String::new(),
        spans: SpanIndex::default(),
        nodes: 0,
        hidden: 0,
        twice: Vec::new(),
    };
    if pass.value(None).is_none() {
        let message = format!("the file holds more than {MAX_NODES} values");
        let problem = Diagnostic::error(Code::YamlBounds, message).in_file(file);
        let problem = problem.help("divide the schema into files that refer to one another by `$ref`");
        return Err(Refused::Large(Box::new(problem)));
    }
    if pass.twice.is_empty() { Ok(pass.spans) } else { Err(Refused::Twice(pass.twice)) }
}

struct JsonPass<'a> {
    file: &'a Arc<SourceFile>,
    bytes: &'a [u8],
    at: usize,
    pointer: String,
    spans: SpanIndex,
    nodes: usize,
    /// How many enclosing values belong to a key that is written a second time. Values inside of one are not indexed.
    hidden: usize,
    twice: Vec<Diagnostic>,
}

impl JsonPass<'_> {
    /// Passes over a value and records its range; `None` if there are too many values.
    fn value(&mut self, key: Option<Range<usize>>) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        self.blank();
        let start = self.at;
        match self.bytes.get(self.at) {
            Some(b'{') => self.object()?,
            Some(b'[') => self.list()?,
            Some(b'"') => self.string(),
            _ => self.skip(|byte| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')),
        }
        if self.hidden == 0 {
            self.spans.insert(self.pointer.clone(), key, start..self.at);
        }
        Some(())
    }

    fn list(&mut self) -> Option<()> {
        let depth = self.pointer.len();
        let mut index = 0;
        while self.next_member() {
            push_item(&mut self.pointer, index);
            self.value(None)?;
            self.pointer.truncate(depth);
            index += 1;
        }
        Some(())
    }

    fn object(&mut self) -> Option<()> {
        let depth = self.pointer.len();
        while self.next_member() {
            let start = self.at;
            self.string();
            let key = start..self.at;
            let name = self.name(&key);
            push_child(&mut self.pointer, &name);
            let again = self.hidden == 0 && self.spans.has(&self.pointer);
            if again {
                let first = self.spans.key(&self.pointer);
                let problem = Diagnostic::error(Code::DuplicateKey, format!("the key `{name}` is written twice"));
                self.twice.push(problem.at(self.file, key.clone()).also(self.file, first, "first written here"));
            }
            self.hidden += usize::from(again);
            self.blank();
            // Skips the colon.
            self.at += 1;
            self.value(Some(key))?;
            self.hidden -= usize::from(again);
            self.pointer.truncate(depth);
        }
        Some(())
    }

    /// Skips the bracket or comma before the next member and stops at that member's start. Returns false after the last
    /// member, with the closing bracket skipped.
    fn next_member(&mut self) -> bool {
        if matches!(self.bytes.get(self.at), Some(b'{' | b'[')) {
            self.at += 1;
        }
        self.blank();
        if self.bytes.get(self.at) == Some(&b',') {
            self.at += 1;
            self.blank();
        }
        let ends = matches!(self.bytes.get(self.at), None | Some(b'}' | b']'));
        self.at += usize::from(ends);
        !ends
    }

    fn name(&self, key: &Range<usize>) -> String {
        let written = self.file.text.get(key.clone()).unwrap_or_default();
        let plain = written.trim_matches('"');
        if plain.contains('\\') { serde_json::from_str(written).unwrap_or_default() } else { plain.to_owned() }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += match byte {
                b'"' => break,
                b'\\' => 2,
                _ => 1,
            };
        }
        self.at += 1;
    }

    fn blank(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    }

    fn skip(&mut self, while_it_is: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| while_it_is(**byte)).count();
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
    fn same_as_yaml(text: &str) {
        let file = SourceFile::new("a.json", text);
        let found = index(&file).unwrap_or_else(|_| panic!("{text}"));
        let wanted = yaml::index(&file).unwrap();
        let all: std::collections::BTreeSet<_> = wanted.pointers().chain(found.pointers()).collect();
        for pointer in all {
            assert_eq!(found.has(pointer), wanted.has(pointer), "{pointer:?} in {text}");
            assert_eq!(found.value(pointer), wanted.value(pointer), "{pointer:?} in {text}");
            assert_eq!(found.key(pointer), wanted.key(pointer), "{pointer:?} in {text}");
        }
    }

    proptest! {
        #[test]
        fn places_are_those_of_the_yaml_reader(value in values()) {
            same_as_yaml(&serde_json::to_string(&value).unwrap());
            same_as_yaml(&serde_json::to_string_pretty(&value).unwrap());
        }
    }

    #[test]
    fn a_key_that_is_written_twice_is_told_with_both_places() {
        let text = r#"{ "a": { "b": 1, "c": [1] }, "\u0061": { "b": 2, "b": 3 }, "a": 0 }"#;
        let Err(Refused::Twice(found)) = index(&SourceFile::new("a.json", text)) else { panic!("not refused") };
        let told: Vec<_> = found.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told, ["the key `a` is written twice"; 2]);
        assert_eq!(found[0].span.clone().map(|span| &text[span]), Some("\"\\u0061\""));
    }

    #[test]
    fn a_text_with_too_many_values_has_no_places() {
        let text = format!("[{}0]", "0,".repeat(MAX_NODES));
        assert!(matches!(index(&SourceFile::new("a.json", text)), Err(Refused::Large(_))));
    }
}
