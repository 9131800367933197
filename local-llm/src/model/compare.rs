//! Functions that tests use to compare this engine with others: the tokens of a text, and the probabilities of the next
//! token.

use std::sync::PoisonError;

use super::{Model, PROMPT_BATCH_TOKENS, PromptMessage};
use crate::Error;

impl Model {
    /// Returns the tokens of the prompt for these messages.
    ///
    /// # Errors
    ///
    /// When the chat template of the model rejects the messages.
    pub fn tokenize_messages(&self, messages: &[PromptMessage]) -> Result<Vec<u32>, Error> {
        self.encode_prompt(messages, &[])
    }

    /// Returns the tokens of a text. Recognizes the special tokens of the model.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.vocab.encode(text)
    }

    /// Returns the likeliest first tokens of a free reply, the likeliest first, each with its text and the natural
    /// logarithm of its probability.
    ///
    /// # Errors
    ///
    /// As for [`Model::generate`].
    pub fn likeliest_tokens(&self, messages: &[PromptMessage], count: usize) -> Result<Vec<(u32, String, f32)>, Error> {
        self.likeliest_tokens_after(&self.encode_prompt(messages, &[])?, count)
    }

    /// Like [`Model::likeliest_tokens`], for a prompt that is already tokenized.
    ///
    /// # Errors
    ///
    /// As for [`Model::generate`].
    pub fn likeliest_tokens_after(&self, prompt: &[u32], count: usize) -> Result<Vec<(u32, String, f32)>, Error> {
        if prompt.is_empty() || prompt.len() >= self.context_length() {
            return Err(Error::PromptTooLong { prompt: prompt.len(), limit: self.context_length() });
        }
        let mut prefix_cache = self.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner);
        prefix_cache.tokens.clear();
        prefix_cache.kv_cache.truncate(0);
        let mut logits = Vec::new();
        for chunk in prompt.chunks(PROMPT_BATCH_TOKENS) {
            logits = self.forward(chunk, &mut prefix_cache, true)?;
        }
        let max_logit = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - max_logit).exp()).sum();
        let mut ranking: Vec<(u32, f32)> = (0..).zip(logits.iter().map(|logit| logit - max_logit - sum.ln())).collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        let text = |token| String::from_utf8_lossy(self.vocab.token_bytes(token)).into_owned();
        Ok(ranking
            .into_iter()
            .take(count)
            .map(|(token, log_probability)| (token, text(token), log_probability))
            .collect())
    }
}
