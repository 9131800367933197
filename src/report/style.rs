//! Colours for terminals that support them; a colour is never the only sign of something.
//!
//! Until a text is printed, its colours are markers in it. A marker contains a random number that only this process
//! knows, so that texts from elsewhere can't contain colours, and all their escape codes are printed visibly.

use std::borrow::Cow;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::model::visible::visible_except;

/// The first and last character of a marker: noncharacters, which are escaped everywhere else.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// Whether to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether escape codes may be written.
    pub colour: bool,
}

impl TerminalStyle {
    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("{}{text}{}", mark(code), mark("0")) } else { text.to_string() }
    }

    /// Marks success.
    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Marks a failure.
    pub fn bad(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// Marks something that needs attention.
    pub fn warn(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Emphasizes a part of a line.
    pub fn strong(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// Makes a part of a line less prominent.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }
}

/// A text as it is printed for people: with orch's colours, and everything else made visible
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

/// The length of the marker at the start of a text, in bytes; zero if there is none from this process.
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
