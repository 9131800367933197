//! Where in a reply a value may be: one pass, in which a value that was read is opaque.

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

/// A value of a reply.
pub(super) struct ScannedValue {
    pub(super) parsed: Parsed,
    pub(super) source: ValueSource,
    pub(super) start: usize,
    /// Whether it is apart from what is before it: on lines of its own, and nothing after it closes anything.
    pub(super) apart: bool,
}

/// What the scanner tells of.
pub(super) trait ScanSink {
    /// A value.
    fn offer(&mut self, candidate: ScannedValue);
    /// The only thing in a block of another language: an answer when there is no other JSON.
    fn offer_last(&mut self, candidate: ScannedValue);
    /// Something that was meant as JSON, and why it is none.
    fn broken(&mut self, why: &'static str, start: usize, text: &str);
    /// A value that can be read in more than one way.
    fn ambiguous(&mut self, start: usize);
    /// Something that begins as JSON does and is none.
    fn failed(&mut self, start: usize);
    /// Whether a value fits, as it is or put into the schema's types.
    fn fits(&self, value: &Value) -> bool;
    /// The reply ends inside a value.
    fn cut(&mut self, start: usize);
    /// All so far was no answer: it was marked after the fact.
    fn forget(&mut self);
    /// Something was marked, and skipped.
    fn marked(&mut self);
}

struct Scanner<'a, S> {
    text: &'a str,
    pos: usize,
    /// The open block, if any, and where its closing line starts.
    block: Option<(Fence<'a>, Option<usize>)>,
    /// The byte after the last opening tag, and after the last fence line.
    tag_end: usize,
    block_start: usize,
    /// The names of the marking tags so far.
    opened: Vec<&'a str>,
    /// Whether a name such as `Vec<file>` looked like a tag; the search for its end is not repeated.
    generic: bool,
    /// Whether words of the answer came before `words_from`, and from where on they were not looked at.
    worded: bool,
    words_from: usize,
    /// How often the counterpart of an unknown token was looked for.
    searches: usize,
    /// The bytes that failed readings may still cost.
    budget: usize,
    sink: &'a mut S,
}

/// How many quotes after a value are looked at.
const MOST_QUOTES: usize = 64;

/// Finds every value of a reply.
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

    /// Moves to the next byte that may matter.
    fn next_mark(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.pos..)?;
        // `◁` is the only mark that is no ASCII character.
        let wide = |at: usize| rest.get(at..at + 3).is_some_and(|bytes| bytes == "◁".as_bytes());
        let mark = |(at, byte): (usize, &u8)| matches!(byte, b'\n' | b'<' | b'{' | b'[') || *byte == 0xe2 && wide(at);
        let skip = rest.iter().enumerate().position(mark);
        self.pos = skip.map_or(self.text.len(), |skip| self.pos + skip);
        self.text.as_bytes().get(self.pos).copied()
    }

    /// Looks at the start of a line: a quotation, a fence.
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
            // Another block's fence, or one inside a string that went past its block.
            Some((open, _)) => {
                if found.mark == open.mark && found.length >= open.length && found.info.trim().is_empty() {
                    self.block = None;
                    self.pos = fences::line_end(self.text, self.pos);
                }
            }
            None => self.open(found),
        }
    }

    /// Tries the bracket here.
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

    /// Where the bracket here stands.
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

    /// Takes a value when its bytes can be read in one way only.
    fn settle(&mut self, parsed: Parsed, limit: usize, bare: bool, place: guard::BracketPlace) {
        let part = self.text.get(..limit).unwrap_or_default();
        let sink = &*self.sink;
        let (settled, work) = rivals::settle(part, place.start, bare, parsed, &|value| sink.fits(value));
        self.pay(work);
        match settled {
            Settled::One(parsed) => self.take(parsed, place),
            Settled::Ambiguous(end) => {
                self.sink.ambiguous(place.start);
                // What is inside of it is no value of its own.
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

    /// A value that its block's end cuts: the fence may be a line of one of its strings.
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

    /// JSON that was escaped once too often, `{\"a\": 1}`, up to the end of its block.
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

    /// Whether what follows can't be the rest of a string that began before: no quote follows on the line, and no quote
    /// with a bracket after it.
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

    /// The reply ends inside a value.
    ///
    /// What could be salvaged after it may be a string of it: a file's text, say, with a closing
    /// tag and an approval.
    fn give_up(&mut self, start: usize) {
        self.sink.cut(start);
        self.pos = self.text.len();
    }
}
