//! Budgets: what is spent, what is reserved, and whether a call still fits.
//!
//! A call reserves an upper estimate before it is made, and settles for its actual usage afterwards. A call that does
//! not fit waits while other calls hold reservations, since they may release some. Once orch refuses a call because
//! nothing can make room for it, the run is over: no other call begins, except those of `finally`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agent::ModelRegistry;
use crate::durable::{Ask, Call, CallOutcome, Effect};
use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::event::Event;
use crate::model::{AgentTurn, Class, Failure, ModelRef, StepKey, TurnEstimate, Usage, UsageTotal};

use super::account::{Amount, AmountEstimate, BudgetLedger, Reserve};
use super::node::PlannedModel;
use super::plan::Plan;
use super::spend_history::Past;
use super::spent::{Spent, StepModels};

/// What a limit applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BudgetScope {
    /// The whole run.
    Run,
    /// A step and the steps inside it.
    Step(StepKey),
    /// An agent, by its name, in these steps.
    Agent(String, Vec<StepKey>),
}

impl std::fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run => f.write_str("the run"),
            Self::Step(step) => write!(f, "step {step}"),
            Self::Agent(name, _) => write!(f, "agent {name}"),
        }
    }
}

/// A limit with its scope.
pub type Limit = (BudgetScope, Budget);

/// The budgets of a run.
pub struct Budgets {
    accounts: Mutex<Vec<BudgetLedger>>,
    /// Why the run is over, set once a call did not fit.
    over: OnceLock<Failure>,
    models: Arc<ModelRegistry>,
    askers: StepModels,
    /// Notified when a reservation is released, a call starts or the run ends; waiters then check again whether they
    /// fit.
    changed: Arc<Notify>,
    /// How long the processes of earlier sessions owned the run.
    before: Duration,
    since: Instant,
}

impl BudgetScope {
    /// Whether the usage of a step counts against this scope.
    pub(super) fn holds(&self, step: &StepKey) -> bool {
        let step = step.place();
        match self {
            Self::Run => true,
            Self::Step(place) => step == *place || step.is_within(place),
            Self::Agent(_, places) => places.contains(&step),
        }
    }
}

/// The reservation of a call in flight; released when dropped.
pub struct Reservation {
    budgets: Arc<Budgets>,
    accounts: Vec<usize>,
    amount: Amount,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut accounts = self.budgets.lock();
        for index in &self.accounts {
            if let Some(account) = accounts.get_mut(*index) {
                account.reserved.give_back(self.amount);
                account.open = account.open.saturating_sub(1);
            }
        }
        drop(accounts);
        self.budgets.changed.notify_waiters();
    }
}

/// A call in flight, whose elapsed time counts until it is dropped.
pub struct InFlight {
    budgets: Arc<Budgets>,
    step: StepKey,
    since: Instant,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for account in self.budgets.lock().iter_mut().filter(|account| account.holds(&self.step)) {
            if let Some(at) = account.running.iter().position(|since| *since == self.since) {
                account.running.swap_remove(at);
            }
        }
    }
}

impl Budgets {
    /// Creates the budgets of a plan, with what the run spent so far according to its events. `died` is when the
    /// process of the last session was last alive; `None` if it ended in order.
    pub fn new(plan: &Plan, events: &[Event], died: Option<Timestamp>, models: Arc<ModelRegistry>) -> Arc<Self> {
        let account = |(holder, limit)| BudgetLedger {
            holder,
            limit,
            spent: Amount::default(),
            reserved: Amount::default(),
            open: 0,
            running: Vec::new(),
        };
        let past = Past::of(events, died);
        let budgets = Self {
            accounts: Mutex::new(plan.budgets().into_iter().map(account).collect()),
            over: OnceLock::new(),
            models,
            askers: StepModels::of(plan),
            changed: Arc::default(),
            before: past.owned,
            since: Instant::now(),
        };
        past.spent.iter().for_each(|spent| budgets.count(spent));
        Arc::new(budgets)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BudgetLedger>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the usage of a call: what was reported, and an estimate of the rest. If a limit applies to a unit in
    /// which the usage is unknown, the run is over.
    pub fn settle(&self, step: &StepKey, model: Option<&ModelRef>, outcome: &CallOutcome) {
        self.count(&Spent {
            step: step.clone(),
            model: model.cloned(),
            usage: model.map_or_else(UsageTotal::default, |_| outcome.usage()),
            cost: outcome.cost,
            estimated_cost: outcome.estimated_cost,
            replied: outcome.result.is_ok(),
            time: Duration::try_from(outcome.ended.duration_since(outcome.started)).unwrap_or_default(),
        });
    }

    fn count(&self, spent: &Spent) {
        let counted = self.askers.count(spent, &self.models);
        let mut unknown = None;
        for account in self.lock().iter_mut().filter(|account| account.holds(&spent.step)) {
            account.spent.add(counted.amount);
            let unit = account.unknown(&counted, spent.replied);
            unknown = unknown.or_else(|| unit.map(|unit| ((account.holder.clone(), account.limit.clone()), unit)));
        }
        if let Some((limit, unit)) = unknown {
            self.end(&self.askers.unknown(spent, &limit, unit, &counted));
        }
    }

    /// Returns why the run is over, if that is because a call's usage of a limited unit is unknown.
    pub fn usage_unknown(&self) -> Option<Failure> {
        self.over.get().filter(|failure| failure.class == Class::UsageUnknown).cloned()
    }

    /// Reserves the upper estimate of a call. Steps of `finally` (`closing`) may clean up even after the time is used
    /// up.
    ///
    /// # Errors
    /// `budget_exceeded` when it does not fit and no other reservation could make room.
    pub async fn reserve(self: &Arc<Self>, call: &Call, closing: bool) -> Result<Reservation, Failure> {
        let known = |amount| Reserve { amount, tokens: AmountEstimate::Known, usd: AmountEstimate::Known };
        let reserve = match &call.effect {
            Effect::Ask(ask) => known(self.estimate(ask)),
            Effect::Turn(turn) => self.reserve_of_turn(turn),
            Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => known(Amount::default()),
        };
        loop {
            // Subscribe before checking, so that no release in between is missed.
            let changed = self.changed.notified();
            match self.try_reserve(&call.key.step, closing, reserve) {
                Ok(accounts) => {
                    return Ok(Reservation { budgets: self.clone(), accounts, amount: reserve.amount });
                }
                Err((_, true)) => changed.await,
                Err((failure, false)) => {
                    self.end(&failure);
                    return Err(failure);
                }
            }
        }
    }

    /// Ends the run, because a call did not fit or was cut off by a budget.
    pub fn end(&self, failure: &Failure) {
        // Only the first failure is kept: it is the reason that the run reports.
        drop(self.over.set(failure.clone()));
        self.changed.notify_waiters();
    }

    /// Checks whether a call may still begin: a parallel call may have used up a budget while this one waited.
    ///
    /// # Errors
    /// Why the run is over.
    pub fn goes_on(&self, closing: bool) -> Result<(), Failure> {
        self.over.get().filter(|_| !closing).map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Marks a call of a step as in flight.
    pub fn run(self: &Arc<Self>, step: &StepKey) -> InFlight {
        let since = Instant::now();
        self.lock().iter_mut().filter(|account| account.holds(step)).for_each(|account| account.running.push(since));
        // Parallel calls share the same time, so each has less left from now on.
        self.changed.notify_waiters();
        InFlight { budgets: self.clone(), step: step.clone(), since }
    }

    /// Resolves when the time limit of a call in flight is reached, with the failure to report.
    pub async fn time_over(&self, step: &StepKey) -> Failure {
        loop {
            let changed = self.changed.notified();
            let Some((left, failure)) = self.time_left(step) else { return std::future::pending().await };
            if left.is_zero() {
                self.end(&failure);
                return Failure { interrupted: true, ..failure };
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = changed => {}
            }
        }
    }

    /// Returns how long a call in flight may continue, and the failure to report after that; `None` when nothing limits
    /// it. Parallel calls use up the same time, so a later answer may be shorter.
    fn time_left(&self, step: &StepKey) -> Option<(Duration, Failure)> {
        let owned = self.owned();
        let accounts = self.lock();
        let left = accounts.iter().filter(|account| account.holds(step)).filter_map(|account| {
            let most = Duration::from_secs(account.limit.seconds?);
            Some((
                account.left(most, owned),
                account.failure(&format!("{} s, and they are over", most.as_secs()), "seconds"),
            ))
        });
        left.min_by_key(|(left, _)| *left)
    }

    /// How long processes owned the run until now, in all sessions.
    fn owned(&self) -> Duration {
        self.before + self.since.elapsed()
    }

    /// Tries to reserve without waiting. On failure, the boolean says whether waiting may help.
    fn try_reserve(&self, step: &StepKey, closing: bool, reserve: Reserve) -> Result<Vec<usize>, (Failure, bool)> {
        self.goes_on(closing).map_err(|failure| (failure, false))?;
        let owned = (!closing).then(|| self.owned());
        let mut accounts = self.lock();
        for account in accounts.iter().filter(|account| account.holds(step)) {
            if let Some(failure) = account.exceeded(reserve, owned) {
                return Err((failure, account.open > 0));
            }
        }
        let mut held = Vec::new();
        for (index, account) in accounts.iter_mut().enumerate().filter(|(_, account)| account.holds(step)) {
            account.reserved.add(Amount { time: Duration::ZERO, ..reserve.amount });
            account.open += 1;
            held.push(index);
        }
        Ok(held)
    }

    /// Returns how many US dollars a CLI agent may spend in a turn of this step; `None` when nothing limits it.
    pub fn usd_left(&self, step: &StepKey) -> Option<f64> {
        let accounts = self.lock();
        let left = accounts.iter().filter(|account| account.holds(step)).filter_map(|account| {
            let most = account.limit.usd?;
            Some((most - account.spent.usd).max(0.0))
        });
        left.min_by(f64::total_cmp)
    }

    fn estimate(&self, ask: &Ask) -> Amount {
        Amount {
            tokens: ask.max_usage.total(),
            usd: self.usd(&ask.request.model, &ask.max_usage),
            time: Duration::ZERO,
        }
    }

    /// What a turn reserves: the agent's `estimate:` as an upper bound, or else the size of the prompt as a lower
    /// bound, since orch can't know what a CLI agent sends to its model.
    fn reserve_of_turn(&self, turn: &AgentTurn) -> Reserve {
        let usage = Usage { output: 0, ..super::gate::most(&turn.request) };
        let usd = turn.program.priced_as().map_or(0.0, |model| self.usd(&model, &usage));
        let takes = |estimated: bool| if estimated { AmountEstimate::Known } else { AmountEstimate::More };
        let most = turn.estimate;
        let (tokens, usd) = (most.tokens.unwrap_or(usage.input), most.usd.unwrap_or(usd));
        let amount = Amount { tokens, usd, time: Duration::ZERO };
        Reserve { amount, tokens: takes(most.tokens.is_some()), usd: takes(most.usd.is_some()) }
    }

    fn usd(&self, model: &ModelRef, usage: &Usage) -> f64 {
        let counts = self.lock().iter().any(|account| account.limit.usd.is_some());
        if counts { self.models.cost(model, usage).unwrap_or_default() } else { 0.0 }
    }
}

/// Finds the first CLI agent that never reports a usage that a limit counts. Returns the agent, the unit, and whether
/// the limit refuses estimates. `tokens` matter if the agent has no estimate or the limit refuses it; `usd` only if the
/// limit refuses the agent's estimate.
pub fn uncounted<'a>(
    limits: &[Limit],
    asked: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
) -> Option<(ModelRef, &'static str, bool)> {
    let unknown = |budget: &Budget, estimate: TurnEstimate| {
        let refuses = budget.unreported == Some(Unreported::Refuse);
        let tokens = budget.tokens.is_some() && (refuses || estimate.tokens.is_none());
        // Without an estimate, the agent counts as a model without a price; see `unpriced`.
        let usd = budget.usd.is_some() && refuses && estimate.usd.is_some();
        tokens.then_some("tokens").or_else(|| usd.then_some("usd")).map(|unit| (unit, refuses))
    };
    let is_silent =
        |model: &PlannedModel| model.program.as_ref().is_some_and(|program| !program.kind.abilities().usage);
    asked.into_iter().filter(|(_, model)| is_silent(model)).find_map(|(step, model)| {
        let mut holding = limits.iter().filter(|(holder, _)| holder.holds(&step));
        let (unit, refuses) = holding.find_map(|(_, budget)| unknown(budget, model.estimate))?;
        Some((model.reference.clone(), unit, refuses))
    })
}

/// Finds the first model without a known price under a limit of `usd` that refuses such models.
pub fn unpriced<'a>(
    limits: &[Limit],
    asked: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
    models: &ModelRegistry,
) -> Option<&'a PlannedModel> {
    let strict = |step: &StepKey| {
        let refuses = |budget: &Budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow);
        limits.iter().any(|(holder, budget)| holder.holds(step) && refuses(budget))
    };
    let some = Usage { input: 1, output: 1, ..Usage::default() };
    let is_priced = |model: &PlannedModel| match &model.program {
        _ if model.estimate.usd.is_some() => true,
        None => models.cost(&model.reference, &some).is_some(),
        Some(program) => {
            program.tells_cost() || program.priced_as().is_some_and(|model| models.cost(&model, &some).is_some())
        }
    };
    let mut asked = asked.into_iter();
    asked.find(|(step, model)| strict(step) && !is_priced(model)).map(|(_, model)| model)
}
