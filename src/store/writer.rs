//! The only writer of a journal: a thread that commits all queued events in one transaction and then acknowledges them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::{Span, debug, debug_span, error};

use crate::crash::crash_point;
use crate::durable::Observer;
use crate::folder::NoFollowFile;
use crate::model::event::{Event, Fact};
use crate::model::{Artifact, Failure, RunId, StepKey};

use super::blob::Blobs;
use super::event_rows::{insert_event, insert_file};
use super::inbox::remove_messages;
use super::journal_identity::JournalIdentity;
use super::last_replies::{EventKey, LastReplies, SizeLimit, read_text};
use super::payload::Payload;
use super::value_reference::RecordedText;
use super::write_job::{AckReceiver, AckSender, ReusedFile, WriteJob, collect_jobs, split_at_run_end};
use super::{Heartbeat, StoreError, Workspace};

/// The maximum time for which a commit without a sync waits for the sync of a later commit. A power failure can lose the
/// events that were committed during this time.
const MAX_SYNC_DELAY: Duration = Duration::from_millis(200);

/// The interval at which the writer records a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The files to which a writer writes.
pub(super) struct WriterFiles {
    /// The database.
    pub(super) path: PathBuf,
    /// The write-ahead log of the database.
    pub(super) log: NoFollowFile,
    pub(super) blobs: Blobs,
    pub(super) workspace: Workspace,
}

/// The handle of the writer thread. Dropping it waits until the thread has written the queued events.
#[derive(Debug)]
pub(super) struct JournalWriter {
    jobs: Option<mpsc::Sender<WriteJob>>,
    thread: Option<JoinHandle<()>>,
}

impl JournalWriter {
    pub(super) fn start(
        connection: Connection,
        files: WriterFiles,
        observer: Arc<dyn Observer>,
        heartbeat: Heartbeat,
        last_replies: LastReplies,
    ) -> Result<Self, StoreError> {
        let (jobs, receiver) = mpsc::channel();
        let WriterFiles { path, log, blobs, workspace } = files;
        let identity = JournalIdentity::from_path(&path)?;
        let run_span = Span::current();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let (workspace_path, failure, unwritten_artifacts) = (workspace.path_in_journal(), None, Vec::new());
                let worker = Worker {
                    connection,
                    path,
                    log,
                    identity,
                    blobs,
                    workspace,
                    workspace_path,
                    observer,
                    heartbeat,
                    failure,
                    unwritten_artifacts,
                    last_replies,
                    syncs_commits: true,
                    unsynced_since: None,
                };
                run_span.in_scope(|| worker.run(&receiver));
            })
            .map_err(StoreError::WriterNotStarted)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues an event. If it is not urgent, the writer may delay it, so that several events share a commit. If it does
    /// not need a sync, the writer may acknowledge it before it is on disk, so that several commits share a sync.
    pub(super) fn append(&self, event: Event, is_urgent: bool, needs_sync: bool) -> AckReceiver {
        self.send_job(|ack| WriteJob { event: Some(event), is_urgent, needs_sync, ..WriteJob::flush(ack) })
    }

    /// Removes a message from the inbox, and records its event in the same transaction, if it has one.
    pub(super) fn take_message(&self, message: i64, event: Option<Event>) -> AckReceiver {
        self.send_job(|ack| WriteJob { event, message: Some(message), needs_sync: true, ..WriteJob::flush(ack) })
    }

    /// Requests an acknowledgement that all queued events are committed and their files are written.
    pub(super) fn flush(&self) -> AckReceiver {
        self.send_job(WriteJob::flush)
    }

    /// Like [`flush`](Self::flush), and records that orch writes this file next.
    pub(super) fn record_file(&self, file: ReusedFile) -> AckReceiver {
        self.send_job(|ack| WriteJob { reused_file: Some(file), ..WriteJob::flush(ack) })
    }

    fn send_job(&self, new_job: impl FnOnce(AckSender) -> WriteJob) -> AckReceiver {
        let (ack, ack_receiver) = oneshot::channel();
        let job = new_job(ack);
        // If the thread has ended, this drops the sender of the acknowledgement, so the receiver gets an error.
        if let Some(jobs) = &self.jobs {
            drop(jobs.send(job));
        }
        ack_receiver
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // If the writer panicked, every acknowledgement has failed already.
            drop(thread.join());
        }
    }
}

/// The state of the writer thread.
struct Worker {
    connection: Connection,
    path: PathBuf,
    log: NoFollowFile,
    identity: JournalIdentity,
    blobs: Blobs,
    workspace: Workspace,
    workspace_path: String,
    observer: Arc<dyn Observer>,
    heartbeat: Heartbeat,
    /// The first failure to record events. After it, the worker records nothing more.
    failure: Option<Failure>,
    /// The recorded artifacts whose files are not written yet.
    unwritten_artifacts: Vec<Artifact>,
    last_replies: LastReplies,
    /// Whether SQLite syncs the log after each commit (`PRAGMA synchronous`).
    syncs_commits: bool,
    /// The time of the first commit since the last sync, if commits are not synced.
    unsynced_since: Option<Instant>,
}

impl Worker {
    fn run(mut self, jobs: &mpsc::Receiver<WriteJob>) {
        let mut has_recorded = false;
        loop {
            let first = match jobs.recv_timeout(self.time_until_sync().unwrap_or(HEARTBEAT_INTERVAL)) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.sync_log();
                    // Until this session has recorded an event, the lock file must still show when the former owner was
                    // last alive.
                    if has_recorded {
                        self.record_heartbeat();
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.sync_log();
                    return;
                }
            };
            for batch in split_at_run_end(collect_jobs(first, jobs)) {
                has_recorded |= self.write_batch(batch, !has_recorded);
            }
        }
    }

    /// Commits a batch and acknowledges it; returns whether the journal recorded it.
    ///
    /// If the worker can't write a file, it still records later events, so that a reply in flight is not lost. A flush
    /// then fails, and so does the end of the run, which the worker records only after it has written all files.
    fn write_batch(&mut self, jobs: Vec<WriteJob>, is_first: bool) -> bool {
        let has_run_end = jobs.iter().any(WriteJob::is_run_end);
        let files_written = if has_run_end { self.write_files() } else { Ok(()) };
        let committed = match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => files_written.and_then(|()| self.commit(&jobs).map_err(|error| error.run_failure())),
        };
        if let Err(failure) = &committed {
            error!(class = failure.class.as_str(), "the journal could not record events");
        }
        if let (Err(failure), false) = (&committed, has_run_end) {
            self.failure.get_or_insert_with(|| failure.clone());
        }
        if is_first && committed.is_ok() {
            self.record_heartbeat();
        }
        let written = committed.clone().and_then(|()| self.write_files());
        for job in jobs {
            if let (Ok(()), Some(event)) = (&committed, &job.event) {
                self.observer.on_event(event);
            }
            let result = if job.event.is_some() { &committed } else { &written };
            // This fails if no caller waits for the acknowledgement.
            drop(job.ack.send(result.clone()));
        }
        committed.is_ok()
    }

    /// The time until the worker must sync its commits; `None` if all are synced.
    fn time_until_sync(&self) -> Option<Duration> {
        self.unsynced_since.map(|since| MAX_SYNC_DELAY.saturating_sub(since.elapsed()))
    }

    /// Makes all commits durable.
    fn sync_log(&mut self) {
        if self.unsynced_since.take().is_none() {
            return;
        }
        let sync = || self.log.sync().map_err(StoreError::io("sync", &self.log.path()));
        if let Err(error) = self.identity.check().and_then(|()| sync()) {
            self.failure.get_or_insert_with(|| error.run_failure());
        }
    }

    /// Chooses whether SQLite syncs the log after the next commit.
    fn set_commit_sync(&mut self, must_sync: bool) -> rusqlite::Result<()> {
        if self.syncs_commits != must_sync {
            let level = if must_sync { "FULL" } else { "NORMAL" };
            self.connection.execute_batch(&format!("PRAGMA synchronous = {level};"))?;
            self.syncs_commits = must_sync;
        }
        Ok(())
    }

    fn record_heartbeat(&self) {
        // If this fails and the process is killed, orch only misses the time between the last event and the kill.
        drop(self.heartbeat.record());
    }

    fn commit(&mut self, jobs: &[WriteJob]) -> Result<(), StoreError> {
        let mut payloads = Vec::with_capacity(jobs.len());
        let events: Vec<&Event> = jobs.iter().filter_map(|job| job.event.as_ref()).collect();
        let messages: Vec<i64> = jobs.iter().filter_map(|job| job.message).collect();
        let files: Vec<&ReusedFile> = jobs.iter().filter_map(|job| job.reused_file.as_ref()).collect();
        if events.is_empty() && messages.is_empty() && files.is_empty() {
            return Ok(());
        }
        let _span = debug_span!("commit", events = events.len()).entered();
        crash_point!("journal::queued");
        for event in &events {
            payloads.push(Payload::from_event(event, &self.blobs, |step| self.read_last_reply(event.run, step))?);
        }
        crash_point!("journal::begin");
        let path = self.path.clone();
        let error = |source| StoreError::Journal { operation: "write", path: path.clone(), source };
        let is_overdue = self.time_until_sync().is_some_and(|time| time.is_zero());
        let must_sync = is_overdue || jobs.iter().any(|job| job.needs_sync);
        let bytes = || payloads.iter().map(|payload| payload.body.len()).sum::<usize>();
        debug!(bytes = bytes(), sync = must_sync, "the writer commits events");
        self.set_commit_sync(must_sync).map_err(error)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        for (event, payload) in events.iter().zip(payloads) {
            payload.restore_blob(&self.blobs)?;
            insert_event(&transaction, event, Some(&self.workspace_path), &payload).map_err(error)?;
        }
        for ReusedFile { run, artifact, at } in files {
            let (run, micros) = (run.0.to_string(), at.as_microsecond());
            insert_file(&transaction, Some(&self.workspace_path), &run, micros, Some(artifact)).map_err(error)?;
        }
        remove_messages(&transaction, &messages).map_err(error)?;
        crash_point!("journal::commit");
        transaction.commit().map_err(error)?;
        crash_point!("journal::committed");
        // A sync makes all earlier commits durable, too.
        self.unsynced_since = if must_sync { None } else { self.unsynced_since.or_else(|| Some(Instant::now())) };
        self.identity.check()?;
        for event in &events {
            self.last_replies.note(event);
        }
        self.queue_artifacts(&events);
        Ok(())
    }

    /// Reads what the last call of a step returned.
    fn read_last_reply(&self, run: RunId, step: &StepKey) -> Result<Option<RecordedText<'static>>, StoreError> {
        let Some(seq) = self.last_replies.of_step(step) else { return Ok(None) };
        let key = EventKey { run, seq };
        let text = read_text(&self.connection, &self.path, &self.blobs, key, SizeLimit::Skip)?;
        Ok(text.map(|text| RecordedText { seq, text: Cow::Owned(text) }))
    }

    /// Queues the files of artifacts, which are durable now, because the events that record them need a sync. For several
    /// artifacts with the same path, queues only the last.
    fn queue_artifacts(&mut self, events: &[&Event]) {
        let artifacts = events.iter().filter_map(|event| match &event.fact {
            Fact::StepCompleted(fact) => fact.artifact.as_ref(),
            _ => None,
        });
        let with_file = artifacts.filter(|artifact| artifact.path.is_some());
        let mut paths = HashSet::new();
        let mut latest: Vec<&Artifact> = with_file.rev().filter(|artifact| paths.insert(&artifact.path)).collect();
        latest.reverse();
        self.unwritten_artifacts.retain(|queued| !paths.contains(&queued.path));
        self.unwritten_artifacts.extend(latest.into_iter().cloned());
    }

    /// Writes the queued files. Keeps a file in the queue if it can't be written, so that the next call retries it.
    fn write_files(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        let workspace = &self.workspace;
        self.unwritten_artifacts.retain(|artifact| match workspace.write_artifact(artifact) {
            Ok(()) => false,
            Err(error) => {
                result = Err(error.run_failure());
                true
            }
        });
        result
    }
}
