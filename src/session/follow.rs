//! Follows a run from any process: returns its events once they are recorded.

use std::time::Duration;

use crate::model::{Event, RunId};
use crate::store::{Journal, Lock};

use super::error::SessionError;

/// The pause between two reads of the journal.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The events of a run, in recorded order. See [`Runner::follow`](super::Runner::follow).
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

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The next event. Waits for it while a process runs the run; `None` after the last event, once no process runs it.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn next(&mut self) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.buffered.next() {
                self.last_seq = event.seq;
                return Ok(Some(event));
            }
            if self.is_finished {
                return Ok(None);
            }
            // Checked before reading, so as not to miss the events that the owner recorded just before it released the
            // lock.
            let is_running = Lock::is_held(&self.journal.lock_file(self.run));
            self.buffered = self.journal.events_after(self.run, self.last_seq)?.into_iter();
            self.is_finished = !is_running;
            if is_running && self.buffered.len() == 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}
