//! Budgets: what is spent, what is reserved, and whether a call still fits.
//!
//! A call reserves an upper estimate before it is made and settles for what it took. What does not
//! fit waits while other calls hold reservations, since they may give some back. When one is refused for
//! good the run is over, and no call begins any more but those of `finally`.

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

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BudgetScope {
    /// The run's.
    Run,
    /// That of a step and what is inside it.
    Step(StepKey),
    /// That of an agent, by its name, in these steps.
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

/// A limit with its holder.
pub type Limit = (BudgetScope, Budget);

/// The budgets of a run.
pub struct Budgets {
    accounts: Mutex<Vec<BudgetLedger>>,
    /// Why the run is over, once a call did not fit.
    over: OnceLock<Failure>,
    models: Arc<ModelRegistry>,
    askers: StepModels,
    /// Told when something was given back, a call began, or the run is over: what fits may be another now.
    changed: Arc<Notify>,
    /// How long earlier sessions owned the run.
    before: Duration,
    since: Instant,
}

impl BudgetScope {
    /// Whether what a step spends counts against it.
    pub(super) fn holds(&self, step: &StepKey) -> bool {
        let step = step.place();
        match self {
            Self::Run => true,
            Self::Step(place) => step == *place || step.is_within(place),
            Self::Agent(_, places) => places.contains(&step),
        }
    }
}

/// What a call holds back while it goes on; given back when dropped.
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

/// A call under way, whose time counts as it goes by; until dropped.
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
    /// The budgets of a plan, with what the events of its run say was spent.
    /// `died` is when the process of the last session was last alive, unless it ended in order.
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

    /// Counts what a call took: what was reported, and what is estimated of the rest. Where a limit holds of which
    /// it is not known how much the call took, the run is over.
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

    /// Why the run is over, when it is not known how much a call took of what a budget limits.
    pub fn usage_unknown(&self) -> Option<Failure> {
        self.over.get().filter(|failure| failure.class == Class::UsageUnknown).cloned()
    }

    /// Reserves the upper estimate of a call; steps of `finally` (`closing`) tidy up also when the time is over.
    ///
    /// # Errors
    /// `budget_exceeded` when it does not fit and nothing else could give room.
    pub async fn reserve(self: &Arc<Self>, call: &Call, closing: bool) -> Result<Reservation, Failure> {
        let known = |amount| Reserve { amount, tokens: AmountEstimate::Known, usd: AmountEstimate::Known };
        let reserve = match &call.effect {
            Effect::Ask(ask) => known(self.estimate(ask)),
            Effect::Turn(turn) => self.reserve_of_turn(turn),
            Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => known(Amount::default()),
        };
        loop {
            // Told of before looking, so that nothing given back in between is missed.
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

    /// A call does not fit, or was ended: the run is over.
    pub fn end(&self, failure: &Failure) {
        // The first one is what the run is told to have ended by.
        drop(self.over.set(failure.clone()));
        self.changed.notify_waiters();
    }

    /// Whether a call may still begin: one beside it may have come to the end of a budget while it waited.
    ///
    /// # Errors
    /// Why the run is over.
    pub fn goes_on(&self, closing: bool) -> Result<(), Failure> {
        self.over.get().filter(|_| !closing).map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Says that a call of a step is under way.
    pub fn run(self: &Arc<Self>, step: &StepKey) -> InFlight {
        let since = Instant::now();
        self.lock().iter_mut().filter(|account| account.holds(step)).for_each(|account| account.running.push(since));
        // Those beside it have less time from now on.
        self.changed.notify_waiters();
        InFlight { budgets: self.clone(), step: step.clone(), since }
    }

    /// Resolves when the time of a call under way is over, with what is to be said then.
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

    /// How long a call under way may go on, with what is to be said when that is over; `None` when nothing limits
    /// it. Calls beside it use up the same time, so that it may be less when it is asked again.
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

    /// How long processes owned the run until now.
    fn owned(&self) -> Duration {
        self.before + self.since.elapsed()
    }

    /// Reserves at once; else why not, and whether waiting may help.
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

    /// How much in US dollars a program may spend in a turn of this step; `None` when nothing limits it.
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

    /// What a turn takes: at most what its agent says, else at least its words. What a program asks of its model is
    /// its own affair.
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

/// The first program that never reports what a limit counts, the limit's unit, and whether the limit takes no estimates:
/// `tokens`, where its agent says no estimate; either unit, where the limit takes none.
pub fn uncounted<'a>(
    limits: &[Limit],
    asked: impl IntoIterator<Item = (StepKey, &'a PlannedModel)>,
) -> Option<(ModelRef, &'static str, bool)> {
    let unknown = |budget: &Budget, estimate: TurnEstimate| {
        let refuses = budget.unreported == Some(Unreported::Refuse);
        let tokens = budget.tokens.is_some() && (refuses || estimate.tokens.is_none());
        // Without an estimate it is a model without a price.
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

/// The first model without a known price under a limit of money that refuses such models.
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
