//! Prices of models per million tokens.
//!
//! A price is an estimate for budgets and reports, not an invoice; a model that is not listed has none.

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
    /// Other prices for the whole call when its prompt is long.
    #[serde(default)]
    above: Option<Above>,
    /// How many tokens a request and its reply may have together.
    #[serde(default)]
    pub(super) window: Option<u64>,
}

/// Prices for calls whose prompt has more than `tokens` tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Above {
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
    /// What the usage costs in US dollars.
    pub(super) fn of(self, usage: &Usage) -> f64 {
        let price = match self.above {
            Some(above) if usage.input > above.tokens => Self {
                input: above.input.unwrap_or(self.input),
                output: above.output.unwrap_or(self.output),
                cache_read: above.cache_read.or(self.cache_read),
                cache_write: above.cache_write.or(self.cache_write),
                above: None,
                window: self.window,
            },
            _ => self,
        };
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let parts = [
            (usage.input.saturating_sub(cached), price.input),
            (usage.cache_read, price.cache_read.unwrap_or(price.input)),
            (usage.cache_write, price.cache_write.unwrap_or(price.input)),
            (usage.output, price.output),
        ];
        #[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^52")]
        parts.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum()
    }
}
