//! Colours texts for a terminal. Colours only emphasize: the text has the same meaning without them.
//!
//! orch first puts markers around a coloured part of a text. When it prints the text, it replaces the markers with
//! escape codes. A marker contains a random number that only this process knows, so a text from a model or a program
//! can't contain a valid marker. If such a text contains escape codes, orch prints them as visible characters.

use std::borrow::Cow;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::model::visible::escape_unsafe_except;

/// The first character of a marker: a Unicode noncharacter, which orch escapes everywhere else.
const MARKER_START: char = '\u{fdd0}';
/// The last character of a marker.
const MARKER_END: char = '\u{fdd1}';
/// The maximum length of the colour code in a marker, such as `1;31`.
const MAX_CODE_BYTES: usize = 4;

/// The style of texts on a terminal: with or without colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether orch may write escape codes for colours.
    pub colour: bool,
}

impl TerminalStyle {
    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("{}{text}{}", marker(code), marker("0")) } else { text.to_string() }
    }

    /// Colours a text that reports success.
    pub fn success(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Colours a text that reports a failure.
    pub fn error(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// Colours a text that needs attention.
    pub fn warning(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Emphasizes a text.
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// Makes a text less prominent.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }
}

/// Prepares a text for printing: replaces colour markers with escape codes. Escapes every other character that can
/// control the terminal, reorder text or be invisible, as [`crate::model::visible::escape_unsafe`] does; line ends and
/// tabs remain.
pub fn to_printable(text: &str) -> Cow<'_, str> {
    let escaped = escape_unsafe_except(text, marker_length);
    if escaped.contains(MARKER_START) { Cow::Owned(markers_to_escape_codes(&escaped)) } else { escaped }
}

fn marker_secret() -> &'static str {
    static SECRET: OnceLock<String> = OnceLock::new();
    SECRET.get_or_init(|| format!("{:016x}", RandomState::new().hash_one(MARKER_START)))
}

fn marker(code: &str) -> String {
    format!("{MARKER_START}{}{code}{MARKER_END}", marker_secret())
}

/// The length in bytes of the marker at the start of a text. Zero if the text does not start with a marker of this
/// process.
fn marker_length(text: &str) -> usize {
    let text_after_secret = text.strip_prefix(MARKER_START).and_then(|text| text.strip_prefix(marker_secret()));
    let Some(end) = text_after_secret.and_then(|text| text.find(MARKER_END)).filter(|end| *end <= MAX_CODE_BYTES)
    else {
        return 0;
    };
    MARKER_START.len_utf8() + marker_secret().len() + end + MARKER_END.len_utf8()
}

fn markers_to_escape_codes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split(MARKER_START).enumerate() {
        match part.strip_prefix(marker_secret()).and_then(|part| part.split_once(MARKER_END)) {
            Some((code, text)) if i > 0 => out.push_str(&format!("\u{1b}[{code}m{text}")),
            _ => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_orch_can_colour_texts() {
        let style = TerminalStyle { colour: true };
        let text = format!("{} {}", style.error("no\u{1b}[32m"), style.dim("x"));
        assert_eq!(to_printable(&text), "\u{1b}[1;31mno\\u{1b}[32m\u{1b}[0m \u{1b}[2mx\u{1b}[0m");
        assert_eq!(to_printable("a\u{fdd0}1;31\u{fdd1}b"), "a\\u{fdd0}1;31\\u{fdd1}b");
        assert_eq!(TerminalStyle::default().error("x"), "x");
    }
}
