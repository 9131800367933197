//! Scans special tokens outside of values. Skips the text that they enclose, and the text after the model's turn.

use super::{MAX_SCALAR_BYTES, ScanSink, Scanner};
use crate::extract::special_tokens::{self, SpecialToken, TokenKind};

/// The maximum number of searches for the counterparts of unknown tokens in one reply.
const MAX_SEARCHES: usize = 64;

impl<S: ScanSink> Scanner<'_, S> {
    /// Handles the token at the current position. Returns false if there is no token.
    pub(super) fn handle_token(&mut self) -> bool {
        let Some(token) = special_tokens::token_at(self.text, self.pos) else { return false };
        if self.is_quoted(&token) {
            self.pos = token.end;
            return true;
        }
        self.check_for_answer_text();
        match token.kind {
            TokenKind::Reasoning => self.skip_to(special_tokens::reasoning_end(self.text, &token)),
            TokenKind::ReasoningEnd => {
                self.sink.discard_findings();
                self.has_answer_text = false;
                self.skip_to(Some(token.end));
            }
            TokenKind::Answer => self.skip_token(&token),
            TokenKind::EndOfTurn | TokenKind::ModelTurn if !self.has_answer_text => self.skip_token(&token),
            TokenKind::OtherTurn if !self.has_answer_text => {
                let next = self.next_token_start(token.end, |kind| kind == TokenKind::ModelTurn);
                self.skip_to(next);
            }
            TokenKind::EndOfTurn | TokenKind::ModelTurn | TokenKind::OtherTurn => self.skip_to(None),
            TokenKind::Unknown => self.skip_unknown(&token),
        }
        true
    }

    /// Whether a token is in quotes or backticks, so that the text only mentions it.
    fn is_quoted(&self, token: &SpecialToken<'_>) -> bool {
        let previous = self.text.get(..self.pos).and_then(|preceding| preceding.chars().next_back());
        let next = self.text.get(token.end..).and_then(|following| following.chars().next());
        previous == next && matches!(previous, Some('`' | '"' | '\''))
    }

    /// Records in `has_answer_text` whether the answer begins before the current position.
    fn check_for_answer_text(&mut self) {
        let gap = self.text.get(self.unchecked_start..self.pos).unwrap_or_default();
        self.has_answer_text |= !gap.trim_start().is_empty();
        self.unchecked_start = self.pos;
    }

    /// Skips only the token itself.
    fn skip_token(&mut self, token: &SpecialToken<'_>) {
        self.pos = token.end;
        self.unchecked_start = token.end;
        self.tag_end = token.end;
    }

    /// Skips text that is not the answer, up to `end` or else to the end of the reply.
    fn skip_to(&mut self, end: Option<usize>) {
        self.sink.report_skipped_markup();
        self.pos = end.unwrap_or(self.text.len());
        self.unchecked_start = self.pos;
        self.tag_end = self.pos;
        self.open_block = None;
    }

    /// Skips the text that an unknown token encloses. A token without a counterpart may separate a draft from the
    /// answer, or the answer from an invented turn. The scanner then skips the text after the token. It also discards
    /// the findings before the token if the token has the form of a closing token, or if JSON may follow.
    fn skip_unknown(&mut self, token: &SpecialToken<'_>) {
        self.search_count += 1;
        let end = (self.search_count <= MAX_SEARCHES).then(|| special_tokens::enclosed_end(self.text, token)).flatten();
        if end.is_some() {
            return self.skip_to(end);
        }
        let tail = self.text.get(token.end..).unwrap_or_default();
        if tail.trim_start().is_empty() {
            return self.skip_token(token);
        }
        if self.has_answer_text && (special_tokens::looks_like_closing_token(token) || tail.contains(['{', '['])) {
            self.sink.discard_findings();
        }
        let next = self.next_token_start(token.end, |kind| matches!(kind, TokenKind::Answer | TokenKind::ModelTurn));
        let next = next.filter(|_| self.search_count <= MAX_SEARCHES);
        self.skip_to(next);
    }

    /// The start of the first token of an accepted kind at or after `start`.
    fn next_token_start(&self, start: usize, accepts: impl Fn(TokenKind) -> bool) -> Option<usize> {
        let tail = self.text.get(start..)?;
        let mut candidates = tail.match_indices(['<', '[', '◁']).map(|(pos, _)| start + pos);
        candidates.find(|pos| special_tokens::token_at(self.text, *pos).is_some_and(|token| accepts(token.kind)))
    }

    /// The start of the first token within the maximum length of a scalar; the end of the text if there is no token.
    pub(super) fn first_token_start(&self) -> usize {
        let mut candidates =
            self.text.match_indices(['<', '[']).map(|(pos, _)| pos).take_while(|pos| *pos < MAX_SCALAR_BYTES).take(64);
        let is_token = |pos: &usize| special_tokens::token_at(self.text, *pos).is_some();
        candidates.find(is_token).unwrap_or(self.text.len())
    }
}
