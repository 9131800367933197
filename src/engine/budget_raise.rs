//! Raises the budget of a run in progress.

use crate::model::budget::{Budget, BudgetScope};

use super::budget::Budgets;

impl Budgets {
    /// Raises the limits that the run has to these limits, and returns the budget of the run from now on. Calls that
    /// wait for room, and the time limits of calls in flight, follow it at once.
    pub fn raise(&self, limits: &Budget) -> Budget {
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
}
