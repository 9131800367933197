//! Colours, where the reader's terminal has them; never the only carrier of a meaning.
//!
//! A colour is a mark in the text until the text is printed. The mark holds a number of this process that no one else
//! knows, so no text of others can have a colour, and every escape code in it is shown as what it is.

use std::borrow::Cow;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::model::visible::visible_except;

/// What marks begin and end with: noncharacters, which are written out in any other place.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether escape codes may be written.
    pub colour: bool,
}

impl TerminalStyle {
    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("{}{text}{}", mark(code), mark("0")) } else { text.to_string() }
    }

    /// Something went well.
    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Something failed.
    pub fn bad(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// Something to look at.
    pub fn warn(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// What matters in a line.
    pub fn strong(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }
}

/// A text as it is printed for people: with our colours, and everything else visible
/// ([`crate::model::visible::visible`]).
pub fn printable(text: &str) -> Cow<'_, str> {
    let shown = visible_except(text, mark_length);
    if shown.contains(OPEN) { Cow::Owned(with_codes(&shown)) } else { shown }
}

fn secret() -> &'static str {
    static SECRET: OnceLock<String> = OnceLock::new();
    SECRET.get_or_init(|| format!("{:016x}", RandomState::new().hash_one(OPEN)))
}

fn mark(code: &str) -> String {
    format!("{OPEN}{}{code}{CLOSE}", secret())
}

/// The length of the mark that a text begins with; zero when it begins with none of ours.
fn mark_length(text: &str) -> usize {
    let inside = text.strip_prefix(OPEN).and_then(|text| text.strip_prefix(secret()));
    let Some(end) = inside.and_then(|inside| inside.find(CLOSE)).filter(|end| *end <= 4) else { return 0 };
    OPEN.len_utf8() + secret().len() + end + CLOSE.len_utf8()
}

fn with_codes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split(OPEN).enumerate() {
        match (part, part.1.strip_prefix(secret()).and_then(|part| part.split_once(CLOSE))) {
            ((0, part), _) | ((_, part), None) => out.push_str(part),
            (_, Some((code, rest))) => out.push_str(&format!("\u{1b}[{code}m{rest}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ours_alone() {
        let style = TerminalStyle { colour: true };
        let text = format!("{} {}", style.bad("no\u{1b}[32m"), style.dim("x"));
        assert_eq!(printable(&text), "\u{1b}[1;31mno\\u{1b}[32m\u{1b}[0m \u{1b}[2mx\u{1b}[0m");
        assert_eq!(printable("a\u{fdd0}1;31\u{fdd1}b"), "a\\u{fdd0}1;31\\u{fdd1}b");
        assert_eq!(TerminalStyle::default().bad("x"), "x");
    }
}
