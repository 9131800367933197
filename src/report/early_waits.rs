//! Waits for budget that begin before the start of their step is shown, since progress can come before the event.

use std::collections::HashSet;

use crate::model::StepKey;

/// The steps whose call waits for budget and whose start is not shown yet.
#[derive(Default)]
pub(super) struct EarlyWaits(HashSet<StepKey>);

impl EarlyWaits {
    /// Remembers a wait until the start of the step is shown.
    pub(super) fn add(&mut self, step: &StepKey) {
        self.0.insert(step.clone());
    }

    /// Forgets the wait of a step, if there is one; returns whether there was.
    pub(super) fn take(&mut self, step: &StepKey) -> bool {
        self.0.remove(step)
    }
}
