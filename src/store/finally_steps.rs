//! Steps of `finally` that have begun: they may still run when other steps may not start any more.

use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The steps of every `finally` that has begun in this session.
#[derive(Debug, Default)]
pub(super) struct FinallySteps(Mutex<Vec<StepKey>>);

impl FinallySteps {
    /// Records that a `finally` has begun: from now on only these steps are left to run in its pipeline.
    pub(super) fn begin(&self, steps: Vec<StepKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(steps);
    }

    /// The innermost begun `finally` step that `step` is or is inside of.
    pub(super) fn around(&self, step: &StepKey) -> Option<StepKey> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let around = begun.iter().filter(|key| step == *key || step.is_within(key));
        around.max_by_key(|key| key.as_str().len()).cloned()
    }
}
