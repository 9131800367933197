//! Decodes a reply token by token: keeps to the grammar of its schema, stops repetition, and completes the reply before
//! its token limit.
//!
//! The caller receives the document. The model reads the same tokens, except for file contents: see [`fenced`].

mod fenced;
mod lines;
mod rewind;

use toktrie::{SimpleVob, TokenId};

use crate::Error;
use crate::grammar::Grammar;
use crate::incremental_json::{IncrementalJson, ReplyPosition};
use crate::sampler::{TokenSampler, ends_in_repetition};
use crate::tools::CALL_MARKER;
use crate::vocab::Vocab;

use fenced::FencedContent;
use rewind::FencedRange;

/// Once a reply has used three quarters of its limit, the decoder ends each string that has at least this many tokens.
const MIN_STRING_TOKENS_NEAR_LIMIT: usize = 24;

/// A reply nears its limit when the remaining tokens are at most twice the tokens that close the document, plus this
/// number.
const CLOSING_MARGIN: usize = 48;

/// What the decoder does after it has chosen the next tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DecoderStep {
    /// The reply continues with these tokens; the model must read them before the next step.
    Continue(Vec<TokenId>),
    /// The reply ends with these tokens and is complete.
    Finish(Vec<TokenId>),
    /// The reply keeps this number of leading tokens that the model has read, and continues with the new tokens. Before
    /// the next step, the caller must remove all later tokens from the model's cache, and the model must read the new
    /// ones.
    Rewind(usize, Vec<TokenId>),
    /// The reply is incomplete: it reached its limit, or it repeats itself.
    Truncated,
}

/// Whether free text may contain [`CALL_MARKER`], the text that begins a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallMarkerRule {
    /// The text may contain it like any other text.
    Ignored,
    /// The text must not contain it.
    Banned,
    /// The text may end with it, but it must be the end of a token, so that a call can follow.
    EndsText,
}

/// Decodes one reply, or one part of a reply: its text, or the arguments of a call.
pub(crate) struct ReplyDecoder<'a> {
    vocab: &'a Vocab,
    grammar: Option<Grammar>,
    sampler: TokenSampler,
    /// For each token, whether the model must not generate it.
    banned: Vec<bool>,
    limit: usize,
    /// The tokens of the document.
    document_tokens: Vec<TokenId>,
    /// The tokens that the model reads, with file contents between fences. They count towards the limit.
    model_tokens: Vec<TokenId>,
    /// The number of tokens at the start of `model_tokens` that the model has processed: those from before the current
    /// step, without those that this step has removed.
    processed_len: usize,
    /// The complete file contents between fences.
    fenced_ranges: Vec<FencedRange>,
    /// The file content that the model is writing between fences.
    fenced_content: Option<FencedContent>,
    /// The opening quote of the last file content for which the decoder tried to open a fence.
    last_fence_attempt: Option<ReplyPosition>,
    /// Whether the model writes all further file contents as JSON strings, because the schema rejected a content
    /// between fences. The other contents usually have the same schema.
    writes_contents_as_strings: bool,
    /// Tokens that would complete the document.
    closing_tokens: Option<Vec<TokenId>>,
    json: IncrementalJson,
    /// Whether the limit cut off tokens that the schema forces, so that the document is incomplete.
    is_truncated: bool,
    /// The number of generated tokens that the reply no longer contains.
    removed_token_count: usize,
    marker_rule: CallMarkerRule,
}

impl<'a> ReplyDecoder<'a> {
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
            fenced_content: None,
            last_fence_attempt: None,
            writes_contents_as_strings: false,
            closing_tokens,
            json: IncrementalJson::default(),
            is_truncated: false,
            removed_token_count: 0,
            marker_rule: CallMarkerRule::Ignored,
        }
    }

    /// The same decoder with a rule for the text that begins a call. The rule applies to free text.
    pub(crate) fn with_marker_rule(self, marker_rule: CallMarkerRule) -> Self {
        Self { marker_rule, ..self }
    }

    /// The tokens of the reply that the model has not processed yet, if it has processed `processed_count` of them.
    pub(crate) fn unprocessed_tokens(&self, processed_count: usize) -> &[TokenId] {
        self.model_tokens.get(processed_count..).unwrap_or_default()
    }

    /// The reply so far.
    pub(crate) fn document(&self) -> Vec<u8> {
        self.document_tokens.iter().flat_map(|token| self.vocab.token_bytes(*token)).copied().collect()
    }

    /// Adds and returns the tokens with which every reply must begin according to the schema. They end with an opening
    /// fence if the reply begins with a file content.
    pub(crate) fn forced_prefix(&mut self) -> Vec<TokenId> {
        let mut tokens = match &mut self.grammar {
            Some(grammar) => grammar.consume_forced(self.vocab),
            None => Vec::new(),
        };
        self.is_truncated = tokens.len() > self.limit;
        tokens.truncate(self.limit);
        self.append(&tokens);
        let _ = self.open_fence();
        self.model_tokens.clone()
    }

    /// The number of generated tokens, including the removed ones.
    pub(crate) fn generated_count(&self) -> usize {
        self.model_tokens.len() + self.removed_token_count
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
    pub(crate) fn step(&mut self, logits: &[f32]) -> Result<DecoderStep, Error> {
        let Some(remaining) = self.limit.checked_sub(self.model_tokens.len()).filter(|remaining| *remaining > 0) else {
            let is_complete = !self.is_truncated && self.grammar.as_ref().is_some_and(Grammar::is_finished);
            return Ok(if is_complete { DecoderStep::Finish(Vec::new()) } else { DecoderStep::Truncated });
        };
        self.processed_len = self.model_tokens.len();
        let step = match self.fenced_content.take() {
            Some(content) => self.step_fenced(content, logits, remaining)?,
            None if self.grammar.is_some() => self.step_with_schema(logits, remaining)?,
            None => self.step_without_schema(logits),
        };
        // Any step can end with the opening quote of a file content, because the schema may force the tokens before it.
        Ok(match step {
            DecoderStep::Continue(_) | DecoderStep::Rewind(..) => {
                self.rewrite_prose_content().or_else(|| self.open_fence()).unwrap_or(step)
            }
            DecoderStep::Finish(_) | DecoderStep::Truncated => step,
        })
    }

    fn step_with_schema(&mut self, logits: &[f32], remaining: usize) -> Result<DecoderStep, Error> {
        let Some(grammar) = &mut self.grammar else { return Ok(DecoderStep::Truncated) };
        if grammar.is_finished() {
            return Ok(DecoderStep::Finish(Vec::new()));
        }
        let mask = grammar.compute_mask()?;
        let may_end = grammar.may_end();
        let closing_token = if self.should_close() { self.closing_token(&mask) } else { None };
        // An incomplete line of code does not parse, so end the string after its last complete line, if it has one.
        if closing_token.is_some()
            && let Some(position) = self.json.last_line_end()
            && let Some(step) = self.rewind(position, b"\"")
        {
            return Ok(step);
        }
        let end_tokens = self.vocab.end_tokens();
        let sampled_token = {
            let is_banned = is_banned_in(&self.banned);
            // In some vocabularies, an end-of-turn token also has a text, which the schema may allow inside a string.
            let is_early_end = |token| !may_end && end_tokens.contains(&token);
            closing_token
                .or_else(|| self.sampler.sample(logits, Some(&mask), |token| is_banned(token) || is_early_end(token)))
        };
        let token = sampled_token.ok_or_else(|| Error::UnsupportedSchema("no token can follow".to_owned()))?;
        if end_tokens.contains(&token) {
            return Ok(DecoderStep::Finish(Vec::new()));
        }
        self.push_document_token(token, remaining)
    }

    fn step_without_schema(&mut self, logits: &[f32]) -> DecoderStep {
        if ends_in_repetition(&self.model_tokens) {
            return DecoderStep::Truncated;
        }
        let (vocab, rule, tail) = (self.vocab, self.marker_rule, self.document_tail(CALL_MARKER.len() - 1));
        let bytes_after_marker = |token: TokenId| bytes_after_marker(&tail, vocab.token_bytes(token));
        let breaks_rule = |token: TokenId| match rule {
            CallMarkerRule::Ignored => false,
            CallMarkerRule::Banned => bytes_after_marker(token).is_some(),
            CallMarkerRule::EndsText => bytes_after_marker(token).is_some_and(|len| len > 0),
        };
        let token = {
            let is_banned = is_banned_in(&self.banned);
            self.sampler.sample(logits, None, |token| is_banned(token) || breaks_rule(token))
        };
        match token {
            Some(token) if self.vocab.end_tokens().contains(&token) => DecoderStep::Finish(Vec::new()),
            Some(token) => {
                self.append(&[token]);
                DecoderStep::Continue(vec![token])
            }
            None => DecoderStep::Truncated,
        }
    }

    /// The last bytes of the document: at least this number of bytes, if it has so many.
    fn document_tail(&self, min_len: usize) -> Vec<u8> {
        let mut tail = Vec::new();
        for token in self.document_tokens.iter().rev() {
            if tail.len() >= min_len {
                break;
            }
            tail = [self.vocab.token_bytes(*token), tail.as_slice()].concat();
        }
        tail
    }

    /// Whether the open string, array or object should end, because the reply repeats itself or nears its limit.
    fn should_close(&self) -> bool {
        let is_late = self.model_tokens.len() * 4 >= self.limit * 3;
        let is_long_enough = self
            .json
            .string_start()
            .is_none_or(|start| self.document_tokens.len() - start >= MIN_STRING_TOKENS_NEAR_LIMIT);
        (is_late && is_long_enough) || ends_in_repetition(&self.model_tokens)
    }

    fn closing_token(&self, mask: &SimpleVob) -> Option<TokenId> {
        self.grammar.as_ref()?.closing_token(mask)
    }

    /// Adds a token and the tokens that the grammar forces after it. If these tokens would leave too little room for
    /// the end of the document, completes the document without them.
    fn push_document_token(&mut self, token: TokenId, remaining: usize) -> Result<DecoderStep, Error> {
        let vocab = self.vocab;
        let Some(grammar) = &mut self.grammar else { return Ok(DecoderStep::Truncated) };
        grammar.consume(token, vocab)?;
        let mut tokens = vec![token];
        tokens.extend(grammar.consume_forced(vocab));
        let remaining_after = remaining.saturating_sub(tokens.len());
        let is_past_half = self.json.string_start().is_none() && self.model_tokens.len() * 2 >= self.limit;
        if is_past_half || self.is_near_limit(remaining_after) {
            let closing_after = self.closing_sequence(remaining_after).filter(|_| tokens.len() <= remaining);
            match closing_after {
                Some(closing_after) => self.closing_tokens = Some(closing_after),
                None => {
                    if let Some(step) = self.finish_before(tokens.len(), remaining) {
                        return Ok(step);
                    }
                }
            }
        }
        self.is_truncated = tokens.len() > remaining;
        tokens.truncate(remaining);
        let repetition = self.append(&tokens);
        let step = repetition.and_then(|position| self.rewind(position, b"]"));
        Ok(step.unwrap_or(DecoderStep::Continue(tokens)))
    }

    fn closing_sequence(&self, limit: usize) -> Option<Vec<TokenId>> {
        self.grammar.as_ref()?.closing_sequence(self.vocab, limit)
    }

    /// Completes the document without the last `consumed_count` tokens that its grammar has consumed. These tokens are
    /// not in the document yet.
    fn finish_before(&mut self, consumed_count: usize, remaining: usize) -> Option<DecoderStep> {
        let (grammar, mut tokens) =
            self.grammar.as_ref()?.rewind(&self.document_tokens, consumed_count, b"", self.vocab)?;
        tokens.extend(grammar.closing_sequence(self.vocab, remaining.checked_sub(tokens.len())?)?);
        self.append(&tokens);
        Some(DecoderStep::Finish(tokens))
    }
}

/// The number of bytes of a token that follow the end of the text that begins a call; `None` if the token does not
/// complete this text. `tail` is the text before the token.
fn bytes_after_marker(tail: &[u8], token: &[u8]) -> Option<usize> {
    let text = [tail, token].concat();
    let marker = CALL_MARKER.as_bytes();
    let position = text.windows(marker.len()).position(|window| window == marker)?;
    Some(text.len() - position - marker.len())
}

/// A predicate that is true for banned tokens and for tokens outside the vocabulary.
fn is_banned_in(banned: &[bool]) -> impl Fn(TokenId) -> bool {
    move |token| banned.get(token as usize).copied().unwrap_or(true)
}

#[cfg(test)]
mod tests;
