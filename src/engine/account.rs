//! One limit with what counts against it.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::budget::Budget;
use crate::model::{Class, Failure, StepKey};

use super::budget::Holder;

/// A limit with what counts against it.
pub(super) struct Account {
    pub(super) holder: Holder,
    pub(super) limit: Budget,
    pub(super) spent: Amount,
    pub(super) reserved: Amount,
    pub(super) open: usize,
    /// When the calls under way began.
    pub(super) running: Vec<Instant>,
}

/// How far the amount of a call is known before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// It is an upper bound.
    Known,
    /// It is the least: nothing fits a limit that is used up.
    More,
}

impl Takes {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Known => "the next request may take",
            Self::More => "the next turn takes more than",
        }
    }
}

/// Something that is spent.
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

impl Account {
    pub(super) fn holds(&self, step: &StepKey) -> bool {
        self.holder.holds(step)
    }

    /// What counts against a limit of time: of the run what processes owned it, of a step its calls.
    pub(super) fn time(&self, owned: Duration) -> Duration {
        match self.holder {
            Holder::Run => owned,
            Holder::Step(_) | Holder::Agent(..) => {
                self.running.iter().fold(self.spent.time, |sum, since| sum.saturating_add(since.elapsed()))
            }
        }
    }

    /// How long until so much time has passed, when the calls under way go on.
    pub(super) fn left(&self, most: Duration, owned: Duration) -> Duration {
        let left = most.saturating_sub(self.time(owned));
        match self.holder {
            Holder::Run => left,
            Holder::Step(_) | Holder::Agent(..) => left / u32::try_from(self.running.len()).unwrap_or(u32::MAX).max(1),
        }
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        let whose = &self.holder;
        let hint = "raise the `budget:` and resume the run; nothing that was answered is asked again";
        Failure::new(Class::BudgetExceeded, format!("the budget of {whose} is {what}")).with_hint(hint)
    }

    /// Why so much more does not fit, if it does not.
    pub(super) fn exceeded(&self, more: Amount, takes: Takes, owned: Option<Duration>) -> Option<Failure> {
        let fail = |what: String| self.failure(&what);
        let (spent, held) = (self.spent, self.reserved);
        let next = takes.words();
        if let Some(most) = self.limit.tokens {
            let then = spent.tokens.saturating_add(held.tokens).saturating_add(more.tokens);
            if then > most || (takes == Takes::More && then == most) {
                return Some(fail(format!("{most} tokens; {} are used, and {next} {}", spent.tokens, more.tokens)));
            }
        }
        if let Some(most) = self.limit.usd {
            let then = spent.usd + held.usd + more.usd;
            if then > most || (takes == Takes::More && then >= most) {
                let used = spent.usd;
                return Some(fail(format!("${most:.2}; ${used:.4} are spent, and {next} ${:.4}", more.usd)));
            }
        }
        let time = self.time(owned?);
        match self.limit.seconds {
            Some(most) if time.as_secs() >= most => {
                Some(fail(format!("{most} s, and {} s have passed", time.as_secs())))
            }
            Some(_) | None => None,
        }
    }
}
