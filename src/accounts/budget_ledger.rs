//! The ledger of one budget: the amounts that calls have spent and reserved, and whether another call fits.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::budget::{Budget, BudgetScope, Unpriced, Unreported};
use crate::model::cost::{format_dollars, format_dollars_rounded};
use crate::model::{Failure, FailureClass, counted};

use super::amount::{Amount, AmountEstimate, Certainty, CountedUsage, HigherLimit, ReservedAmount, Unit};

/// The tolerance for rounding errors in sums of dollars.
const ROUNDING_TOLERANCE: f64 = 1e-9;

/// A budget with the amounts that count against it.
pub(super) struct BudgetLedger {
    pub(super) scope: BudgetScope,
    pub(super) limit: Budget,
    pub(super) spent: Amount,
    pub(super) reserved: Amount,
    pub(super) reservation_count: usize,
    /// When the calls in flight started.
    pub(super) call_starts: Vec<Instant>,
}

impl BudgetLedger {
    /// Returns the time that counts against a time limit: for the run, `owned_duration`, the time during which a
    /// process owned it; for a step or an agent, the summed duration of its calls.
    pub(super) fn elapsed(&self, owned_duration: Duration) -> Duration {
        match self.scope {
            BudgetScope::Run => owned_duration,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                self.call_starts.iter().fold(self.spent.time, |sum, start| sum.saturating_add(start.elapsed()))
            }
        }
    }

    /// Returns how long the calls in flight may continue until they reach `limit`. For a step or an agent, the
    /// durations of parallel calls add up.
    pub(super) fn remaining_time(&self, limit: Duration, owned_duration: Duration) -> Duration {
        let remaining = limit.saturating_sub(self.elapsed(owned_duration));
        match self.scope {
            BudgetScope::Run => remaining,
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                remaining / u32::try_from(self.call_starts.len()).unwrap_or(u32::MAX).max(1)
            }
        }
    }

    /// Returns the failure for an exceeded limit; `higher` is the limit that the user can set instead.
    pub(super) fn exceeded_failure(&self, details: &str, higher: HigherLimit) -> Failure {
        let (scope, key) = (&self.scope, higher.key());
        // `--budget` sets only the run's own budget, and replaces it as a whole.
        let advice = match self.scope {
            BudgetScope::Run => format!(
                "raise `{key}` of the budget and resume the run, as with `--budget {}`",
                self.budget_argument(higher)
            ),
            BudgetScope::Step(_) | BudgetScope::Agent(..) => {
                format!("raise `{key}` of the budget, for example to {higher}, and resume the run")
            }
        };
        let hint = format!("{advice}; orch reuses the recorded replies");
        Failure::new(FailureClass::BudgetExceeded, format!("the budget of {scope} is {details}")).with_hint(hint)
    }

    /// Formats the limit as an argument of `--budget`, with one unit raised.
    fn budget_argument(&self, higher: HigherLimit) -> String {
        let Budget { usd, tokens, seconds, unpriced, unreported } = &self.limit;
        let format_limit = |key: &str, limit: String| {
            let limit = if key == higher.key() { higher.to_string() } else { limit };
            format!("{key}={limit}")
        };
        let parts = [
            usd.map(|usd| format_limit("usd", usd.to_string())),
            tokens.map(|tokens| format_limit("tokens", tokens.to_string())),
            seconds.map(|seconds| format_limit("seconds", seconds.to_string())),
            (*unpriced == Some(Unpriced::Allow)).then(|| "unpriced=allow".to_owned()),
            unreported.map(|unreported| match unreported {
                Unreported::Estimate => "unreported=estimate".to_owned(),
                Unreported::Refuse => "unreported=refuse".to_owned(),
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    /// Returns the limited unit for which the certainty of a call's usage does not suffice, if any.
    pub(super) fn unknown_unit(&self, counted: &CountedUsage) -> Option<Unit> {
        let refuses_estimates = counted.replied && self.limit.unreported == Some(Unreported::Refuse);
        let is_insufficient = |certainty| match certainty {
            Certainty::Reported => false,
            Certainty::Estimated => refuses_estimates,
            Certainty::Unpriced => self.limit.unpriced != Some(Unpriced::Allow),
            Certainty::Unknown => true,
        };
        if self.limit.tokens.is_some() && is_insufficient(counted.tokens_certainty) {
            return Some(Unit::Tokens);
        }
        (self.limit.usd.is_some() && is_insufficient(counted.usd_certainty)).then_some(Unit::Usd)
    }

    /// Returns the failure if reserving `requested` exceeds the limit, or if the time is used up; `owned_duration` is
    /// `None` if time does not count.
    pub(super) fn exceeded(&self, requested: ReservedAmount, owned_duration: Option<Duration>) -> Option<Failure> {
        let (spent, reserved) = (self.spent, self.reserved);
        let ReservedAmount { amount: requested, tokens_estimate, usd_estimate } = requested;
        if let Some(max_tokens) = self.limit.tokens {
            let total = spent.tokens.saturating_add(reserved.tokens).saturating_add(requested.tokens);
            if total > max_tokens || (tokens_estimate == AmountEstimate::Lower && total == max_tokens) {
                let details = format!(
                    "{}; {} are used, and {} {}",
                    counted(max_tokens, "token"),
                    spent.tokens,
                    tokens_estimate.phrase(),
                    requested.tokens
                );
                // A call of which only a lower bound is known takes more: twice as much is a guess.
                let factor = if tokens_estimate == AmountEstimate::Lower { 2 } else { 1 };
                let next = reserved.tokens.saturating_add(requested.tokens.saturating_mul(factor));
                return Some(self.exceeded_failure(&details, HigherLimit::tokens(spent.tokens, next)));
            }
        }
        if let Some(max_usd) = self.limit.usd {
            let total = spent.usd + reserved.usd + requested.usd;
            // Binary floating point can't represent most sums of cents exactly.
            if total > max_usd + ROUNDING_TOLERANCE || (usd_estimate == AmountEstimate::Lower && total >= max_usd) {
                let (limit, used) = (format_dollars(max_usd), format_dollars_rounded(spent.usd));
                let factor = if usd_estimate == AmountEstimate::Lower { 2.0 } else { 1.0 };
                let higher = HigherLimit::usd(spent.usd, reserved.usd + factor * requested.usd);
                let requested = format_dollars_rounded(requested.usd);
                let details = format!("{limit}; {used} are spent, and {} {requested}", usd_estimate.phrase());
                return Some(self.exceeded_failure(&details, higher));
            }
        }
        let elapsed = self.elapsed(owned_duration?);
        match self.limit.seconds {
            Some(max_seconds) if elapsed.as_secs() >= max_seconds => {
                let elapsed = elapsed.as_secs();
                let details = format!("{max_seconds} s, and {elapsed} s have passed");
                Some(self.exceeded_failure(&details, HigherLimit::seconds(elapsed)))
            }
            Some(_) | None => None,
        }
    }
}
