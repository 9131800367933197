//! Amounts of tokens, dollars and time.

use std::time::Duration;

/// What a limit counts, other than time: tokens or dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Tokens.
    Tokens,
    /// US dollars.
    Usd,
}

/// An amount in each unit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) tokens: u64,
    pub(super) usd: f64,
    pub(super) time: Duration,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.usd += other.usd;
        self.time = self.time.saturating_add(other.time);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.usd = (self.usd - other.usd).max(0.0);
    }
}
