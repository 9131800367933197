//! Parses YAML into a JSON value and an index of byte ranges.
//!
//! Only this module uses the YAML crates. It works in two passes. The *span pass* reads parser events, builds the index
//! and refuses constructs that the second pass would accept silently (duplicate keys, tags, `.nan`, merge keys, alias
//! bombs). In the second pass, the YAML crate builds the value. Time and memory are bounded on any input.

mod scalars;
mod syntax_advice;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StructureStyle};
use serde_json::Value;

use super::spans::{Document, SpanIndex, child_pointer, item_pointer};
use super::unquoted_template;
use crate::diagnostic::{Code, Diagnostic, SourceFile};

use scalars::{is_string, is_unsafe_number};
use syntax_advice::syntax_advice;

/// The maximum nesting depth of lists and mappings.
const MAX_DEPTH: usize = 128;
/// The maximum number of values of a file, with aliases expanded.
pub(super) const MAX_NODES: usize = 100_000;
/// The maximum number of bytes of text of a file, with aliases expanded.
const MAX_BYTES: usize = 16 << 20;

/// Parses one YAML document.
///
/// # Errors
/// Every mistake of the file, at least one.
pub fn parse(file: &Arc<SourceFile>) -> Result<Document, Vec<Diagnostic>> {
    let spans = index(file)?;
    let value = serde_yaml::from_str::<Value>(&file.text).map_err(|error| {
        let offset = error.location().map_or(0, |location| location.index());
        vec![Diagnostic::error(Code::YamlSyntax, lowercase_first(&error.to_string())).with_span(file, offset..offset)]
    })?;
    if value.is_null() {
        return Err(vec![Diagnostic::error(Code::YamlSyntax, "the file is empty").with_file(file)]);
    }
    // Two parsers have read the text. If they disagree, the value may differ from what the first pass checked.
    if let Some(pointer) = spans.pointers().find(|pointer| value.pointer(pointer).is_none()) {
        let diagnostic =
            Diagnostic::error(Code::YamlSyntax, "this is ambiguous YAML").with_span(file, spans.key(pointer));
        return Err(vec![
            diagnostic.with_help("put quotes around keys and strings, and no colon after an anchor such as `&name`"),
        ]);
    }
    Ok(Document { file: Arc::clone(file), value, spans })
}

/// Runs the span pass.
pub(super) fn index(file: &Arc<SourceFile>) -> Result<SpanIndex, Vec<Diagnostic>> {
    let mut pass = YamlPass::new(file);
    let fatal = pass.run().err();
    pass.diagnostics.extend(fatal.map(|diagnostic| *diagnostic));
    if pass.diagnostics.is_empty() { Ok(pass.spans) } else { Err(pass.diagnostics) }
}

fn lowercase_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The parser's message without its leading context, such as `while parsing a block collection, …`.
fn without_context(message: &str) -> &str {
    match message.split_once(", ") {
        Some((context, message)) if context.starts_with("while parsing ") => message,
        _ => message,
    }
}

/// Finds the first tab in the indentation of a line, starting with the line that contains the offset.
fn find_indent_tab(text: &str, offset: usize) -> Option<usize> {
    let first_line_start = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let mut line_start = first_line_start;
    for line in text.get(first_line_start..)?.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line.get(..indent)?.find('\t') {
            return Some(line_start + tab);
        }
        line_start += line.len();
    }
    None
}

fn too_deep_diagnostic() -> Diagnostic {
    let diagnostic = Diagnostic::error(Code::YamlTooComplex, format!("nested more than {MAX_DEPTH} levels deep"));
    diagnostic.with_help("is a bracket above not closed? no key needs values that are nested so deep")
}

/// A mistake that ends the pass. The diagnostic is boxed, because it is rare and large.
type Fatal = Box<Diagnostic>;

/// The size of a value, with aliases expanded. An anchored value adds its size each time an alias refers to it.
#[derive(Clone, Copy, Default)]
struct ValueSize {
    nodes: usize,
    bytes: usize,
    /// The number of levels of lists and mappings.
    height: usize,
}

/// An open list or mapping, whose end the pass has not reached yet.
struct YamlFrame {
    pointer: String,
    key: Option<Range<usize>>,
    start: usize,
    anchor: usize,
    total_at_start: ValueSize,
    height: usize,
    style: StructureStyle,
    kind: FrameKind,
}

enum FrameKind {
    List { next_index: usize },
    Map { keys: HashMap<String, Range<usize>>, key: Option<(String, Range<usize>)> },
}

struct YamlPass<'a> {
    file: &'a Arc<SourceFile>,
    spans: SpanIndex,
    diagnostics: Vec<Diagnostic>,
    stack: Vec<YamlFrame>,
    anchors: HashMap<usize, ValueSize>,
    total: ValueSize,
    document_count: usize,
}

impl<'a> YamlPass<'a> {
    fn new(file: &'a Arc<SourceFile>) -> Self {
        let (spans, total) = (SpanIndex::default(), ValueSize::default());
        Self {
            file,
            spans,
            diagnostics: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            total,
            document_count: 0,
        }
    }

    fn run(&mut self) -> Result<(), Fatal> {
        let file = Arc::clone(self.file);
        for result in Parser::new_from_str(&file.text) {
            let (event, span) = result.map_err(|error| {
                let offset = error.marker().byte_offset().unwrap_or_default();
                let message = lowercase_first(&error.info());
                Box::new(match find_indent_tab(&file.text, offset).filter(|_| message.contains("tab")) {
                    Some(tab) => Diagnostic::error(Code::YamlSyntax, "a tab cannot indent; use spaces")
                        .with_span(&file, tab..tab + 1),
                    None if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) => {
                        too_deep_diagnostic().with_span(&file, offset..offset)
                    }
                    None => {
                        let diagnostic = Diagnostic::error(Code::YamlSyntax, without_context(&message))
                            .with_span(&file, offset..offset);
                        let help = self
                            .template_advice(offset)
                            .or_else(|| syntax_advice(&message, &file.text, offset, self.is_in_flow()));
                        help.into_iter().fold(diagnostic, Diagnostic::with_help)
                    }
                })
            })?;
            self.visit_event(&event, &span)?;
        }
        Ok(())
    }

    /// The advice for an error at `offset` inside a value that begins with two braces. The parser reads ahead, so it
    /// may stop before it reports the key, the mapping around it or the first brace.
    fn template_advice(&self, offset: usize) -> Option<String> {
        let before = self.file.text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |line_break| line_break + 1);
        let braces = line_start + before[line_start..].find("{{")?;
        let separators = [' ', '{', ','];
        let head = before[line_start..braces].trim_end().strip_suffix(':')?;
        let (outer, key) = head.rsplit_once(separators).unwrap_or(("", head));
        let outer_key =
            outer.trim_end_matches([' ', '{']).strip_suffix(':').and_then(|text| text.rsplit(separators).next());
        let frame_pointer = self.stack.last().map_or("", |frame| frame.pointer.as_str());
        let keys = outer_key.into_iter().chain([key]);
        let pointer = keys.fold(frame_pointer.to_owned(), |pointer, key| child_pointer(&pointer, key));
        unquoted_template::advice(&self.file.text, braces + 1, &pointer)
    }

    fn visit_event(&mut self, event: &Event<'_>, span: &Span) -> Result<(), Fatal> {
        let range = span.byte_range().unwrap_or_default();
        if let Some(tag) = span.tag_span().and_then(|tag| tag.byte_range()) {
            let help = "write the plain value; in an expression, write `not` in place of `!`";
            self.refuse(tag, "tags such as `!name` are not allowed", help);
        }
        match event {
            Event::DocumentStart(..) => {
                self.document_count += 1;
                if self.document_count > 1 {
                    let message = "a second document starts here; a file may contain only one";
                    return Err(Box::new(
                        Diagnostic::error(Code::UnsupportedYaml, message).with_span(self.file, range),
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, _) => self.visit_scalar(text, *style, *anchor, range),
            Event::Alias(id) => self.visit_alias(*id, range),
            Event::SequenceStart(style, anchor, _) => {
                self.open_frame(FrameKind::List { next_index: 0 }, *style, *anchor, range)
            }
            Event::MappingStart(style, anchor, _) => {
                self.open_frame(FrameKind::Map { keys: HashMap::new(), key: None }, *style, *anchor, range)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close_frame(range.end);
                Ok(())
            }
            // Comments and metadata have no value.
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, range: Range<usize>, message: impl Into<String>, help: &str) {
        self.diagnostics
            .push(Diagnostic::error(Code::UnsupportedYaml, message).with_span(self.file, range).with_help(help));
    }

    fn visit_scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        range: Range<usize>,
    ) -> Result<(), Fatal> {
        let is_plain = style == ScalarStyle::Plain;
        if is_plain && text.contains('?') && self.is_in_flow() {
            self.spans.add_unportable_scalar(trim_range(&self.file.text, range.clone()));
        }
        if self.expects_key() {
            self.visit_key(text, is_plain, range);
            return Ok(());
        }
        if is_plain && is_unsafe_number(text) {
            let message = format!("`{text}` is not a number that JSON can hold exactly");
            self.refuse(range.clone(), message, "put quotes around it to make it a string");
        }
        let size = ValueSize { nodes: 1, bytes: text.len(), height: 0 };
        self.add_size(size, &range)?;
        if anchor > 0 {
            self.anchors.insert(anchor, size);
        }
        let (pointer, key) = self.next_location();
        self.spans.insert(pointer, key, trim_range(&self.file.text, range));
        Ok(())
    }

    fn visit_alias(&mut self, id: usize, range: Range<usize>) -> Result<(), Fatal> {
        if self.expects_key() {
            self.refuse(range.clone(), "an alias cannot be a key", "write the key itself");
            self.set_key(String::new(), range);
            return Ok(());
        }
        // If the size is not recorded yet, the anchored value has not ended, so it would contain itself.
        let Some(size) = self.anchors.get(&id).copied() else {
            let message = "an alias inside the value that it refers to";
            return Err(Box::new(Diagnostic::error(Code::YamlTooComplex, message).with_span(self.file, range)));
        };
        self.add_size(size, &range)?;
        self.raise_height(size.height);
        let (pointer, key) = self.next_location();
        self.spans.insert(pointer, key, range);
        Ok(())
    }

    fn open_frame(
        &mut self,
        kind: FrameKind,
        style: StructureStyle,
        anchor: usize,
        range: Range<usize>,
    ) -> Result<(), Fatal> {
        if self.expects_key() {
            let message = "a list or mapping cannot be a key";
            let diagnostic = Diagnostic::error(Code::UnsupportedYaml, message).with_span(self.file, range.clone());
            let pointer = self.stack.last().map_or("", |frame| frame.pointer.as_str());
            let help = unquoted_template::advice(&self.file.text, range.start, pointer);
            return Err(Box::new(help.into_iter().fold(diagnostic, Diagnostic::with_help)));
        }
        let total_at_start = self.total;
        self.add_size(ValueSize { nodes: 1, bytes: 0, height: 0 }, &range)?;
        let (pointer, key) = self.next_location();
        self.stack.push(YamlFrame { pointer, key, start: range.start, anchor, total_at_start, height: 0, style, kind });
        self.check_depth(0, &range)
    }

    fn close_frame(&mut self, end: usize) {
        let Some(frame) = self.stack.pop() else { return };
        let height = frame.height + 1;
        self.raise_height(height);
        if frame.anchor > 0 {
            let nodes = self.total.nodes - frame.total_at_start.nodes;
            let bytes = self.total.bytes - frame.total_at_start.bytes;
            self.anchors.insert(frame.anchor, ValueSize { nodes, bytes, height });
        }
        self.spans.insert(frame.pointer, frame.key, trim_range(&self.file.text, frame.start..end.max(frame.start)));
    }

    /// Records that the innermost open list or mapping contains a value of this height.
    fn raise_height(&mut self, height: usize) {
        if let Some(frame) = self.stack.last_mut() {
            frame.height = frame.height.max(height);
        }
    }

    fn add_size(&mut self, size: ValueSize, range: &Range<usize>) -> Result<(), Fatal> {
        self.total.nodes = self.total.nodes.saturating_add(size.nodes);
        self.total.bytes = self.total.bytes.saturating_add(size.bytes);
        if self.total.nodes > MAX_NODES || self.total.bytes > MAX_BYTES {
            let message = format!("the file holds more than {MAX_NODES} values or {} MiB", MAX_BYTES >> 20);
            let diagnostic = Diagnostic::error(Code::YamlTooComplex, message).with_span(self.file, range.clone());
            let diagnostic = diagnostic.with_label("counted with aliases expanded");
            return Err(Box::new(
                diagnostic.with_help("move steps into a pipeline of their own and call it with `pipeline:`"),
            ));
        }
        self.check_depth(size.height, range)
    }

    fn check_depth(&self, height: usize, range: &Range<usize>) -> Result<(), Fatal> {
        if self.stack.len() + height <= MAX_DEPTH {
            return Ok(());
        }
        Err(Box::new(too_deep_diagnostic().with_span(self.file, range.clone())))
    }

    fn is_in_flow(&self) -> bool {
        self.stack.last().is_some_and(|frame| frame.style == StructureStyle::Flow)
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(YamlFrame { kind: FrameKind::Map { key: None, .. }, .. }))
    }

    fn visit_key(&mut self, text: &str, is_plain: bool, range: Range<usize>) {
        if is_plain && text == "<<" {
            self.refuse(range.clone(), "merge keys (`<<`) are not allowed", "write the keys out");
        } else if is_plain && !is_string(text) {
            let subject = if text.is_empty() { "an empty key".to_owned() } else { format!("the key `{text}`") };
            self.refuse(range.clone(), format!("{subject} is not a string"), "put quotes around it");
        }
        self.set_key(text.to_owned(), range);
    }

    fn set_key(&mut self, name: String, range: Range<usize>) {
        let Some(YamlFrame { kind: FrameKind::Map { keys, key }, .. }) = self.stack.last_mut() else { return };
        if let Some(first) = keys.get(&name) {
            let message = format!("the key `{name}` is written twice");
            let diagnostic = Diagnostic::error(Code::DuplicateKey, message).with_span(self.file, range.clone());
            self.diagnostics.push(diagnostic.with_secondary_label(self.file, first.clone(), "first written here"));
        } else {
            keys.insert(name.clone(), range.clone());
        }
        *key = Some((name, range));
    }

    /// Returns the pointer and key of the value that starts now, and advances to the next item or key.
    fn next_location(&mut self) -> (String, Option<Range<usize>>) {
        match self.stack.last_mut() {
            None => (String::new(), None),
            Some(YamlFrame { pointer, kind: FrameKind::List { next_index }, .. }) => {
                *next_index += 1;
                (item_pointer(pointer, *next_index - 1), None)
            }
            Some(YamlFrame { pointer, kind: FrameKind::Map { key, .. }, .. }) => {
                let (name, range) = key.take().unwrap_or_default();
                (child_pointer(pointer, &name), Some(range))
            }
        }
    }
}

/// Removes trailing white space from a range, because the parser extends the range of a block to the next key.
fn trim_range(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = text.get(range.clone()).unwrap_or_default();
    range.start..range.start + slice.trim_end().len()
}

#[cfg(test)]
mod tests;
