//! Colours texts for a terminal. A text has the same meaning without its colours.
//!
//! orch first puts markers around a coloured part of a text, and replaces them with escape codes when it prints the
//! text. A marker contains a random number that only this process knows, so a text of a model or a program can't
//! contain a valid marker. orch prints the escape codes in such a text visibly instead of sending them to the terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::model::visible::escape_unsafe_except;

/// The first and the last character of a marker: Unicode noncharacters, which orch escapes everywhere else.
const MARKER_START: char = '\u{fdd0}';
const MARKER_END: char = '\u{fdd1}';

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

    /// Marks success.
    pub fn success(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Marks a failure.
    pub fn error(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// Marks something that needs attention.
    pub fn warning(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Emphasizes a part of a line.
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// Makes a part of a line less prominent.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }
}

/// Prepares a text for printing: turns colour markers into escape codes and makes all other control characters visible
/// ([`crate::model::visible::visible`]).
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

/// The length of the marker of this process at the start of a text, in bytes; zero if there is none.
fn marker_length(text: &str) -> usize {
    let after_secret = text.strip_prefix(MARKER_START).and_then(|text| text.strip_prefix(marker_secret()));
    let Some(end) = after_secret.and_then(|text| text.find(MARKER_END)).filter(|end| *end <= 4) else { return 0 };
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
