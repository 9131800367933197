//! Groups of which one step failed: nothing new begins in them.

use tokio::sync::watch;

use crate::model::StepKey;

/// The groups in which nothing new begins.
#[derive(Debug)]
pub(super) struct Halted(watch::Sender<Vec<StepKey>>);

impl Default for Halted {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Halted {
    pub(super) fn add(&self, group: &StepKey) {
        self.0.send_modify(|groups| groups.push(group.clone()));
    }

    /// Whether a step is inside a halted group.
    pub(super) fn holds(&self, step: &StepKey) -> bool {
        self.0.borrow().iter().any(|group| step.is_within(group))
    }

    /// Whether the group itself was halted.
    pub(super) fn is(&self, group: &StepKey) -> bool {
        self.0.borrow().contains(group)
    }

    /// Resolves when a step comes to be inside a halted group.
    pub(super) async fn reaches(&self, step: &StepKey) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|groups| groups.iter().any(|group| step.is_within(group))).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
