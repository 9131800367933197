//! YAML text to a JSON value with the place of everything; the only file that knows the YAML crates.
//!
//! A span pass runs first and refuses what pipeline files do not use or what a YAML reader would
//! swallow: duplicate keys, several documents, tags, anchors' bombs, merge keys, keys that are
//! no strings, `.inf` and `.nan`, depth.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle};
use serde_json::Value;

use crate::diagnostic::{Code, Diagnostic, Source};

/// The largest file that is read, in bytes.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 200_000;

/// A YAML or JSON file, read.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file.
    pub source: Arc<Source>,
    /// Its value.
    pub value: Value,
    spans: HashMap<String, Place>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Document {
    /// The bytes of the value at a JSON pointer, or of the nearest thing around it that is known.
    pub fn value_span(&self, pointer: &str) -> Option<Range<usize>> {
        self.lookup(pointer).map(|(place, exact)| if exact { place.value.clone() } else { place.head() })
    }

    /// The bytes of the key at a JSON pointer, or of its value where there is no key.
    pub fn key_span(&self, pointer: &str) -> Option<Range<usize>> {
        self.lookup(pointer).map(|(place, _)| place.head())
    }

    fn lookup(&self, pointer: &str) -> Option<(&Place, bool)> {
        let mut known = pointer;
        loop {
            if let Some(place) = self.spans.get(known) {
                return Some((place, known.len() == pointer.len()));
            }
            known = known.get(..known.rfind('/')?)?;
        }
    }
}

impl Place {
    fn head(&self) -> Range<usize> {
        self.key.clone().unwrap_or_else(|| self.value.clone())
    }
}

/// Reads YAML or JSON.
pub fn parse(source: &Arc<Source>) -> Result<Document, Vec<Diagnostic>> {
    if source.text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, and at most {MAX_BYTES} are read", source.text.len());
        return Err(vec![Diagnostic::new(Code::TooLarge, message, source, None)]);
    }
    let mut pass = Pass { source, spans: HashMap::new(), findings: Vec::new(), anchors: HashMap::new(), nodes: 0 };
    let value = pass.run();
    match value {
        Some(value) if pass.findings.is_empty() => Ok(Document { source: source.clone(), value, spans: pass.spans }),
        _ => Err(pass.findings),
    }
}

struct Pass<'a> {
    source: &'a Arc<Source>,
    spans: HashMap<String, Place>,
    findings: Vec<Diagnostic>,
    /// What an anchor stands for, and how many nodes that is.
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
}

/// A block that is open.
struct Frame {
    pointer: String,
    start: usize,
    key_span: Option<Range<usize>>,
    anchor: usize,
    nodes_before: usize,
    kind: Kind,
}

enum Kind {
    Map { map: serde_json::Map<String, Value>, seen: HashSet<String>, key: Option<(String, Range<usize>)> },
    List(Vec<Value>),
}

impl Pass<'_> {
    fn find(&mut self, code: Code, message: impl Into<String>, span: Option<Range<usize>>) {
        if self.findings.len() < 50 {
            self.findings.push(Diagnostic::new(code, message, self.source, span));
        }
    }

    fn run(&mut self) -> Option<Value> {
        let text = self.source.text.as_str();
        let mut parser = Parser::new_from_str_with_options(text, Options::default());
        let mut stack: Vec<Frame> = Vec::new();
        let mut root = None;
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
                    self.find(
                        Code::Syntax,
                        format!("this is no valid YAML: {}", error),
                        Some(at..(at + 1).min(text.len())),
                    );
                    return None;
                }
            };
            let range = span.byte_range().unwrap_or(0..0);
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                self.find(Code::TooLarge, format!("the file expands to more than {MAX_NODES} values"), Some(range));
                return None;
            }
            if stack.len() > MAX_DEPTH {
                self.find(Code::TooLarge, format!("blocks are nested more than {MAX_DEPTH} deep"), Some(range));
                return None;
            }
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        self.find(
                            Code::RefusedYaml,
                            "a file holds one document, and here a second one begins",
                            Some(range),
                        );
                        return None;
                    }
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), &range);
                    let kind = Kind::Map { map: serde_json::Map::new(), seen: HashSet::new(), key: None };
                    self.open(&mut stack, anchor, range, kind);
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), &range);
                    self.open(&mut stack, anchor, range, Kind::List(Vec::new()));
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    if let Some(frame) = stack.pop() {
                        let value = self.close(frame, range.end);
                        self.attach(&mut stack, &mut root, value, None);
                    }
                }
                Event::Scalar(content, style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), &range);
                    let range = trimmed(text, range, style);
                    if let Some(Frame { kind: Kind::Map { key: key @ None, seen, .. }, .. }) = stack.last_mut() {
                        let name = content.into_owned();
                        let twice = !seen.insert(name.clone());
                        *key = Some((name.clone(), range.clone()));
                        self.check_key(&name, style, twice, range);
                        continue;
                    }
                    let value = self.scalar(&content, style, &range);
                    if anchor > 0 {
                        self.anchors.insert(anchor, (value.clone(), 1));
                    }
                    self.attach(&mut stack, &mut root, value, Some(range));
                }
                Event::Alias(id) => {
                    if let Some(Frame { kind: Kind::Map { key: None, .. }, .. }) = stack.last() {
                        self.find(Code::RefusedYaml, "an alias can't be a key", Some(range));
                        return None;
                    }
                    let (value, nodes) = self.anchors.get(&id).cloned().unwrap_or((Value::Null, 1));
                    self.nodes += nodes;
                    if self.nodes > MAX_NODES {
                        self.find(
                            Code::TooLarge,
                            format!("the file expands to more than {MAX_NODES} values"),
                            Some(range),
                        );
                        return None;
                    }
                    self.attach(&mut stack, &mut root, value, Some(range));
                }
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentEnd
                | Event::Anchor(..)
                | Event::UnresolvedAlias(_) => {}
                #[allow(
                    unreachable_patterns,
                    reason = "comments are a feature of the parser that others may switch on"
                )]
                _ => {}
            }
        }
        if root.is_none() {
            self.find(Code::Syntax, "the file is empty", None);
        }
        root
    }

    fn refuse_tag(&mut self, tagged: bool, range: &Range<usize>) {
        if tagged {
            self.find(Code::RefusedYaml, "tags such as `!name` are not used here", Some(range.clone()));
        }
    }

    fn check_key(&mut self, name: &str, style: ScalarStyle, twice: bool, range: Range<usize>) {
        if twice {
            self.find(Code::DuplicateKey, format!("the key `{name}` stands here a second time"), Some(range));
        } else if name == "<<" {
            self.find(Code::RefusedYaml, "merge keys (`<<`) are not used here; write the keys out", Some(range));
        } else if style == ScalarStyle::Plain && !matches!(plain(name), Some(Value::String(_))) {
            self.find(Code::RefusedYaml, format!("the key `{name}` is no string; put it in quotes"), Some(range));
        }
    }

    fn open(&mut self, stack: &mut Vec<Frame>, anchor: usize, range: Range<usize>, kind: Kind) {
        if let Some(Frame { kind: Kind::Map { key: None, .. }, .. }) = stack.last() {
            self.find(Code::RefusedYaml, "a key must be a string", Some(range.clone()));
        }
        let (pointer, key_span) = next_pointer(stack);
        stack.push(Frame { pointer, start: range.start, key_span, anchor, nodes_before: self.nodes, kind });
    }

    fn close(&mut self, frame: Frame, end: usize) -> Value {
        let value = match frame.kind {
            Kind::Map { map, .. } => Value::Object(map),
            Kind::List(items) => Value::Array(items),
        };
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, (value.clone(), self.nodes - frame.nodes_before));
        }
        let text = self.source.text.as_str();
        let end = frame.start + text.get(frame.start..end).map_or(0, |part| part.trim_end().len());
        self.spans.insert(frame.pointer, Place { key: frame.key_span, value: frame.start..end });
        value
    }

    /// Puts a value where it belongs; `span` is given for scalars, whose place is not known yet.
    fn attach(&mut self, stack: &mut [Frame], root: &mut Option<Value>, value: Value, span: Option<Range<usize>>) {
        if let Some(span) = span {
            let (pointer, key) = next_pointer(stack);
            self.spans.insert(pointer, Place { key, value: span });
        }
        match stack.last_mut().map(|frame| &mut frame.kind) {
            None => *root = Some(value),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Map { map, key, .. }) => {
                if let Some((name, _)) = key.take() {
                    map.insert(name, value);
                }
            }
        }
    }

    fn scalar(&mut self, content: &str, style: ScalarStyle, range: &Range<usize>) -> Value {
        if style != ScalarStyle::Plain {
            return Value::String(content.to_owned());
        }
        plain(content).unwrap_or_else(|| {
            self.find(Code::RefusedYaml, format!("`{content}` is no number that JSON has"), Some(range.clone()));
            Value::Null
        })
    }
}

/// The pointer of the value that comes next, and the span of its key.
fn next_pointer(stack: &[Frame]) -> (String, Option<Range<usize>>) {
    match stack.last() {
        None => (String::new(), None),
        Some(Frame { pointer, kind: Kind::List(items), .. }) => (format!("{pointer}/{}", items.len()), None),
        Some(Frame { pointer, kind: Kind::Map { key, .. }, .. }) => match key {
            Some((name, span)) => {
                (format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), Some(span.clone()))
            }
            None => (pointer.clone(), None),
        },
    }
}

/// A plain scalar by the rules of the YAML 1.2 core schema; `None` for infinities and not-a-number.
/// The library of record decides what is a number, so that other tools agree with us.
fn plain(content: &str) -> Option<Value> {
    match content {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    let numeric = content.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if !numeric {
        return Some(Value::String(content.to_owned()));
    }
    // The digits as written, where they are a JSON number already.
    if let Ok(number @ Value::Number(_)) = serde_json::from_str::<Value>(content) {
        return Some(number);
    }
    match serde_yaml::from_str::<serde_yaml::Value>(content) {
        Ok(serde_yaml::Value::Number(number)) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Some(Value::from(number)),
            (_, Some(number), _) => Some(Value::from(number)),
            (.., Some(number)) => serde_json::Number::from_f64(number).map(Value::Number),
            _ => None,
        },
        _ => Some(Value::String(content.to_owned())),
    }
}

/// A scalar's bytes without the line breaks that belong to its block.
fn trimmed(text: &str, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
    if matches!(style, ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded) {
        let len = text.get(range.clone()).map_or(0, |part| part.trim_end().len());
        return range.start..range.start + len;
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, String> {
        parse(&Source::new("a.yaml", text))
            .map(|d| d.value)
            .map_err(|f| f.iter().map(|f| format!("{} {}", f.code, f.message)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn values_come_out_as_written() {
        let text = "a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: true, e: null, f: 1.50}\ng: |\n  two\n  lines\nh: no\ni: 0x10\nj: &v 5m\nk: *v\n";
        assert_eq!(
            read(text),
            Ok(
                json!({ "a": 1, "b": ["x", "y", "z\n"], "c": { "d": true, "e": null, "f": serde_json::from_str::<Value>("1.50").unwrap() },
                "g": "two\nlines\n", "h": "no", "i": 16, "j": "5m", "k": "5m" })
            )
        );
        assert_eq!(
            read(r#"{"a": [1, 123456789012345678901234567890]}"#).unwrap().to_string(),
            r#"{"a":[1,123456789012345678901234567890]}"#
        );
    }

    #[test]
    fn what_other_readers_swallow_is_refused() {
        for (text, code) in [
            ("a: 1\na: 2", "ORCH0102"),
            ("a: 1\n---\nb: 2", "ORCH0103"),
            ("a: !x 1", "ORCH0103"),
            ("<<: {a: 1}", "ORCH0103"),
            ("1: a", "ORCH0103"),
            ("a: .inf", "ORCH0103"),
            ("? [a]\n: b", "ORCH0103"),
            ("a: [", "ORCH0101"),
            ("", "ORCH0101"),
            ("a: *nope", "ORCH0101"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.starts_with(code), "{text:?}: {found}");
        }
    }

    #[test]
    fn bombs_and_depth_are_bounded() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", ")));
        }
        assert!(read(&bomb).unwrap_err().starts_with("ORCH0104"));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"a: ".repeat(10_000)).is_err());
        assert!(read(&"x".repeat(MAX_BYTES + 1)).unwrap_err().starts_with("ORCH0104"));
    }

    #[test]
    fn everything_has_a_place() {
        let text = "steps:\n  - id: plan\n    inputs: [a, b]\n";
        let document = parse(&Source::new("a.yaml", text)).unwrap();
        let at = |span: Option<Range<usize>>| text.get(span.unwrap()).unwrap();
        assert_eq!(at(document.value_span("/steps/0/id")), "plan");
        assert_eq!(at(document.key_span("/steps/0/id")), "id");
        assert_eq!(at(document.value_span("/steps/0/inputs/1")), "b");
        assert_eq!(at(document.value_span("/steps/0/nothing/here")), "id: plan\n    inputs: [a, b]");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-z0-9:{}\\[\\],&*!|>'\"#%@ \n\t?<.~é]{0,80}") {
            let _ = read(&text);
        }
    }
}
