//! The signal by which the user or another task stops a run.

use tokio::sync::watch;

use crate::history::StopLevel;

/// Stops a run: gracefully at the first request, and at once at the second. Clones stop the same run.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Sender<StopLevel>);

impl Default for StopSignal {
    fn default() -> Self {
        Self(watch::Sender::new(StopLevel::Run))
    }
}

impl StopSignal {
    /// Requests a stop: no new call starts, and calls in flight get a grace period. The second request ends calls
    /// in flight at once. Returns whether this was the first request.
    pub fn request_stop(&self) -> bool {
        let first = *self.0.borrow() == StopLevel::Run;
        self.0.send_replace(if first { StopLevel::Stop } else { StopLevel::Abort });
        first
    }

    pub(super) fn level(&self) -> StopLevel {
        *self.0.borrow()
    }

    /// Resolves when the requests have reached a level.
    pub(super) async fn wait_for_level(&self, level: StopLevel) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|current| *current >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
