//! Parses one value, exactly or with repairs. An explicit stack replaces recursion, so that deep nesting can't overflow
//! the call stack.

use serde_json::{Map, Value};

use super::cursor::{Fault, LEFT_OUT, Mode, TextCursor, is_space};
use super::doubts::{Decision, Doubts};
use super::report::Repair;
use super::strings::{self, StringRole};
use super::words;

/// The deepest nesting. A limit is necessary because values are dropped and validated recursively.
pub(super) const DEEPEST: usize = 512;

/// A parsed value.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// The byte after it.
    pub(super) end: usize,
    pub(super) repairs: Vec<Repair>,
    /// Where the parser could have read the text in another way.
    pub(super) doubts: Doubts,
}

/// Why there is no value here.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParseFailure {
    pub(super) fault: Fault,
    /// The byte at which the parser stopped.
    pub(super) at: usize,
    /// Whether the parser had read enough to tell JSON from a bracket in prose.
    pub(super) meant: bool,
}

enum ParserFrame {
    Array(Vec<Value>),
    Object(Map<String, Value>, String),
}

struct Parser<'a> {
    cursor: TextCursor<'a>,
    stack: Vec<ParserFrame>,
    meant: bool,
}

/// Reads the value at `start`, exactly or else with repairs.
pub(super) fn read(text: &str, start: usize, bare: bool) -> Result<Parsed, ParseFailure> {
    match read_as(text, start, Mode::Exact) {
        Ok(parsed) => Ok(parsed),
        // Strict JSON up to the end of the text was cut off; repairs can't help.
        Err(exact) if exact.fault == Fault::Cut => Err(exact),
        Err(exact) => read_as(text, start, Mode::Tolerant { bare })
            .map_err(|failure| ParseFailure { meant: failure.meant || exact.meant, ..failure }),
    }
}

/// Reads the value at `start` in one mode.
pub(super) fn read_as(text: &str, start: usize, mode: Mode) -> Result<Parsed, ParseFailure> {
    run(TextCursor::new(text, start, mode))
}

/// Reads the value at `start` with repairs, where `given` decides the role of some quotes.
pub(super) fn read_given(text: &str, start: usize, bare: bool, given: Vec<Decision>) -> Result<Parsed, ParseFailure> {
    let mut cursor = TextCursor::new(text, start, Mode::Tolerant { bare });
    cursor.doubts.given = given;
    run(cursor)
}

fn run(cursor: TextCursor<'_>) -> Result<Parsed, ParseFailure> {
    let mut parser = Parser { cursor, stack: Vec::new(), meant: false };
    match parser.value() {
        Ok(value) => {
            let TextCursor { pos, repairs, doubts, .. } = parser.cursor;
            Ok(Parsed { value, end: pos, repairs, doubts })
        }
        Err(fault) => Err(ParseFailure { fault, at: parser.cursor.pos, meant: parser.meant }),
    }
}

impl Parser<'_> {
    /// Reads one value, with all nested values.
    fn value(&mut self) -> Result<Value, Fault> {
        loop {
            let Some(mut done) = self.open_or_scalar()? else { continue };
            loop {
                let Some(frame) = self.stack.pop() else { return Ok(done) };
                match self.attach(frame, done)? {
                    // The container stays open, so read its next value.
                    None => break,
                    Some(closed) => done = closed,
                }
            }
        }
    }

    /// Opens a container or reads a scalar. Returns `None` for a container that stays open.
    fn open_or_scalar(&mut self) -> Result<Option<Value>, Fault> {
        self.cursor.space()?;
        let role = match self.stack.last() {
            None => StringRole::Alone,
            Some(ParserFrame::Array(_)) => StringRole::Item,
            Some(ParserFrame::Object(..)) => StringRole::Member,
        };
        match self.cursor.byte() {
            None => Err(Fault::Cut),
            Some(b'{') => self.open_object(),
            Some(b'[') => self.open_array(),
            Some(_) if self.cursor.char().is_some_and(strings::opens) => {
                strings::read(&mut self.cursor, role).map(|text| Some(Value::String(text)))
            }
            Some(_) => words::read(&mut self.cursor, role == StringRole::Member).map(Some),
        }
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.cursor.pos += 1;
        if self.stack.len() >= DEEPEST { Err(Fault::Bad("it is nested too deeply")) } else { self.cursor.space() }
    }

    fn open_array(&mut self) -> Result<Option<Value>, Fault> {
        self.deeper()?;
        if self.cursor.byte() == Some(b']') {
            self.cursor.pos += 1;
            return Ok(Some(Value::Array(Vec::new())));
        }
        self.stack.push(ParserFrame::Array(Vec::new()));
        Ok(None)
    }

    fn open_object(&mut self) -> Result<Option<Value>, Fault> {
        self.deeper()?;
        if self.cursor.byte() == Some(b'}') {
            self.cursor.pos += 1;
            return Ok(Some(Value::Object(Map::new())));
        }
        let key = self.key()?;
        self.meant = true;
        self.stack.push(ParserFrame::Object(Map::new(), key));
        Ok(None)
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<String, Fault> {
        let first = self.cursor.char().ok_or(Fault::Cut)?;
        let key =
            if strings::opens(first) { strings::read(&mut self.cursor, StringRole::Key)? } else { self.bare_key()? };
        self.cursor.space()?;
        match self.cursor.char() {
            None => return Err(Fault::Cut),
            Some(':') => self.cursor.pos += 1,
            Some('：') => {
                self.cursor.note(Repair::WidePunctuation)?;
                self.cursor.pos += '：'.len_utf8();
            }
            Some(_) => return Err(Fault::Bad("a key has no colon")),
        }
        Ok(key)
    }

    fn bare_key(&mut self) -> Result<String, Fault> {
        let rest = self.cursor.rest();
        if rest.starts_with("...") || rest.starts_with('…') {
            return Err(Fault::Bad(LEFT_OUT));
        }
        let spaced = self.cursor.mode == Mode::Tolerant { bare: true };
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.' | '@') || spaced && c == ' ';
        let length = rest.char_indices().take(120).find(|(_, c)| !inside(*c)).map(|(i, _)| i);
        let Some(length) = length else {
            return Err(if rest.len() < 120 { Fault::Cut } else { Fault::Bad("a key does not end") });
        };
        let key = rest.get(..length).unwrap_or_default().trim_end();
        if key.is_empty() || key.contains("..") {
            return Err(Fault::Bad("a key is missing"));
        }
        self.cursor.note(Repair::UnquotedKey)?;
        self.cursor.pos += length;
        Ok(key.to_owned())
    }

    /// Adds a value to its container. Returns the container when it closes, and `None` while it stays open.
    fn attach(&mut self, frame: ParserFrame, value: Value) -> Result<Option<Value>, Fault> {
        match frame {
            ParserFrame::Array(mut items) => {
                items.push(value);
                let ends = self.separator(b']')?;
                self.meant |= items.len() > 1 || ends;
                if ends {
                    return Ok(Some(Value::Array(items)));
                }
                self.stack.push(ParserFrame::Array(items));
            }
            ParserFrame::Object(mut members, key) => {
                self.member(&mut members, key, value)?;
                if self.separator(b'}')? {
                    return Ok(Some(Value::Object(members)));
                }
                let key = self.key()?;
                self.stack.push(ParserFrame::Object(members, key));
            }
        }
        Ok(None)
    }

    fn member(&mut self, members: &mut Map<String, Value>, key: String, value: Value) -> Result<(), Fault> {
        match members.get(&key) {
            None => drop(members.insert(key, value)),
            Some(before) if *before == value => self.cursor.note(Repair::DuplicateKey)?,
            Some(_) => return Err(Fault::Bad("a key is given twice with different values")),
        }
        Ok(())
    }

    /// Skips the comma or the closing bracket. Returns whether the container is closed.
    fn separator(&mut self, close: u8) -> Result<bool, Fault> {
        let before = self.cursor.pos;
        self.cursor.space()?;
        match self.cursor.char() {
            None => Err(Fault::Cut),
            Some(c) if c == char::from(close) => {
                self.cursor.pos += 1;
                Ok(true)
            }
            Some(c @ (',' | '，')) => {
                if c != ',' {
                    self.cursor.note(Repair::WidePunctuation)?;
                }
                self.cursor.pos += c.len_utf8();
                self.cursor.space()?;
                let ends = self.cursor.byte() == Some(close);
                if ends {
                    self.cursor.note(Repair::TrailingComma)?;
                    self.cursor.pos += 1;
                }
                Ok(ends)
            }
            Some(next) => self.missing_comma(before, close, next),
        }
    }

    /// Accepts a missing comma between two neighbours only where white space or an opening bracket separates them and
    /// the next one clearly begins a value or key.
    fn missing_comma(&mut self, before: usize, close: u8, next: char) -> Result<bool, Fault> {
        let gap = self.cursor.text.get(before..self.cursor.pos).unwrap_or_default();
        let line = gap.contains('\n');
        let starts = strings::opens(next)
            || matches!(next, '{' | '[') && close == b']'
            || line && (next.is_alphanumeric() || next == '_');
        let apart = gap.contains(is_space) || matches!(next, '{' | '[');
        if !starts || !apart {
            return Err(Fault::Bad("a comma or a bracket is missing"));
        }
        self.cursor.note(Repair::MissingComma)?;
        Ok(false)
    }
}
