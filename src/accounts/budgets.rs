//! Budgets: the spent and the reserved amounts, and whether a call still fits.
//!
//! A call reserves an upper estimate before it starts, and its actual usage replaces the estimate afterwards. A call
//! that does not fit waits while other calls hold reservations, since these calls may use less than they reserved. If
//! no reservation is left that could make room, orch refuses the call and ends the run: no other call starts, except
//! those of `finally`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::durable::Permit;
use crate::model::budget::{Budget, BudgetScope, Limit};
use crate::model::{Failure, StepKey};

use super::amount::{Amount, CountedUsage, HigherLimit, ReservedAmount};
use super::budget_ledger::BudgetLedger;
use super::limit_index::LimitIndex;
use super::{BudgetAccount, BudgetClaim, UncountedLimit, WaitNotice};

/// The budgets of a run in this process.
pub struct LocalBudgets {
    ledgers: Mutex<Vec<BudgetLedger>>,
    limit_index: LimitIndex,
    /// The failure that ended the run, such as that of a call that did not fit.
    end_reason: OnceLock<Failure>,
    /// Notified when a reservation is released, a call starts or the run ends; waiters then check again whether they
    /// fit.
    changed: Notify,
    /// The time during which the processes of earlier sessions owned the run.
    owned_before: Duration,
    started: Instant,
}

/// The reservation of a call in flight. Dropping it releases it.
struct Reservation {
    budgets: Arc<LocalBudgets>,
    /// The indices of the ledgers that contain the reservation.
    ledger_indices: Vec<usize>,
    amount: Amount,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut ledgers = self.budgets.lock();
        for index in &self.ledger_indices {
            if let Some(ledger) = ledgers.get_mut(*index) {
                ledger.reserved.subtract(self.amount);
                ledger.reservation_count = ledger.reservation_count.saturating_sub(1);
            }
        }
        drop(ledgers);
        self.budgets.changed.notify_waiters();
    }
}

/// A call in flight. Its elapsed time counts against time limits until this is dropped.
struct CallTimer {
    budgets: Arc<LocalBudgets>,
    /// The indices of the ledgers that count the call.
    ledger_indices: Vec<usize>,
    started: Instant,
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        let mut ledgers = self.budgets.lock();
        for index in &self.ledger_indices {
            if let Some(ledger) = ledgers.get_mut(*index)
                && let Some(index) = ledger.call_starts.iter().position(|started| *started == self.started)
            {
                ledger.call_starts.swap_remove(index);
            }
        }
    }
}

impl LocalBudgets {
    /// Creates budgets with these limits. `owned_before` is the time during which the processes of earlier sessions owned
    /// the run.
    pub fn new(limits: Vec<Limit>, owned_before: Duration) -> Arc<Self> {
        let new_ledger = |(scope, limit)| BudgetLedger {
            scope,
            limit,
            spent: Amount::default(),
            reserved: Amount::default(),
            reservation_count: 0,
            call_starts: Vec::new(),
        };
        Arc::new(Self {
            limit_index: LimitIndex::new(limits.iter().map(|(scope, _)| scope)),
            ledgers: Mutex::new(limits.into_iter().map(new_ledger).collect()),
            end_reason: OnceLock::new(),
            changed: Notify::new(),
            owned_before,
            started: Instant::now(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BudgetLedger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long a call in flight may continue, and the failure to report after that; `None` if no limit
    /// applies. When parallel calls start, the remaining time becomes shorter.
    fn remaining_time(&self, step: &StepKey) -> Option<(Duration, Failure)> {
        let owned_duration = self.owned_duration();
        let ledgers = self.lock();
        let covering = self.limit_index.covering(step).into_iter().filter_map(|index| ledgers.get(index));
        let remaining = covering.filter_map(|ledger| {
            let limit = Duration::from_secs(ledger.limit.seconds?);
            let details = format!("{} s, and that time is used up", limit.as_secs());
            Some((
                ledger.remaining_time(limit, owned_duration),
                ledger.exceeded_failure(&details, HigherLimit::seconds(limit.as_secs())),
            ))
        });
        remaining.min_by_key(|(duration, _)| *duration)
    }

    /// The time during which a process owned the run, summed over all sessions until now.
    fn owned_duration(&self) -> Duration {
        self.owned_before + self.started.elapsed()
    }

    /// Tries to reserve an amount without waiting. Returns the indices of the ledgers, or the failure and whether
    /// waiting may help.
    fn try_reserve(
        &self,
        step: &StepKey,
        in_finally: bool,
        reserved: ReservedAmount,
    ) -> Result<Vec<usize>, (Failure, bool)> {
        if let Some(failure) = self.end_reason.get().filter(|_| !in_finally) {
            return Err((failure.clone(), false));
        }
        let owned_duration = (!in_finally).then(|| self.owned_duration());
        let indices = self.limit_index.covering(step);
        let mut ledgers = self.lock();
        for ledger in indices.iter().filter_map(|index| ledgers.get(*index)) {
            if let Some(failure) = ledger.exceeded(reserved, owned_duration) {
                return Err((failure, ledger.reservation_count > 0));
            }
        }
        for index in &indices {
            if let Some(ledger) = ledgers.get_mut(*index) {
                ledger.reserved.add(Amount { time: Duration::ZERO, ..reserved.amount });
                ledger.reservation_count += 1;
            }
        }
        Ok(indices)
    }
}

impl BudgetAccount for LocalBudgets {
    fn reserve(
        self: Arc<Self>,
        claim: BudgetClaim,
        on_wait: WaitNotice,
    ) -> BoxFuture<'static, Result<Permit, Failure>> {
        async move {
            let mut on_wait = Some(on_wait);
            let BudgetClaim { step, in_finally, amount: reserved } = claim;
            loop {
                // Subscribe before checking, so that no release in between is missed.
                let changed = self.changed.notified();
                match self.try_reserve(&step, in_finally, reserved) {
                    Ok(ledger_indices) => {
                        let (budgets, amount) = (self.clone(), reserved.amount);
                        return Ok(Box::new(Reservation { budgets, ledger_indices, amount }) as Permit);
                    }
                    Err((_, true)) => {
                        if let Some(on_wait) = on_wait.take() {
                            on_wait();
                        }
                        changed.await;
                    }
                    Err((failure, false)) => {
                        self.end_run(&failure);
                        return Err(failure);
                    }
                }
            }
        }
        .boxed()
    }

    fn start_call(self: Arc<Self>, step: &StepKey) -> Permit {
        let started = Instant::now();
        let ledger_indices = self.limit_index.covering(step);
        let mut ledgers = self.lock();
        for index in &ledger_indices {
            ledgers.get_mut(*index).into_iter().for_each(|ledger| ledger.call_starts.push(started));
        }
        drop(ledgers);
        // Parallel calls share a time limit, so the other calls have less time left from now on.
        self.changed.notify_waiters();
        Box::new(CallTimer { budgets: self, ledger_indices, started })
    }

    fn time_limit_reached<'a>(&'a self, step: &'a StepKey) -> BoxFuture<'a, Failure> {
        async move {
            loop {
                let changed = self.changed.notified();
                let Some((remaining, failure)) = self.remaining_time(step) else { return std::future::pending().await };
                if remaining.is_zero() {
                    self.end_run(&failure);
                    return Failure { interrupted: true, ..failure };
                }
                tokio::select! {
                    () = tokio::time::sleep(remaining) => {}
                    () = changed => {}
                }
            }
        }
        .boxed()
    }

    fn settle(&self, usage: &CountedUsage) -> Option<UncountedLimit> {
        let mut uncounted = None;
        let mut ledgers = self.lock();
        for index in self.limit_index.covering(&usage.step) {
            let Some(ledger) = ledgers.get_mut(index) else { continue };
            ledger.spent.add(usage.amount);
            if let Some(unit) = ledger.unknown_unit(usage).filter(|_| uncounted.is_none()) {
                let (scope, limit) = (ledger.scope.clone(), ledger.limit.clone());
                uncounted = Some(UncountedLimit { scope, limit, unit });
            }
        }
        uncounted
    }

    fn remaining_usd(&self, step: &StepKey) -> Option<f64> {
        let ledgers = self.lock();
        let covering = self.limit_index.covering(step).into_iter().filter_map(|index| ledgers.get(index));
        let remaining = covering.filter_map(|ledger| {
            let limit = ledger.limit.usd?;
            Some((limit - ledger.spent.usd).max(0.0))
        });
        remaining.min_by(f64::total_cmp)
    }

    fn raise(&self, limits: &Budget) -> Budget {
        let mut budget = Budget::default();
        let mut ledgers = self.lock();
        for ledger in ledgers.iter_mut().filter(|ledger| ledger.scope == BudgetScope::Run) {
            ledger.limit.raise(limits);
            budget.clone_from(&ledger.limit);
        }
        drop(ledgers);
        self.changed.notify_waiters();
        budget
    }

    fn end_run(&self, reason: &Failure) {
        // This stores only the first failure, which the run reports.
        drop(self.end_reason.set(reason.clone()));
        self.changed.notify_waiters();
    }

    fn end_reason(&self) -> Option<Failure> {
        self.end_reason.get().cloned()
    }
}
