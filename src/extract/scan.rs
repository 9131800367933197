//! Finds the places in a reply where a value may be. One pass; the scanner never looks inside a value that it has read.

mod places;
mod tokens;

use serde_json::Value;

use super::cursor::{Fault, LEFT_OUT, Mode, NO_NUMBER};
use super::fences::{self, Fence};
use super::marks;
use super::parser::{self, ParseFailure, Parsed};
use super::report::{Repair, ValueSource};
use super::rivals::{self, Settled};
use super::{extent, guard};

/// A value that the scanner found in a reply.
pub(super) struct ScannedValue {
    pub(super) parsed: Parsed,
    pub(super) source: ValueSource,
    pub(super) start: usize,
    /// Whether the value can't be part of a string that began before it: it starts a line, block or tag or follows a
    /// colon, and nothing after it looks like the end of such a string.
    pub(super) apart: bool,
}

/// Receives what the scanner finds.
pub(super) trait ScanSink {
    /// A value.
    fn offer(&mut self, candidate: ScannedValue);
    /// A value that is the only content of a block in another language: an answer if the reply has no other JSON.
    fn offer_last(&mut self, candidate: ScannedValue);
    /// Text that was meant as JSON, and why it can't be read.
    fn broken(&mut self, why: &'static str, start: usize, text: &str);
    /// A value that can be read in more than one way.
    fn ambiguous(&mut self, start: usize);
    /// Text that begins like JSON and can't be read as JSON.
    fn failed(&mut self, start: usize);
    /// Whether a value fits the schema, as it is or after conversion to the schema's types.
    fn fits(&self, value: &Value) -> bool;
    /// The reply ends inside a value.
    fn cut(&mut self, start: usize);
    /// Discards everything so far: markup after it shows that it was not the answer.
    fn forget(&mut self);
    /// The scanner skipped text that markup excludes from the answer.
    fn marked(&mut self);
}

struct Scanner<'a, S> {
    text: &'a str,
    pos: usize,
    /// The open block, and where its closing line starts.
    block: Option<(Fence<'a>, Option<usize>)>,
    /// The byte after the last opening tag; `block_start` is the byte after the last opening fence line.
    tag_end: usize,
    block_start: usize,
    /// The names of the tags so far that mark reasoning or documents.
    opened: Vec<&'a str>,
    /// Whether a tag attached to a word, as in `Vec<file>`, had no closing tag; the search for one is not repeated.
    generic: bool,
    /// Whether the answer has begun before `words_from`; the text from there on is not yet checked.
    worded: bool,
    words_from: usize,
    /// How many times the scanner has searched for the counterpart of an unknown token.
    searches: usize,
    /// How many more bytes failed readings may cost, which keeps the scan linear.
    budget: usize,
    sink: &'a mut S,
}

/// How many quotes after a value are inspected.
const MOST_QUOTES: usize = 64;

/// Finds all values of a reply.
pub(super) fn scan<S: ScanSink>(text: &str, sink: &mut S) {
    let budget = text.len().saturating_mul(3) + 4096;
    Scanner {
        text,
        pos: 0,
        block: None,
        tag_end: usize::MAX,
        block_start: usize::MAX,
        opened: Vec::new(),
        generic: false,
        worded: false,
        words_from: 0,
        searches: 0,
        budget,
        sink,
    }
    .run();
}

impl<S: ScanSink> Scanner<'_, S> {
    fn run(&mut self) {
        self.scalar(self.text.len(), ValueSource::Whole);
        if self.pos == 0 {
            self.scalar(self.first_token(), ValueSource::Whole);
        }
        self.line();
        while let Some(byte) = self.next_mark() {
            match byte {
                b'\n' => {
                    self.pos += 1;
                    self.line();
                }
                b'<' | b'[' | 0xe2 if self.token() => {}
                b'<' | 0xe2 => self.tag(),
                b'[' if marks::tag(self.text, self.pos).is_some() => self.tag(),
                _ => self.value(),
            }
        }
    }

    /// Moves to the next byte that may begin a line, tag, token or value, and returns it.
    fn next_mark(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.pos..)?;
        // `◁` is the only such character outside ASCII.
        let wide = |at: usize| rest.get(at..at + 3).is_some_and(|bytes| bytes == "◁".as_bytes());
        let mark = |(at, byte): (usize, &u8)| matches!(byte, b'\n' | b'<' | b'{' | b'[') || *byte == 0xe2 && wide(at);
        let skip = rest.iter().enumerate().position(mark);
        self.pos = skip.map_or(self.text.len(), |skip| self.pos + skip);
        self.text.as_bytes().get(self.pos).copied()
    }

    /// Handles the start of a line: skips a quotation, opens or closes a block at a fence.
    fn line(&mut self) {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        if rest.trim_start_matches([' ', '\t']).starts_with('>') {
            self.sink.marked();
            self.pos = fences::line_end(self.text, self.pos);
            return;
        }
        let Some(found) = fences::fence(self.text, self.pos) else { return };
        match self.block {
            Some((_, Some(closing))) if self.pos >= closing => {
                self.block = None;
                self.pos = fences::line_end(self.text, self.pos);
            }
            // The fence of another block, or a fence after a value whose string ran past the end of its block.
            Some((open, _)) => {
                if found.mark == open.mark && found.length >= open.length && found.info.trim().is_empty() {
                    self.block = None;
                    self.pos = fences::line_end(self.text, self.pos);
                }
            }
            None => self.open(found),
        }
    }

    /// Tries to read a value at the bracket here.
    fn value(&mut self) {
        let start = self.pos;
        let limit = match self.block {
            Some((_, Some(closing))) if closing > start => closing,
            _ => self.text.len(),
        };
        let place = self.place();
        (self.tag_end, self.block_start) = (usize::MAX, usize::MAX);
        if self.budget == 0 {
            return self.give_up(start);
        }
        let part = self.text.get(..limit).unwrap_or_default();
        let bare = place.leads
            && (place.source != ValueSource::Prose || start == 0 || part.as_bytes().get(start) == Some(&b'{'));
        if !bare && !guard::is_plausible(part, start) {
            self.pos = start + 1;
            return;
        }
        match parser::read(part, start, bare) {
            Ok(parsed) => self.settle(parsed, limit, bare, place),
            Err(failure) if failure.fault == Fault::Cut && limit < self.text.len() => self.beyond(start, limit, place),
            Err(failure) => self.fail(start, limit, place, failure),
        }
    }

    /// Describes where the bracket here is.
    fn place(&self) -> guard::BracketPlace {
        let before =
            |from: usize| from <= self.pos && self.text.get(from..self.pos).is_some_and(|gap| gap.trim().is_empty());
        let fenced = self.block.is_some() || before(self.block_start);
        let tagged = before(self.tag_end);
        let source = if fenced {
            ValueSource::Fence
        } else if tagged {
            ValueSource::Tag
        } else {
            ValueSource::Prose
        };
        let leads = tagged || before(self.block_start) || guard::leads_line(self.text, self.pos);
        guard::BracketPlace { source, leads, start: self.pos }
    }

    /// Accepts a value when its bytes have only one reading.
    fn settle(&mut self, parsed: Parsed, limit: usize, bare: bool, place: guard::BracketPlace) {
        let part = self.text.get(..limit).unwrap_or_default();
        let sink = &*self.sink;
        let (settled, work) = rivals::settle(part, place.start, bare, parsed, &|value| sink.fits(value));
        self.pay(work);
        match settled {
            Settled::One(parsed) => self.take(parsed, place),
            Settled::Ambiguous(end) => {
                self.sink.ambiguous(place.start);
                // Values inside an ambiguous one do not count.
                self.pos = extent::latest(part, place.start).unwrap_or(limit).max(end);
            }
        }
    }

    fn take(&mut self, parsed: Parsed, place: guard::BracketPlace) {
        let start = place.start;
        self.pos = parsed.end;
        match guard::check(self.text, &parsed, &place) {
            guard::GuardVerdict::Value => {
                let whole = start == 0 && parsed.end == self.text.len();
                let source = if whole { ValueSource::Whole } else { place.source };
                let apart = place.leads && self.closes_nothing(parsed.end);
                self.sink.offer(ScannedValue { parsed, source, start, apart });
            }
            guard::GuardVerdict::Prose => {}
            guard::GuardVerdict::Fragment => self.sink.broken(
                "it is a part of something larger that is no JSON",
                start,
                self.text.get(start..parsed.end).unwrap_or_default(),
            ),
        }
    }

    /// Handles a value that the closing fence of its block cuts off: the fence may be a line inside one of the value's
    /// strings.
    fn beyond(&mut self, start: usize, limit: usize, place: guard::BracketPlace) {
        self.pay(self.text.len() - start);
        if self.budget > 0
            && let Ok(parsed) = parser::read(self.text, start, true)
        {
            let line = fences::line_end(self.text, parsed.end);
            let rest_blank = self.text.get(parsed.end..line).is_some_and(|rest| rest.trim().is_empty());
            let open = self.block.map(|(open, _)| open);
            let closed = line >= self.text.len()
                || open.is_some_and(|open| fences::closing(self.text, line + 1, &open) == Some(line + 1));
            if rest_blank && closed {
                if let Some((_, closing)) = &mut self.block {
                    *closing = None;
                }
                return self.settle(parsed, self.text.len(), true, place);
            }
        }
        self.sink.broken("it does not end within its block", start, self.text.get(start..limit).unwrap_or_default());
        self.pos = limit;
        self.line();
    }

    fn fail(&mut self, start: usize, limit: usize, place: guard::BracketPlace, failure: ParseFailure) {
        let cost = failure.at.saturating_sub(start) + 1;
        self.pay(cost);
        if self.text.get(start + 1..).is_some_and(|inner| inner.trim_start().starts_with(['"', '\''])) {
            self.sink.failed(start);
        }
        if place.leads && self.escaped(start, limit, place.source) {
            return;
        }
        let prose = !failure.meant && !place.leads && place.source == ValueSource::Prose;
        let why = match failure.fault {
            Fault::Cut if prose && self.text.get(start..).is_some_and(|rest| rest.contains('\n')) => {
                self.pos = start + 1;
                return;
            }
            Fault::Cut => return self.give_up(start),
            Fault::Bad(why) if !failure.meant && cost <= 256 && why != LEFT_OUT && why != NO_NUMBER => {
                self.pos = start + 1;
                return;
            }
            Fault::Bad(why) => why,
        };
        let part = self.text.get(..limit).unwrap_or_default();
        match extent::latest(part, start) {
            None if limit == self.text.len() => self.give_up(start),
            end => {
                let end = end.unwrap_or(limit);
                if place.leads {
                    self.sink.broken(why, start, self.text.get(start..end).unwrap_or_default());
                }
                self.pos = end;
                if end == limit && self.block.is_some() {
                    self.line();
                }
            }
        }
    }

    /// Reads JSON that was escaped once too often, such as `{\"a\": 1}`, up to the end of its block.
    fn escaped(&mut self, start: usize, limit: usize, source: ValueSource) -> bool {
        let raw = self.text.get(start..limit).unwrap_or_default().trim_end();
        if !raw.get(1..).is_some_and(|inner| inner.trim_start().starts_with("\\\"")) {
            return false;
        }
        self.pay(raw.len());
        let quoted = format!("\"{raw}\"");
        let Ok(Parsed { value: Value::String(text), end, .. }) = parser::read_as(&quoted, 0, Mode::Exact) else {
            return false;
        };
        let Ok(mut parsed) = parser::read_as(&text, 0, Mode::Exact) else { return false };
        if end != quoted.len() || parsed.end != text.len() {
            return false;
        }
        parsed.end = start + raw.len();
        parsed.repairs.push(Repair::DoublyEncoded);
        self.pos = parsed.end;
        let apart = self.closes_nothing(parsed.end);
        self.sink.offer(ScannedValue { parsed, source, start, apart });
        true
    }

    /// Whether the text after `end` can't be the rest of a string that began earlier: the line has no further quote,
    /// and no later quote is followed by a closing bracket or comma.
    fn closes_nothing(&self, end: usize) -> bool {
        let rest = self.text.get(end..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let closes =
            |at: usize| rest.get(at + 1..).is_some_and(|after| after.trim_start().starts_with(['}', ']', ',']));
        !line.contains('"') && !rest.match_indices('"').take(MOST_QUOTES).any(|(at, _)| closes(at))
    }

    fn pay(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }

    /// Ends the scan because the reply ends inside a value.
    ///
    /// Any JSON after that point may be part of one of the value's strings, for example a file's text with a closing
    /// tag and an approval.
    fn give_up(&mut self, start: usize) {
        self.sink.cut(start);
        self.pos = self.text.len();
    }
}
