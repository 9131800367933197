//! Text that comes in pieces: a secret may begin in one and end in another.

use super::Redactor;

/// How many bytes an escape takes for a byte of what it stands for: `\u0041`, and that in a string again.
const ESCAPED: usize = 7;

/// Redacts a text that comes in pieces. What may be the beginning of a secret is held back until
/// more of the text tells.
pub struct StreamRedactor<'a> {
    redactor: &'a Redactor,
    held: String,
}

impl<'a> StreamRedactor<'a> {
    /// The beginning of a text.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, held: String::new() }
    }

    /// Takes the next piece; returns what can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let end = self.settled();
        let rest = self.held.split_off(end);
        let shown = self.redactor.text(&self.held);
        self.held = rest;
        shown
    }

    /// The rest, once the text is over; a secret that was begun is not shown.
    pub fn end(self) -> String {
        self.redactor.beginning(&self.held)
    }

    /// Up to where no secret can be that is not there as a whole.
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
        // Not inside of a character or an escape, whose parts mean other things.
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
