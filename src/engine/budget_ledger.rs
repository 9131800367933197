//! The ledger of one budget limit: the spent and the reserved amounts, and whether another call fits.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::cost::{format_dollars, format_dollars_rounded};
use crate::model::{Failure, FailureClass, StepKey};

use super::budget::BudgetScope;
use super::call_spend::{Certainty, CountedUsage};

/// A tolerance in dollars, for rounding errors of sums.
const ROUNDING_TOLERANCE: f64 = 1e-9;

/// The units of a limit other than time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Tokens.
    Tokens,
    /// US dollars.
    Usd,
}

/// The amount that a call reserves, and how exactly it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    pub(super) amount: Amount,
    pub(super) tokens_estimate: AmountEstimate,
    pub(super) usd_estimate: AmountEstimate,
}

impl Reserve {
    /// The reservation of a call that uses no model.
    pub(super) const NOTHING: Self = Self {
        amount: Amount { tokens: 0, usd: 0.0, time: Duration::ZERO },
        tokens_estimate: AmountEstimate::Upper,
        usd_estimate: AmountEstimate::Upper,
    };
}

/// A limit with the amounts that count against it.
pub(super) struct BudgetLedger {
    pub(super) scope: BudgetScope,
    pub(super) limit: Budget,
    pub(super) spent: Amount,
    pub(super) reserved: Amount,
    pub(super) reservation_count: usize,
    /// When the calls in flight started.
    pub(super) call_starts: Vec<Instant>,
}

/// How an amount that orch estimates before a call relates to the actual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmountEstimate {
    /// The amount is an upper bound.
    Upper,
    /// The amount is a lower bound, so an amount that would reach the limit exactly does not fit.
    Lower,
}

impl AmountEstimate {
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Upper => "the next request may take",
            Self::Lower => "the next turn takes more than",
        }
    }
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

impl BudgetLedger {
    pub(super) fn covers(&self, step: &StepKey) -> bool {
        self.scope.covers(step)
    }

    /// Returns the time that counts against a time limit: for the run, how long processes owned it; for a step or an
    /// agent, the summed duration of its calls.
    pub(super) fn elapsed(&self, owned: Duration) -> Duration {
        match self.scope {
            BudgetScope::Run => owned,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                self.call_starts.iter().fold(self.spent.time, |sum, since| sum.saturating_add(since.elapsed()))
            }
        }
    }

    /// Returns how long the calls in flight may continue until the time reaches `limit`. Parallel calls of a step reach
    /// it faster.
    pub(super) fn remaining_time(&self, limit: Duration, owned: Duration) -> Duration {
        let remaining = limit.saturating_sub(self.elapsed(owned));
        match self.scope {
            BudgetScope::Run => remaining,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                remaining / u32::try_from(self.call_starts.len()).unwrap_or(u32::MAX).max(1)
            }
        }
    }

    /// Returns the failure for an exhausted limit; `unit` is the key that the user can raise.
    pub(super) fn exceeded_failure(&self, details: &str, unit: &str) -> Failure {
        let scope = &self.scope;
        // `--budget` sets only the run's own budget, and replaces it as a whole.
        let flag_hint = match self.scope {
            BudgetScope::Run => format!(", as with `--budget {}`", self.budget_argument(unit)),
            BudgetScope::Step(_) | BudgetScope::Agent(..) => String::new(),
        };
        let hint =
            format!("raise `{unit}` of the budget and resume the run{flag_hint}; orch reuses the recorded replies");
        Failure::new(FailureClass::BudgetExceeded, format!("the budget of {scope} is {details}")).with_hint(hint)
    }

    /// Formats the limit as an argument of `--budget`, with one unit raised.
    fn budget_argument(&self, unit: &str) -> String {
        let Budget { usd, tokens, seconds, unpriced, unreported } = &self.limit;
        let count = |name: &str, count: u64, min: u64| {
            let count = if name == unit { count.saturating_mul(2).max(min) } else { count };
            format!("{name}={count}")
        };
        let parts = [
            usd.map(|usd| format!("usd={}", if unit == "usd" { (usd * 2.0).max(5.0) } else { usd })),
            tokens.map(|tokens| count("tokens", tokens, 900_000)),
            seconds.map(|seconds| count("seconds", seconds, 3600)),
            (*unpriced == Some(Unpriced::Allow)).then(|| "unpriced=allow".to_owned()),
            unreported.map(|unreported| match unreported {
                Unreported::Estimate => "unreported=estimate".to_owned(),
                Unreported::Refuse => "unreported=refuse".to_owned(),
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    /// Returns the unit of this limit in which the usage of a call is unknown, if any.
    pub(super) fn unknown_unit(&self, counted: &CountedUsage, replied: bool) -> Option<Unit> {
        let refuses = replied && self.limit.unreported == Some(Unreported::Refuse);
        let stops = |certainty| match certainty {
            Certainty::Reported => false,
            Certainty::Estimated => refuses,
            Certainty::Unpriced => self.limit.unpriced != Some(Unpriced::Allow),
            Certainty::Unknown => true,
        };
        if self.limit.tokens.is_some() && stops(counted.tokens_certainty) {
            return Some(Unit::Tokens);
        }
        (self.limit.usd.is_some() && stops(counted.usd_certainty)).then_some(Unit::Usd)
    }

    /// Returns the failure if reserving `more` exceeds the limit, or if the time is used up; `owned` is `None` if time
    /// does not count.
    pub(super) fn exceeded(&self, more: Reserve, owned: Option<Duration>) -> Option<Failure> {
        let (spent, reserved) = (self.spent, self.reserved);
        let Reserve { amount: more, tokens_estimate: tokens, usd_estimate: usd } = more;
        if let Some(max_tokens) = self.limit.tokens {
            let total = spent.tokens.saturating_add(reserved.tokens).saturating_add(more.tokens);
            if total > max_tokens || (tokens == AmountEstimate::Lower && total == max_tokens) {
                let details =
                    format!("{max_tokens} tokens; {} are used, and {} {}", spent.tokens, tokens.phrase(), more.tokens);
                return Some(self.exceeded_failure(&details, "tokens"));
            }
        }
        if let Some(max_usd) = self.limit.usd {
            let total = spent.usd + reserved.usd + more.usd;
            // Binary floating point can't represent most sums of cents exactly.
            if total > max_usd + ROUNDING_TOLERANCE || (usd == AmountEstimate::Lower && total >= max_usd) {
                let (limit, used, more) =
                    (format_dollars(max_usd), format_dollars_rounded(spent.usd), format_dollars_rounded(more.usd));
                let details = format!("{limit}; {used} are spent, and {} {more}", usd.phrase());
                return Some(self.exceeded_failure(&details, "usd"));
            }
        }
        let elapsed = self.elapsed(owned?);
        match self.limit.seconds {
            Some(max_seconds) if elapsed.as_secs() >= max_seconds => Some(
                self.exceeded_failure(&format!("{max_seconds} s, and {} s have passed", elapsed.as_secs()), "seconds"),
            ),
            Some(_) | None => None,
        }
    }
}
