//! Prices of models per million tokens.
//!
//! A price is an estimate for budgets and reports, not an invoice. A model that the table does not list has no price.

use serde::Deserialize;

use crate::model::Usage;

/// The prices of a model in US dollars per million tokens, and its context window.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) output: f64,
    #[serde(default)]
    cache_read: Option<f64>,
    #[serde(default)]
    cache_write: Option<f64>,
    /// The prices of the whole call if its prompt is long.
    #[serde(default, rename = "above")]
    long_prompt: Option<LongPromptPrice>,
    /// The maximum number of tokens in a request and its reply together.
    #[serde(default, rename = "window")]
    pub(super) context_window: Option<u64>,
}

/// The prices of calls with a long prompt. A missing price is the same as for other calls.
#[derive(Clone, Copy, Debug, Deserialize)]
struct LongPromptPrice {
    /// A prompt is long if it has more than this number of tokens.
    #[serde(rename = "tokens")]
    threshold: u64,
    #[serde(default)]
    input: Option<f64>,
    #[serde(default)]
    output: Option<f64>,
    #[serde(default)]
    cache_read: Option<f64>,
    #[serde(default)]
    cache_write: Option<f64>,
}

impl Price {
    /// The cost of the usage in US dollars.
    pub(super) fn cost(self, usage: &Usage) -> f64 {
        let price = match self.long_prompt {
            Some(long_prompt) if usage.input > long_prompt.threshold => Self {
                input: long_prompt.input.unwrap_or(self.input),
                output: long_prompt.output.unwrap_or(self.output),
                cache_read: long_prompt.cache_read.or(self.cache_read),
                cache_write: long_prompt.cache_write.or(self.cache_write),
                long_prompt: None,
                context_window: self.context_window,
            },
            _ => self,
        };
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let counts_and_prices = [
            (usage.input.saturating_sub(cached), price.input),
            (usage.cache_read, price.cache_read.unwrap_or(price.input)),
            (usage.cache_write, price.cache_write.unwrap_or(price.input)),
            (usage.output, price.output),
        ];
        #[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^52")]
        counts_and_prices.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum()
    }
}
