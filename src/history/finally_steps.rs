//! The steps of each `finally` that has started. These steps may still run after a stop or a halt of other steps.

use std::collections::HashSet;

use crate::model::StepKey;

/// The steps of each `finally` that has started in this session.
#[derive(Debug, Default)]
pub(super) struct FinallySteps(HashSet<StepKey>);

impl FinallySteps {
    /// Notes that a `finally` with these steps has started.
    pub(super) fn add(&mut self, steps: Vec<StepKey>) {
        self.0.extend(steps);
    }

    /// Among the `finally` steps that have started, the innermost one that contains `step` or is `step` itself.
    pub(super) fn innermost_enclosing(&self, step: &StepKey) -> Option<StepKey> {
        if self.0.is_empty() {
            return None;
        }
        // The ancestors begin with the outermost one.
        let enclosing = step.ancestors().into_iter().chain([step.clone()]);
        enclosing.rev().find(|key| self.0.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_step_of_a_finally_encloses_a_step() {
        let (outer, other) = (StepKey::root("clean"), StepKey::root("cleanup"));
        let inner = outer.item(1).child("remove");
        let mut steps = FinallySteps::default();
        assert_eq!(steps.innermost_enclosing(&outer), None);
        steps.add(vec![outer.clone(), inner.clone()]);
        assert_eq!(steps.innermost_enclosing(&outer).as_ref(), Some(&outer));
        assert_eq!(steps.innermost_enclosing(&outer.item(2).child("remove")).as_ref(), Some(&outer));
        assert_eq!(steps.innermost_enclosing(&inner.child("files")).as_ref(), Some(&inner));
        assert_eq!(steps.innermost_enclosing(&other), None);
    }
}
