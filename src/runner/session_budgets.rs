//! The budgets of a session of a run.

use std::sync::Arc;

use jiff::Timestamp;

use crate::accounts::{BudgetAccount, LocalBudgets};
use crate::engine::budget_meter::BudgetMeter;
use crate::model::event::{Event, Fact};
use crate::model::{Failure, FailureClass};

use super::execute::RunContext;

/// The budgets of a session, and what converts its calls to amounts.
#[derive(Clone)]
pub(super) struct SessionBudgets {
    pub(super) meter: Arc<BudgetMeter>,
    pub(super) account: Arc<LocalBudgets>,
}

impl SessionBudgets {
    /// Opens the budgets of a run. `events` are those of the run until now: also those that this process recorded before
    /// it opened the budgets again, some of which may have raised them. If the process of the last session died, `died_at`
    /// is the time when it was last alive.
    pub(super) fn open(context: &RunContext<'_>, events: &[Event], died_at: Option<Timestamp>) -> Self {
        let meter = Arc::new(BudgetMeter::new(context.plan, context.models.clone()));
        let account = meter.local_budgets(context.plan, events, died_at);
        for event in events.get(context.events.len()..).unwrap_or_default() {
            if let Fact::BudgetRaised(raise) = &event.fact {
                account.raise(&raise.budget);
            }
        }
        Self { meter, account }
    }

    /// The failure that ended the run, if orch does not know the usage of a call in a limited unit.
    pub(super) fn usage_unknown(&self) -> Option<Failure> {
        self.account.end_reason().filter(|failure| failure.class == FailureClass::UsageUnknown)
    }
}
