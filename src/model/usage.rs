//! What a call used: tokens and money.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Tokens of one or several calls.
///
/// `input` counts every prompt token, cached ones included; `output` every generated
/// token, reasoning included. The other three are parts of these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens in all.
    pub input: u64,
    /// Prompt tokens read from the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_write: u64,
    /// Generated tokens in all.
    pub output: u64,
    /// Generated tokens spent on reasoning (part of `output`).
    #[serde(default)]
    pub reasoning: u64,
}

impl Usage {
    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        self.input == 0 && self.output == 0
    }

    /// Input and output tokens together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}
