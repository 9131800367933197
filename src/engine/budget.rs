//! Budgets: the spent and the reserved amounts, and whether a call still fits.
//!
//! A call reserves an upper estimate before it starts, and its actual usage replaces the estimate afterwards. A call
//! that does not fit waits while other calls hold reservations, since these calls may use less than they reserved. If
//! no reservation is left that could make room, orch refuses the call and ends the run: no other call starts, except
//! those of `finally`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agent::ModelRegistry;
use crate::durable::{Call, CallOutcome};
use crate::model::budget::{Budget, Limit, Unpriced, Unreported};
use crate::model::effect::ModelUse;
use crate::model::event::Event;
use crate::model::{CliAgent, Failure, FailureClass, ModelRef, PricedModel, StepKey, TurnEstimate, Usage, UsageTotal};

use super::amount::Amount;
use super::budget_ledger::{AmountEstimate, BudgetLedger, ReservedAmount};
use super::call_spend::{CallSpend, StepModels};
use super::limit_index::LimitIndex;
use super::plan::Plan;
use super::planned_model::PlannedModel;
use super::spend_history::SpendHistory;

/// The budgets of a run.
pub struct Budgets {
    ledgers: Mutex<Vec<BudgetLedger>>,
    limit_index: LimitIndex,
    /// Whether a budget limits `usd`.
    has_usd_limit: bool,
    /// The failure that ended the run, such as that of a call that did not fit.
    end_reason: OnceLock<Failure>,
    models: Arc<ModelRegistry>,
    step_models: StepModels,
    /// Notified when a reservation is released, a call starts or the run ends; waiters then check again whether they
    /// fit.
    pub(super) changed: Arc<Notify>,
    /// The time during which the processes of earlier sessions owned the run.
    owned_before: Duration,
    started: Instant,
}

/// The reservation of a call in flight. Dropping it releases it.
pub struct Reservation {
    budgets: Arc<Budgets>,
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
pub struct CallTimer {
    budgets: Arc<Budgets>,
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

impl Budgets {
    /// Creates the budgets of a plan, with the usage so far according to the run's events. If the process of the last
    /// session died, `died_at` is the time when it was last alive.
    pub fn new(plan: &Plan, events: &[Event], died_at: Option<Timestamp>, models: Arc<ModelRegistry>) -> Arc<Self> {
        let new_ledger = |(scope, limit)| BudgetLedger {
            scope,
            limit,
            spent: Amount::default(),
            reserved: Amount::default(),
            reservation_count: 0,
            call_starts: Vec::new(),
        };
        let history = SpendHistory::from_events(events, died_at);
        let limits = plan.budgets();
        let budgets = Self {
            limit_index: LimitIndex::new(limits.iter().map(|(scope, _)| scope)),
            has_usd_limit: limits.iter().any(|(_, limit)| limit.usd.is_some()),
            ledgers: Mutex::new(limits.into_iter().map(new_ledger).collect()),
            end_reason: OnceLock::new(),
            models,
            step_models: StepModels::from_plan(plan),
            changed: Arc::default(),
            owned_before: history.owned_duration,
            started: Instant::now(),
        };
        history.calls.iter().for_each(|call| budgets.count_usage(call));
        Arc::new(budgets)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<BudgetLedger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the usage of a call: the reported part, and an estimate of the unreported part. Ends the run if the usage
    /// is unknown in a unit that a budget limits.
    pub fn settle(&self, step: &StepKey, model: Option<&ModelRef>, outcome: &CallOutcome) {
        self.count_usage(&CallSpend {
            step: step.clone(),
            model: model.cloned(),
            usage: model.map_or_else(UsageTotal::default, |_| outcome.usage()),
            cost: outcome.cost,
            estimated_cost: outcome.estimated_cost,
            replied: outcome.result.is_ok(),
            time: Duration::try_from(outcome.ended.duration_since(outcome.started)).unwrap_or_default(),
        });
    }

    fn count_usage(&self, call: &CallSpend) {
        let counted = self.step_models.count_usage(call, &self.models);
        let mut unknown = None;
        let mut ledgers = self.lock();
        for index in self.limit_index.covering(&call.step) {
            let Some(ledger) = ledgers.get_mut(index) else { continue };
            ledger.spent.add(counted.amount);
            let unit = ledger.unknown_unit(&counted, call.replied);
            unknown = unknown.or_else(|| unit.map(|unit| ((ledger.scope.clone(), ledger.limit.clone()), unit)));
        }
        drop(ledgers);
        if let Some((limit, unit)) = unknown {
            self.end_run(&self.step_models.unknown_usage_failure(call, &limit, unit, &counted));
        }
    }

    /// Returns the failure that ended the run, if orch does not know the usage of a call in a limited unit.
    pub fn usage_unknown(&self) -> Option<Failure> {
        self.end_reason.get().filter(|failure| failure.class == FailureClass::UsageUnknown).cloned()
    }

    /// Waits until the estimated usage of a call fits, and reserves it. Steps of `finally` may clean up even after the
    /// time is used up.
    ///
    /// # Errors
    /// `budget_exceeded` if the call does not fit and no other call could make room for it.
    pub async fn reserve(self: &Arc<Self>, call: &Call, in_finally: bool) -> Result<Reservation, Failure> {
        let model_use = call.effect.profile().model_use;
        let reserved = model_use.map_or(ReservedAmount::NOTHING, |model_use| self.amount_to_reserve(&model_use));
        loop {
            // Subscribe before checking, so that no release in between is missed.
            let changed = self.changed.notified();
            match self.try_reserve(&call.key.step, in_finally, reserved) {
                Ok(ledger_indices) => {
                    return Ok(Reservation { budgets: self.clone(), ledger_indices, amount: reserved.amount });
                }
                Err((_, true)) => changed.await,
                Err((failure, false)) => {
                    self.end_run(&failure);
                    return Err(failure);
                }
            }
        }
    }

    /// Ends the run, because a call did not fit or a time limit interrupted it.
    pub fn end_run(&self, failure: &Failure) {
        // This stores only the first failure, which the run reports.
        drop(self.end_reason.set(failure.clone()));
        self.changed.notify_waiters();
    }

    /// Checks whether a call may still start: a parallel call may have used up a budget while this call waited.
    ///
    /// # Errors
    /// The failure that ended the run.
    pub fn check_not_ended(&self, in_finally: bool) -> Result<(), Failure> {
        self.end_reason.get().filter(|_| !in_finally).map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Starts to count the time of a call against the time limits of its step and agent.
    pub fn track_call(self: &Arc<Self>, step: &StepKey) -> CallTimer {
        let started = Instant::now();
        let ledger_indices = self.limit_index.covering(step);
        let mut ledgers = self.lock();
        for index in &ledger_indices {
            ledgers.get_mut(*index).into_iter().for_each(|ledger| ledger.call_starts.push(started));
        }
        drop(ledgers);
        // Parallel calls share a time limit, so the other calls have less time left from now on.
        self.changed.notify_waiters();
        CallTimer { budgets: self.clone(), ledger_indices, started }
    }

    /// Resolves when the time limit of a call in flight is reached, with the failure to report.
    pub async fn time_limit_reached(&self, step: &StepKey) -> Failure {
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

    /// Returns how long a call in flight may continue, and the failure to report after that; `None` if no limit
    /// applies. When parallel calls start, the remaining time becomes shorter.
    fn remaining_time(&self, step: &StepKey) -> Option<(Duration, Failure)> {
        let owned_duration = self.owned_duration();
        let ledgers = self.lock();
        let covering = self.limit_index.covering(step).into_iter().filter_map(|index| ledgers.get(index));
        let remaining = covering.filter_map(|ledger| {
            let limit = Duration::from_secs(ledger.limit.seconds?);
            Some((
                ledger.remaining_time(limit, owned_duration),
                ledger.exceeded_failure(&format!("{} s, and that time is used up", limit.as_secs()), "seconds"),
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
        self.check_not_ended(in_finally).map_err(|failure| (failure, false))?;
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

    /// Returns how many US dollars a CLI agent may spend in a turn of this step; `None` if no limit applies.
    pub fn remaining_usd(&self, step: &StepKey) -> Option<f64> {
        let ledgers = self.lock();
        let covering = self.limit_index.covering(step).into_iter().filter_map(|index| ledgers.get(index));
        let remaining = covering.filter_map(|ledger| {
            let limit = ledger.limit.usd?;
            Some((limit - ledger.spent.usd).max(0.0))
        });
        remaining.min_by(f64::total_cmp)
    }

    /// Returns the amount that a call to a model reserves: the user's `estimate:`, or else the upper bound that follows
    /// from the request, or else the size of the prompt. The prompt is only a lower bound, since orch can't know what a
    /// CLI agent sends to its model.
    fn amount_to_reserve(&self, model_use: &ModelUse<'_>) -> ReservedAmount {
        let ModelUse { request, bound, .. } = model_use;
        let prompt_usage = || Usage { output: 0, ..super::rate_limit::max_text_usage(request) };
        let usage = bound.max_usage.unwrap_or_else(prompt_usage);
        let usd = bound.priced_as.as_ref().map_or(0.0, |priced_model| self.cost_in_usd(priced_model, &usage));
        let estimate_kind = |is_estimated: bool| {
            if is_estimated || bound.max_usage.is_some() { AmountEstimate::Upper } else { AmountEstimate::Lower }
        };
        let estimate = bound.estimate;
        ReservedAmount {
            amount: Amount {
                tokens: estimate.tokens.unwrap_or(usage.total()),
                usd: estimate.usd.unwrap_or(usd),
                time: Duration::ZERO,
            },
            tokens_estimate: estimate_kind(estimate.tokens.is_some()),
            usd_estimate: estimate_kind(estimate.usd.is_some()),
        }
    }

    /// Returns the cost of a usage. Without a budget that limits `usd`, returns 0 and looks up no price.
    fn cost_in_usd(&self, priced_model: &PricedModel, usage: &Usage) -> f64 {
        if self.has_usd_limit { self.models.cost_of(priced_model, usage).unwrap_or_default() } else { 0.0 }
    }
}

/// Finds the first CLI agent that never reports its usage although a budget needs it. Returns the agent, the unit of
/// the budget, and whether the budget refuses estimates.
///
/// A limit of `tokens` needs the usage if the agent has no estimate or the budget refuses estimates. A limit of `usd`
/// needs it only if the agent has an estimate that the budget refuses.
pub fn find_uncounted_agent<'a>(
    limits: &[Limit],
    models: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
) -> Option<(ModelRef, &'static str, bool)> {
    let uncounted_unit = |budget: &Budget, estimate: TurnEstimate| {
        let refuses_estimates = budget.unreported == Some(Unreported::Refuse);
        let needs_tokens = budget.tokens.is_some() && (refuses_estimates || estimate.tokens.is_none());
        // An agent without an estimate counts as a model without a price; see `find_unpriced_model`.
        let needs_usd = budget.usd.is_some() && refuses_estimates && estimate.usd.is_some();
        let unit = needs_tokens.then_some("tokens").or_else(|| needs_usd.then_some("usd"));
        unit.map(|unit| (unit, refuses_estimates))
    };
    let index = LimitIndex::new(limits.iter().map(|(scope, _)| scope));
    let never_reports_usage =
        |model: &PlannedModel| model.program.as_ref().is_some_and(|program| !program.kind.capabilities().usage);
    models.into_iter().filter(|(_, model)| never_reports_usage(model)).find_map(|(step, model)| {
        let covering = index.covering(&step).into_iter().filter_map(|position| limits.get(position));
        let mut units = covering.filter_map(|(_, budget)| uncounted_unit(budget, model.estimate));
        let (unit, refuses_estimates) = units.next()?;
        Some((model.reference.clone(), unit, refuses_estimates))
    })
}

/// Finds the first model without a known price whose budget limits `usd` and refuses models without a price.
pub fn find_unpriced_model<'a>(
    limits: &[Limit],
    step_models: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
    models: &ModelRegistry,
) -> Option<&'a PlannedModel> {
    let index = LimitIndex::new(limits.iter().map(|(scope, _)| scope));
    let refuses_unpriced = |step: &StepKey| {
        let mut covering = index.covering(step).into_iter().filter_map(|position| limits.get(position));
        covering.any(|(_, budget)| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow))
    };
    let sample_usage = Usage { input: 1, output: 1, ..Usage::default() };
    let is_priced = |model: &PlannedModel| {
        let has_price =
            || model.priced_model().is_some_and(|priced_model| models.cost_of(&priced_model, &sample_usage).is_some());
        model.estimate.usd.is_some() || model.program.as_ref().is_some_and(CliAgent::always_reports_cost) || has_price()
    };
    let mut step_models = step_models.into_iter();
    step_models.find(|(step, model)| !is_priced(model) && refuses_unpriced(step)).map(|(_, model)| model)
}
