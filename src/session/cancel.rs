//! Cancels a run from outside.

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

    /// Asks the run to stop. The first time, no new call starts and the calls in flight get their grace time; from the
    /// second time on, calls in flight are dropped at once. Returns whether this was the first time.
    pub fn cancel(&self) -> bool {
        self.switch.press()
    }

    /// Makes the run's observer print that the run stops. This happens on a separate thread, since printing to a pipe
    /// without a reader would block this one. The channel closes when that is done. Returns `None` if the run is over.
    pub(crate) fn announce(&self, at_once: bool) -> Option<mpsc::Receiver<()>> {
        let observer = self.observer.upgrade()?;
        let (done, is_done) = mpsc::channel();
        let thread = std::thread::Builder::new().name("words of a stop".to_owned());
        drop(thread.spawn(move || {
            observer.signal(&CallProgress::Stopping { at_once });
            drop(done);
        }));
        Some(is_done)
    }
}
