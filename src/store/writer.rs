//! The only writer of a journal: a thread that commits all queued events in one transaction and then acknowledges them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::crash::crash_point;
use crate::durable::Observer;
use crate::model::event::{Event, Fact, RunStarted, StepCompleted};
use crate::model::{Artifact, Digest, Failure, RunStatus, StepKey};

use super::blob::{Blobs, MIN_BLOB_BYTES};
use super::journal_identity::JournalIdentity;
use super::{Heartbeat, StoreError, Workspace};

/// The sender by which the writer acknowledges a job.
type AckSender = oneshot::Sender<Result<(), Failure>>;

/// Receives the acknowledgement of a job: its event is durable, or the writer failed. The acknowledgement of a flush
/// also means that all files are written.
pub(super) type AckReceiver = oneshot::Receiver<Result<(), Failure>>;

/// The maximum time for which the writer delays an event that no caller waits for, so that several events share a
/// commit.
const MAX_COMMIT_DELAY: Duration = Duration::from_millis(50);

/// The interval at which the writer records a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A request to the writer thread.
struct WriteJob {
    /// The event to record; `None` for a flush.
    event: Option<Event>,
    /// Whether a caller waits for the job, so that the writer must not delay it.
    is_urgent: bool,
    ack: AckSender,
}

impl WriteJob {
    fn is_run_end(&self) -> bool {
        matches!(&self.event, Some(Event { fact: Fact::RunEnded(_), .. }))
    }
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
        path: PathBuf,
        blobs: Blobs,
        workspace: Workspace,
        observer: Arc<dyn Observer>,
        heartbeat: Heartbeat,
    ) -> Result<Self, StoreError> {
        let (jobs, receiver) = mpsc::channel();
        let identity = JournalIdentity::from_path(&path)?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let (workspace_path, failure, unwritten_artifacts) = (workspace.path_in_journal(), None, Vec::new());
                let worker = Worker {
                    connection,
                    path,
                    identity,
                    blobs,
                    workspace,
                    workspace_path,
                    observer,
                    heartbeat,
                    failure,
                    unwritten_artifacts,
                };
                worker.run(&receiver);
            })
            .map_err(StoreError::WriterNotStarted)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues an event. If it is not urgent, the writer may delay it, so that several events share a commit.
    pub(super) fn append(&self, event: Event, is_urgent: bool) -> AckReceiver {
        self.send_job(Some(event), is_urgent)
    }

    /// Requests an acknowledgement that all queued events are durable and their files are written.
    pub(super) fn flush(&self) -> AckReceiver {
        self.send_job(None, true)
    }

    fn send_job(&self, event: Option<Event>, is_urgent: bool) -> AckReceiver {
        let (ack, ack_receiver) = oneshot::channel();
        let job = WriteJob { event, is_urgent, ack };
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
}

impl Worker {
    fn run(mut self, jobs: &mpsc::Receiver<WriteJob>) {
        let mut has_recorded = false;
        loop {
            let first = match jobs.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Until this session has recorded an event, the lock file must still show when the former owner was
                    // last alive.
                    if has_recorded {
                        self.record_heartbeat();
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
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

    fn record_heartbeat(&self) {
        // If this fails and the process is killed, orch only misses the time between the last event and the kill.
        drop(self.heartbeat.record());
    }

    fn commit(&mut self, jobs: &[WriteJob]) -> Result<(), StoreError> {
        let mut payloads = Vec::with_capacity(jobs.len());
        let events: Vec<&Event> = jobs.iter().filter_map(|job| job.event.as_ref()).collect();
        if events.is_empty() {
            return Ok(());
        }
        crash_point!("journal::queued");
        for event in &events {
            payloads.push(Payload::from_event(event, &self.blobs)?);
        }
        crash_point!("journal::begin");
        let path = self.path.clone();
        let error = |source| StoreError::Journal { operation: "write", path: path.clone(), source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        for (event, payload) in events.iter().zip(payloads) {
            payload.restore_blob(&self.blobs)?;
            insert_event(&transaction, event, Some(&self.workspace_path), &payload).map_err(error)?;
        }
        crash_point!("journal::commit");
        transaction.commit().map_err(error)?;
        crash_point!("journal::committed");
        self.identity.check()?;
        self.queue_artifacts(&events);
        Ok(())
    }

    /// Queues the files of artifacts that are durable now. For several artifacts with the same path, queues only the
    /// last.
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

/// A fact as JSON, with the digest of its blob if it is too large for a row.
pub(super) struct Payload {
    body: String,
    blob: Option<Digest>,
}

impl Payload {
    /// Creates the payload of an event. If it needs a blob, the blob is durable when this returns.
    pub(super) fn from_event(event: &Event, blobs: &Blobs) -> Result<Self, StoreError> {
        let body = serde_json::to_string(&event.fact)
            .map_err(|source| StoreError::Serialize { record: "an event", source })?;
        let blob = if body.len() < MIN_BLOB_BYTES { None } else { Some(blobs.put(body.as_bytes())?) };
        Ok(Self { body, blob })
    }

    /// Writes the blob again if a garbage collection has removed it, since no event used it yet. The caller holds the
    /// write lock, so that no garbage collection runs at the same time.
    pub(super) fn restore_blob(&self, blobs: &Blobs) -> Result<(), StoreError> {
        match &self.blob {
            Some(digest) if !blobs.file(digest.as_str()).exists() => blobs.put(self.body.as_bytes()).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// Collects the jobs that arrive within [`MAX_COMMIT_DELAY`]. Returns at once if one of them is urgent.
fn collect_jobs(first: WriteJob, receiver: &mpsc::Receiver<WriteJob>) -> Vec<WriteJob> {
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
fn split_at_run_end(jobs: Vec<WriteJob>) -> Vec<Vec<WriteJob>> {
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

/// Inserts an event into the tables. Without a `workspace_path`, does not record that orch wrote the file of the event.
pub(super) fn insert_event(
    connection: &Connection,
    event: &Event,
    workspace_path: Option<&str>,
    payload: &Payload,
) -> rusqlite::Result<()> {
    let blob = payload.blob.as_ref().map(Digest::as_str);
    let body = blob.is_none().then_some(&payload.body);
    let (run, micros) = (event.run.0.to_string(), event.at.as_microsecond());
    let seq = i64::try_from(event.seq).unwrap_or(i64::MAX);
    let (kind, step) = (event.fact.kind(), event.fact.step());
    connection
        .prepare_cached(
            "INSERT INTO events (run, seq, at, kind, step, body, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![run, seq, micros, kind, step.map(StepKey::as_str), body, blob])?;
    let id = connection.last_insert_rowid();
    match &event.fact {
        Fact::RunStarted(fact) => insert_run(connection, &run, micros, fact),
        Fact::RunResumed(_) => set_status(connection, &run, RunStatus::Running, None),
        Fact::RunEnded(fact) => set_status(connection, &run, fact.status, Some(micros)),
        Fact::StepCompleted(fact) => {
            insert_result(connection, &run, seq, fact)?;
            insert_file(connection, workspace_path, &run, id, fact.artifact.as_ref())
        }
        Fact::ArtifactAccepted(fact) => insert_file(connection, workspace_path, &run, id, Some(&fact.artifact)),
        Fact::StepReused(fact) => insert_file(connection, workspace_path, &run, id, fact.renamed_artifact.as_ref()),
        Fact::StepStarted(_)
        | Fact::CallStarted(_)
        | Fact::CallEnded(_)
        | Fact::ReplyParsed(_)
        | Fact::StepFailed(_)
        | Fact::StepSkipped(_)
        | Fact::ApprovalAsked(_)
        | Fact::ApprovalAnswered(_)
        | Fact::ToolsListed(_) => Ok(()),
    }
}

fn insert_run(connection: &Connection, run: &str, started: i64, fact: &RunStarted) -> rusqlite::Result<()> {
    let task = fact.inputs.get("task").and_then(Value::as_str);
    connection
        .prepare_cached("INSERT INTO runs (run, pipeline, file, workspace, task, status, started) VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)")?
        .execute(params![run, fact.pipeline, fact.file, fact.workspace, task, started])?;
    Ok(())
}

fn set_status(connection: &Connection, run: &str, status: RunStatus, ended: Option<i64>) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE runs SET status = ?2, ended = ?3 WHERE run = ?1")?.execute(params![
        run,
        status.as_str(),
        ended
    ])?;
    Ok(())
}

fn insert_result(connection: &Connection, run: &str, seq: i64, fact: &StepCompleted) -> rusqlite::Result<()> {
    // A reused result is recorded under the run that produced it.
    if fact.artifact.is_none() || fact.reused_from.is_some() {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT INTO results (request, decode, run, seq) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![fact.fingerprint.request.as_str(), fact.fingerprint.decode.as_str(), run, seq])?;
    Ok(())
}

fn insert_file(
    connection: &Connection,
    workspace_path: Option<&str>,
    run: &str,
    event: i64,
    artifact: Option<&Artifact>,
) -> rusqlite::Result<()> {
    let artifact_file = artifact.and_then(|artifact| Some((artifact, artifact.path.as_ref()?)));
    let (Some((artifact, path)), Some(workspace_path)) = (artifact_file, workspace_path) else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO files (workspace, path, digest, run, event) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![workspace_path, path, artifact.digest.as_str(), run, event])?;
    Ok(())
}
