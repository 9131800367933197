//! Reads large texts on another thread, so that signals and time limits are observed meanwhile.

use crate::offload::{LARGE_TEXT_BYTES, run_on_thread};
use crate::process::EndingGroups;

/// Runs work on the texts of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct TextWorker {
    /// Their clock holds virtual time during the work.
    groups: EndingGroups,
}

impl TextWorker {
    pub(super) fn new(groups: &EndingGroups) -> Self {
        Self { groups: groups.with_same_clock() }
    }

    /// Runs work on a text of `size` bytes: here if it is small, and otherwise on another thread.
    pub(super) async fn run<T: Send + 'static>(&self, size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if size < LARGE_TEXT_BYTES { work() } else { run_on_thread(self.groups.hold_virtual_time(), work).await }
    }
}
