//! Halted groups. A group halts when one of its steps fails with a failure that stops the group.

use std::collections::HashSet;

use crate::model::StepKey;

/// The halted groups of a run. No new step starts inside of them.
#[derive(Debug, Default)]
pub struct HaltedGroups(HashSet<StepKey>);

impl HaltedGroups {
    /// Adds a group.
    pub fn add(&mut self, group: &StepKey) {
        self.0.insert(group.clone());
    }

    /// Whether this group itself is halted. Ignores halted groups that contain it.
    pub fn contains(&self, group: &StepKey) -> bool {
        self.0.contains(group)
    }

    /// Whether one of the groups halts a step. If the step belongs to `finally_step`, a step of a `finally`, only
    /// `finally_step` itself or a group inside it halts the step.
    ///
    /// A run may have as many halted groups as it has items, so this looks up the few groups around the step.
    pub fn halts(&self, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut groups = step.ancestors().into_iter().filter(|group| self.0.contains(group));
        groups.any(|group| {
            finally_step.is_none_or(|finally_step| group == *finally_step || group.is_within(finally_step))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halted_group_halts_the_steps_inside_of_it() {
        let group = StepKey::root("all");
        let mut halted = HaltedGroups::default();
        assert!(!halted.halts(&group.child("a"), None) && !halted.contains(&group));
        halted.add(&group);
        for step in [group.child("a"), group.item(2), group.item(2).child("b").child("c")] {
            assert!(halted.halts(&step, None), "{step}");
            assert!(!halted.contains(&step), "{step} is not the halted group itself");
        }
        assert!(halted.contains(&group));
        for step in [group, StepKey::root("after"), StepKey::root("all2").child("a")] {
            assert!(!halted.halts(&step, None), "{step}");
        }
    }

    #[test]
    fn a_step_of_finally_runs_after_a_failure_halted_the_group_around_it() {
        let (call, cleanup) = (StepKey::root("call"), StepKey::root("call").child("cleanup"));
        let mut halted = HaltedGroups::default();
        halted.add(&call);
        assert!(halted.halts(&cleanup, None), "without `finally`, it would not start");
        assert!(!halted.halts(&cleanup, Some(&cleanup)));
        assert!(!halted.halts(&cleanup.item(1).child("remove"), Some(&cleanup)));
        // A failure of its own items halts it, as in any other step.
        halted.add(&cleanup);
        assert!(halted.halts(&cleanup.item(2).child("remove"), Some(&cleanup)));
    }
}
