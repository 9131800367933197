//! Colours, where the reader's terminal has them; never the only carrier of a meaning.

use std::fmt::Display;

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether escape codes may be written.
    pub colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
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
