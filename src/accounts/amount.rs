//! Amounts of tokens, dollars and time, and how certain they are.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::StepKey;

/// A unit of a limit, other than time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Tokens.
    Tokens,
    /// US dollars.
    Usd,
}

/// An amount in each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Tokens, input and output together.
    pub tokens: u64,
    /// US dollars.
    pub usd: f64,
    /// The time of calls.
    pub time: Duration,
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

/// The amount that a call reserves, and whether it is an upper or a lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservedAmount {
    /// The amount.
    pub amount: Amount,
    /// What the number of tokens is.
    pub tokens_estimate: AmountEstimate,
    /// What the number of dollars is.
    pub usd_estimate: AmountEstimate,
}

impl ReservedAmount {
    /// The reservation of a call that uses no model.
    pub const NOTHING: Self = Self {
        amount: Amount { tokens: 0, usd: 0.0, time: Duration::ZERO },
        tokens_estimate: AmountEstimate::Upper,
        usd_estimate: AmountEstimate::Upper,
    };
}

/// How an estimate before a call relates to the actual amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountEstimate {
    /// The amount is an upper bound.
    Upper,
    /// The amount is a lower bound: the actual amount is larger, so a sum that equals the limit does not fit.
    Lower,
}

impl AmountEstimate {
    /// The words before the estimate in a message.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Upper => "the next request may take",
            Self::Lower => "the next turn takes more than",
        }
    }
}

/// How certain the usage of a call is, for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The provider reported it, or orch computed it from reported values.
    Reported,
    /// It is an upper estimate of unreported usage.
    Estimated,
    /// No price applies.
    Unpriced,
    /// The provider did not report it, and no estimate exists.
    Unknown,
}

/// The amount that a call counts against budgets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountedUsage {
    /// The step of the call.
    pub step: StepKey,
    /// The amount.
    pub amount: Amount,
    /// How certain the number of tokens is.
    pub tokens_certainty: Certainty,
    /// How certain the number of dollars is.
    pub usd_certainty: Certainty,
    /// Whether a complete reply arrived.
    pub replied: bool,
}

/// A higher limit, which a hint suggests. It has room for the next call and for as much again as was spent so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HigherLimit {
    /// US dollars, in whole cents.
    Usd(f64),
    /// Tokens.
    Tokens(u64),
    /// Seconds, in whole minutes.
    Seconds(u64),
}

impl HigherLimit {
    pub(super) fn usd(spent: f64, next: f64) -> Self {
        Self::Usd(((2.0 * spent + next) * 100.0).ceil().max(1.0) / 100.0)
    }

    pub(super) fn tokens(spent: u64, next: u64) -> Self {
        Self::Tokens(round_up(spent.saturating_mul(2).saturating_add(next).max(1)))
    }

    /// orch does not know how long the next call takes, and assumes a minute.
    pub(super) fn seconds(spent: u64) -> Self {
        Self::Seconds(spent.saturating_mul(2).saturating_add(60).div_ceil(60).saturating_mul(60))
    }

    /// The key of the limit in a budget.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Usd(_) => "usd",
            Self::Tokens(_) => "tokens",
            Self::Seconds(_) => "seconds",
        }
    }
}

impl fmt::Display for HigherLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usd(limit) => write!(f, "{limit}"),
            Self::Tokens(limit) | Self::Seconds(limit) => write!(f, "{limit}"),
        }
    }
}

/// Rounds up to a number with at most two digits that are not zero.
fn round_up(amount: u64) -> u64 {
    let mut unit = 1;
    while amount / unit >= 100 {
        unit *= 10;
    }
    amount.div_ceil(unit).saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_limit_follows_from_what_was_spent_and_the_next_call() {
        for (spent, next, expected) in
            [(0, 1042, "1100"), (1800, 2100, "5700"), (498_000, 4500, "1100000"), (0, 0, "1")]
        {
            assert_eq!(HigherLimit::tokens(spent, next).to_string(), expected);
        }
        for (spent, next, expected) in [(0.0, 0.0503, "0.06"), (1.9, 0.2, "4"), (0.0, 0.0, "0.01")] {
            assert_eq!(HigherLimit::usd(spent, next).to_string(), expected);
        }
        for (spent, expected) in [(0, "60"), (2, "120"), (30, "120"), (3600, "7260")] {
            assert_eq!(HigherLimit::seconds(spent).to_string(), expected);
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
    }
}
