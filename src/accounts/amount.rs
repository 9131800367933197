//! Amounts of tokens, dollars and time, and how certain they are.

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
