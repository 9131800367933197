//! Writes a reply token by token: follows the schema, ends repetition, and completes the reply before its limit.

mod fenced;
mod rewind;

use toktrie::TokenId;

use crate::Error;
use crate::grammar::Grammar;
use crate::incremental_json::{IncrementalJson, ReplyPosition};
use crate::sampler::{TokenSampler, ends_in_repetition};
use crate::vocab::Vocab;

use fenced::FencedText;
use rewind::FencedRange;

/// After three quarters of the limit, the writer ends each string once it has this many tokens.
const LATE_STRING_TOKENS: usize = 24;

/// A reply nears its limit when the remaining tokens are at most twice the tokens that close the document, plus this
/// number.
const CLOSING_MARGIN: usize = 48;

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriterStep {
    /// The reply continues with these tokens; the model must read them before the next step.
    Continue(Vec<TokenId>),
    /// The reply ends with these tokens and is complete.
    Finish(Vec<TokenId>),
    /// The reply keeps only this number of tokens and continues with these tokens; the model must read them before the
    /// next step.
    Rewind(usize, Vec<TokenId>),
    /// The reply is incomplete: it reached its limit, or it repeats itself.
    Truncated,
}

/// Writes one reply.
pub(crate) struct ReplyWriter<'a> {
    vocab: &'a Vocab,
    grammar: Option<Grammar>,
    sampler: TokenSampler,
    /// For each token, whether the model must not generate it.
    banned: Vec<bool>,
    limit: usize,
    /// The tokens of the document.
    document_tokens: Vec<TokenId>,
    /// The tokens that the model reads, with the texts of files between fences.
    model_tokens: Vec<TokenId>,
    /// The number of these tokens that the model has already read.
    processed_len: usize,
    fenced_ranges: Vec<FencedRange>,
    fenced_text: Option<FencedText>,
    /// Whether the model writes the texts of files as JSON strings, because the schema restricts these texts.
    writes_files_as_strings: bool,
    /// Tokens that would complete the document.
    closing_tokens: Option<Vec<TokenId>>,
    json: IncrementalJson,
    /// The number of generated tokens that the reply no longer contains.
    removed_count: usize,
}

impl<'a> ReplyWriter<'a> {
    /// Starts a reply of at most `limit` tokens.
    pub(crate) fn new(vocab: &'a Vocab, grammar: Option<Grammar>, sampler: TokenSampler, limit: usize) -> Self {
        let mut banned = vec![false; vocab.len()];
        for token in vocab.reserved_tokens() {
            if let Some(entry) = banned.get_mut(*token as usize) {
                *entry = !vocab.end_tokens().contains(token);
            }
        }
        let closing_tokens = grammar.as_ref().and_then(|grammar| grammar.closing_sequence(vocab, limit));
        Self {
            vocab,
            grammar,
            sampler,
            banned,
            limit,
            document_tokens: Vec::new(),
            model_tokens: Vec::new(),
            processed_len: 0,
            fenced_ranges: Vec::new(),
            fenced_text: None,
            writes_files_as_strings: false,
            closing_tokens,
            json: IncrementalJson::default(),
            removed_count: 0,
        }
    }

    /// The reply so far.
    pub(crate) fn document(&self) -> Vec<u8> {
        self.document_tokens.iter().flat_map(|token| self.vocab.token_bytes(*token)).copied().collect()
    }

    /// Adds and returns the tokens with which the schema requires every reply to begin.
    pub(crate) fn forced_prefix(&mut self) -> Vec<TokenId> {
        let mut tokens = match &mut self.grammar {
            Some(grammar) => grammar.consume_forced(self.vocab),
            None => Vec::new(),
        };
        tokens.truncate(self.limit);
        self.append(&tokens);
        tokens
    }

    /// The number of generated tokens, including the removed ones.
    pub(crate) fn generated_count(&self) -> usize {
        self.model_tokens.len() + self.removed_count
    }

    /// Whether the reply may get more tokens.
    pub(crate) fn has_room(&self) -> bool {
        self.model_tokens.len() < self.limit
    }

    /// Adds tokens to the reply. If items of a list repeat, returns the end of the last item before the repetition.
    fn append(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.model_tokens.extend_from_slice(tokens);
        self.add_to_document(tokens)
    }

    fn add_to_document(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.document_tokens.extend_from_slice(tokens);
        let mut repetition = None;
        if self.grammar.is_some() {
            for token in tokens {
                repetition = repetition.or(self.json.push_token(self.vocab.token_bytes(*token)));
            }
        }
        repetition
    }

    /// Whether the reply is so close to its limit that it must reserve tokens for the end of the document.
    fn is_near_limit(&self, remaining: usize) -> bool {
        self.closing_tokens.as_ref().is_none_or(|tokens| remaining <= tokens.len() * 2 + CLOSING_MARGIN)
    }

    /// Chooses the next tokens from the logits of the model.
    pub(crate) fn step(&mut self, logits: &[f32]) -> Result<WriterStep, Error> {
        let Some(remaining) = self.limit.checked_sub(self.model_tokens.len()).filter(|remaining| *remaining > 0) else {
            let is_complete = self.grammar.as_ref().is_some_and(Grammar::is_finished);
            return Ok(if is_complete { WriterStep::Finish(Vec::new()) } else { WriterStep::Truncated });
        };
        self.processed_len = self.model_tokens.len();
        if let Some(file) = self.fenced_text.take() {
            return self.step_fenced(file, logits, remaining);
        }
        let is_near_limit = self.is_near_limit(remaining);
        let vocab = self.vocab;
        let is_repeating = ends_in_repetition(&self.model_tokens);
        let Some(grammar) = &mut self.grammar else {
            if is_repeating {
                return Ok(WriterStep::Truncated);
            }
            let token = self.sampler.sample(logits, None, is_banned_in(&self.banned));
            return Ok(match token {
                Some(token) if vocab.end_tokens().contains(&token) => WriterStep::Finish(Vec::new()),
                Some(token) => {
                    self.append(&[token]);
                    WriterStep::Continue(vec![token])
                }
                None => WriterStep::Truncated,
            });
        };
        if grammar.is_finished() {
            return Ok(WriterStep::Finish(Vec::new()));
        }

        let is_late = self.model_tokens.len() * 4 >= self.limit * 3;
        let should_close = match self.json.string_start() {
            Some(start) => is_repeating || (is_late && self.document_tokens.len() - start >= LATE_STRING_TOKENS),
            None => is_repeating || is_late,
        };
        let mask = grammar.compute_mask()?;
        let closing_token = if should_close { grammar.closing_token(&mask) } else { None };
        // An incomplete line of code does not parse, so end the string after its last complete line, if it has one.
        if closing_token.is_some()
            && let Some(position) = self.json.last_line_end()
            && let Some(step) = self.rewind_and_close(position, b'"')
        {
            return Ok(step);
        }
        let Some(grammar) = &mut self.grammar else { return Ok(WriterStep::Truncated) };
        let token = closing_token
            .or_else(|| self.sampler.sample(logits, Some(&mask), is_banned_in(&self.banned)))
            .ok_or_else(|| Error::UnsupportedSchema("no token can follow".to_owned()))?;
        if vocab.end_tokens().contains(&token) {
            return Ok(WriterStep::Finish(Vec::new()));
        }

        let must_check_end =
            is_near_limit || (self.json.string_start().is_none() && self.model_tokens.len() * 2 >= self.limit);
        let closing_before = if must_check_end { grammar.closing_sequence(vocab, remaining) } else { None };
        grammar.consume(token, vocab)?;
        let mut tokens = vec![token];
        tokens.extend(grammar.consume_forced(vocab));
        if must_check_end {
            let remaining_after = remaining.saturating_sub(tokens.len());
            let closing_after = grammar.closing_sequence(vocab, remaining_after).filter(|_| tokens.len() <= remaining);
            match (closing_after, closing_before) {
                (Some(closing_after), _) => self.closing_tokens = Some(closing_after),
                // The token would leave too little room, so end the document instead.
                (None, Some(closing_before)) => {
                    self.append(&closing_before);
                    return Ok(WriterStep::Finish(closing_before));
                }
                (None, None) => {}
            }
        }
        tokens.truncate(remaining);
        let repetition = self.append(&tokens);
        let step = repetition.and_then(|position| self.rewind_and_close(position, b']')).or_else(|| self.open_fence());
        Ok(step.unwrap_or(WriterStep::Continue(tokens)))
    }
}

/// A predicate that is true for banned tokens and for tokens outside the vocabulary.
fn is_banned_in(banned: &[bool]) -> impl Fn(TokenId) -> bool {
    move |token| banned.get(token as usize).copied().unwrap_or(true)
}

#[cfg(test)]
mod tests;
