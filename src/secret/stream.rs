//! Redacts text that arrives in pieces. A piece may end in the middle of a secret.

use super::Redactor;

/// The maximum length in bytes of the escape of one byte: `\\u0041`, with the backslash of `\u0041` escaped again.
const MAX_ESCAPE_BYTES: usize = 7;

/// Redacts a text that arrives in pieces. Holds back the possible beginning of a secret until more text arrives.
pub struct StreamRedactor<'a> {
    redactor: &'a Redactor,
    pending: String,
}

impl<'a> StreamRedactor<'a> {
    /// Creates a redactor for a text from its beginning.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, pending: String::new() }
    }

    /// Continues a text, of which [`Self::into_pending`] returned the rest that could not be shown yet.
    pub fn resume(redactor: &'a Redactor, pending: String) -> Self {
        Self { redactor, pending }
    }

    /// The rest of the text that can't be shown yet, unredacted.
    pub fn into_pending(self) -> String {
        self.pending
    }

    /// Adds the next piece. Returns the redacted text that can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.pending.push_str(piece);
        let end = self.complete_end();
        let tail = self.pending.split_off(end);
        let redacted = self.redactor.redact(&self.pending);
        self.pending = tail;
        redacted
    }

    /// Ends the stream, and returns the remaining text. Also redacts the beginning of a secret at the end of the text.
    pub fn finish(self) -> String {
        self.redactor.redact_beginning(&self.pending)
    }

    /// The position up to which the pending text contains no part of a secret whose end may still arrive.
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
        // Do not split a character or an escape, since the redactor could not decode its parts.
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
