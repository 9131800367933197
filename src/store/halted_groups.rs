//! Halted groups. A group halts when one of its steps fails with a failure that stops the group.

use std::collections::HashSet;

use tokio::sync::watch;

use crate::model::StepKey;

/// The halted groups. No new step starts inside of them.
#[derive(Debug)]
pub(super) struct HaltedGroups(watch::Sender<HashSet<StepKey>>);

impl Default for HaltedGroups {
    fn default() -> Self {
        Self(watch::Sender::new(HashSet::new()))
    }
}

impl HaltedGroups {
    pub(super) fn add(&self, group: &StepKey) {
        self.0.send_modify(|groups| {
            groups.insert(group.clone());
        });
    }

    /// Whether a step is inside a halted group. If the step belongs to `finally_step`, a step of a `finally`, only
    /// `finally_step` itself or a group inside it halts the step.
    pub(super) fn is_step_halted(&self, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
        is_halted(&self.0.borrow(), step, finally_step)
    }

    /// Whether this group itself is halted. Ignores halted groups that contain it.
    pub(super) fn is_group_halted(&self, group: &StepKey) -> bool {
        self.0.borrow().contains(group)
    }

    /// Resolves when a step is inside a halted group.
    pub(super) async fn wait_until_step_halted(&self, step: &StepKey, finally_step: Option<&StepKey>) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|groups| is_halted(groups, step, finally_step)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether one of the halted groups halts a step. A run may have as many halted groups as it has items, so this looks up
/// the few groups around the step.
fn is_halted(halted_groups: &HashSet<StepKey>, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
    if halted_groups.is_empty() {
        return false;
    }
    let mut groups = step.ancestors().into_iter().filter(|group| halted_groups.contains(group));
    groups.any(|group| finally_step.is_none_or(|finally_step| group == *finally_step || group.is_within(finally_step)))
}
