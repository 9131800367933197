//! Groups in which a step failed: no new step starts in them.

use tokio::sync::watch;

use crate::model::StepKey;

/// The groups in which no new step starts.
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

    /// Whether a step is inside a halted group. For a step inside a `finally` step (`closing`), only groups at or
    /// inside that one count.
    pub(super) fn holds(&self, step: &StepKey, closing: Option<&StepKey>) -> bool {
        self.0.borrow().iter().any(|group| holds(group, step, closing))
    }

    /// Whether this very group was halted.
    pub(super) fn is(&self, group: &StepKey) -> bool {
        self.0.borrow().contains(group)
    }

    /// Resolves once a step is inside a halted group.
    pub(super) async fn reaches(&self, step: &StepKey, closing: Option<&StepKey>) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|groups| groups.iter().any(|group| holds(group, step, closing))).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn holds(group: &StepKey, step: &StepKey, closing: Option<&StepKey>) -> bool {
    step.is_within(group) && closing.is_none_or(|closing| group == closing || group.is_within(closing))
}
