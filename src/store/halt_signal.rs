//! The signal that ends the waits of the steps inside of a halted group.

use tokio::sync::watch;

use crate::history::HaltedGroups;
use crate::model::StepKey;

/// The halted groups of a run in this process.
#[derive(Debug)]
pub(super) struct HaltSignal(watch::Sender<HaltedGroups>);

impl Default for HaltSignal {
    fn default() -> Self {
        Self(watch::Sender::new(HaltedGroups::default()))
    }
}

impl HaltSignal {
    pub(super) fn halt(&self, group: &StepKey) {
        self.0.send_modify(|groups| groups.add(group));
    }

    /// Whether a step may not start or continue ([`HaltedGroups::halts`]).
    pub(super) fn is_step_halted(&self, step: &StepKey, finally_step: Option<&StepKey>) -> bool {
        self.0.borrow().halts(step, finally_step)
    }

    /// Whether this group itself is halted.
    pub(super) fn is_group_halted(&self, group: &StepKey) -> bool {
        self.0.borrow().contains(group)
    }

    /// Resolves when a step is inside a halted group.
    pub(super) async fn wait_until_step_halted(&self, step: &StepKey, finally_step: Option<&StepKey>) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|groups| groups.halts(step, finally_step)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
