//! For comparing this engine with others: the tokens of a text, and the probabilities of the tokens that could follow.

use std::sync::PoisonError;

use super::{CHUNK, Model, PromptMessage};
use crate::Error;

impl Model {
    /// The tokens of the prompt for these messages, for comparing this engine with others.
    ///
    /// # Errors
    ///
    /// When the chat template of the model refuses the messages.
    pub fn tokens(&self, messages: &[PromptMessage]) -> Result<Vec<u32>, Error> {
        self.prompt(messages)
    }

    /// The tokens of a text, with the model's special tokens recognized, for comparing this engine with others.
    ///
    /// # Errors
    ///
    /// When the text cannot be tokenized.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.vocab.encode(text)
    }

    /// The likeliest first tokens of a free reply in descending order, each with its text and the natural logarithm of
    /// its probability, for comparing this engine with others.
    ///
    /// # Errors
    ///
    /// As for [`Model::generate`].
    pub fn likeliest(&self, messages: &[PromptMessage], count: usize) -> Result<Vec<(u32, String, f32)>, Error> {
        self.likeliest_after(&self.prompt(messages)?, count)
    }

    /// The likeliest tokens after these, as [`Model::likeliest`] returns them.
    ///
    /// # Errors
    ///
    /// As for [`Model::generate`].
    pub fn likeliest_after(&self, prompt: &[u32], count: usize) -> Result<Vec<(u32, String, f32)>, Error> {
        if prompt.is_empty() || prompt.len() >= self.context() {
            return Err(Error::TooLong { prompt: prompt.len(), limit: self.context() });
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.tokens.clear();
        kept.cache.truncate(0);
        let mut scores = Vec::new();
        for chunk in prompt.chunks(CHUNK) {
            scores = self.read(chunk, &mut kept, true)?;
        }
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        let mut ranked: Vec<(u32, f32)> = (0..).zip(scores.iter().map(|score| score - most - sum.ln())).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let text = |token| String::from_utf8_lossy(self.vocab.bytes(token)).into_owned();
        Ok(ranked.into_iter().take(count).map(|(token, log)| (token, text(token), log)).collect())
    }
}
