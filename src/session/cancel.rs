//! Cancels a run from another task or thread.

use std::sync::mpsc;
use std::sync::{Arc, Weak};

use crate::durable::{CallProgress, Observer};
use crate::store::CancelSwitch;

/// Cancels a run of this process. Clones cancel the same run.
#[derive(Clone)]
pub struct CancelHandle {
    switch: CancelSwitch,
    observer: Weak<dyn Observer>,
}

impl CancelHandle {
    pub(crate) fn new(switch: CancelSwitch, observer: &Arc<dyn Observer>) -> Self {
        Self { switch, observer: Arc::downgrade(observer) }
    }

    /// Asks the run to stop. After the first request, no new call starts, and calls in flight get a grace period. A
    /// second request cancels them at once. Returns whether this was the first request.
    pub fn cancel(&self) -> bool {
        self.switch.press()
    }

    /// Makes the run's observer print that the run stops, on a separate thread, since printing to a pipe without a
    /// reader would block this thread. The channel closes once it has printed. Returns `None` if the run has ended.
    pub(crate) fn announce_stop(&self, at_once: bool) -> Option<mpsc::Receiver<()>> {
        let observer = self.observer.upgrade()?;
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("stop message".to_owned());
        drop(thread.spawn(move || {
            observer.on_progress(&CallProgress::Stopping { immediately: at_once });
            drop(sender);
        }));
        Some(receiver)
    }
}
