//! Scans a reply for values in one pass. The scanner does not search for further values inside a parsed value.

mod blocks;
mod tokens;

use serde_json::Value;

use super::alternatives::{self, ParseResolution};
use super::cursor::{Fault, HALF_SURROGATE, NOT_A_JSON_NUMBER, ParseMode, VALUES_OMITTED};
use super::fences::{self, Fence};
use super::parser::{self, ParseFailure, ParsedValue};
use super::report::{Repair, ValueSource};
use super::tags;
use super::{bracket_end, brackets};

/// A value that the scanner found in a reply.
pub(super) struct ScannedValue {
    pub(super) parsed: ParsedValue,
    pub(super) source: ValueSource,
    pub(super) start: usize,
    /// Whether the value can't be part of a string that began before it: the value starts a line, block or tag, or
    /// follows a colon, and no text after the value looks like the end of such a string.
    pub(super) is_outside_strings: bool,
}

/// Receives the findings of the scanner.
pub(super) trait ScanSink {
    /// Receives a value.
    fn add_candidate(&mut self, candidate: ScannedValue);
    /// Receives the only value of a block in another language. It is the answer if the reply has no other JSON.
    fn add_fallback(&mut self, candidate: ScannedValue);
    /// Receives text that is meant as JSON, and the reason why the parser can't parse it.
    fn report_unreadable(&mut self, reason: &'static str, start: usize, text: &str);
    /// Receives the start of a value that can be parsed in more than one way.
    fn report_ambiguous(&mut self, start: usize);
    /// Receives the start of text that looks like JSON, but can't be parsed.
    fn report_failed_parse(&mut self, start: usize);
    /// Whether a value fits the schema, unchanged or after conversion to the schema's types.
    fn fits_schema(&self, value: &Value) -> bool;
    /// Records that the reply ends inside the value at `start`.
    fn report_cut_off(&mut self, start: usize);
    /// Discards all findings so far, because markup shows that they are not the answer.
    fn discard_findings(&mut self);
    /// Records that the scanner skipped text which markup excludes from the answer.
    fn report_skipped_markup(&mut self);
}

struct Scanner<'a, S> {
    text: &'a str,
    pos: usize,
    /// The opening fence of the open block, and the start of the block's closing line, if it has one.
    open_block: Option<(Fence<'a>, Option<usize>)>,
    /// The byte after the last opening tag.
    tag_end: usize,
    /// The byte after the last opening fence line.
    block_start: usize,
    /// The names of the opening tags so far that enclose reasoning or documents.
    opened_tags: Vec<&'a str>,
    /// Whether a tag attached to a word, as in `Vec<file>`, had no closing tag. The scanner then does not search for
    /// closing tags of such tags again.
    has_unclosed_generic: bool,
    /// Whether the text before `unchecked_start` contains more than special tokens and white space.
    has_answer_text: bool,
    /// The byte at which the unchecked text starts.
    unchecked_start: usize,
    /// The number of times that the scanner has searched for the counterpart of an unknown token.
    search_count: usize,
    /// The number of bytes that failed and repeated parses may still read. The limit keeps the scan linear.
    remaining_budget: usize,
    sink: &'a mut S,
}

/// The maximum number of quotes after a value that the scanner inspects.
const MAX_QUOTES: usize = 64;

/// The maximum length of a scalar that is a value of its own, in bytes.
const MAX_SCALAR_BYTES: usize = 4096;

/// Finds all values of a reply.
pub(super) fn scan<S: ScanSink>(text: &str, sink: &mut S) {
    let remaining_budget = text.len().saturating_mul(3) + 4096;
    Scanner {
        text,
        pos: 0,
        open_block: None,
        tag_end: usize::MAX,
        block_start: usize::MAX,
        opened_tags: Vec::new(),
        has_unclosed_generic: false,
        has_answer_text: false,
        unchecked_start: 0,
        search_count: 0,
        remaining_budget,
        sink,
    }
    .run();
}

impl<S: ScanSink> Scanner<'_, S> {
    fn run(&mut self) {
        self.offer_scalar(self.text.len(), ValueSource::Whole);
        if self.pos == 0 {
            self.offer_scalar(self.first_token_start(), ValueSource::Whole);
        }
        self.handle_line_start();
        while let Some(byte) = self.move_to_next_marker() {
            match byte {
                b'\n' => {
                    self.pos += 1;
                    self.handle_line_start();
                }
                b'<' | b'[' | 0xe2 if self.handle_token() => {}
                b'<' | 0xe2 => self.handle_tag(),
                b'[' if tags::tag_at(self.text, self.pos).is_some() => self.handle_tag(),
                _ => self.parse_value(),
            }
        }
    }

    /// Moves to the next byte that may begin a line, tag, token or value, and returns it.
    fn move_to_next_marker(&mut self) -> Option<u8> {
        let tail = self.text.as_bytes().get(self.pos..)?;
        // `◁` is the only marker outside ASCII.
        let is_triangle = |pos: usize| tail.get(pos..pos + 3).is_some_and(|bytes| bytes == "◁".as_bytes());
        let is_marker =
            |(pos, byte): (usize, &u8)| matches!(byte, b'\n' | b'<' | b'{' | b'[') || *byte == 0xe2 && is_triangle(pos);
        let offset = tail.iter().enumerate().position(is_marker);
        self.pos = offset.map_or(self.text.len(), |offset| self.pos + offset);
        self.text.as_bytes().get(self.pos).copied()
    }

    /// Handles the start of a line: skips a quotation, or opens or closes a block at a fence.
    fn handle_line_start(&mut self) {
        let tail = self.text.get(self.pos..).unwrap_or_default();
        if tail.trim_start_matches([' ', '\t']).starts_with('>') {
            self.sink.report_skipped_markup();
            self.pos = fences::line_end(self.text, self.pos);
            return;
        }
        let Some(fence) = fences::fence_at(self.text, self.pos) else { return };
        match self.open_block {
            Some((_, Some(closing_line))) if self.pos >= closing_line => {
                self.open_block = None;
                self.pos = fences::line_end(self.text, self.pos);
            }
            // This is the fence of another block, or a fence after a value whose strings contain a fence.
            Some((opening, _)) => {
                if fence.marker == opening.marker && fence.length >= opening.length && fence.info.trim().is_empty() {
                    self.open_block = None;
                    self.pos = fences::line_end(self.text, self.pos);
                }
            }
            None => self.enter_block(fence),
        }
    }

    /// Tries to parse a value at the current bracket.
    fn parse_value(&mut self) {
        let start = self.pos;
        let limit = match self.open_block {
            Some((_, Some(closing_line))) if closing_line > start => closing_line,
            _ => self.text.len(),
        };
        let bracket = self.bracket_context();
        (self.tag_end, self.block_start) = (usize::MAX, usize::MAX);
        if self.remaining_budget == 0 {
            return self.end_scan_at_cut_off(start);
        }
        let text = self.text.get(..limit).unwrap_or_default();
        let allow_unquoted = bracket.is_leading
            && (bracket.source != ValueSource::Prose || start == 0 || text.as_bytes().get(start) == Some(&b'{'));
        if !allow_unquoted && !brackets::may_start_json(text, start) {
            self.pos = start + 1;
            return;
        }
        match parser::parse(text, start, allow_unquoted) {
            Ok(parsed) => self.resolve_ambiguity(parsed, limit, allow_unquoted, bracket),
            Err(failure) if failure.fault == Fault::UnexpectedEnd && limit < self.text.len() => {
                self.parse_beyond_block(start, limit, bracket);
            }
            Err(failure) => self.handle_failure(start, limit, bracket, failure),
        }
    }

    /// The position of the current bracket, and the text around it.
    fn bracket_context(&self) -> brackets::BracketContext {
        let is_directly_after =
            |start: usize| start <= self.pos && self.text.get(start..self.pos).is_some_and(|gap| gap.trim().is_empty());
        let starts_block = is_directly_after(self.block_start);
        let starts_tag = is_directly_after(self.tag_end);
        let source = if self.open_block.is_some() || starts_block {
            ValueSource::Fence
        } else if starts_tag {
            ValueSource::Tag
        } else {
            ValueSource::Prose
        };
        let is_leading = starts_tag || starts_block || brackets::is_leading(self.text, self.pos);
        brackets::BracketContext { source, is_leading, start: self.pos }
    }

    /// Accepts a value if its text can be parsed in only one way.
    fn resolve_ambiguity(
        &mut self,
        parsed: ParsedValue,
        limit: usize,
        allow_unquoted: bool,
        bracket: brackets::BracketContext,
    ) {
        let text = self.text.get(..limit).unwrap_or_default();
        let sink = &*self.sink;
        let (resolution, cost) =
            alternatives::resolve(text, bracket.start, allow_unquoted, parsed, &|value| sink.fits_schema(value));
        self.spend_budget(cost);
        match resolution {
            ParseResolution::Unambiguous(parsed) => self.offer_value(parsed, bracket),
            ParseResolution::Ambiguous(end) => {
                self.sink.report_ambiguous(bracket.start);
                // Skips the values inside the ambiguous value.
                self.pos = bracket_end::estimate_end(text, bracket.start).unwrap_or(limit).max(end);
            }
        }
    }

    /// Passes a parsed value to the sink, unless the text around the value shows that it is not a value of the reply.
    fn offer_value(&mut self, parsed: ParsedValue, bracket: brackets::BracketContext) {
        let start = bracket.start;
        self.pos = parsed.end;
        match brackets::classify(self.text, &parsed, &bracket) {
            brackets::BracketClass::Value => {
                let is_whole_reply = start == 0 && parsed.end == self.text.len();
                let source = if is_whole_reply { ValueSource::Whole } else { bracket.source };
                let is_outside_strings = bracket.is_leading && self.cannot_end_string(parsed.end);
                self.sink.add_candidate(ScannedValue { parsed, source, start, is_outside_strings });
            }
            brackets::BracketClass::Prose => {}
            brackets::BracketClass::Fragment => self.sink.report_unreadable(
                "it is part of a larger text that is not JSON",
                start,
                self.text.get(start..parsed.end).unwrap_or_default(),
            ),
        }
    }

    /// Handles a value that the closing fence of its block cuts off. The fence may be a line in one of the value's
    /// strings.
    fn parse_beyond_block(&mut self, start: usize, limit: usize, bracket: brackets::BracketContext) {
        self.spend_budget(self.text.len() - start);
        if self.remaining_budget > 0
            && let Ok(parsed) = parser::parse(self.text, start, true)
        {
            let line_end = fences::line_end(self.text, parsed.end);
            let ends_line = self.text.get(parsed.end..line_end).is_some_and(|tail| tail.trim().is_empty());
            let opening = self.open_block.map(|(opening, _)| opening);
            let next_line = line_end + 1;
            let ends_block = line_end >= self.text.len()
                || opening
                    .is_some_and(|opening| fences::closing_line(self.text, next_line, &opening) == Some(next_line));
            if ends_line && ends_block {
                if let Some((_, closing_line)) = &mut self.open_block {
                    *closing_line = None;
                }
                return self.resolve_ambiguity(parsed, self.text.len(), true, bracket);
            }
        }
        self.sink.report_unreadable(
            "it does not end within its block",
            start,
            self.text.get(start..limit).unwrap_or_default(),
        );
        self.pos = limit;
        self.handle_line_start();
    }

    /// Skips text that can't be parsed, and reports it if it is meant as JSON.
    fn handle_failure(&mut self, start: usize, limit: usize, bracket: brackets::BracketContext, failure: ParseFailure) {
        let cost = failure.pos.saturating_sub(start) + 1;
        self.spend_budget(cost);
        if self.text.get(start + 1..).is_some_and(|inner| inner.trim_start().starts_with(['"', '\''])) {
            self.sink.report_failed_parse(start);
        }
        if bracket.is_leading && self.offer_unescaped(start, limit, bracket.source) {
            return;
        }
        let is_prose = !failure.is_likely_json && !bracket.is_leading && bracket.source == ValueSource::Prose;
        let reason = match failure.fault {
            Fault::UnexpectedEnd if is_prose && self.text.get(start..).is_some_and(|tail| tail.contains('\n')) => {
                self.pos = start + 1;
                return;
            }
            Fault::UnexpectedEnd => return self.end_scan_at_cut_off(start),
            Fault::Invalid(reason)
                if !failure.is_likely_json
                    && cost <= 256
                    && ![VALUES_OMITTED, NOT_A_JSON_NUMBER, HALF_SURROGATE].contains(&reason) =>
            {
                self.pos = start + 1;
                return;
            }
            Fault::Invalid(reason) => reason,
        };
        let text = self.text.get(..limit).unwrap_or_default();
        match bracket_end::estimate_end(text, start) {
            None if limit == self.text.len() => self.end_scan_at_cut_off(start),
            end => {
                let end = end.unwrap_or(limit);
                if bracket.is_leading {
                    self.sink.report_unreadable(reason, start, self.text.get(start..end).unwrap_or_default());
                }
                self.pos = end;
                if end == limit && self.open_block.is_some() {
                    self.handle_line_start();
                }
            }
        }
    }

    /// Passes JSON that is escaped twice, such as `{\"a\": 1}`, to the sink, if the text up to `limit` contains nothing
    /// else. Returns whether the scanner found such JSON.
    fn offer_unescaped(&mut self, start: usize, limit: usize, source: ValueSource) -> bool {
        let escaped = self.text.get(start..limit).unwrap_or_default().trim_end();
        if !escaped.get(1..).is_some_and(|inner| inner.trim_start().starts_with("\\\"")) {
            return false;
        }
        self.spend_budget(escaped.len());
        let string = format!("\"{escaped}\"");
        let Ok(ParsedValue { value: Value::String(unescaped), end, .. }) =
            parser::parse_in_mode(&string, 0, ParseMode::Exact)
        else {
            return false;
        };
        let Ok(mut parsed) = parser::parse_in_mode(&unescaped, 0, ParseMode::Exact) else { return false };
        if end != string.len() || parsed.end != unescaped.len() {
            return false;
        }
        parsed.end = start + escaped.len();
        parsed.repairs.push(Repair::DoublyEncoded);
        self.pos = parsed.end;
        let is_outside_strings = self.cannot_end_string(parsed.end);
        self.sink.add_candidate(ScannedValue { parsed, source, start, is_outside_strings });
        true
    }

    /// Whether the text after `end` can't be the end of a string that began earlier: the line has no further quote, and
    /// no closing bracket or comma follows a later quote.
    fn cannot_end_string(&self, end: usize) -> bool {
        let tail = self.text.get(end..).unwrap_or_default();
        let line = tail.split('\n').next().unwrap_or_default();
        let may_close = |pos: usize| {
            tail.get(pos + 1..).is_some_and(|following| following.trim_start().starts_with(['}', ']', ',']))
        };
        !line.contains('"') && !tail.match_indices('"').take(MAX_QUOTES).any(|(pos, _)| may_close(pos))
    }

    fn spend_budget(&mut self, cost: usize) {
        self.remaining_budget = self.remaining_budget.saturating_sub(cost);
    }

    /// Ends the scan because the reply ends inside a value.
    ///
    /// Any JSON after that point may be part of one of the value's strings, for example of a file's content.
    fn end_scan_at_cut_off(&mut self, start: usize) {
        self.sink.report_cut_off(start);
        self.pos = self.text.len();
    }
}
