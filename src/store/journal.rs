//! The journal of a project: opening it, reading runs, and the way to its writer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize as _;

use rusqlite::{Connection, OptionalExtension as _, params};
use tempfile::TempDir;

use crate::crash::crash_point;
use crate::durable::Observer;
use crate::folder::{Access, OwnFile, OwnFolder};
use crate::model::event::{Event, Fact};
use crate::model::{MAX_NESTING, RunId, RunStatus, nesting};

use super::blob::Blobs;
use super::lock::{Heartbeat, Lock};
use super::open::{connect, is_read_only, new_file, read_only, refuse_links};
use super::place::no_orphan;
use super::writer::Writer;
use super::{Records, StoreError, View, schema};

/// The journal under a state folder (`.orch/`): every event of every run of a project.
#[derive(Debug)]
pub struct Journal {
    state: PathBuf,
    pub(super) folder: OwnFolder,
    pub(super) path: PathBuf,
    pub(super) reader: Connection,
    pub(super) blobs: Blobs,
    /// What is read instead of a database that can't be read in place.
    _copy: Option<TempDir>,
}

/// The database, in the state folder.
pub(super) const DATABASE: &str = "journal.db";
/// The folder of what agent programs keep, in the state folder.
pub(super) const HOMES: &str = "agents";

/// Which runs to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// At most this many.
    pub limit: usize,
    /// Only those with this status.
    pub status: Option<RunStatus>,
    /// Only those of the pipeline of this name.
    pub pipeline: Option<String>,
}

/// A run in a listing.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file, relative to the root.
    pub file: String,
    /// The workspace, absolute.
    pub workspace: String,
    /// The value of the input `task`, if it is a string.
    pub task: Option<String>,
    /// How far it is; `interrupted` when its process died.
    pub status: RunStatus,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Journal {
    /// Opens the journal of a state folder, making both when they are not there. The folder must not be a link.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let folder = OwnFolder::create(state, Access::Private).map_err(StoreError::io("open", state))?;
        refuse_links(&folder)?;
        let path = folder.file(DATABASE);
        let fresh = !path.exists();
        if fresh {
            no_orphan(&folder)?;
            let ignore = folder.file(".gitignore");
            ignore.replace(b"*\n").map_err(StoreError::io("write", &ignore.path()))?;
            crash_point!("state::made");
            new_file(&path)?;
        }
        // A folder that the user chose for it may be meant for others too.
        if folder.path().ends_with(".orch") {
            folder.close_to_others();
        }
        let reader = connect(&path.path())?;
        let journal = Self::of(state, folder, reader, None)?;
        journal.settle_in()?;
        if fresh {
            journal.folder.sync("").map_err(StoreError::io("sync", state))?;
        }
        Ok(journal)
    }

    fn of(state: &Path, folder: OwnFolder, mut reader: Connection, copy: Option<TempDir>) -> Result<Self, StoreError> {
        let path = folder.file(DATABASE).path();
        let error = |source| StoreError::Journal { doing: "open", path: path.clone(), source };
        if let Err(found) = schema::migrate(&mut reader).map_err(error)? {
            return Err(StoreError::TooNew { path, found, known: schema::VERSION });
        }
        Ok(Self { state: state.to_owned(), blobs: Blobs::new(folder.clone()), folder, path, reader, _copy: copy })
    }

    /// Opens the journal of a state folder if there is one; where nothing may be written, it can be read.
    pub fn open_existing(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::is_there(state)? {
            return Ok(None);
        }
        match Self::open(state) {
            // Why it can't be written is reported when it can't be read either.
            Err(error) if is_read_only(&error) => Self::open_to_read(state).map_err(|_| error),
            opened => opened.map(Some),
        }
    }

    /// Opens the journal of a state folder if there is one, and writes nothing there.
    pub fn open_to_read(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::is_there(state)? {
            return Ok(None);
        }
        let folder = OwnFolder::open(state, Access::Private).map_err(StoreError::io("open", state))?;
        refuse_links(&folder)?;
        let (reader, copy) = read_only(&folder)?;
        Self::of(state, folder, reader, copy).map(Some)
    }

    fn is_there(state: &Path) -> Result<bool, StoreError> {
        let folder = match OwnFolder::open(state, Access::Private) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
            folder => folder.map_err(StoreError::io("open", state))?,
        };
        refuse_links(&folder)?;
        let there = folder.file(DATABASE).exists();
        if there { Ok(true) } else { no_orphan(&folder).map(|()| false) }
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Starts the one writer of this process; `observer` hears of every event after its commit.
    pub(super) fn writer(
        &self,
        observer: Arc<dyn Observer>,
        view: View,
        heartbeat: Heartbeat,
    ) -> Result<Writer, StoreError> {
        Writer::start(connect(&self.path)?, self.path.clone(), self.blobs.clone(), view, (observer, heartbeat))
    }

    /// The lock of a run; whoever holds it owns the run.
    pub fn lock_file(&self, run: RunId) -> OwnFile {
        self.folder.file(format!("locks/{}.lock", run.0))
    }

    /// Where agent programs keep their things during a run: homes, settings, sessions.
    pub fn homes(&self, run: RunId) -> PathBuf {
        self.folder.path().join(HOMES).join(run.0.to_string())
    }

    /// Every event of a run, in order; empty when there is no such run.
    pub fn events(&self, run: RunId) -> Result<Vec<Event>, StoreError> {
        self.events_after(run, 0)
    }

    /// The events of a run after the one numbered `seq`, in order.
    pub fn events_after(&self, run: RunId, seq: u64) -> Result<Vec<Event>, StoreError> {
        self.some_events(run, i64::try_from(seq).unwrap_or(i64::MAX), i64::MAX)
    }

    /// The events of a run after the one numbered `after` and up to the one numbered `last`.
    fn some_events(&self, run: RunId, after: i64, last: i64) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT seq, at, body, blob FROM events WHERE run = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
        let mut statement = self.reader.prepare_cached(sql).map_err(|e| self.error(e))?;
        let rows = statement
            .query_map(params![run.0.to_string(), after, last], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, Option<String>>(3)?,
                ))
            })
            .map_err(|e| self.error(e))?;
        let mut events = Vec::new();
        for row in rows {
            let (seq, at, body, blob) = row.map_err(|e| self.error(e))?;
            events.push(self.event(run, seq, at, body, blob)?);
        }
        Ok(events)
    }

    /// One event of a run.
    pub(super) fn event_at(&self, run: RunId, seq: i64) -> Result<Option<Event>, StoreError> {
        Ok(self.some_events(run, seq.saturating_sub(1), seq)?.pop())
    }

    fn event(
        &self,
        run: RunId,
        seq: i64,
        at: i64,
        body: Option<String>,
        blob: Option<String>,
    ) -> Result<Event, StoreError> {
        let damaged = |what: String| StoreError::Damaged {
            path: self.path.clone(),
            what: format!("run {run}, event {seq}: {what}"),
        };
        let read = match (body, blob) {
            (Some(body), _) => fact(body.as_bytes()),
            (None, Some(blob)) => fact(&self.blobs.get(&blob)?),
            (None, None) => return Err(damaged("it has no content".to_owned())),
        };
        Ok(Event {
            run,
            seq: u64::try_from(seq).map_err(|e| damaged(e.to_string()))?,
            at: Timestamp::from_microsecond(at).map_err(|e| damaged(e.to_string()))?,
            fact: read.map_err(|e| damaged(e.to_string()))?,
        })
    }

    /// The latest runs first, at most `limit` of them.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.select("ORDER BY started DESC, run DESC LIMIT ?1", params![i64::try_from(limit).unwrap_or(i64::MAX)])
    }

    /// The latest runs first that a filter lets through.
    pub fn list(&self, filter: &Filter) -> Result<Vec<RunRow>, StoreError> {
        // Whether a run that says it is running has an owner is known outside the database only.
        let stored = filter.status.map(|status| match status {
            RunStatus::Interrupted => RunStatus::Running.as_str(),
            other => other.as_str(),
        });
        let lives = matches!(filter.status, Some(RunStatus::Running | RunStatus::Interrupted));
        let limit = if lives { usize::MAX } else { filter.limit };
        let mut rows = self.select(
            "WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR pipeline = ?2) ORDER BY started DESC, run DESC LIMIT ?3",
            params![stored, filter.pipeline, i64::try_from(limit).unwrap_or(i64::MAX)],
        )?;
        rows.retain(|row| filter.status.is_none_or(|status| row.status == status));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    /// The runs that `text` names: a whole id, or the start of a short one.
    pub fn find(&self, text: &str) -> Result<Vec<RunRow>, StoreError> {
        let text: String = text.to_ascii_lowercase().chars().filter(char::is_ascii_hexdigit).collect();
        let rows = self.select(
            "WHERE replace(run, '-', '') LIKE ?1 ORDER BY started DESC LIMIT 20",
            params![format!("%{text}%")],
        )?;
        Ok(rows.into_iter().filter(|row| row.run.matches(&text)).collect())
    }

    fn select(&self, tail: &str, params: impl rusqlite::Params) -> Result<Vec<RunRow>, StoreError> {
        let sql = format!("SELECT run, pipeline, file, workspace, task, status, started, ended FROM runs {tail}");
        let mut statement = self.reader.prepare_cached(&sql).map_err(|e| self.error(e))?;
        let rows = statement.query_map(params, RawRow::read).map_err(|e| self.error(e))?;
        rows.map(|row| self.row(row.map_err(|e| self.error(e))?)).collect()
    }

    fn row(&self, raw: RawRow) -> Result<RunRow, StoreError> {
        let damaged = |what: String| StoreError::Damaged { path: self.path.clone(), what };
        let run = RunId(uuid::Uuid::parse_str(&raw.run).map_err(|e| damaged(e.to_string()))?);
        let time = |at| Timestamp::from_microsecond(at).map_err(|e| damaged(e.to_string()));
        let stored = match raw.status.as_str() {
            "running" => RunStatus::Running,
            "waiting" => RunStatus::Waiting,
            "completed" => RunStatus::Completed,
            "failed" => RunStatus::Failed,
            "cancelled" => RunStatus::Cancelled,
            other => return Err(damaged(format!("run {run} has the status `{other}`"))),
        };
        Ok(RunRow {
            run,
            status: self.live_status(run, stored),
            pipeline: raw.pipeline,
            file: raw.file,
            workspace: raw.workspace,
            task: raw.task,
            started: time(raw.started)?,
            ended: raw.ended.map(time).transpose()?,
        })
    }

    /// A run that says it is running, but has no owner, was interrupted.
    pub fn live_status(&self, run: RunId, stored: RunStatus) -> RunStatus {
        if stored == RunStatus::Running && !Lock::is_held(&self.lock_file(run)) {
            RunStatus::Interrupted
        } else {
            stored
        }
    }

    /// What orch has written into a workspace.
    pub fn records(&self, workspace: &str) -> Result<Records, StoreError> {
        let mut statement = self
            .reader
            .prepare_cached("SELECT path, digest, run, event FROM files WHERE workspace = ?1")
            .map_err(|e| self.error(e))?;
        let rows = statement
            .query_map([workspace], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .map_err(|e| self.error(e))?;
        let mut records = Records::default();
        for row in rows {
            let (path, digest, run, event): (String, String, String, i64) = row.map_err(|e| self.error(e))?;
            records.add(path, digest, run, event);
        }
        Ok(records)
    }

    /// Whether the database is whole, by its own check; the findings otherwise.
    pub fn integrity(&self) -> Result<Option<String>, StoreError> {
        let found: Option<String> = self
            .reader
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.error(e))?;
        Ok(found.filter(|text| text != "ok"))
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> StoreError {
        self.failed("read", source)
    }

    pub(super) fn reader(&self) -> &Connection {
        &self.reader
    }

    pub(super) fn failed(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Journal { doing, path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }
}

/// Reads a fact, which may be nested deeper than the parser allows by itself, but not without end: a journal may
/// come from elsewhere.
fn fact(json: &[u8]) -> serde_json::Result<Fact> {
    if nesting(json) > MAX_NESTING {
        return Err(serde::de::Error::custom(format!("it is nested more than {MAX_NESTING} levels deep")));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    Fact::deserialize(&mut reader)
}

struct RawRow {
    run: String,
    pipeline: String,
    file: String,
    workspace: String,
    task: Option<String>,
    status: String,
    started: i64,
    ended: Option<i64>,
}

impl RawRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            run: row.get(0)?,
            pipeline: row.get(1)?,
            file: row.get(2)?,
            workspace: row.get(3)?,
            task: row.get(4)?,
            status: row.get(5)?,
            started: row.get(6)?,
            ended: row.get(7)?,
        })
    }
}
