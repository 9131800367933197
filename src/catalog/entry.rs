//! An entry of the catalog: the prices of a model and its context window.
//!
//! A cost computed from the prices is an estimate for budgets and reports. The provider's invoice may differ.

use serde::Deserialize;

use crate::model::Usage;

/// The prices of a model in US dollars per million tokens, and its context window.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct CatalogEntry {
    pub(super) input: f64,
    pub(super) output: f64,
    #[serde(default)]
    cache_read: Option<f64>,
    #[serde(default)]
    cache_write: Option<f64>,
    #[serde(default, rename = "above")]
    long_prompt: Option<LongPromptPrices>,
    /// The maximum number of tokens in a request and its reply together.
    #[serde(default, rename = "window")]
    pub(super) context_window: Option<u64>,
}

/// The prices of all tokens of a call with a long prompt. If a price is absent, the price of other calls applies.
#[derive(Clone, Copy, Debug, Deserialize)]
struct LongPromptPrices {
    /// The prices apply to prompts with more tokens than this.
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

impl CatalogEntry {
    /// The cost of the usage in US dollars.
    pub(super) fn cost(self, usage: &Usage) -> f64 {
        let prices = match self.long_prompt {
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
            (usage.input.saturating_sub(cached), prices.input),
            (usage.cache_read, prices.cache_read.unwrap_or(prices.input)),
            (usage.cache_write, prices.cache_write.unwrap_or(prices.input)),
            (usage.output, prices.output),
        ];
        #[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^52")]
        counts_and_prices.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum()
    }
}
