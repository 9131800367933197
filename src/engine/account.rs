//! The ledger of one budget limit: what is spent and reserved, and whether more fits.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::cost::{dollars, rounded};
use crate::model::{Class, Failure, StepKey};

use super::budget::BudgetScope;
use super::spent::{Certainty, CountedUsage};

/// A tolerance in dollars, for rounding errors of sums.
const SMALLEST: f64 = 1e-9;

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
    pub(super) tokens: AmountEstimate,
    pub(super) usd: AmountEstimate,
}

/// A limit with the amounts that count against it.
pub(super) struct BudgetLedger {
    pub(super) holder: BudgetScope,
    pub(super) limit: Budget,
    pub(super) spent: Amount,
    pub(super) reserved: Amount,
    pub(super) open: usize,
    /// When the calls in flight started.
    pub(super) running: Vec<Instant>,
}

/// What is known about a call's amount before the call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmountEstimate {
    /// The amount is an upper bound.
    Known,
    /// The amount is a lower bound, so an amount that would reach the limit exactly does not fit.
    More,
}

impl AmountEstimate {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Known => "the next request may take",
            Self::More => "the next turn takes more than",
        }
    }
}

/// An amount of each unit.
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

    pub(super) fn give_back(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.usd = (self.usd - other.usd).max(0.0);
    }
}

impl BudgetLedger {
    pub(super) fn holds(&self, step: &StepKey) -> bool {
        self.holder.holds(step)
    }

    /// Returns the time that counts against a limit of time. For the run, this is the time that processes owned it; for
    /// a step or an agent, the summed duration of its calls.
    pub(super) fn time(&self, owned: Duration) -> Duration {
        match self.holder {
            BudgetScope::Run => owned,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                self.running.iter().fold(self.spent.time, |sum, since| sum.saturating_add(since.elapsed()))
            }
        }
    }

    /// Returns how long the calls in flight may continue until the time reaches `most`. Parallel calls of a step use it
    /// up faster.
    pub(super) fn left(&self, most: Duration, owned: Duration) -> Duration {
        let left = most.saturating_sub(self.time(owned));
        match self.holder {
            BudgetScope::Run => left,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                left / u32::try_from(self.running.len()).unwrap_or(u32::MAX).max(1)
            }
        }
    }

    /// Returns the failure for an exhausted limit; `unit` is the key that the user can raise.
    pub(super) fn failure(&self, what: &str, unit: &str) -> Failure {
        let whose = &self.holder;
        // `--budget` sets only the run's own budget, and replaces it as a whole.
        let raised = match self.holder {
            BudgetScope::Run => format!(", as with `--budget {}`", self.raised(unit)),
            BudgetScope::Step(_) | BudgetScope::Agent(..) => String::new(),
        };
        let hint = format!(
            "raise `{unit}` of the budget and resume the run{raised}; nothing that was answered is asked again"
        );
        Failure::new(Class::BudgetExceeded, format!("the budget of {whose} is {what}")).with_hint(hint)
    }

    /// Formats the limit as an argument of `--budget`, with one unit raised.
    fn raised(&self, unit: &str) -> String {
        let Budget { usd, tokens, seconds, unpriced, unreported } = &self.limit;
        let count = |name: &str, count: u64, least: u64| {
            let count = if name == unit { count.saturating_mul(2).max(least) } else { count };
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
    pub(super) fn unknown(&self, counted: &CountedUsage, replied: bool) -> Option<Unit> {
        let refuses = replied && self.limit.unreported == Some(Unreported::Refuse);
        let stops = |certainty| match certainty {
            Certainty::Reported => false,
            Certainty::Estimated => refuses,
            Certainty::Unpriced => self.limit.unpriced != Some(Unpriced::Allow),
            Certainty::Unknown => true,
        };
        if self.limit.tokens.is_some() && stops(counted.tokens) {
            return Some(Unit::Tokens);
        }
        (self.limit.usd.is_some() && stops(counted.usd)).then_some(Unit::Usd)
    }

    /// Returns the failure if reserving `more` exceeds the limit, or if the time is used up; `owned` is `None` where
    /// time does not count.
    pub(super) fn exceeded(&self, more: Reserve, owned: Option<Duration>) -> Option<Failure> {
        let (spent, held) = (self.spent, self.reserved);
        let Reserve { amount: more, tokens, usd } = more;
        if let Some(most) = self.limit.tokens {
            let then = spent.tokens.saturating_add(held.tokens).saturating_add(more.tokens);
            if then > most || (tokens == AmountEstimate::More && then == most) {
                let what = format!("{most} tokens; {} are used, and {} {}", spent.tokens, tokens.words(), more.tokens);
                return Some(self.failure(&what, "tokens"));
            }
        }
        if let Some(most) = self.limit.usd {
            let then = spent.usd + held.usd + more.usd;
            // Binary floating point can't represent most sums of cents exactly.
            if then > most + SMALLEST || (usd == AmountEstimate::More && then >= most) {
                let (most, used, more) = (dollars(most), rounded(spent.usd), rounded(more.usd));
                let what = format!("{most}; {used} are spent, and {} {more}", usd.words());
                return Some(self.failure(&what, "usd"));
            }
        }
        let time = self.time(owned?);
        match self.limit.seconds {
            Some(most) if time.as_secs() >= most => {
                Some(self.failure(&format!("{most} s, and {} s have passed", time.as_secs()), "seconds"))
            }
            Some(_) | None => None,
        }
    }
}
