//! Sends messages to a run that another process may execute, such as a request to stop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::event::{CancelRequested, Event};
use crate::model::{RunId, RunStatus};
use crate::store::{InboxMessage, Journal, Lock, RunFilter, RunRow};

use super::Runner;
use super::error::RunnerError;
use super::project_state::{StateFolder, find_run, project_root};

/// The maximum number of runs to search for the one that is in progress.
const MAX_SEARCHED_RUNS: usize = 1000;
/// The longest time to wait until the process that executes a run has recorded a message.
const MAX_HEARING_TIME: Duration = Duration::from_secs(5);
/// The pause between two checks whether the message is recorded.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A request to stop a run of another process; see [`Runner::request_cancel`].
#[derive(Clone, Debug, Default)]
pub struct CancelRequest {
    /// The run's id or the start of its id. If `None`, orch chooses the only run in progress.
    pub run: Option<String>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// The name of the user who asks.
    pub user: String,
}

/// A message in the inbox of a run.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// The run.
    pub run: RunId,
    /// The run's status before the message.
    pub status: RunStatus,
    /// The folder of the run's journal.
    pub state: PathBuf,
    /// The id of the message.
    id: i64,
    /// The number of events that the run had before the message.
    event_count: u64,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The process that executes the run has taken it. Contains the events of the run since the message was sent.
    Heard(Vec<Event>),
    /// No process executes the run. The next resume takes the message.
    NotRunning,
    /// The process that executes the run has not taken it in time, for example because it is stopped.
    NotHeard,
}

impl SentMessage {
    pub(super) fn new(journal: &Journal, run: RunId, status: RunStatus, id: i64) -> Self {
        Self { run, status, state: journal.state_folder().to_owned(), id, event_count: 0 }
    }

    /// Counts only events after these as an effect of the message.
    pub(super) fn after(self, events: &[Event]) -> Self {
        Self { event_count: events.last().map_or(0, |event| event.seq), ..self }
    }

    /// The events of the run since the message was sent.
    pub(super) fn later_events(&self) -> Result<Vec<Event>, RunnerError> {
        Ok(open_journal(&self.state)?.events_after(self.run, self.event_count)?)
    }
}

impl Runner {
    /// Asks the process that executes a run to stop it, as a first signal does; a second request ends its calls at once.
    ///
    /// # Errors
    /// No process executes the run.
    pub fn request_cancel(&self, request: &CancelRequest) -> Result<SentMessage, RunnerError> {
        let journal = request.state.open_journal(&project_root(self.current_dir()))?;
        let row = find_run_in_progress(&journal, request.run.as_deref())?;
        if !Lock::is_held(&journal.lock_file(row.run)) {
            let error = RunnerError::usage(format!("run {} is not in progress, so nothing can be cancelled", row.run));
            return Err(error.with_hint(format!("`orch runs show {}` shows its status", row.run)));
        }
        let message = InboxMessage::Cancel(CancelRequested { by: request.user.clone(), at: Timestamp::now() });
        send(&journal, &row, &message)
    }

    /// Waits until the process that executes the run has recorded a message, or a few seconds if it does not. Blocks the
    /// thread, so a process must not wait for a run of its own thread.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn wait_until_heard(&self, message: &SentMessage) -> Result<Delivery, RunnerError> {
        let journal = open_journal(&message.state)?;
        let lock_file = journal.lock_file(message.run);
        let sent = Instant::now();
        loop {
            // Check the lock before the inbox. Otherwise the owner could take the message and end in between.
            let is_running = Lock::is_held(&lock_file);
            if !journal.has_message(message.id)? {
                return Ok(Delivery::Heard(journal.events_after(message.run, message.event_count)?));
            }
            if !is_running {
                return Ok(Delivery::NotRunning);
            }
            if sent.elapsed() > MAX_HEARING_TIME {
                return Ok(Delivery::NotHeard);
            }
            pause();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread executes no run")]
fn pause() {
    std::thread::sleep(CHECK_INTERVAL);
}

fn open_journal(state: &Path) -> Result<Journal, RunnerError> {
    Journal::open_existing(state)?
        .ok_or_else(|| RunnerError::usage(format!("there is no journal in `{}` any more", state.display())))
}

pub(super) fn send(journal: &Journal, row: &RunRow, message: &InboxMessage) -> Result<SentMessage, RunnerError> {
    let events = journal.events(row.run)?;
    let id = journal.send_message(row.run, message)?;
    Ok(SentMessage::new(journal, row.run, row.status, id).after(&events))
}

/// Finds the run with this id, or the only run in progress.
pub(super) fn find_run_in_progress(journal: &Journal, name: Option<&str>) -> Result<RunRow, RunnerError> {
    if let Some(name) = name {
        return find_run(journal, name);
    }
    let filter = RunFilter { limit: MAX_SEARCHED_RUNS, status: Some(RunStatus::Running), pipeline: None };
    let rows = journal.list_runs(&filter)?;
    let mut running: Vec<RunRow> = rows.into_iter().filter(|row| Lock::is_held(&journal.lock_file(row.run))).collect();
    if running.len() > 1 {
        let lines = running.iter().map(|row| format!("  {}  {}", row.run, row.pipeline));
        let error = RunnerError::usage(format!("{} runs are in progress:", running.len()));
        return Err(error.with_details(lines).with_hint("name the run"));
    }
    running
        .pop()
        .ok_or_else(|| RunnerError::usage("no run is in progress").with_hint("`orch runs list` shows past runs"))
}
