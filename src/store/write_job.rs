//! The requests to the writer thread of a journal, and how the thread groups them into transactions.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::model::event::{Event, Fact};
use crate::model::{Artifact, Failure, RunId};

/// The sender by which the writer acknowledges a job.
pub(super) type AckSender = oneshot::Sender<Result<(), Failure>>;

/// Receives the acknowledgement of a job: its event is committed, or the writer failed. The acknowledgement of a flush
/// also means that all files are written.
pub(super) type AckReceiver = oneshot::Receiver<Result<(), Failure>>;

/// The maximum time for which the writer delays an event that no caller waits for, so that several events share a
/// commit.
const MAX_COMMIT_DELAY: Duration = Duration::from_millis(50);

/// The file of an artifact that an earlier session recorded and that is missing in the workspace of this session.
pub(super) struct ReusedFile {
    pub(super) run: RunId,
    pub(super) artifact: Artifact,
    pub(super) at: Timestamp,
}

/// A request to the writer thread.
pub(super) struct WriteJob {
    /// The event to record; `None` for a flush.
    pub(super) event: Option<Event>,
    /// The message in the inbox that the event records. The writer removes it in the transaction of the event, so that
    /// orch records it exactly once.
    pub(super) message: Option<i64>,
    /// The file of a recorded artifact that orch is about to write, so that it recognizes the file as its own later.
    pub(super) reused_file: Option<ReusedFile>,
    /// Whether a caller waits for the job, so that the writer must not delay it.
    pub(super) is_urgent: bool,
    /// Whether the event must be on disk when the writer acknowledges it. Otherwise, it only survives a kill.
    pub(super) needs_sync: bool,
    pub(super) ack: AckSender,
}

impl WriteJob {
    /// A job that records nothing.
    pub(super) fn flush(ack: AckSender) -> Self {
        Self { event: None, message: None, reused_file: None, is_urgent: true, needs_sync: false, ack }
    }

    pub(super) fn is_run_end(&self) -> bool {
        matches!(&self.event, Some(Event { fact: Fact::RunEnded(_), .. }))
    }
}

/// Collects the jobs that arrive within [`MAX_COMMIT_DELAY`]. Returns at once if one of them is urgent.
pub(super) fn collect_jobs(first: WriteJob, receiver: &mpsc::Receiver<WriteJob>) -> Vec<WriteJob> {
    let deadline = Instant::now() + MAX_COMMIT_DELAY;
    let mut jobs = vec![first];
    let mut checked = 0;
    loop {
        jobs.extend(receiver.try_iter());
        if jobs.iter().skip(checked).any(|job| job.is_urgent) {
            return jobs;
        }
        checked = jobs.len();
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(job) => jobs.push(job),
            Err(_) => return jobs,
        }
    }
}

/// Puts the end of a run into its own batch, since the worker records it only after it has committed the earlier events
/// and written their files.
pub(super) fn split_at_run_end(jobs: Vec<WriteJob>) -> Vec<Vec<WriteJob>> {
    let mut batches: Vec<Vec<WriteJob>> = Vec::new();
    let mut after_run_end = true;
    for job in jobs {
        let is_run_end = job.is_run_end();
        match batches.last_mut().filter(|_| !is_run_end && !after_run_end) {
            Some(batch) => batch.push(job),
            None => batches.push(vec![job]),
        }
        after_run_end = is_run_end;
    }
    batches
}
