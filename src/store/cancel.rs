//! The switch by which the user or a signal stops a run.

use tokio::sync::watch;

/// Whether and how urgently a run must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopLevel {
    /// The run continues.
    Run,
    /// Calls in flight get a grace period.
    Stop,
    /// Calls in flight end at once.
    Abort,
}

/// Stops a run: gracefully at the first press, and at once at the second.
#[derive(Clone, Debug)]
pub struct CancelSwitch(watch::Sender<StopLevel>);

impl Default for CancelSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(StopLevel::Run))
    }
}

impl CancelSwitch {
    /// Requests a stop: no new call starts, and calls in flight get a grace period. The second press ends calls in
    /// flight at once. Returns whether this was the first press.
    pub fn press(&self) -> bool {
        let first = *self.0.borrow() == StopLevel::Run;
        self.0.send_replace(if first { StopLevel::Stop } else { StopLevel::Abort });
        first
    }

    pub(super) fn level(&self) -> StopLevel {
        *self.0.borrow()
    }

    /// Resolves when the switch has reached a level.
    pub(super) async fn wait_for_level(&self, level: StopLevel) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|current| *current >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
