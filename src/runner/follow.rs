//! Follows a run of any process: returns the run's events after the owner has recorded them.

use std::time::Duration;

use crate::model::{Event, RunId};
use crate::store::{Journal, Lock};

use super::error::RunnerError;

/// The pause between two reads of the journal.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The events of a run in the order of their records; see [`Runner::follow`](super::Runner::follow).
pub struct RunEventStream {
    journal: Journal,
    run: RunId,
    last_seq: u64,
    buffered: std::vec::IntoIter<Event>,
    is_finished: bool,
}

impl RunEventStream {
    pub(crate) fn new(journal: Journal, run: RunId) -> Self {
        Self { journal, run, last_seq: 0, buffered: Vec::new().into_iter(), is_finished: false }
    }

    /// The run's id.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Returns the next event. While a process executes the run, waits for the event. If no process executes the run,
    /// returns `None` after the last event.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn next(&mut self) -> Result<Option<Event>, RunnerError> {
        loop {
            if let Some(event) = self.buffered.next() {
                self.last_seq = event.seq;
                return Ok(Some(event));
            }
            if self.is_finished {
                return Ok(None);
            }
            // Check the lock before reading. Otherwise the owner could record events after the read and release the
            // lock before the check, and this stream would miss these events.
            let is_running = Lock::is_held(&self.journal.lock_file(self.run));
            self.buffered = self.journal.events_after(self.run, self.last_seq)?.into_iter();
            self.is_finished = !is_running;
            if is_running && self.buffered.len() == 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}
