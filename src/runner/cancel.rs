//! Cancels a run from another task or thread.

use std::sync::mpsc;
use std::sync::{Arc, Weak};

use crate::durable::{CallProgress, Observer};
use crate::store::StopSignal;

/// A handle that cancels a run of this process. Clones cancel the same run.
#[derive(Clone)]
pub struct CancelHandle {
    stop_signal: StopSignal,
    observer: Weak<dyn Observer>,
}

impl CancelHandle {
    pub(crate) fn new(stop_signal: StopSignal, observer: &Arc<dyn Observer>) -> Self {
        Self { stop_signal, observer: Arc::downgrade(observer) }
    }

    /// Asks the run to stop. After the first request, no new call starts, and calls in flight get a grace period. A
    /// second request cancels them at once. Returns whether this was the first request.
    pub fn cancel(&self) -> bool {
        self.stop_signal.request_stop()
    }

    /// Makes the run's observer print that the run stops. A separate thread prints, because a full pipe would block
    /// this thread. The returned channel closes after the thread has printed. Returns `None` if the run has ended.
    pub(crate) fn announce_stop(&self, immediately: bool) -> Option<mpsc::Receiver<()>> {
        let observer = self.observer.upgrade()?;
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("stop message".to_owned());
        drop(thread.spawn(move || {
            observer.on_progress(&CallProgress::Stopping { immediately });
            drop(sender);
        }));
        Some(receiver)
    }
}
