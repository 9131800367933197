//! Opens the journal of a project, reads the events of its runs and starts its writer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize as _;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::crash::crash_point;
use crate::durable::Observer;
use crate::folder::{FolderAccess, OwnFile, OwnFolder, TemporaryFolder};
use crate::model::event::{Event, Fact};
use crate::model::{MAX_NESTING, MAX_VALUES, RunId, nesting, values};

use super::blob::Blobs;
use super::journal_identity::{OpeningTurn, no_orphan};
use super::key::UserKey;
use super::lock::Heartbeat;
use super::open::{connect, is_read_only, new_file, read_only, refuse_strange};
use super::origin::{JournalOrigin, origin};
use super::writer::JournalWriter;
use super::{OwnedFiles, StoreError, WorkspaceView, schema};

/// The journal in a state folder (`.orch/`): every event of every run of a project.
#[derive(Debug)]
pub struct Journal {
    state: PathBuf,
    pub(super) folder: OwnFolder,
    pub(super) path: PathBuf,
    pub(super) reader: Connection,
    pub(super) blobs: Blobs,
    pub(super) origin: JournalOrigin,
    /// The folder of the copy that is read if the database can't be read in place.
    _copy: Option<TemporaryFolder>,
}

/// The name of the database in the state folder.
pub(super) const DATABASE: &str = "journal.db";
/// The folder in the state folder where CLI agents store their files.
pub(super) const HOMES: &str = "agents";

impl Journal {
    /// Opens the journal of a state folder and creates both if needed. The folder must not be a link.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let folder = OwnFolder::create(state, FolderAccess::Private).map_err(StoreError::io("open", state))?;
        refuse_strange(&folder)?;
        // Only one process at a time may open the journal: another one must not check the origin of a file that SQLite
        // creates here before the note about that file is written.
        let turn = OpeningTurn::take(&folder);
        let path = folder.file(DATABASE);
        let fresh = !path.exists();
        if fresh {
            no_orphan(&folder)?;
            let ignore = folder.file(".gitignore");
            ignore.replace(b"*\n").map_err(StoreError::io("write", &ignore.path()))?;
            crash_point!("state::made");
            new_file(&path)?;
        }
        // Only for the default folder: one that the user chose may be shared on purpose.
        if folder.path().ends_with(".orch") {
            folder.close_to_others();
        }
        let key = UserKey::find_or_make();
        let origin = match &key {
            Ok(_) if fresh => JournalOrigin::Own,
            key => origin(&folder, key.as_ref())?,
        };
        let mut journal = Self::of(state, folder, connect(&path.path())?, None, origin)?;
        journal.settle_in(key.as_ref().ok())?;
        drop(turn);
        if fresh {
            journal.folder.sync("").map_err(StoreError::io("sync", state))?;
        }
        Ok(journal)
    }

    fn of(
        state: &Path,
        folder: OwnFolder,
        mut reader: Connection,
        copy: Option<TemporaryFolder>,
        origin: JournalOrigin,
    ) -> Result<Self, StoreError> {
        let path = folder.file(DATABASE).path();
        schema::bring_up(&mut reader, &path)?;
        Ok(Self {
            state: state.to_owned(),
            blobs: Blobs::new(folder.clone()),
            folder,
            path,
            reader,
            origin,
            _copy: copy,
        })
    }

    /// Opens the journal of a state folder if there is one; only for reading where nothing may be written.
    pub fn open_existing(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::is_there(state)? {
            return Ok(None);
        }
        match Self::open(state) {
            // If reading fails too, report why the journal can't be written.
            Err(error) if is_read_only(&error) => Self::open_to_read(state).map_err(|_| error),
            opened => opened.map(Some),
        }
    }

    /// Opens the journal of a state folder for reading, if there is one. Writes nothing there.
    pub fn open_to_read(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::is_there(state)? {
            return Ok(None);
        }
        let folder = OwnFolder::open(state, FolderAccess::Private).map_err(StoreError::io("open", state))?;
        refuse_strange(&folder)?;
        let origin = origin(&folder, UserKey::find().as_ref())?;
        let (reader, copy) = read_only(&folder)?;
        Self::of(state, folder, reader, copy, origin).map(Some)
    }

    fn is_there(state: &Path) -> Result<bool, StoreError> {
        let folder = match OwnFolder::open(state, FolderAccess::Private) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
            folder => folder.map_err(StoreError::io("open", state))?,
        };
        refuse_strange(&folder)?;
        let there = folder.file(DATABASE).exists();
        if there { Ok(true) } else { no_orphan(&folder).map(|()| false) }
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Starts the only writer of this process; `observer` receives every event after its commit.
    pub(super) fn writer(
        &self,
        observer: Arc<dyn Observer>,
        view: WorkspaceView,
        heartbeat: Heartbeat,
    ) -> Result<JournalWriter, StoreError> {
        JournalWriter::start(connect(&self.path)?, self.path.clone(), self.blobs.clone(), view, observer, heartbeat)
    }

    /// The lock file of a run; the process that holds the lock owns the run.
    pub fn lock_file(&self, run: RunId) -> OwnFile {
        self.folder.file(format!("locks/{}.lock", run.0))
    }

    /// The folder where CLI agents store their homes, settings and sessions during a run.
    pub fn homes(&self, run: RunId) -> OwnFolder {
        self.folder.folder(&format!("{HOMES}/{}", run.0))
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
        // A run from elsewhere may have been made to exhaust the memory, so limit the values that are parsed.
        let mut left = if self.is_foreign(run)? { MAX_VALUES } else { usize::MAX };
        let mut events = Vec::new();
        for row in rows {
            let (seq, at, body, blob) = row.map_err(|e| self.error(e))?;
            events.push(self.event(run, seq, at, (body, blob), &mut left)?);
        }
        Ok(events)
    }

    /// The event of a run with this number, if there is one.
    pub(super) fn event_at(&self, run: RunId, seq: i64) -> Result<Option<Event>, StoreError> {
        Ok(self.some_events(run, seq.saturating_sub(1), seq)?.pop())
    }

    /// Builds an event from its row; `left` is how many JSON values may still be parsed.
    fn event(
        &self,
        run: RunId,
        seq: i64,
        at: i64,
        content: (Option<String>, Option<String>),
        left: &mut usize,
    ) -> Result<Event, StoreError> {
        let damaged = |what: String| self.damaged(format!("run {run}, event {seq}: {what}"));
        let text = match content {
            (Some(body), _) => body.into_bytes(),
            (None, Some(blob)) => self.blobs.get(&blob)?,
            (None, None) => return Err(damaged("it has no content".to_owned())),
        };
        if *left < usize::MAX {
            let rest = left.checked_sub(values(&text));
            *left = rest.ok_or_else(|| damaged(format!("the run has more than {MAX_VALUES} values")))?;
        }
        let read = fact(&text);
        Ok(Event {
            run,
            seq: u64::try_from(seq).map_err(|e| damaged(e.to_string()))?,
            at: Timestamp::from_microsecond(at).map_err(|e| damaged(e.to_string()))?,
            fact: read.map_err(|e| damaged(e.to_string()))?,
        })
    }

    /// The files that orch has written into a workspace.
    pub fn records(&self, workspace: &str) -> Result<OwnedFiles, StoreError> {
        let mut statement = self
            .reader
            .prepare_cached("SELECT path, digest, run, event FROM files WHERE workspace = ?1")
            .map_err(|e| self.error(e))?;
        let rows = statement
            .query_map([workspace], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .map_err(|e| self.error(e))?;
        let mut records = OwnedFiles::default();
        for row in rows {
            let (path, digest, run, event): (String, String, String, i64) = row.map_err(|e| self.error(e))?;
            records.add(path, digest, run, event);
        }
        Ok(records)
    }

    /// What SQLite's quick check finds wrong with the database; `None` if it is intact.
    pub fn integrity(&self) -> Result<Option<String>, StoreError> {
        self.checked("PRAGMA quick_check(1)")
    }

    /// The same with SQLite's full check, which also compares each index with its table.
    pub(super) fn integrity_of_all(&self) -> Result<Option<String>, StoreError> {
        self.checked("PRAGMA integrity_check(1)")
    }

    fn checked(&self, sql: &str) -> Result<Option<String>, StoreError> {
        let found: Option<String> =
            self.reader.query_row(sql, [], |row| row.get(0)).optional().map_err(|e| self.error(e))?;
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

/// Parses a fact. It may be nested deeper than the parser allows by default, but not without a limit, since a journal
/// may come from elsewhere.
fn fact(json: &[u8]) -> serde_json::Result<Fact> {
    if nesting(json) > MAX_NESTING {
        return Err(serde::de::Error::custom(format!("it is nested more than {MAX_NESTING} levels deep")));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    Fact::deserialize(&mut reader)
}
