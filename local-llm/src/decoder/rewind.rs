//! Removes the end of a reply and continues from there.

use toktrie::TokenId;

use super::{DecoderStep, ReplyDecoder};
use crate::grammar::Grammar;
use crate::incremental_json::ReplyPosition;

/// The position of a complete file content in the document, and its end in the model's tokens.
#[derive(Debug, Clone)]
pub(super) struct FencedRange {
    pub(super) document_start: usize,
    /// The JSON before the content: see [`super::fenced::FencedContent`].
    pub(super) opening_json: Vec<u8>,
    pub(super) document_end: usize,
    pub(super) model_end: usize,
}

impl ReplyDecoder<'_> {
    /// Converts the index of a document token to an index in the model's tokens; `None` inside a fenced content.
    pub(super) fn model_index(&self, token: usize) -> Option<usize> {
        match self.fenced_ranges.iter().rfind(|range| range.document_start < token) {
            Some(range) => Some(token.checked_sub(range.document_end)? + range.model_end),
            None => Some(token),
        }
    }

    /// Removes everything after a position and continues with `bytes`, if the schema allows them and enough tokens
    /// remain for the end of the document.
    pub(super) fn rewind(&mut self, position: ReplyPosition, bytes: &[u8]) -> Option<DecoderStep> {
        let (grammar, tokens) = self.rewind_grammar(position, bytes)?;
        let prefix_len = self.model_index(position.tokens)?;
        let remaining = self.limit.checked_sub(prefix_len + tokens.len())?;
        let closing_tokens = grammar.closing_sequence(self.vocab, remaining)?;
        self.replace_document(position.tokens, &tokens, grammar);
        self.closing_tokens = Some(closing_tokens);
        Some(self.replace_model_tokens(prefix_len, &tokens))
    }

    /// The bytes of the token at a position of the document that precede the position.
    pub(super) fn token_prefix(&self, position: ReplyPosition) -> Option<&[u8]> {
        self.document_tokens
            .get(position.tokens)
            .map_or(&[][..], |token| self.vocab.token_bytes(*token))
            .get(..position.bytes)
    }

    /// Creates the grammar for the document up to a position, followed by `bytes`. Returns the grammar, and the tokens
    /// that replace all tokens from that position on.
    pub(super) fn rewind_grammar(&self, position: ReplyPosition, bytes: &[u8]) -> Option<(Grammar, Vec<TokenId>)> {
        let (prefix, removed) = self.document_tokens.split_at_checked(position.tokens)?;
        let bytes = [self.token_prefix(position)?, bytes].concat();
        self.grammar.as_ref()?.rewind(prefix, removed.len(), &bytes, self.vocab)
    }

    /// Replaces all document tokens after the first `prefix_len` with `tokens`.
    pub(super) fn replace_document(&mut self, prefix_len: usize, tokens: &[TokenId], grammar: Grammar) {
        self.document_tokens.truncate(prefix_len);
        self.fenced_ranges.retain(|range| range.document_end <= prefix_len);
        self.json = Default::default();
        for token in &self.document_tokens {
            let _ = self.json.push_token(self.vocab.token_bytes(*token));
        }
        self.grammar = Some(grammar);
        self.is_truncated = false;
        self.last_fence_attempt = None;
        self.add_to_document(tokens);
    }

    /// Replaces all of the model's tokens after the first `prefix_len` with `tokens`. Returns the step that the model
    /// must perform. The step also contains the tokens of the prefix that the model has not read yet.
    pub(super) fn replace_model_tokens(&mut self, prefix_len: usize, tokens: &[TokenId]) -> DecoderStep {
        let still_processed = prefix_len.min(self.processed_len);
        self.removed_token_count += self.processed_len - still_processed;
        self.processed_len = still_processed;
        self.model_tokens.truncate(prefix_len);
        self.model_tokens.extend_from_slice(tokens);
        DecoderStep::Rewind(still_processed, self.model_tokens.get(still_processed..).unwrap_or_default().to_vec())
    }
}
