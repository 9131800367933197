//! The accounts that the calls of a run share: what budgets allow, how many requests a provider takes, and which files
//! the steps wrote.
//!
//! [`Perform`](crate::durable::Perform) asks an account by a key: the step for budgets, the provider for rates, the path
//! for files. The arguments contain no plan, no prices and no request: `engine/budget_meter.rs` computes the amounts
//! before. In this process, [`LocalBudgets`], [`RateLimiters`] and [`LocalFiles`] hold the accounts in memory. An engine
//! whose branches run on several machines needs one account for all of them, so that two machines never spend the same
//! dollar: what budgets and rates receive is data that can be sent there, while [`FileAccount`] works on an open folder.

mod amount;
mod budget_ledger;
mod budgets;
mod files;
mod limit_index;
mod rate_limits;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use amount::{Amount, AmountEstimate, Certainty, CountedUsage, ReservedAmount, Unit};
pub use budgets::LocalBudgets;
pub use files::LocalFiles;
pub use limit_index::LimitIndex;
pub use rate_limits::{DEFAULT_CONCURRENCY, ProviderLimits, RateLimiters};

use crate::durable::Permit;
use crate::files::{ApplyReport, ChangeSet, Tree};
use crate::model::budget::{Budget, BudgetScope};
use crate::model::{Failure, StepKey};

/// What a call needs from the budgets of its step before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetClaim {
    /// The step of the call.
    pub step: StepKey,
    /// Whether the step belongs to a `finally`. Such steps may clean up even after the time is used up.
    pub in_finally: bool,
    /// The estimated usage.
    pub amount: ReservedAmount,
}

/// A budget that can't count a call, because its usage is unknown in a unit that the budget limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UncountedLimit {
    /// What the budget limits.
    pub scope: BudgetScope,
    /// The budget.
    pub limit: Budget,
    /// The unit.
    pub unit: Unit,
}

/// Called once when a call begins to wait.
pub type WaitNotice = Box<dyn FnOnce() + Send>;

/// The budgets of a run, by the steps that they cover.
pub trait BudgetAccount: Send + Sync {
    /// Waits until the estimated usage of a call fits all budgets of its step, and reserves it until the caller drops the
    /// returned value. Calls `on_wait` before it begins to wait.
    ///
    /// # Errors
    /// `budget_exceeded` if the call does not fit and no other call could make room for it. This ends the run.
    fn reserve(self: Arc<Self>, claim: BudgetClaim, on_wait: WaitNotice)
    -> BoxFuture<'static, Result<Permit, Failure>>;

    /// Starts to count the time of a call of a step against time limits, until the caller drops the returned value.
    fn start_call(self: Arc<Self>, step: &StepKey) -> Permit;

    /// Resolves when the time limit of a call in flight is reached, with the failure to report. This ends the run.
    fn time_limit_reached<'a>(&'a self, step: &'a StepKey) -> BoxFuture<'a, Failure>;

    /// Counts the usage of a call that ended. Returns the first budget that can't count it.
    fn settle(&self, usage: &CountedUsage) -> Option<UncountedLimit>;

    /// How many US dollars a CLI agent may spend in a turn of this step; `None` if no limit applies.
    fn remaining_usd(&self, step: &StepKey) -> Option<f64>;

    /// Raises the limits that the run has to these limits, and returns the budget of the run from now on. Calls that wait
    /// for room, and the time limits of calls in flight, follow it at once.
    fn raise(&self, limits: &Budget) -> Budget;

    /// Ends the run for this reason, unless it has ended already: no other call starts, except those of `finally`.
    fn end_run(&self, reason: &Failure);

    /// Why the run ended.
    fn end_reason(&self) -> Option<Failure>;
}

/// A request that counts against the limits of its provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatedRequest {
    /// The name of the provider.
    pub provider: String,
    /// The upper bound of its tokens.
    pub tokens: u64,
}

/// The limits of concurrent calls and of request rates, by provider.
pub trait RateAccount: Send + Sync {
    /// Waits until the limits of the run and of the provider allow a call, and returns its permit. `request` is `None` for
    /// a call that no provider limits.
    fn acquire(&self, request: Option<RatedRequest>) -> BoxFuture<'_, Permit>;

    /// Notes that a request ended: with a reply, or with this failure, whose `Retry-After` delays every later call to the
    /// provider. Returns whether the provider has responded in this run, at least with a failure.
    fn observe(&self, provider: &str, failure: Option<&Failure>) -> bool;
}

/// The files that the steps of a run wrote into its workspace, by path.
pub trait FileAccount: Send + Sync {
    /// Applies a change set to the workspace and records it. No other call compares the files meanwhile.
    fn apply(&self, tree: &Tree, change_set: &ChangeSet) -> Result<ApplyReport, Failure>;

    /// Records the changes that a program or a tool made itself.
    fn record(&self, change_set: &ChangeSet);

    /// The paths of recorded files that are deleted or have an earlier content. Without a workspace, all files count as
    /// deleted.
    fn reverted(&self, tree: Option<&Tree>) -> Vec<String>;

    /// Stops tracking these files until a step writes them again.
    fn forget(&self, paths: &[String]);
}

#[cfg(test)]
mod tests;
