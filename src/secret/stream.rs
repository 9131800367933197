//! Redacts text that arrives in pieces. A piece may end in the middle of a secret.

use super::Redactor;

/// The maximum length in bytes of the escape of one byte: `\\u0041`, with the backslash of `\u0041` escaped again.
const MAX_ESCAPE_BYTES: usize = 7;

/// Redacts a text that arrives in pieces. Holds back the possible beginning of a secret until more text arrives.
pub struct StreamRedactor<'a> {
    redactor: &'a Redactor,
    pending: String,
    /// The length of the pending text at which it is searched again.
    next_search: usize,
}

impl<'a> StreamRedactor<'a> {
    /// Creates a redactor for a text from its beginning.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self::resume(redactor, String::new())
    }

    /// Continues a text, of which [`Self::into_pending`] returned the rest that could not be shown yet.
    pub fn resume(redactor: &'a Redactor, pending: String) -> Self {
        Self { redactor, pending, next_search: 0 }
    }

    /// The rest of the text that can't be shown yet, unredacted.
    pub fn into_pending(self) -> String {
        self.pending
    }

    /// Adds the next piece. Returns the redacted text that can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.pending.push_str(piece);
        let is_unfinished = (1..=self.max_unfinished()).contains(&self.pending.len());
        if is_unfinished || self.pending.len() < self.next_search {
            return String::new();
        }
        let end = self.complete_end();
        // A long run of escapes can't be split. With a search after each piece of it, the time would be quadratic.
        self.next_search = if end == 0 { self.pending.len().saturating_mul(2) } else { 0 };
        let tail = self.pending.split_off(end);
        let redacted = self.redactor.redact(&self.pending);
        self.pending = tail;
        redacted
    }

    /// Ends the stream, and returns the remaining text. Also redacts the beginning of a secret at the end of the text.
    pub fn finish(self) -> String {
        self.redactor.redact_beginning(&self.pending)
    }

    /// The maximum length of the beginning of a secret, in any encoding.
    fn max_unfinished(&self) -> usize {
        self.redactor.max_needle_bytes.saturating_mul(MAX_ESCAPE_BYTES)
    }

    /// The position up to which the pending text contains no part of a secret whose end may still arrive.
    fn complete_end(&self) -> usize {
        if self.redactor.max_needle_bytes == 0 {
            return self.pending.len();
        }
        let mut end = self.pending.len().saturating_sub(self.max_unfinished());
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_long_run_of_escapes_is_searched_a_few_times() {
        let secret = SecretString::from("hunter2-hunter2".to_owned());
        let redactor = Redactor::new([("KEY", &secret)]);
        let mut stream = StreamRedactor::new(&redactor);
        let (mut searches, mut last) = (0, 0);
        for _ in 0..20_000 {
            assert_eq!(stream.push("\\"), "");
            searches += usize::from(stream.next_search != last);
            last = stream.next_search;
        }
        assert!((1..20).contains(&searches), "{searches}");
        // The text after the run is shown as usual.
        let shown = stream.push(&format!(" hunter2-hunter2 {}", "x".repeat(50_000)));
        assert!(shown.contains(" [secret KEY] xxx"), "{}", shown.len());
        assert_eq!(shown.matches('\\').count(), 20_000);
    }
}
