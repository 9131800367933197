//! Parses YAML into a JSON value and an index of byte ranges.
//!
//! The only file that uses the YAML crates. Works in two passes. The *span pass* reads parser events, builds the index
//! and refuses what the second pass would accept silently (duplicate keys, tags, `.nan`, merge keys, alias bombs). The
//! YAML crate then builds the value. Work and memory are bounded on any input.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span};
use serde_json::Value;

use super::spans::{Document, SpanIndex, child, item};
use crate::diagnostic::{Code, Diagnostic, SourceFile};

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 128;
/// How many values a file may contain after its aliases are expanded.
pub(super) const MAX_NODES: usize = 100_000;
/// How many bytes of text a file may contain after its aliases are expanded.
const MAX_BYTES: usize = 16 << 20;

/// Parses one YAML document.
///
/// # Errors
/// Every mistake that was found, at least one.
pub fn parse(file: &Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let spans = index(file)?;
    let value = serde_yaml::from_str::<Value>(&file.text).map_err(|error| {
        let at = error.location().map_or(0, |location| location.index());
        vec![Diagnostic::error(Code::YamlSyntax, lower(&error.to_string())).at(file, at..at)]
    })?;
    if value.is_null() {
        return Err(vec![Diagnostic::error(Code::YamlSyntax, "the file is empty").in_file(file)]);
    }
    // Two parsers have read the text. If they disagree, the value that is used is not the one that was checked.
    if let Some(pointer) = spans.pointers().find(|pointer| value.pointer(pointer).is_none()) {
        let problem = Diagnostic::error(Code::YamlSyntax, "this can be read in two ways").at(file, spans.key(pointer));
        return Err(vec![
            problem.help("put quotes around keys and texts, and no colon behind an anchor such as `&name`"),
        ]);
    }
    Ok(Document { file: Arc::clone(file), value, spans })
}

/// Runs the span pass.
pub(super) fn index(file: &Arc<SourceFile>) -> Result<SpanIndex, Vec<Diagnostic>> {
    let mut pass = YamlPass::new(file);
    let fatal = pass.run().err();
    pass.found.extend(fatal.map(|problem| *problem));
    if pass.found.is_empty() { Ok(pass.spans) } else { Err(pass.found) }
}

fn lower(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The parser's message without its own context, such as `while parsing a block collection, …`.
fn plain(message: &str) -> &str {
    match message.split_once(", ") {
        Some((context, rest)) if context.starts_with("while parsing ") => rest,
        _ => message,
    }
}

/// Advice for a parser error whose message only makes sense to readers who know YAML's grammar.
fn advice(message: &str) -> Option<&'static str> {
    if message.contains("did not find expected") && message.contains("block") {
        return Some("is the line indented like those that it belongs with?");
    }
    if message.contains("did not find expected ',' or") {
        return Some("is a bracket or brace above left open, or a comma missing?");
    }
    let colon = message.contains("mapping values are not allowed");
    colon.then_some("put quotes around a text with `: ` in it, or mend the indentation")
}

/// The first tab in the indentation of a line, starting with the line of an offset.
fn tab_at(text: &str, from: usize) -> Option<usize> {
    let start = text.get(..from)?.rfind('\n').map_or(0, |at| at + 1);
    let mut at = start;
    for line in text.get(start..)?.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line.get(..indent)?.find('\t') {
            return Some(at + tab);
        }
        at += line.len();
    }
    None
}

fn deep() -> Diagnostic {
    let problem = Diagnostic::error(Code::YamlBounds, format!("nested more than {MAX_DEPTH} levels deep"));
    problem.help("is a bracket too many open above? no key needs values nested so deep")
}

/// A mistake that ends the pass. Boxed, because it is rare and large.
type Fatal = Box<Diagnostic>;

/// How much an anchored value adds each time an alias refers to it.
#[derive(Clone, Copy, Default)]
struct AnchorCost {
    nodes: usize,
    bytes: usize,
    height: usize,
}

/// A list or mapping whose end has not been read yet.
struct YamlFrame {
    pointer: String,
    key: Option<Range<usize>>,
    start: usize,
    anchor: usize,
    before: AnchorCost,
    height: usize,
    kind: FrameKind,
}

enum FrameKind {
    List { next: usize },
    Map { seen: HashMap<String, Range<usize>>, key: Option<(String, Range<usize>)> },
}

struct YamlPass<'a> {
    file: &'a Arc<SourceFile>,
    spans: SpanIndex,
    found: Vec<Diagnostic>,
    stack: Vec<YamlFrame>,
    anchors: HashMap<usize, AnchorCost>,
    total: AnchorCost,
    documents: usize,
}

impl<'a> YamlPass<'a> {
    fn new(file: &'a Arc<SourceFile>) -> Self {
        let (spans, total) = (SpanIndex::default(), AnchorCost::default());
        Self { file, spans, found: Vec::new(), stack: Vec::new(), anchors: HashMap::new(), total, documents: 0 }
    }

    fn run(&mut self) -> Result<(), Fatal> {
        let file = Arc::clone(self.file);
        for next in Parser::new_from_str(&file.text) {
            let (event, span) = next.map_err(|error| {
                let at = error.marker().byte_offset().unwrap_or_default();
                let message = lower(&error.info());
                Box::new(match tab_at(&file.text, at).filter(|_| message.contains("tab")) {
                    Some(tab) => {
                        Diagnostic::error(Code::YamlSyntax, "a tab cannot indent; use spaces").at(&file, tab..tab + 1)
                    }
                    None if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) => deep().at(&file, at..at),
                    None => {
                        let problem = Diagnostic::error(Code::YamlSyntax, plain(&message)).at(&file, at..at);
                        match advice(&message) {
                            Some(help) => problem.help(help),
                            None => problem,
                        }
                    }
                })
            })?;
            self.event(&event, &span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>, span: &Span) -> Result<(), Fatal> {
        let range = span.byte_range().unwrap_or_default();
        if let Some(tag) = span.tag_span().and_then(|tag| tag.byte_range()) {
            let help = "write the plain value; in an expression, `not` in place of `!`";
            self.refuse(tag, "tags such as `!name` are not allowed", help);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document starts here; a file holds one";
                    return Err(Box::new(Diagnostic::error(Code::YamlRefused, message).at(self.file, range)));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => self.scalar(text, *style, *anchor, range),
            Event::Alias(id) => self.alias(*id, range),
            Event::SequenceStart(_, anchor, _) => self.open(FrameKind::List { next: 0 }, *anchor, range),
            Event::MappingStart(_, anchor, _) => {
                self.open(FrameKind::Map { seen: HashMap::new(), key: None }, *anchor, range)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close(range.end);
                Ok(())
            }
            // Comments and metadata have no value; event types that are added to the crate later would be metadata too.
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, range: Range<usize>, message: impl Into<String>, help: &str) {
        self.found.push(Diagnostic::error(Code::YamlRefused, message).at(self.file, range).help(help));
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, range: Range<usize>) -> Result<(), Fatal> {
        let plain = style == ScalarStyle::Plain;
        if self.awaits_key() {
            self.key(text, plain, range);
            return Ok(());
        }
        if plain && is_unsafe_number(text) {
            let message = format!("`{text}` is not a number that JSON can hold exactly");
            self.refuse(range.clone(), message, "put quotes around it to make it a string");
        }
        let cost = AnchorCost { nodes: 1, bytes: text.len(), height: 0 };
        self.spend(cost, &range)?;
        if anchor > 0 {
            self.anchors.insert(anchor, cost);
        }
        let (pointer, key) = self.place();
        self.spans.insert(pointer, key, trimmed(&self.file.text, range));
        Ok(())
    }

    fn alias(&mut self, id: usize, range: Range<usize>) -> Result<(), Fatal> {
        if self.awaits_key() {
            self.refuse(range.clone(), "an alias cannot be a key", "write the key itself");
            self.set_key(String::new(), range);
            return Ok(());
        }
        // An anchor without a recorded cost has not ended yet, so the value would contain itself.
        let Some(cost) = self.anchors.get(&id).copied() else {
            let message = "an alias inside the value that it stands for";
            return Err(Box::new(Diagnostic::error(Code::YamlBounds, message).at(self.file, range)));
        };
        self.spend(cost, &range)?;
        self.grow(cost.height);
        let (pointer, key) = self.place();
        self.spans.insert(pointer, key, range);
        Ok(())
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, range: Range<usize>) -> Result<(), Fatal> {
        if self.awaits_key() {
            let message = "a list or mapping cannot be a key";
            let problem = Diagnostic::error(Code::YamlRefused, message).at(self.file, range.clone());
            // Without quotes, YAML reads `{{ x }}` as a mapping that has a mapping as its key.
            let is_template = self.file.text.get(..range.start).is_some_and(|before| before.ends_with('{'))
                && self.file.text.get(range.start..).is_some_and(|rest| rest.starts_with('{'));
            let help = "put quotes around a text that begins with `{{`";
            return Err(Box::new(if is_template { problem.help(help) } else { problem }));
        }
        let before = self.total;
        self.spend(AnchorCost { nodes: 1, bytes: 0, height: 0 }, &range)?;
        let (pointer, key) = self.place();
        self.stack.push(YamlFrame { pointer, key, start: range.start, anchor, before, height: 0, kind });
        self.check_depth(0, &range)
    }

    fn close(&mut self, end: usize) {
        let Some(frame) = self.stack.pop() else { return };
        let height = frame.height + 1;
        self.grow(height);
        if frame.anchor > 0 {
            let nodes = self.total.nodes - frame.before.nodes;
            let bytes = self.total.bytes - frame.before.bytes;
            self.anchors.insert(frame.anchor, AnchorCost { nodes, bytes, height });
        }
        self.spans.insert(frame.pointer, frame.key, trimmed(&self.file.text, frame.start..end.max(frame.start)));
    }

    /// Records that the innermost open list or mapping contains a value of this height.
    fn grow(&mut self, height: usize) {
        if let Some(frame) = self.stack.last_mut() {
            frame.height = frame.height.max(height);
        }
    }

    fn spend(&mut self, cost: AnchorCost, range: &Range<usize>) -> Result<(), Fatal> {
        self.total.nodes = self.total.nodes.saturating_add(cost.nodes);
        self.total.bytes = self.total.bytes.saturating_add(cost.bytes);
        if self.total.nodes > MAX_NODES || self.total.bytes > MAX_BYTES {
            let message = format!("the file holds more than {MAX_NODES} values or {} MiB", MAX_BYTES >> 20);
            let problem = Diagnostic::error(Code::YamlBounds, message).at(self.file, range.clone());
            let problem = problem.label("counted with aliases expanded");
            return Err(Box::new(problem.help("move steps into a pipeline of their own and call it with `pipeline:`")));
        }
        self.check_depth(cost.height, range)
    }

    fn check_depth(&self, height: usize, range: &Range<usize>) -> Result<(), Fatal> {
        if self.stack.len() + height <= MAX_DEPTH {
            return Ok(());
        }
        Err(Box::new(deep().at(self.file, range.clone())))
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(YamlFrame { kind: FrameKind::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, plain: bool, range: Range<usize>) {
        if plain && text == "<<" {
            self.refuse(range.clone(), "merge keys (`<<`) are not allowed", "write the keys out");
        } else if plain && !is_string(text) {
            let shown = if text.is_empty() { "an empty key".to_owned() } else { format!("the key `{text}`") };
            self.refuse(range.clone(), format!("{shown} is not a string"), "put quotes around it");
        }
        self.set_key(text.to_owned(), range);
    }

    fn set_key(&mut self, name: String, range: Range<usize>) {
        let Some(YamlFrame { kind: FrameKind::Map { seen, key }, .. }) = self.stack.last_mut() else { return };
        if let Some(first) = seen.get(&name) {
            let message = format!("the key `{name}` is written twice");
            let problem = Diagnostic::error(Code::DuplicateKey, message).at(self.file, range.clone());
            self.found.push(problem.also(self.file, first.clone(), "first written here"));
        } else {
            seen.insert(name.clone(), range.clone());
        }
        *key = Some((name, range));
    }

    /// The pointer and key of the value that starts now. Advances to the next item or key.
    fn place(&mut self) -> (String, Option<Range<usize>>) {
        match self.stack.last_mut() {
            None => (String::new(), None),
            Some(YamlFrame { pointer, kind: FrameKind::List { next }, .. }) => {
                *next += 1;
                (item(pointer, *next - 1), None)
            }
            Some(YamlFrame { pointer, kind: FrameKind::Map { key, .. }, .. }) => {
                let (name, range) = key.take().unwrap_or_default();
                (child(pointer, &name), Some(range))
            }
        }
    }
}

/// The range without trailing white space, because the range of a block extends to the next key.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = text.get(range.clone()).unwrap_or_default();
    range.start..range.start + slice.trim_end().len()
}

/// Whether a plain scalar is a string, rather than null, a boolean or a number.
fn is_string(text: &str) -> bool {
    matches!(serde_yaml::from_str::<Value>(text), Ok(Value::String(_))) && !is_unsafe_number(text)
}

/// Whether a plain scalar is infinite, `.nan`, or an integer of more than 64 bits.
fn is_unsafe_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    if matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let body = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0o")).unwrap_or(digits);
    if body.len() < 16 || !body.starts_with(|c: char| c.is_ascii_hexdigit()) {
        // A short number is exact, unless it is a float that overflows, such as `1e999`.
        return digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.parse::<f64>().is_ok_and(f64::is_infinite);
    }
    let integer = body.len() == digits.len() && body.bytes().all(|b| b.is_ascii_digit());
    if integer && text.starts_with('-') {
        text.parse::<i64>().is_err()
    } else if integer {
        digits.parse::<u64>().is_err()
    } else if body.len() == digits.len() {
        digits.parse::<f64>().is_ok_and(f64::is_infinite)
    } else {
        u64::from_str_radix(body, 16).is_err() && body.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

#[cfg(test)]
mod tests;
