//! Removes the end of a reply and continues from there.

use toktrie::TokenId;

use super::{ReplyWriter, WriterStep};
use crate::grammar::Grammar;
use crate::incremental_json::ReplyPosition;

/// The position of a complete text in the document, and its end in the tokens that the model reads.
#[derive(Debug, Clone)]
pub(super) struct FencedRange {
    pub(super) document_start: usize,
    /// What the document has there up to the text: see [`super::fenced::FencedText`].
    pub(super) opening_json: Vec<u8>,
    pub(super) document_end: usize,
    pub(super) model_end: usize,
}

impl ReplyWriter<'_> {
    /// Converts the index of a token of the document to its index in the tokens that the model reads; `None` inside a
    /// text.
    pub(super) fn model_index(&self, token: usize) -> Option<usize> {
        match self.fenced_ranges.iter().rfind(|range| range.document_start < token) {
            Some(range) => Some(token.checked_sub(range.document_end)? + range.model_end),
            None => Some(token),
        }
    }

    /// Removes everything after a position and continues with `bytes`, if the schema allows them and enough tokens remain
    /// for the end of the document.
    pub(super) fn rewind(&mut self, position: ReplyPosition, bytes: &[u8]) -> Option<WriterStep> {
        let (grammar, tokens) = self.rewind_grammar(position, bytes)?;
        let kept_len = self.model_index(position.tokens)?;
        let remaining = self.limit.checked_sub(kept_len + tokens.len())?;
        let closing_tokens = grammar.closing_sequence(self.vocab, remaining)?;
        self.replace_document(position.tokens, &tokens, grammar);
        self.closing_tokens = Some(closing_tokens);
        Some(self.replace_model_tokens(kept_len, &tokens))
    }

    /// The bytes before a position of the document that belong to the same token.
    pub(super) fn token_prefix(&self, position: ReplyPosition) -> Option<&[u8]> {
        self.document_tokens
            .get(position.tokens)
            .map_or(&[][..], |token| self.vocab.token_bytes(*token))
            .get(..position.bytes)
    }

    /// Creates the grammar for the document up to a position, followed by `bytes`. Returns it with the tokens that
    /// replace the tokens from that position on.
    pub(super) fn rewind_grammar(&self, position: ReplyPosition, bytes: &[u8]) -> Option<(Grammar, Vec<TokenId>)> {
        let (kept, removed) = self.document_tokens.split_at_checked(position.tokens)?;
        let bytes = [self.token_prefix(position)?, bytes].concat();
        self.grammar.as_ref()?.rewind(kept, removed.len(), &bytes, self.vocab)
    }

    /// Replaces all but the first `kept_len` tokens of the document with `tokens`.
    pub(super) fn replace_document(&mut self, kept_len: usize, tokens: &[TokenId], grammar: Grammar) {
        self.document_tokens.truncate(kept_len);
        self.fenced_ranges.retain(|range| range.document_end <= kept_len);
        self.json = Default::default();
        for token in &self.document_tokens {
            let _ = self.json.push_token(self.vocab.token_bytes(*token));
        }
        self.grammar = Some(grammar);
        self.is_cut = false;
        self.tried_quote = None;
        self.add_to_document(tokens);
    }

    /// Replaces all but the first `kept_len` of the model's tokens with `tokens`, and returns the step that makes the
    /// model do the same. The model has not necessarily read all of the first ones: those of this step are still to be
    /// read, so the step contains them too.
    pub(super) fn replace_model_tokens(&mut self, kept_len: usize, tokens: &[TokenId]) -> WriterStep {
        let still_processed = kept_len.min(self.processed_len);
        self.removed_count += self.processed_len - still_processed;
        self.processed_len = still_processed;
        self.model_tokens.truncate(kept_len);
        self.model_tokens.extend_from_slice(tokens);
        WriterStep::Rewind(still_processed, self.model_tokens.get(still_processed..).unwrap_or_default().to_vec())
    }
}
