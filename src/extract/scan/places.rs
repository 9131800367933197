//! Scans fenced blocks and tags, and skips those that can't contain the answer.

use super::{ScanSink, ScannedValue, Scanner};
use crate::extract::cursor::Mode;
use crate::extract::fences::{self, Fence};
use crate::extract::marks::{self, MarkKind, MarkupTag};
use crate::extract::parser;
use crate::extract::report::{Repair, ValueSource};

impl<'a, S: ScanSink> Scanner<'a, S> {
    pub(super) fn open(&mut self, found: Fence<'a>) {
        // A value on the opening line: "```json {"a": 1}".
        let inline = found
            .info
            .find(['{', '[', '`'])
            .filter(|at| !found.info.get(..*at).is_some_and(|word| word.is_empty() && found.info.starts_with("{.")));
        let line = fences::line_end(self.text, self.pos);
        if let Some(at) = inline {
            if marks::may_answer(found.info.get(..at).unwrap_or_default()) {
                self.pos = found.end + at;
                self.block_start = self.pos;
            } else {
                self.skip_inline(found.end, line);
            }
            return;
        }
        let closing = fences::closing(self.text, line + 1, &found);
        if !marks::may_answer(found.info) {
            self.sink.marked();
            if marks::may_hold_only_json(found.info) {
                self.only_json(line, closing.unwrap_or(self.text.len()));
            }
            self.pos = closing.map_or(self.text.len(), |at| fences::line_end(self.text, at));
            return;
        }
        self.pos = line;
        self.block_start = line;
        self.block = Some((found, closing));
        self.scalar(closing.unwrap_or(self.text.len()), ValueSource::Fence);
    }

    /// Offers the value of a block that contains nothing else.
    fn only_json(&mut self, from: usize, to: usize) {
        let inner = self.text.get(from..to).unwrap_or_default();
        let start = from + (inner.len() - inner.trim_start().len());
        let part = self.text.get(..to).unwrap_or_default().trim_end();
        if !inner.trim_start().starts_with(['{', '[']) {
            return;
        }
        if let Ok(parsed) = parser::read(part, start, false)
            && parsed.end == part.len()
            && parsed.doubts.unpaired == 0
        {
            self.sink.offer_last(ScannedValue { parsed, source: ValueSource::Fence, start, apart: true });
        }
    }

    /// Skips code in another language on the line of an opening fence, up to the closing backticks or the line's end.
    fn skip_inline(&mut self, from: usize, line: usize) {
        self.sink.marked();
        let rest = self.text.get(from..line).unwrap_or_default();
        self.pos = match rest.rfind("```") {
            Some(at) => from + at + 3,
            None => line,
        };
    }

    /// Offers a string, number or literal if it is all the text up to `end`.
    pub(super) fn scalar(&mut self, end: usize, source: ValueSource) {
        let Some(part) = self.text.get(..end) else { return };
        let inner = part.get(self.pos..).unwrap_or_default();
        let trimmed = inner.trim();
        if trimmed.is_empty() || trimmed.starts_with(['{', '[', '<']) {
            return;
        }
        let start = self.pos + (inner.len() - inner.trim_start().len());
        let exact = parser::read_as(part, start, Mode::Exact);
        let parsed = exact.or_else(|_| parser::read_as(part, start, Mode::Tolerant { bare: false }));
        if let Ok(parsed) = parsed
            && parsed.end == start + trimmed.len()
            && !parsed.repairs.iter().any(|repair| matches!(repair, Repair::UnescapedQuote | Repair::RawControl))
        {
            self.pos = parsed.end;
            self.sink.offer(ScannedValue { parsed, source, start, apart: true });
        }
    }

    pub(super) fn tag(&mut self) {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        if rest.starts_with("<!--") {
            self.sink.marked();
            self.pos = rest.find("-->").map_or(self.text.len(), |at| self.pos + at + 3);
            return;
        }
        if rest.starts_with("<![CDATA[") {
            self.pos += "<![CDATA[".len();
            self.tag_end = self.pos;
            let end = rest.bytes().take(4096).position(|b| b == b']').map(|length| self.pos - 9 + length);
            if let Some(end) = end.filter(|end| self.text.get(*end..).is_some_and(|rest| rest.starts_with("]]>"))) {
                self.scalar(end, ValueSource::Tag);
            }
            return;
        }
        let Some(tag) = marks::tag(self.text, self.pos) else {
            // Skip the whole character; it may be longer than one byte.
            self.pos += rest.chars().next().map_or(1, char::len_utf8);
            return;
        };
        let named = self.pos > 0
            && self.text.as_bytes().get(self.pos - 1) == Some(&b'`')
            && self.text.as_bytes().get(tag.end) == Some(&b'`');
        let folded = !tag.closing && marks::folds_reasoning(self.text, &tag);
        match if folded { MarkKind::Reasoning } else { marks::kind(tag.name) } {
            // `<file>` in backticks only mentions the tag.
            MarkKind::Reasoning | MarkKind::Document if named || tag.empty => self.pos = tag.end,
            kind @ (MarkKind::Reasoning | MarkKind::Document) => self.mark(tag, kind),
            MarkKind::Other => {
                self.pos = tag.end;
                if !tag.closing {
                    self.tag_end = tag.end;
                    self.tagged_scalar(tag.end);
                }
            }
        }
    }

    fn tagged_scalar(&mut self, from: usize) {
        let rest = self.text.get(from..).unwrap_or_default();
        let Some(end) = rest.bytes().take(4096).position(|b| b == b'<').map(|i| from + i) else { return };
        if self.text.get(end..).is_some_and(|rest| rest.starts_with("</")) {
            self.scalar(end, ValueSource::Tag);
        }
    }

    /// Skips what a tag encloses. A closing tag without an opening one discards what came before it.
    fn mark(&mut self, tag: MarkupTag<'a>, kind: MarkKind) {
        self.sink.marked();
        if tag.closing {
            if kind == MarkKind::Reasoning || self.opened.iter().any(|name| name.eq_ignore_ascii_case(tag.name)) {
                self.sink.forget();
            }
            self.pos = tag.end;
            return;
        }
        if self.opened.len() < 64 {
            self.opened.push(tag.name);
        }
        // In `Vec<file>` the tag is a type parameter, unless a closing tag follows. After one search without a result
        // the scanner does not search again; a closing tag that it meets later still discards what came before it.
        let glued = self.text.get(..self.pos).is_some_and(|before| before.ends_with(char::is_alphanumeric));
        let closing = if glued && self.generic { None } else { marks::close(self.text, &tag) };
        if closing.is_none() && glued {
            self.generic = true;
            self.pos = tag.end;
            return;
        }
        self.pos = closing.unwrap_or(self.text.len());
        self.block = None;
    }
}
