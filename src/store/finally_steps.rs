//! Steps of `finally` that have begun: they go on where others may not begin.

use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The steps of every `finally` that has begun in this session.
#[derive(Debug, Default)]
pub(super) struct FinallySteps(Mutex<Vec<StepKey>>);

impl FinallySteps {
    /// Only these steps are left to do where they stand.
    pub(super) fn begin(&self, steps: Vec<StepKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(steps);
    }

    /// The innermost of them that a step is, or is inside of.
    pub(super) fn around(&self, step: &StepKey) -> Option<StepKey> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let around = begun.iter().filter(|key| step == *key || step.is_within(key));
        around.max_by_key(|key| key.as_str().len()).cloned()
    }
}
