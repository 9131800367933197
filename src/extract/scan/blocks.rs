//! Scans fenced blocks and tags, and skips blocks and tags that can't contain the answer.

use super::{MAX_SCALAR_BYTES, ScanSink, ScannedValue, Scanner};
use crate::extract::cursor::{Fault, HALF_SURROGATE, ParseMode};
use crate::extract::fences::{self, Fence};
use crate::extract::parser;
use crate::extract::report::{Repair, ValueSource};
use crate::extract::tags::{self, MarkupTag, TagKind};

impl<'a, S: ScanSink> Scanner<'a, S> {
    /// Opens the block of a fence, or skips the block if it can't contain the answer.
    pub(super) fn enter_block(&mut self, fence: Fence<'a>) {
        // The opening line may contain a value, as in "```json {"a": 1}". In "```{.json}", the bracket starts
        // attributes.
        let inline_value = fence.info.find(['{', '[', '`']).filter(|pos| {
            !fence.info.get(..*pos).is_some_and(|language| language.is_empty() && fence.info.starts_with("{."))
        });
        let line_end = fences::line_end(self.text, self.pos);
        if let Some(offset) = inline_value {
            if tags::may_contain_answer(fence.info.get(..offset).unwrap_or_default()) {
                self.pos = fence.info_start + offset;
                self.block_start = self.pos;
            } else {
                self.skip_inline_code(fence.info_start, line_end);
            }
            return;
        }
        let closing_line = fences::closing_line(self.text, line_end + 1, &fence);
        let block_end = closing_line.unwrap_or(self.text.len());
        if !tags::may_contain_answer(fence.info) {
            self.sink.report_skipped_markup();
            if tags::may_contain_single_value(fence.info) {
                self.offer_only_value(line_end, block_end);
            }
            self.pos = closing_line.map_or(self.text.len(), |pos| fences::line_end(self.text, pos));
            return;
        }
        self.pos = line_end;
        self.block_start = line_end;
        self.open_block = Some((fence, closing_line));
        self.offer_scalar(block_end, ValueSource::Fence);
    }

    /// Passes the value of a block to the sink, if the block contains nothing else.
    fn offer_only_value(&mut self, block_start: usize, block_end: usize) {
        let content = self.text.get(block_start..block_end).unwrap_or_default();
        if !content.trim_start().starts_with(['{', '[']) {
            return;
        }
        let start = block_start + (content.len() - content.trim_start().len());
        let text = self.text.get(..block_end).unwrap_or_default().trim_end();
        if let Ok(parsed) = parser::parse(text, start, false)
            && parsed.end == text.len()
            && parsed.ambiguity.unpaired_quotes == 0
        {
            self.sink.add_fallback(ScannedValue {
                parsed,
                source: ValueSource::Fence,
                start,
                is_outside_strings: true,
            });
        }
    }

    /// Skips code in another language on the line of an opening fence, up to the closing backticks or the end of the
    /// line.
    fn skip_inline_code(&mut self, start: usize, line_end: usize) {
        self.sink.report_skipped_markup();
        let code = self.text.get(start..line_end).unwrap_or_default();
        self.pos = match code.rfind("```") {
            Some(offset) => start + offset + 3,
            None => line_end,
        };
    }

    /// Passes a string, number or literal to the sink, if the text up to `end` contains nothing else.
    pub(super) fn offer_scalar(&mut self, end: usize, source: ValueSource) {
        let Some(text) = self.text.get(..end) else { return };
        let content = text.get(self.pos..).unwrap_or_default();
        let trimmed = content.trim();
        if trimmed.is_empty() || trimmed.starts_with(['{', '[', '<']) {
            return;
        }
        let start = self.pos + (content.len() - content.trim_start().len());
        let exact = parser::parse_in_mode(text, start, ParseMode::Exact);
        let parsed =
            exact.or_else(|_| parser::parse_in_mode(text, start, ParseMode::Tolerant { allow_unquoted: false }));
        let is_unsafe = |repair: &Repair| matches!(repair, Repair::UnescapedQuote | Repair::RawControl);
        match parsed {
            Ok(parsed) if parsed.end == start + trimmed.len() && !parsed.repairs.iter().any(is_unsafe) => {
                self.pos = parsed.end;
                self.sink.add_candidate(ScannedValue { parsed, source, start, is_outside_strings: true });
            }
            Err(failure) if failure.fault == Fault::Invalid(HALF_SURROGATE) && trimmed.ends_with('"') => {
                self.sink.report_unreadable(HALF_SURROGATE, start, trimmed);
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Handles the `<` or `[` at the current position, which may start a comment, a CDATA section or a tag.
    pub(super) fn handle_tag(&mut self) {
        let tail = self.text.get(self.pos..).unwrap_or_default();
        if tail.starts_with("<!--") {
            self.sink.report_skipped_markup();
            self.pos = tail.find("-->").map_or(self.text.len(), |offset| self.pos + offset + 3);
            return;
        }
        if tail.starts_with("<![CDATA[") {
            self.pos += "<![CDATA[".len();
            self.tag_end = self.pos;
            let end = tail.bytes().take(MAX_SCALAR_BYTES).position(|b| b == b']').map(|offset| self.pos - 9 + offset);
            if let Some(end) = end.filter(|end| self.text.get(*end..).is_some_and(|tail| tail.starts_with("]]>"))) {
                self.offer_scalar(end, ValueSource::Tag);
            }
            return;
        }
        let Some(tag) = tags::tag_at(self.text, self.pos) else {
            // Skips the whole character, which may have several bytes.
            self.pos += tail.chars().next().map_or(1, char::len_utf8);
            return;
        };
        let is_in_backticks = self.pos > 0
            && self.text.as_bytes().get(self.pos - 1) == Some(&b'`')
            && self.text.as_bytes().get(tag.end) == Some(&b'`');
        let is_collapsed_reasoning = !tag.is_closing && tags::is_collapsed_reasoning(self.text, &tag);
        match if is_collapsed_reasoning { TagKind::Reasoning } else { tags::tag_kind(tag.name) } {
            // `<file>` in backticks only mentions the tag.
            TagKind::Reasoning | TagKind::Document if is_in_backticks || tag.is_self_closing => self.pos = tag.end,
            kind @ (TagKind::Reasoning | TagKind::Document) => self.skip_enclosed(tag, kind),
            TagKind::Other => {
                self.pos = tag.end;
                if !tag.is_closing {
                    self.tag_end = tag.end;
                    self.offer_tagged_scalar(tag.end);
                }
            }
        }
    }

    fn offer_tagged_scalar(&mut self, start: usize) {
        let tail = self.text.get(start..).unwrap_or_default();
        let Some(end) = tail.bytes().take(MAX_SCALAR_BYTES).position(|b| b == b'<').map(|offset| start + offset) else {
            return;
        };
        if self.text.get(end..).is_some_and(|tail| tail.starts_with("</")) {
            self.offer_scalar(end, ValueSource::Tag);
        }
    }

    /// Skips the text that a tag encloses. A closing tag without an opening one discards the findings before it.
    fn skip_enclosed(&mut self, tag: MarkupTag<'a>, kind: TagKind) {
        self.sink.report_skipped_markup();
        if tag.is_closing {
            if kind == TagKind::Reasoning || self.opened_tags.iter().any(|name| name.eq_ignore_ascii_case(tag.name)) {
                self.sink.discard_findings();
            }
            self.pos = tag.end;
            return;
        }
        if self.opened_tags.len() < 64 {
            self.opened_tags.push(tag.name);
        }
        // In `Vec<file>`, the tag is a type parameter, unless a closing tag follows. After one search without a result,
        // the scanner does not search again. If a closing tag follows after all, it discards the findings before it.
        let is_attached = self.text.get(..self.pos).is_some_and(|preceding| preceding.ends_with(char::is_alphanumeric));
        let closing_tag =
            if is_attached && self.has_unclosed_generic { None } else { tags::enclosed_end(self.text, &tag) };
        if closing_tag.is_none() && is_attached {
            self.has_unclosed_generic = true;
            self.pos = tag.end;
            return;
        }
        self.pos = closing_tag.unwrap_or(self.text.len());
        self.open_block = None;
    }
}
