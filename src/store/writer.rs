//! The only writer of a journal: a thread that commits all waiting events in one transaction and acknowledges them
//! afterwards.

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

use super::blob::{Blobs, THRESHOLD};
use super::journal_identity::JournalIdentity;
use super::{Heartbeat, StoreError, WorkspaceView};

type Ack = oneshot::Sender<Result<(), Failure>>;

/// Resolves once an event is durable, or with the failure. For a flush, all files are written by then too.
pub(super) type Promise = oneshot::Receiver<Result<(), Failure>>;

/// How long an event that no caller waits for may wait for others to share its commit.
const LINGER: Duration = Duration::from_millis(50);

/// How often the owner of a run renews its heartbeat.
const BEAT: Duration = Duration::from_secs(1);

struct WriteJob {
    /// `None` for a flush, which only waits until everything before it is durable.
    event: Option<Event>,
    urgent: bool,
    ack: Ack,
}

impl WriteJob {
    fn ends_the_run(&self) -> bool {
        matches!(&self.event, Some(Event { fact: Fact::RunEnded(_), .. }))
    }
}

/// The handle of the writer thread; dropping it lets the thread finish the waiting events.
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
        view: WorkspaceView,
        observer: Arc<dyn Observer>,
        heartbeat: Heartbeat,
    ) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel();
        let place = JournalIdentity::of(&path)?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let (workspace, broken, unwritten) = (view.name(), None, Vec::new());
                let worker =
                    Worker { connection, path, place, blobs, view, workspace, observer, heartbeat, broken, unwritten };
                worker.run(&waiting);
            })
            .map_err(|error| StoreError::Stopped(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues an event. One that is not urgent waits a moment, so that others can share its commit.
    pub(super) fn append(&self, event: Event, urgent: bool) -> Promise {
        self.send(Some(event), urgent)
    }

    /// Resolves once everything queued so far is durable and its files are written.
    pub(super) fn flush(&self) -> Promise {
        self.send(None, true)
    }

    fn send(&self, event: Option<Event>, urgent: bool) -> Promise {
        let (ack, done) = oneshot::channel();
        let job = WriteJob { event, urgent, ack };
        // A closed channel drops the acknowledgement, and the receiver resolves with an error.
        if let Some(jobs) = &self.jobs {
            drop(jobs.send(job));
        }
        done
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has already failed every acknowledgement.
            drop(thread.join());
        }
    }
}

struct Worker {
    connection: Connection,
    path: PathBuf,
    place: JournalIdentity,
    blobs: Blobs,
    view: WorkspaceView,
    workspace: String,
    observer: Arc<dyn Observer>,
    heartbeat: Heartbeat,
    broken: Option<Failure>,
    /// Recorded artifacts whose files are not written yet.
    unwritten: Vec<Artifact>,
}

impl Worker {
    fn run(mut self, waiting: &mpsc::Receiver<WriteJob>) {
        let mut alive = false;
        loop {
            let first = match waiting.recv_timeout(BEAT) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Until this session has recorded an event, the lock file must show when the former owner was last
                    // alive.
                    if alive {
                        self.beat();
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            for batch in with_ends_apart(gather(first, waiting)) {
                alive |= self.take(batch, !alive);
            }
        }
    }

    /// Commits a batch and acknowledges it; returns whether it is recorded.
    ///
    /// A file that can't be written does not keep later events out of the journal, so a reply in flight is not lost. It
    /// fails the callers that wait for files, and the end of the run, which is recorded only after its files are
    /// written.
    fn take(&mut self, jobs: Vec<WriteJob>, first: bool) -> bool {
        let ends = jobs.iter().any(WriteJob::ends_the_run);
        let ready = if ends { self.write_files() } else { Ok(()) };
        let committed = match &self.broken {
            Some(why) => Err(why.clone()),
            None => ready.and_then(|()| self.commit(&jobs).map_err(|error| error.failure_of_run())),
        };
        if let (Err(why), false) = (&committed, ends) {
            self.broken.get_or_insert_with(|| why.clone());
        }
        if first && committed.is_ok() {
            self.beat();
        }
        let written = committed.clone().and_then(|()| self.write_files());
        for job in jobs {
            if let (Ok(()), Some(event)) = (&committed, &job.event) {
                self.observer.event(event);
            }
            let result = if job.event.is_some() { &committed } else { &written };
            // The receiver may be gone: no caller waits for a fact that a later one covers.
            drop(job.ack.send(result.clone()));
        }
        committed.is_ok()
    }

    fn beat(&self) {
        // If this fails, only the time between the last event and a kill is unknown.
        drop(self.heartbeat.beat());
    }

    fn commit(&mut self, jobs: &[WriteJob]) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(jobs.len());
        let events: Vec<&Event> = jobs.iter().filter_map(|job| job.event.as_ref()).collect();
        if events.is_empty() {
            return Ok(());
        }
        crash_point!("journal::queued");
        for event in &events {
            rows.push(Payload::of(event, &self.blobs)?);
        }
        crash_point!("journal::begin");
        let path = self.path.clone();
        let error = |source| StoreError::Journal { doing: "write", path: path.clone(), source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        for (event, payload) in events.iter().zip(rows) {
            payload.secure(&self.blobs)?;
            insert(&transaction, event, Some(&self.workspace), &payload).map_err(error)?;
        }
        crash_point!("journal::commit");
        transaction.commit().map_err(error)?;
        crash_point!("journal::committed");
        self.place.check()?;
        self.note_artifacts(&events);
        Ok(())
    }

    /// Remembers the artifacts that are durable now; if several have one path, only the last.
    fn note_artifacts(&mut self, events: &[&Event]) {
        let artifacts = events.iter().filter_map(|event| match &event.fact {
            Fact::StepCompleted(fact) => fact.artifact.as_ref(),
            _ => None,
        });
        for artifact in artifacts.filter(|artifact| artifact.path.is_some()) {
            self.unwritten.retain(|old| old.path != artifact.path);
            self.unwritten.push(artifact.clone());
        }
    }

    /// Writes the files that are due. Those that fail are tried again next time.
    fn write_files(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        let view = &self.view;
        self.unwritten.retain(|artifact| match view.show(artifact) {
            Ok(()) => false,
            Err(error) => {
                result = Err(error.failure_of_run());
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
    /// The payload of an event. If it needs a blob, the blob is durable when this returns.
    pub(super) fn of(event: &Event, blobs: &Blobs) -> Result<Self, StoreError> {
        let body = serde_json::to_string(&event.fact).map_err(|error| StoreError::Stopped(error.to_string()))?;
        let blob = if body.len() < THRESHOLD { None } else { Some(blobs.put(body.as_bytes())?) };
        Ok(Self { body, blob })
    }

    /// Writes the blob again if a sweep has removed it as unused. Call this under the write lock, where no sweep runs.
    pub(super) fn secure(&self, blobs: &Blobs) -> Result<(), StoreError> {
        match &self.blob {
            Some(digest) if !blobs.file(digest.as_str()).exists() => blobs.put(self.body.as_bytes()).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// Collects the events that arrive within [`LINGER`]; returns at once if a caller waits for one of them.
fn gather(first: WriteJob, waiting: &mpsc::Receiver<WriteJob>) -> Vec<WriteJob> {
    let until = Instant::now() + LINGER;
    let mut jobs = vec![first];
    loop {
        jobs.extend(waiting.try_iter());
        if jobs.iter().any(|job| job.urgent) {
            return jobs;
        }
        match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(job) => jobs.push(job),
            Err(_) => return jobs,
        }
    }
}

/// Puts the end of a run into a batch of its own: what comes before must be on record, and in the workspace, by then.
fn with_ends_apart(jobs: Vec<WriteJob>) -> Vec<Vec<WriteJob>> {
    let mut batches: Vec<Vec<WriteJob>> = Vec::new();
    let mut after_end = true;
    for job in jobs {
        let ends = job.ends_the_run();
        match batches.last_mut().filter(|_| !ends && !after_end) {
            Some(batch) => batch.push(job),
            None => batches.push(vec![job]),
        }
        after_end = ends;
    }
    batches
}

/// Inserts an event into the tables; the files that it wrote are recorded only if `workspace` is given.
pub(super) fn insert(
    connection: &Connection,
    event: &Event,
    workspace: Option<&str>,
    payload: &Payload,
) -> rusqlite::Result<()> {
    let blob = payload.blob.as_ref().map(Digest::as_str);
    let body = blob.is_none().then_some(&payload.body);
    let (run, at) = (event.run.0.to_string(), event.at.as_microsecond());
    let seq = i64::try_from(event.seq).unwrap_or(i64::MAX);
    let (kind, step) = label(&event.fact);
    connection
        .prepare_cached(
            "INSERT INTO events (run, seq, at, kind, step, body, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![run, seq, at, kind, step.map(StepKey::as_str), body, blob])?;
    let id = connection.last_insert_rowid();
    match &event.fact {
        Fact::RunStarted(fact) => add_run(connection, &run, at, fact),
        Fact::RunResumed(_) => set_status(connection, &run, RunStatus::Running, None),
        Fact::RunEnded(fact) => set_status(connection, &run, fact.status, Some(at)),
        Fact::StepCompleted(fact) => {
            add_result(connection, &run, seq, fact)?;
            add_file(connection, workspace, &run, id, fact.artifact.as_ref())
        }
        Fact::ArtifactAccepted(fact) => add_file(connection, workspace, &run, id, Some(&fact.artifact)),
        Fact::StepReused(fact) => add_file(connection, workspace, &run, id, fact.renamed_artifact.as_ref()),
        Fact::StepStarted(_)
        | Fact::CallEnded(_)
        | Fact::ReplyParsed(_)
        | Fact::StepFailed(_)
        | Fact::StepSkipped(_)
        | Fact::ApprovalAsked(_)
        | Fact::ApprovalAnswered(_) => Ok(()),
    }
}

fn add_run(connection: &Connection, run: &str, at: i64, fact: &RunStarted) -> rusqlite::Result<()> {
    let task = fact.inputs.get("task").and_then(Value::as_str);
    connection
        .prepare_cached("INSERT INTO runs (run, pipeline, file, workspace, task, status, started) VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)")?
        .execute(params![run, fact.pipeline, fact.file, fact.workspace, task, at])?;
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

fn add_result(connection: &Connection, run: &str, seq: i64, fact: &StepCompleted) -> rusqlite::Result<()> {
    // A reused result is found under the run that produced it.
    if fact.artifact.is_none() || fact.reused_from.is_some() {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT INTO results (request, decode, run, seq) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![fact.fingerprint.request.as_str(), fact.fingerprint.decode.as_str(), run, seq])?;
    Ok(())
}

fn add_file(
    connection: &Connection,
    workspace: Option<&str>,
    run: &str,
    event: i64,
    artifact: Option<&Artifact>,
) -> rusqlite::Result<()> {
    let shown = artifact.and_then(|artifact| Some((artifact, artifact.path.as_ref()?)));
    let (Some((artifact, path)), Some(workspace)) = (shown, workspace) else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO files (workspace, path, digest, run, event) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![workspace, path, artifact.digest.as_str(), run, event])?;
    Ok(())
}

/// The name of a fact and the step that it is about, for the columns of `events`.
fn label(fact: &Fact) -> (&'static str, Option<&StepKey>) {
    match fact {
        Fact::RunStarted(_) => ("run_started", None),
        Fact::RunResumed(_) => ("run_resumed", None),
        Fact::RunEnded(_) => ("run_ended", None),
        Fact::StepReused(fact) => ("step_reused", Some(&fact.step)),
        Fact::StepStarted(fact) => ("step_started", Some(&fact.step)),
        Fact::CallEnded(fact) => ("call_ended", Some(&fact.call.step)),
        Fact::ReplyParsed(fact) => ("reply_parsed", Some(&fact.call.step)),
        Fact::StepCompleted(fact) => ("step_completed", Some(&fact.step)),
        Fact::StepFailed(fact) => ("step_failed", Some(&fact.step)),
        Fact::StepSkipped(fact) => ("step_skipped", Some(&fact.step)),
        Fact::ArtifactAccepted(fact) => ("artifact_accepted", Some(&fact.step)),
        Fact::ApprovalAsked(fact) => ("approval_asked", Some(&fact.step)),
        Fact::ApprovalAnswered(fact) => ("approval_answered", Some(&fact.step)),
    }
}
