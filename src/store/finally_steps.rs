//! The steps of each `finally` that has started. These steps may still run after a stop or a halt of other steps.

use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The steps of each `finally` that has started in this session.
#[derive(Debug, Default)]
pub(super) struct FinallySteps(Mutex<Vec<StepKey>>);

impl FinallySteps {
    /// Records that a `finally` with these steps has started.
    pub(super) fn add(&self, steps: Vec<StepKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(steps);
    }

    /// Among the `finally` steps that have started, the innermost one that contains `step` or is `step` itself.
    pub(super) fn innermost_enclosing(&self, step: &StepKey) -> Option<StepKey> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let enclosing = steps.iter().filter(|key| step == *key || step.is_within(key));
        enclosing.max_by_key(|key| key.as_str().len()).cloned()
    }
}
