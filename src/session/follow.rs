//! Follows a run from any process: returns its events as they are recorded.

use std::time::Duration;

use crate::model::{Event, RunId};
use crate::store::{Journal, Lock};

use super::error::SessionError;

/// The pause between two reads of the journal.
const PAUSE: Duration = Duration::from_millis(200);

/// The events of a run, in the order in which they were recorded. See [`Runner::follow`](super::Runner::follow).
pub struct Follow {
    journal: Journal,
    run: RunId,
    seen: u64,
    ready: std::vec::IntoIter<Event>,
    is_over: bool,
}

impl Follow {
    pub(crate) fn new(journal: Journal, run: RunId) -> Self {
        Self { journal, run, seen: 0, ready: Vec::new().into_iter(), is_over: false }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The next event; waits for it while a process runs the run. `None` when no process does and every event was
    /// returned.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn next(&mut self) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.ready.next() {
                self.seen = event.seq;
                return Ok(Some(event));
            }
            if self.is_over {
                return Ok(None);
            }
            // Checked before reading, so that the events which the owner recorded before it released the run are read
            // too.
            let is_running = Lock::is_held(&self.journal.lock_file(self.run));
            self.ready = self.journal.events_after(self.run, self.seen)?.into_iter();
            self.is_over = !is_running;
            if is_running && self.ready.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
