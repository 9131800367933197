//! Whether this user wrote a journal on this machine, or it came with a project.
//!
//! A journal can't prove its own origin: a person who commits a `.orch` can write all of it. So orch puts a note beside
//! the database with a seal, made with the user's key over the identity of the files on this disk. A clone, a pull, a
//! copy or an unpacked archive creates other files. The current path does not count, so a project that was moved keeps
//! its runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::Transaction;

use crate::folder::{OwnFile, OwnFolder};

use super::StoreError;
use super::journal::DATABASE;
use super::key::{NoKey, UserKey};

/// The name of the file with the note.
const NOTE: &str = "location";

/// The longest note that is read, in bytes.
const MAX_NOTE: u64 = 64 << 10;

/// Stands for the identity of a missing file, and for a missing seal.
const NONE: &str = "-";

/// How often a reader checks the note, since another process may open the journal at the same moment.
const LOOKS: usize = 3;

/// Where a journal comes from.
#[derive(Clone, Debug)]
pub(super) enum JournalOrigin {
    /// This user's orch wrote it on this machine; runs in it that came from elsewhere are marked.
    Own,
    /// Another user or machine wrote it, or it is a copy: all of its runs are from elsewhere.
    Elsewhere,
    /// Unknown, since there is no usable key.
    Unknown(NoKey),
}

/// The note: the folder that contained the state folder, the identity of the write-ahead log, and the seal over both
/// and the identity of the database.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) home: PathBuf,
    log: String,
    seal: String,
}

impl Note {
    /// Reads the note of a state folder; `None` if it is missing or too long.
    pub(super) fn read(folder: &OwnFolder) -> Result<Option<Self>, StoreError> {
        let file = folder.file(NOTE);
        let bytes = match file.about() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.len() > MAX_NOTE => return Ok(None),
            _ => file.read().map_err(StoreError::io("read", &file.path()))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\n');
        let mut lines = text.rsplitn(3, '\n');
        let (seal, log, home) = (lines.next(), lines.next(), lines.next());
        Ok(Some(match (home, log, seal) {
            (Some(home), Some(log), Some(seal)) => {
                Self { home: PathBuf::from(home), log: log.to_owned(), seal: seal.to_owned() }
            }
            // Written by an orch that did not seal journals.
            _ => Self { home: PathBuf::from(text), log: NONE.to_owned(), seal: NONE.to_owned() },
        }))
    }

    /// Whether its seal was made with this key over the files that are there now.
    fn is_of(&self, key: &UserKey, folder: &OwnFolder) -> Result<bool, StoreError> {
        let Ok(seal) = blake3::Hash::from_hex(&self.seal) else { return Ok(false) };
        let sealed = seal == key.seal(&text(&self.home, &database(folder)?, &self.log));
        // An empty log has no content from another user.
        let log = log(folder)?;
        Ok(sealed && (log.is_empty || log.identity == self.log))
    }

    /// Writes the note for the current files, unless it is up to date; without a key it has no seal.
    pub(super) fn write(folder: &OwnFolder, home: &Path, key: Option<&UserKey>) -> Result<(), StoreError> {
        let log = log(folder)?.identity;
        let seal = match key {
            Some(key) => key.seal(&text(home, &database(folder)?, &log)).to_hex().to_string(),
            None => NONE.to_owned(),
        };
        if Self::read(folder)?.is_some_and(|note| note.home == home && note.log == log && note.seal == seal) {
            return Ok(());
        }
        let file = folder.file(NOTE);
        // The note must be durable before SQLite writes to the log that it names.
        match file.replace(format!("{}\n{log}\n{seal}\n", home.display()).as_bytes()) {
            Err(error) if can_not_be_written(&error) => Ok(()),
            written => written.map_err(StoreError::io("write", &file.path())),
        }
    }
}

/// Where the journal of a state folder comes from. Call this before SQLite opens the journal, which may apply the log.
pub(super) fn origin(folder: &OwnFolder, key: Result<&UserKey, &NoKey>) -> Result<JournalOrigin, StoreError> {
    let key = match key {
        Ok(key) => key,
        Err(why) => return Ok(JournalOrigin::Unknown(why.clone())),
    };
    for _ in 0..LOOKS {
        if Note::read(folder)?.map_or(Ok(false), |note| note.is_of(key, folder))? {
            return Ok(JournalOrigin::Own);
        }
    }
    Ok(JournalOrigin::Elsewhere)
}

fn text(home: &Path, database: &str, log: &str) -> String {
    format!("orch journal\n{}\n{database}\n{log}\n", home.display())
}

fn database(folder: &OwnFolder) -> Result<String, StoreError> {
    Ok(look(&folder.file(DATABASE))?.identity)
}

fn log(folder: &OwnFolder) -> Result<Looked, StoreError> {
    look(&folder.file(format!("{DATABASE}-wal")))
}

struct Looked {
    identity: String,
    is_empty: bool,
}

/// The identity of a file on this disk: its inode number and its creation time, where the file system records one.
fn look(file: &OwnFile) -> Result<Looked, StoreError> {
    let path = file.path();
    let meta = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Looked { identity: NONE.to_owned(), is_empty: true });
        }
        meta => meta.map_err(StoreError::io("read", &path))?,
    };
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let number = 0;
    let made = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |at| at.as_nanos());
    Ok(Looked { identity: format!("{number} {made}"), is_empty: meta.len() == 0 })
}

/// Marks every run in a journal as one from elsewhere.
pub(super) fn mark_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["events", "runs", "inbox", "outbox", "results", "files"] {
        let sql = format!("INSERT OR IGNORE INTO foreign_runs SELECT DISTINCT run FROM {table}");
        transaction.execute(&sql, [])?;
    }
    // An id may be spelled in more than one way: mark its canonical spelling too.
    let mut statement = transaction.prepare("SELECT run FROM foreign_runs")?;
    let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids.iter().filter_map(|id| uuid::Uuid::parse_str(id).ok()) {
        transaction.execute("INSERT OR IGNORE INTO foreign_runs (run) VALUES (?1)", [id.to_string()])?;
    }
    Ok(())
}

/// Whether the note can't be written here; a process that only reads does not need it.
fn can_not_be_written(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}
