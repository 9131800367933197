//! A position in a text, with the repairs and ambiguities that the parser recorded before it.

use super::ambiguity::QuoteAmbiguity;
use super::report::Repair;

/// The fault for an ellipsis or a comment in place of values that the model omitted.
pub(super) const VALUES_OMITTED: &str = "values are omitted";

/// The fault for a number that JSON can't express.
pub(super) const NOT_A_JSON_NUMBER: &str = "JSON has no NaN, Infinity or undefined";

/// The fault for a string with an escape for half of a surrogate pair.
pub(super) const HALF_SURROGATE: &str =
    "a string has half of a surrogate pair (such as `\\ud800`), which is no character";

/// Why the parser stopped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ended inside the value.
    UnexpectedEnd,
    /// The text is not JSON, or orch can't repair it safely. Contains the reason.
    Invalid(&'static str),
}

/// How tolerant the parser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParseMode {
    /// Accepts strict JSON only (RFC 8259).
    Exact,
    /// Also accepts JSON that needs repairs, and optionally strings without quotes.
    Tolerant { allow_unquoted: bool },
}

/// A position in a text, with the repairs and ambiguities that the parser recorded before it.
pub(super) struct TextCursor<'a> {
    pub(super) text: &'a str,
    pub(super) pos: usize,
    pub(super) mode: ParseMode,
    pub(super) repairs: Vec<Repair>,
    pub(super) ambiguity: QuoteAmbiguity,
}

impl<'a> TextCursor<'a> {
    pub(super) fn new(text: &'a str, pos: usize, mode: ParseMode) -> Self {
        Self { text, pos, mode, repairs: Vec::new(), ambiguity: QuoteAmbiguity::default() }
    }

    /// The byte at the cursor.
    pub(super) fn peek_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    /// The character at the cursor.
    pub(super) fn peek_char(&self) -> Option<char> {
        self.remaining().chars().next()
    }

    /// The text from the cursor to its end.
    pub(super) fn remaining(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or_default()
    }

    /// Records a repair.
    ///
    /// # Errors
    /// The mode is exact, which allows no repairs.
    pub(super) fn add_repair(&mut self, repair: Repair) -> Result<(), Fault> {
        if self.mode == ParseMode::Exact {
            return Err(Fault::Invalid("it is not strict JSON"));
        }
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
        Ok(())
    }

    /// Skips white space and comments.
    pub(super) fn skip_space(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek_byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.pos += 1,
                Some(b'/' | b'#') if self.mode != ParseMode::Exact => {
                    if !self.skip_comment()? {
                        return Ok(());
                    }
                }
                Some(b'\\') if self.mode != ParseMode::Exact && self.is_escaped_line_break() => self.pos += 2,
                Some(0x0b | 0x0c | 0x80..) => match self.peek_char() {
                    Some(c) if is_space(c) => {
                        self.add_repair(Repair::UnicodeSpace)?;
                        self.pos += c.len_utf8();
                    }
                    _ => return Ok(()),
                },
                _ => return Ok(()),
            }
        }
    }

    /// Whether the cursor is at an escaped line break or tab (`\n`, `\r`, `\t`), as in text that was escaped twice.
    fn is_escaped_line_break(&self) -> bool {
        let letter = self.text.as_bytes().get(self.pos + 1);
        let following = self.text.as_bytes().get(self.pos + 2);
        matches!(letter, Some(b'n' | b'r' | b't')) && !following.is_some_and(u8::is_ascii_alphanumeric)
    }

    /// Skips the comment at the cursor. Returns false if there is no comment.
    fn skip_comment(&mut self) -> Result<bool, Fault> {
        let tail = self.remaining();
        let length = if tail.starts_with("//") || tail.starts_with('#') {
            tail.find('\n').unwrap_or(tail.len())
        } else if tail.starts_with("/*") {
            tail.find("*/").ok_or(Fault::UnexpectedEnd)? + 2
        } else {
            return Ok(false);
        };
        let comment = tail.get(..length).unwrap_or_default();
        if is_omission_comment(comment) {
            return Err(Fault::Invalid(VALUES_OMITTED));
        }
        self.add_repair(Repair::Comment)?;
        self.ambiguity.record_comment(self.text, self.pos, comment);
        self.pos += length;
        Ok(true)
    }
}

/// Whether a comment replaces values that the model omitted, such as `// ... the rest as before`.
fn is_omission_comment(comment: &str) -> bool {
    let body = comment.trim_start_matches(['/', '#', '*', ' ', '\t']);
    if body.starts_with("...") || body.starts_with('…') {
        return true;
    }
    let lowercase_start: String = body.chars().take(200).flat_map(char::to_lowercase).collect();
    let trimmed = lowercase_start.trim_end_matches(['/', '*', ' ', '\r']);
    let ends_with_ellipsis = trimmed.ends_with("...") || trimmed.ends_with('…');
    let omission_phrases =
        ["rest of", "remaining", "omitted", "unchanged", "truncated", "elided", "and so on", "same as before"];
    omission_phrases.iter().any(|phrase| lowercase_start.contains(phrase))
        || ends_with_ellipsis
            && ["more", "other", "etc", "rest", "continue"].iter().any(|word| lowercase_start.contains(word))
}

/// Whether a character is white space between tokens, including characters that JSON does not allow there.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{180e}')
}
