//! Prices of models per million tokens.
//!
//! A price is an estimate for budgets and reports, not an invoice. A model that the table does not list has no price.

use serde::Deserialize;

use crate::model::Usage;

/// Prices in US dollars per million tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) output: f64,
    #[serde(default)]
    cache_read: Option<f64>,
    #[serde(default)]
    cache_write: Option<f64>,
    /// The prices for the whole call when its prompt is long.
    #[serde(default)]
    above: Option<LongPromptPrice>,
    /// The maximum number of tokens in a request and its reply together.
    #[serde(default)]
    pub(super) window: Option<u64>,
}

/// Prices for calls whose prompt has more than `tokens` tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
struct LongPromptPrice {
    tokens: u64,
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
        let price = match self.above {
            Some(long_prompt) if usage.input > long_prompt.tokens => Self {
                input: long_prompt.input.unwrap_or(self.input),
                output: long_prompt.output.unwrap_or(self.output),
                cache_read: long_prompt.cache_read.or(self.cache_read),
                cache_write: long_prompt.cache_write.or(self.cache_write),
                above: None,
                window: self.window,
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
