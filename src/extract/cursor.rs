//! A position in a text, with the repairs and doubts of the reading so far.

use super::doubts::Doubts;
use super::report::Repair;

/// The fault for an ellipsis or a comment that replaces values which the model left out.
pub(super) const LEFT_OUT: &str = "something is left out";

/// The fault for a number that JSON can't express.
pub(super) const NO_NUMBER: &str = "JSON has no NaN, Infinity or undefined";

/// Why the parser stopped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ended inside the value.
    Cut,
    /// The text is not JSON, or can't be repaired safely; holds the reason.
    Bad(&'static str),
}

/// How far the parser accepts departures from JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Accepts strict JSON only (RFC 8259).
    Exact,
    /// Accepts JSON that needs repairs. `bare` also accepts strings without quotes, which prose is full of.
    Tolerant { bare: bool },
}

/// A position in a text, and what the parser noted on the way there.
pub(super) struct TextCursor<'a> {
    pub(super) text: &'a str,
    pub(super) pos: usize,
    pub(super) mode: Mode,
    pub(super) repairs: Vec<Repair>,
    pub(super) doubts: Doubts,
}

impl<'a> TextCursor<'a> {
    pub(super) fn new(text: &'a str, pos: usize, mode: Mode) -> Self {
        Self { text, pos, mode, repairs: Vec::new(), doubts: Doubts::default() }
    }

    /// The byte here.
    pub(super) fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    /// The character here.
    pub(super) fn char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The text from here on.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or_default()
    }

    /// Records a repair.
    ///
    /// # Errors
    /// In exact mode, which allows no repairs.
    pub(super) fn note(&mut self, repair: Repair) -> Result<(), Fault> {
        if self.mode == Mode::Exact {
            return Err(Fault::Bad("it is no strict JSON"));
        }
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
        Ok(())
    }

    /// Skips white space and comments.
    pub(super) fn space(&mut self) -> Result<(), Fault> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.pos += 1,
                Some(b'/' | b'#') if self.mode != Mode::Exact => {
                    if !self.comment()? {
                        return Ok(());
                    }
                }
                Some(b'\\') if self.mode != Mode::Exact && self.written_break() => self.pos += 2,
                Some(0x0b | 0x0c | 0x80..) => match self.char() {
                    Some(c) if is_space(c) => {
                        self.note(Repair::UnicodeSpace)?;
                        self.pos += c.len_utf8();
                    }
                    _ => return Ok(()),
                },
                _ => return Ok(()),
            }
        }
    }

    /// Whether a line break or tab is written here as two characters, as in text that was escaped once too often.
    fn written_break(&self) -> bool {
        let next = self.text.as_bytes().get(self.pos + 1);
        let after = self.text.as_bytes().get(self.pos + 2);
        matches!(next, Some(b'n' | b'r' | b't')) && !after.is_some_and(u8::is_ascii_alphanumeric)
    }

    fn comment(&mut self) -> Result<bool, Fault> {
        let rest = self.rest();
        let (skip, body) = if rest.starts_with("//") || rest.starts_with('#') {
            let length = rest.find('\n').unwrap_or(rest.len());
            (length, rest.get(..length).unwrap_or_default())
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").ok_or(Fault::Cut)? + 2;
            (length, rest.get(..length).unwrap_or_default())
        } else {
            return Ok(false);
        };
        if stands_for_more(body) {
            return Err(Fault::Bad(LEFT_OUT));
        }
        self.note(Repair::Comment)?;
        self.doubts.comment(self.text, self.pos, body);
        self.pos += skip;
        Ok(true)
    }
}

/// Whether a comment replaces omitted content, such as `// ... the rest as before`.
fn stands_for_more(comment: &str) -> bool {
    let body = comment.trim_start_matches(['/', '#', '*', ' ', '\t']);
    if body.starts_with("...") || body.starts_with('…') {
        return true;
    }
    let head: String = body.chars().take(200).flat_map(char::to_lowercase).collect();
    let trails = head.trim_end_matches(['/', '*', ' ', '\r']);
    let open = trails.ends_with("...") || trails.ends_with('…');
    let left_out =
        ["rest of", "remaining", "omitted", "unchanged", "truncated", "elided", "and so on", "same as before"];
    left_out.iter().any(|words| head.contains(words))
        || open && ["more", "other", "etc", "rest", "continue"].iter().any(|w| head.contains(w))
}

/// Whether a character is white space between tokens, including characters that JSON does not allow there.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{180e}')
}
