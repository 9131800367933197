//! Opens the journal of a project and starts its writer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use crate::crash::crash_point;
use crate::durable::Observer;
use crate::folder::{FolderAccess, NoFollowFile, NoFollowFolder, TemporaryFolder};
use crate::model::event::Event;
use crate::model::{Artifact, RunId};

use super::blob::Blobs;
use super::event_rows::insert_file;
use super::journal_identity::{OpeningLock, check_no_orphaned_log};
use super::journal_origin::{JournalOrigin, determine_origin};
use super::last_replies::LastReplies;
use super::lock::Heartbeat;
use super::open::{check_state_folder, create_database, is_read_only, open_read_only, open_read_write};
use super::signing_key::SigningKey;
use super::state_files::{AGENTS_FOLDER, DATABASE_FILE, MCP_SERVERS_FILE};
use super::writer::{JournalWriter, WriterFiles};
use super::{OwnedFiles, StoreError, Workspace, schema};

/// The journal in a state folder (`.orch/`): every event of every run of a project.
#[derive(Debug)]
pub struct Journal {
    state: PathBuf,
    pub(super) folder: NoFollowFolder,
    pub(super) path: PathBuf,
    pub(super) reader: Connection,
    pub(super) blobs: Blobs,
    pub(super) origin: JournalOrigin,
    /// The folder of the copy from which orch reads, if it can't read the database itself.
    _copy: Option<TemporaryFolder>,
}

impl Journal {
    /// Opens the journal of a state folder, and creates both if needed. The folder must not be a link.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let folder = NoFollowFolder::create(state, FolderAccess::Private).map_err(StoreError::io("open", state))?;
        check_state_folder(&folder)?;
        // Only one process at a time may open the journal. Otherwise another process could check the origin of a file
        // that SQLite creates here, before this process has recorded the file in the origin note.
        let opening_lock = OpeningLock::acquire(&folder);
        let path = folder.file(DATABASE_FILE);
        let is_new = !path.exists();
        if is_new {
            check_no_orphaned_log(&folder)?;
            let gitignore = folder.file(".gitignore");
            gitignore.replace_unsynced(b"*\n").map_err(StoreError::io("write", &gitignore.path()))?;
            crash_point!("state::created");
            create_database(&path, &opening_lock)?;
        }
        // Restrict only the default folder: a folder that the user chose may be shared on purpose.
        if folder.path().ends_with(".orch") {
            folder.restrict_to_owner();
        }
        let key = SigningKey::read_or_create();
        let origin = match &key {
            Ok(_) if is_new => JournalOrigin::Own,
            key => determine_origin(&folder, key.as_ref())?,
        };
        let mut journal = Self::from_parts(state, folder, open_read_write(&path.path())?, None, origin)?;
        journal.update_location(key.as_ref().ok())?;
        drop(opening_lock);
        Ok(journal)
    }

    fn from_parts(
        state: &Path,
        folder: NoFollowFolder,
        mut reader: Connection,
        copy: Option<TemporaryFolder>,
        origin: JournalOrigin,
    ) -> Result<Self, StoreError> {
        let path = folder.file(DATABASE_FILE).path();
        schema::create_or_check_tables(&mut reader, &path)?;
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

    /// Opens the journal of a state folder, if there is one. Opens it read-only if this process may not write to it.
    pub fn open_existing(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::has_journal(state)? {
            return Ok(None);
        }
        match Self::open(state) {
            // If this fails too, report the first error.
            Err(error) if is_read_only(&error) => Self::open_read_only(state).map_err(|_| error),
            result => result.map(Some),
        }
    }

    /// Opens the journal of a state folder read-only, if there is one. Writes nothing into the folder.
    pub fn open_read_only(state: &Path) -> Result<Option<Self>, StoreError> {
        if !Self::has_journal(state)? {
            return Ok(None);
        }
        let folder = NoFollowFolder::open(state, FolderAccess::Private).map_err(StoreError::io("open", state))?;
        check_state_folder(&folder)?;
        let origin = determine_origin(&folder, SigningKey::read().as_ref())?;
        let (reader, copy) = open_read_only(&folder)?;
        Self::from_parts(state, folder, reader, copy, origin).map(Some)
    }

    fn has_journal(state: &Path) -> Result<bool, StoreError> {
        let folder = match NoFollowFolder::open(state, FolderAccess::Private) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
            folder => folder.map_err(StoreError::io("open", state))?,
        };
        check_state_folder(&folder)?;
        let exists = folder.file(DATABASE_FILE).exists();
        if exists { Ok(true) } else { check_no_orphaned_log(&folder).map(|()| false) }
    }

    /// The state folder.
    pub fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Starts the only writer of this process. `events` are those of its run so far. `observer` receives every further
    /// event after its commit.
    pub(super) fn start_writer(
        &self,
        observer: Arc<dyn Observer>,
        workspace: Workspace,
        heartbeat: Heartbeat,
        events: &[Event],
    ) -> Result<JournalWriter, StoreError> {
        let last_replies = LastReplies::from_events(events);
        let files = WriterFiles { path: self.path.clone(), log: self.log_file(), blobs: self.blobs.clone(), workspace };
        JournalWriter::start(open_read_write(&self.path)?, files, observer, heartbeat, last_replies)
    }

    /// The write-ahead log of the database.
    fn log_file(&self) -> NoFollowFile {
        self.folder.file(format!("{DATABASE_FILE}-wal"))
    }

    /// Makes all committed events durable, since the writer of a run does not sync every commit.
    pub(super) fn sync_log(&self) -> Result<(), StoreError> {
        let log = self.log_file();
        match log.sync() {
            // Without a log, the database contains all events.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(StoreError::io("sync", &log.path())),
        }
    }

    /// The lock file of a run; the process that holds the lock owns the run.
    pub fn lock_file(&self, run: RunId) -> NoFollowFile {
        self.folder.file(format!("locks/{}.lock", run.0))
    }

    /// The folder where CLI agents store their homes, settings and sessions during a run.
    pub fn agents_folder(&self, run: RunId) -> NoFollowFolder {
        self.folder.subfolder(&format!("{AGENTS_FOLDER}/{}", run.0))
    }

    /// The file in which orch remembers which MCP servers do not say which version of the protocol they speak.
    pub fn mcp_servers_file(&self) -> NoFollowFile {
        self.folder.file(MCP_SERVERS_FILE)
    }

    /// The files that orch has written into a workspace.
    pub fn owned_files(&self, workspace: &str) -> Result<OwnedFiles, StoreError> {
        let mut statement = self
            .reader
            .prepare_cached("SELECT path, digest, run, event FROM files WHERE workspace = ?1")
            .map_err(|error| self.read_error(error))?;
        let rows = statement
            .query_map([workspace], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .map_err(|error| self.read_error(error))?;
        let mut owned_files = OwnedFiles::default();
        for row in rows {
            let (path, digest, run, event): (String, String, String, i64) =
                row.map_err(|error| self.read_error(error))?;
            owned_files.add(path, digest, run, event);
        }
        Ok(owned_files)
    }

    /// Records that a run is about to write the file of an artifact into a workspace, so that orch knows the file as its
    /// own later.
    pub fn record_file(&self, run: RunId, workspace: &str, artifact: &Artifact) -> Result<(), StoreError> {
        let (run, micros) = (run.0.to_string(), Timestamp::now().as_microsecond());
        insert_file(self.reader(), Some(workspace), &run, micros, Some(artifact))
            .map_err(|error| self.sqlite_error("write", error))
    }

    /// The damage that SQLite's quick check finds in the database; `None` if it is intact.
    pub fn quick_check(&self) -> Result<Option<String>, StoreError> {
        self.run_check("PRAGMA quick_check(1)")
    }

    /// The damage that SQLite's full check finds, which also compares each index with its table.
    pub(super) fn full_check(&self) -> Result<Option<String>, StoreError> {
        self.run_check("PRAGMA integrity_check(1)")
    }

    fn run_check(&self, sql: &str) -> Result<Option<String>, StoreError> {
        let result: Option<String> =
            self.reader.query_row(sql, [], |row| row.get(0)).optional().map_err(|error| self.read_error(error))?;
        Ok(result.filter(|text| text != "ok"))
    }

    pub(super) fn read_error(&self, source: rusqlite::Error) -> StoreError {
        self.sqlite_error("read", source)
    }

    pub(super) fn reader(&self) -> &Connection {
        &self.reader
    }

    pub(super) fn sqlite_error(&self, operation: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Journal { operation, path: self.path.clone(), source }
    }

    pub(super) fn damage_error(&self, problem: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), problem }
    }
}
