//! The switch by which a person or a signal stops a run.

use tokio::sync::watch;

/// How urgently a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopLevel {
    Run,
    Stop,
    Abort,
}

/// Stops a run: gently the first time, at once the second.
#[derive(Clone, Debug)]
pub struct CancelSwitch(watch::Sender<StopLevel>);

impl Default for CancelSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(StopLevel::Run))
    }
}

impl CancelSwitch {
    /// Asks for a stop: no new call starts, calls in flight get a grace time. The second time
    /// calls in flight are given up at once. Returns whether this was the first time.
    pub fn press(&self) -> bool {
        let first = *self.0.borrow() == StopLevel::Run;
        self.0.send_replace(if first { StopLevel::Stop } else { StopLevel::Abort });
        first
    }

    pub(super) fn level(&self) -> StopLevel {
        *self.0.borrow()
    }

    pub(super) async fn reached(&self, level: StopLevel) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|now| *now >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
