//! Steps of `finally` that have begun. They may still run when other steps may no longer start.

use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The steps of every `finally` that has begun in this session.
#[derive(Debug, Default)]
pub(super) struct FinallySteps(Mutex<Vec<StepKey>>);

impl FinallySteps {
    /// Records that a `finally` has begun: from now on, only these steps run in its pipeline.
    pub(super) fn add(&self, steps: Vec<StepKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(steps);
    }

    /// The innermost `finally` step that has begun and that is or contains `step`.
    pub(super) fn innermost_enclosing(&self, step: &StepKey) -> Option<StepKey> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let enclosing = steps.iter().filter(|key| step == *key || step.is_within(key));
        enclosing.max_by_key(|key| key.as_str().len()).cloned()
    }
}
