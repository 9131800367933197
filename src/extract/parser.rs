//! Parses one value, strictly or with repairs. An explicit stack replaces recursion, so that deep nesting can't
//! overflow the call stack.

use serde_json::{Map, Value};

use super::ambiguity::{QuoteAmbiguity, QuoteDecision};
use super::cursor::{Fault, ParseMode, TextCursor, VALUES_OMITTED, is_space};
use super::equality::is_same_value;
use super::report::Repair;
use super::scalars;
use super::strings::{self, StringRole};

/// The maximum nesting depth. A limit is necessary because dropping and validating a value is recursive.
pub(super) const MAX_DEPTH: usize = 512;

/// A key without quotes has fewer characters than this.
const MAX_BARE_KEY_CHARS: usize = 120;

/// A parsed value.
#[derive(Debug)]
pub(super) struct ParsedValue {
    pub(super) value: Value,
    /// The byte after the value.
    pub(super) end: usize,
    pub(super) repairs: Vec<Repair>,
    /// Where the parser could have parsed the text in another way.
    pub(super) ambiguity: QuoteAmbiguity,
}

/// Why the parser found no value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParseFailure {
    pub(super) fault: Fault,
    /// The byte at which the parser stopped.
    pub(super) pos: usize,
    /// Whether the text is probably JSON, not a bracket in prose: the parser has read a key, a second item or the end
    /// of a list.
    pub(super) is_likely_json: bool,
}

/// A container that is not closed yet.
enum ParserFrame {
    /// The items so far.
    Array(Vec<Value>),
    /// The members so far, and the key of the next one.
    Object(Map<String, Value>, String),
}

struct Parser<'a> {
    cursor: TextCursor<'a>,
    stack: Vec<ParserFrame>,
    is_likely_json: bool,
}

/// Parses the value at `start`, strictly or else with repairs.
pub(super) fn parse(text: &str, start: usize, allow_unquoted: bool) -> Result<ParsedValue, ParseFailure> {
    match parse_in_mode(text, start, ParseMode::Exact) {
        Ok(parsed) => Ok(parsed),
        // Strict JSON that ends too early was cut off, and repairs can't complete it.
        Err(exact_failure) if exact_failure.fault == Fault::UnexpectedEnd => Err(exact_failure),
        Err(exact_failure) => parse_in_mode(text, start, ParseMode::Tolerant { allow_unquoted }).map_err(|failure| {
            ParseFailure { is_likely_json: failure.is_likely_json || exact_failure.is_likely_json, ..failure }
        }),
    }
}

/// Parses the value at `start` in one mode.
pub(super) fn parse_in_mode(text: &str, start: usize, mode: ParseMode) -> Result<ParsedValue, ParseFailure> {
    run_parser(TextCursor::new(text, start, mode))
}

/// Parses the value at `start` with repairs. `decisions` says of some quotes whether they close their string or belong
/// to its text, so the parser does not decide.
pub(super) fn parse_with_decisions(
    text: &str,
    start: usize,
    allow_unquoted: bool,
    decisions: Vec<QuoteDecision>,
) -> Result<ParsedValue, ParseFailure> {
    let mut cursor = TextCursor::new(text, start, ParseMode::Tolerant { allow_unquoted });
    cursor.ambiguity.fixed_roles = decisions;
    run_parser(cursor)
}

fn run_parser(cursor: TextCursor<'_>) -> Result<ParsedValue, ParseFailure> {
    let mut parser = Parser { cursor, stack: Vec::new(), is_likely_json: false };
    match parser.parse_value() {
        Ok(value) => {
            let TextCursor { pos, repairs, ambiguity, .. } = parser.cursor;
            Ok(ParsedValue { value, end: pos, repairs, ambiguity })
        }
        Err(fault) => Err(ParseFailure { fault, pos: parser.cursor.pos, is_likely_json: parser.is_likely_json }),
    }
}

impl Parser<'_> {
    /// Parses one value, with all nested values.
    fn parse_value(&mut self) -> Result<Value, Fault> {
        loop {
            let Some(mut completed) = self.open_container_or_parse_scalar()? else { continue };
            loop {
                let Some(frame) = self.stack.pop() else { return Ok(completed) };
                match self.add_to_container(frame, completed)? {
                    // The container stays open, so parse its next value.
                    None => break,
                    Some(closed) => completed = closed,
                }
            }
        }
    }

    /// Opens a container, or parses a scalar. Returns `None` for a container that stays open.
    fn open_container_or_parse_scalar(&mut self) -> Result<Option<Value>, Fault> {
        self.cursor.skip_space()?;
        let role = match self.stack.last() {
            None => StringRole::TopLevel,
            Some(ParserFrame::Array(_)) => StringRole::Item,
            Some(ParserFrame::Object(..)) => StringRole::MemberValue,
        };
        match self.cursor.peek_byte() {
            None => Err(Fault::UnexpectedEnd),
            Some(b'{') => self.open_object(),
            Some(b'[') => self.open_array(),
            Some(_) if self.cursor.peek_char().is_some_and(strings::is_opening_quote) => {
                strings::parse_string(&mut self.cursor, role).map(|text| Some(Value::String(text)))
            }
            Some(_) => scalars::parse_scalar(&mut self.cursor, role == StringRole::MemberValue).map(Some),
        }
    }

    fn enter_container(&mut self) -> Result<(), Fault> {
        self.cursor.pos += 1;
        if self.stack.len() >= MAX_DEPTH {
            Err(Fault::Invalid("it is nested too deeply"))
        } else {
            self.cursor.skip_space()
        }
    }

    fn open_array(&mut self) -> Result<Option<Value>, Fault> {
        self.enter_container()?;
        if self.cursor.peek_byte() == Some(b']') {
            self.cursor.pos += 1;
            return Ok(Some(Value::Array(Vec::new())));
        }
        self.stack.push(ParserFrame::Array(Vec::new()));
        Ok(None)
    }

    fn open_object(&mut self) -> Result<Option<Value>, Fault> {
        self.enter_container()?;
        if self.cursor.peek_byte() == Some(b'}') {
            self.cursor.pos += 1;
            return Ok(Some(Value::Object(Map::new())));
        }
        let key = self.parse_key()?;
        self.is_likely_json = true;
        self.stack.push(ParserFrame::Object(Map::new(), key));
        Ok(None)
    }

    /// Parses a key and its colon.
    fn parse_key(&mut self) -> Result<String, Fault> {
        let first_char = self.cursor.peek_char().ok_or(Fault::UnexpectedEnd)?;
        let key = if strings::is_opening_quote(first_char) {
            strings::parse_string(&mut self.cursor, StringRole::Key)?
        } else {
            self.parse_bare_key()?
        };
        self.cursor.skip_space()?;
        match self.cursor.peek_char() {
            None => return Err(Fault::UnexpectedEnd),
            Some(':') => self.cursor.pos += 1,
            Some('：') => {
                self.cursor.add_repair(Repair::WidePunctuation)?;
                self.cursor.pos += '：'.len_utf8();
            }
            Some(_) => return Err(Fault::Invalid("a key has no colon")),
        }
        Ok(key)
    }

    fn parse_bare_key(&mut self) -> Result<String, Fault> {
        let tail = self.cursor.remaining();
        if tail.starts_with("...") || tail.starts_with('…') {
            return Err(Fault::Invalid(VALUES_OMITTED));
        }
        let allows_spaces = self.cursor.mode == ParseMode::Tolerant { allow_unquoted: true };
        let is_key_char =
            |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.' | '@') || allows_spaces && c == ' ';
        let mut first_chars = tail.char_indices().take(MAX_BARE_KEY_CHARS);
        let Some((length, _)) = first_chars.find(|(_, c)| !is_key_char(*c)) else {
            let is_cut_off = tail.chars().nth(MAX_BARE_KEY_CHARS - 1).is_none();
            return Err(if is_cut_off { Fault::UnexpectedEnd } else { Fault::Invalid("a key does not end") });
        };
        let key = tail.get(..length).unwrap_or_default().trim_end();
        if key.is_empty() || key.contains("..") {
            return Err(Fault::Invalid("a key is missing"));
        }
        self.cursor.add_repair(Repair::UnquotedKey)?;
        self.cursor.pos += length;
        Ok(key.to_owned())
    }

    /// Adds a value to its container. Returns the container if its closing bracket follows, and `None` otherwise.
    fn add_to_container(&mut self, frame: ParserFrame, value: Value) -> Result<Option<Value>, Fault> {
        match frame {
            ParserFrame::Array(mut items) => {
                items.push(value);
                let is_closed = self.skip_separator(b']')?;
                self.is_likely_json |= items.len() > 1 || is_closed;
                if is_closed {
                    return Ok(Some(Value::Array(items)));
                }
                self.stack.push(ParserFrame::Array(items));
            }
            ParserFrame::Object(mut members, key) => {
                self.insert_member(&mut members, key, value)?;
                if self.skip_separator(b'}')? {
                    return Ok(Some(Value::Object(members)));
                }
                let key = self.parse_key()?;
                self.stack.push(ParserFrame::Object(members, key));
            }
        }
        Ok(None)
    }

    fn insert_member(&mut self, members: &mut Map<String, Value>, key: String, value: Value) -> Result<(), Fault> {
        match members.get(&key) {
            None => drop(members.insert(key, value)),
            Some(existing) if is_same_value(existing, &value) => self.cursor.add_repair(Repair::DuplicateKey)?,
            Some(_) => return Err(Fault::Invalid("a key is given twice with different values")),
        }
        Ok(())
    }

    /// Skips a comma or the closing bracket. Returns whether the container is closed.
    fn skip_separator(&mut self, closing_bracket: u8) -> Result<bool, Fault> {
        let gap_start = self.cursor.pos;
        self.cursor.skip_space()?;
        match self.cursor.peek_char() {
            None => Err(Fault::UnexpectedEnd),
            Some(c) if c == char::from(closing_bracket) => {
                self.cursor.pos += 1;
                Ok(true)
            }
            Some(c @ (',' | '，')) => {
                if c != ',' {
                    self.cursor.add_repair(Repair::WidePunctuation)?;
                }
                self.cursor.pos += c.len_utf8();
                self.cursor.skip_space()?;
                let is_closed = self.cursor.peek_byte() == Some(closing_bracket);
                if is_closed {
                    self.cursor.add_repair(Repair::TrailingComma)?;
                    self.cursor.pos += 1;
                }
                Ok(is_closed)
            }
            Some(next) => self.accept_missing_comma(gap_start, closing_bracket, next),
        }
    }

    /// Accepts a missing comma between two items or members. White space or an opening bracket must separate them, and
    /// the second must clearly begin a value or key.
    fn accept_missing_comma(&mut self, gap_start: usize, closing_bracket: u8, next: char) -> Result<bool, Fault> {
        let gap = self.cursor.text.get(gap_start..self.cursor.pos).unwrap_or_default();
        let has_line_break = gap.contains('\n');
        let starts_value = strings::is_opening_quote(next)
            || matches!(next, '{' | '[') && closing_bracket == b']'
            || has_line_break && (next.is_alphanumeric() || next == '_');
        let is_separated = gap.contains(is_space) || matches!(next, '{' | '[');
        if !starts_value || !is_separated {
            return Err(Fault::Invalid("a comma or a bracket is missing"));
        }
        self.cursor.add_repair(Repair::MissingComma)?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_end_of_the_text_is_cut_off_unless_it_is_too_long() {
        let fault = |key: &str| parse(&format!("{{{key}"), 0, true).unwrap_err().fault;
        for key in ["o", "ö", "日"] {
            assert_eq!(fault(&key.repeat(MAX_BARE_KEY_CHARS - 1)), Fault::UnexpectedEnd, "{key}");
            assert_eq!(fault(&key.repeat(MAX_BARE_KEY_CHARS)), Fault::Invalid("a key does not end"), "{key}");
        }
    }
}
