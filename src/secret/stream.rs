//! Redacts text that arrives in pieces: a secret may begin in one piece and end in another.

use super::Redactor;

/// How many bytes an escape may take for one byte: `\u0041`, with its backslash escaped once more.
const MAX_ESCAPE_BYTES: usize = 7;

/// Redacts a text that arrives in pieces. Holds back the possible beginning of a secret until more text arrives.
pub struct StreamRedactor<'a> {
    redactor: &'a Redactor,
    pending: String,
}

impl<'a> StreamRedactor<'a> {
    /// A redactor at the beginning of a text.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, pending: String::new() }
    }

    /// Adds the next piece; returns the text that can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.pending.push_str(piece);
        let end = self.complete_end();
        let tail = self.pending.split_off(end);
        let redacted = self.redactor.redact(&self.pending);
        self.pending = tail;
        redacted
    }

    /// Returns the remaining text, at the end of the stream; also redacts the beginning of an unfinished secret.
    pub fn finish(self) -> String {
        self.redactor.redact_beginning(&self.pending)
    }

    /// The byte up to which the pending text contains no part of an unfinished secret.
    fn complete_end(&self) -> usize {
        if self.redactor.max_needle_bytes == 0 {
            return self.pending.len();
        }
        let max_unfinished = self.redactor.max_needle_bytes.saturating_mul(MAX_ESCAPE_BYTES);
        let mut end = self.pending.len().saturating_sub(max_unfinished);
        for (range, _) in self.redactor.find_secrets(&self.pending) {
            if range.contains(&end) {
                end = end.min(range.start);
            }
        }
        // Do not split a character or an escape: its parts would mean something else.
        let splits_escape = |end: usize| {
            let before = self.pending.as_bytes().get(end.saturating_sub(6)..end).unwrap_or_default();
            !self.pending.is_char_boundary(end) || before.iter().any(|byte| matches!(byte, b'\\' | b'%'))
        };
        while end > 0 && splits_escape(end) {
            end -= 1;
        }
        end
    }
}
