//! Scans special tokens outside values. Skips what they enclose, and what follows the end of the model's turn.

use super::{ScanSink, Scanner};
use crate::extract::markup::{self, MarkupToken, TokenKind};

/// How many times the counterpart of an unknown token is searched for in one reply.
const MOST_SEARCHES: usize = 64;

impl<S: ScanSink> Scanner<'_, S> {
    /// Acts on the token here. Returns false when there is none.
    pub(super) fn token(&mut self) -> bool {
        let Some(token) = markup::token(self.text, self.pos) else { return false };
        if self.is_named(&token) {
            self.pos = token.end;
            return true;
        }
        self.look_for_words();
        match token.kind {
            TokenKind::Reasoning => self.skip_to(markup::reasoning_end(self.text, &token)),
            TokenKind::ReasoningEnd => {
                self.sink.forget();
                self.worded = false;
                self.skip_to(Some(token.end));
            }
            TokenKind::Answer => self.skip_over(&token),
            TokenKind::EndOfTurn | TokenKind::ModelTurn if !self.worded => self.skip_over(&token),
            TokenKind::OtherTurn if !self.worded => {
                let next = self.next_token(token.end, |kind| kind == TokenKind::ModelTurn);
                self.skip_to(next);
            }
            TokenKind::EndOfTurn | TokenKind::ModelTurn | TokenKind::OtherTurn => self.skip_to(None),
            TokenKind::Unknown => self.unknown(&token),
        }
        true
    }

    /// Whether a token is in quotes or backticks, and thus only mentioned.
    fn is_named(&self, token: &MarkupToken<'_>) -> bool {
        let before = self.text.get(..self.pos).and_then(|before| before.chars().next_back());
        let after = self.text.get(token.end..).and_then(|after| after.chars().next());
        before == after && matches!(before, Some('`' | '"' | '\''))
    }

    /// Records whether the answer has begun before this place.
    fn look_for_words(&mut self) {
        let gap = self.text.get(self.words_from..self.pos).unwrap_or_default();
        self.worded |= !gap.trim_start().is_empty();
        self.words_from = self.pos;
    }

    /// Skips a token that says nothing about the text around it.
    fn skip_over(&mut self, token: &MarkupToken<'_>) {
        self.pos = token.end;
        self.words_from = token.end;
        self.tag_end = token.end;
    }

    /// Skips text that is not the answer, up to `end` or else to the end of the reply.
    fn skip_to(&mut self, end: Option<usize>) {
        self.sink.marked();
        self.pos = end.unwrap_or(self.text.len());
        self.words_from = self.pos;
        self.tag_end = self.pos;
        self.block = None;
    }

    /// Skips what an unknown token encloses. A token without a counterpart may separate a draft from the answer, or the
    /// answer from an invented turn. So the scanner skips what follows it, and discards what came before it if the
    /// token has the form of a closing one or if JSON may follow.
    fn unknown(&mut self, token: &MarkupToken<'_>) {
        self.searches += 1;
        let end = (self.searches <= MOST_SEARCHES).then(|| markup::enclosed_end(self.text, token)).flatten();
        if end.is_some() {
            return self.skip_to(end);
        }
        let rest = self.text.get(token.end..).unwrap_or_default();
        if rest.trim_start().is_empty() {
            return self.skip_over(token);
        }
        if self.worded && (markup::closes(token) || rest.contains(['{', '['])) {
            self.sink.forget();
        }
        let next = self.next_token(token.end, |kind| matches!(kind, TokenKind::Answer | TokenKind::ModelTurn));
        let next = next.filter(|_| self.searches <= MOST_SEARCHES);
        self.skip_to(next);
    }

    /// Where the next token of a kind starts.
    fn next_token(&self, from: usize, wanted: impl Fn(TokenKind) -> bool) -> Option<usize> {
        let rest = self.text.get(from..)?;
        let mut places = rest.match_indices(['<', '[', '◁']).map(|(at, _)| from + at);
        places.find(|at| markup::token(self.text, *at).is_some_and(|token| wanted(token.kind)))
    }

    /// Where the first token starts, within the length that a scalar may have; the end of the text when there is none.
    pub(super) fn first_token(&self) -> usize {
        let mut places = self.text.match_indices(['<', '[']).map(|(at, _)| at).take_while(|at| *at < 4096).take(64);
        let ends = |at: &usize| markup::token(self.text, *at).is_some();
        places.find(ends).unwrap_or(self.text.len())
    }
}
