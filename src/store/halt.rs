//! Halted groups: a step in them failed, and no new step starts in them.

use tokio::sync::watch;

use crate::model::StepKey;

/// The groups in which no new step starts.
#[derive(Debug)]
pub(super) struct HaltedGroups(watch::Sender<Vec<StepKey>>);

impl Default for HaltedGroups {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl HaltedGroups {
    pub(super) fn add(&self, group: &StepKey) {
        self.0.send_modify(|groups| groups.push(group.clone()));
    }

    /// Whether a step is inside a halted group. For a step inside `finally_step`, only groups at or inside that
    /// `finally` step count.
    pub(super) fn blocks(&self, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
        self.0.borrow().iter().any(|group| group_blocks_step(group, step, finally_step))
    }

    /// Whether exactly this group is halted.
    pub(super) fn is_halted(&self, group: &StepKey) -> bool {
        self.0.borrow().contains(group)
    }

    /// Resolves once a step is inside a halted group.
    pub(super) async fn wait_until_blocked(&self, step: &StepKey, finally_step: Option<&StepKey>) {
        let mut receiver = self.0.subscribe();
        if receiver
            .wait_for(|groups| groups.iter().any(|group| group_blocks_step(group, step, finally_step)))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

fn group_blocks_step(group: &StepKey, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
    step.is_within(group)
        && finally_step.is_none_or(|finally_step| group == finally_step || group.is_within(finally_step))
}
