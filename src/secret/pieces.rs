//! Redacts text that arrives in pieces: a secret may begin in one and end in another.

use super::Redactor;

/// How many bytes an escape may take for one byte: `\u0041`, with its backslash escaped once more.
const ESCAPED: usize = 7;

/// Redacts a text that arrives in pieces. Holds back what may be the beginning of a secret until more text arrives.
pub struct StreamRedactor<'a> {
    redactor: &'a Redactor,
    held: String,
}

impl<'a> StreamRedactor<'a> {
    /// A redactor at the beginning of a text.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, held: String::new() }
    }

    /// Adds the next piece; returns what can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let end = self.settled();
        let rest = self.held.split_off(end);
        let shown = self.redactor.text(&self.held);
        self.held = rest;
        shown
    }

    /// The rest, at the end of the text; the beginning of an unfinished secret is redacted too.
    pub fn end(self) -> String {
        self.redactor.beginning(&self.held)
    }

    /// Up to which byte the text holds no part of an unfinished secret.
    fn settled(&self) -> usize {
        if self.redactor.longest == 0 {
            return self.held.len();
        }
        let mut end = self.held.len().saturating_sub(self.redactor.longest.saturating_mul(ESCAPED));
        for (place, _) in self.redactor.find(&self.held) {
            if place.contains(&end) {
                end = end.min(place.start);
            }
        }
        // Do not cut inside a character or an escape: its parts would mean something else.
        let inside = |end: usize| {
            let before = self.held.as_bytes().get(end.saturating_sub(6)..end).unwrap_or_default();
            !self.held.is_char_boundary(end) || before.iter().any(|byte| matches!(byte, b'\\' | b'%'))
        };
        while end > 0 && inside(end) {
            end -= 1;
        }
        end
    }
}
