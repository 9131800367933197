//! Whether a journal was written by this user on this machine, or came with a project.
//!
//! What a journal says of itself proves nothing: whoever commits a `.orch` can write it all. So a note beside the
//! database has a seal, made with the user's key, over which files these are on the disk: a clone, a pull, a copy or an
//! unpacked archive makes new ones. The path is no part of that, so that a project which was moved keeps its runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::Transaction;

use crate::folder::{OwnFile, OwnFolder};

use super::StoreError;
use super::journal::DATABASE;
use super::key::{NoKey, UserKey};

/// The file with the note.
const NOTE: &str = "location";

/// The longest note that is read.
const MAX_NOTE: u64 = 64 << 10;

/// What stands for a file that is not there.
const NONE: &str = "-";

/// How often a reader looks, beside a process that opens the journal at the same moment.
const LOOKS: usize = 3;

/// Where a journal is from.
#[derive(Clone, Debug)]
pub(super) enum JournalOrigin {
    /// This user's orch wrote it here; runs in it that are from elsewhere are marked.
    Own,
    /// Somebody else made it, or it is a copy: so are all of its runs.
    Elsewhere,
    /// Nobody can tell.
    Unknown(NoKey),
}

/// The note: the folder that the state folder was in, the write-ahead log, and the seal over both and the database.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) home: PathBuf,
    log: String,
    seal: String,
}

impl Note {
    /// The note of a state folder.
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
            // Of an orch that sealed nothing.
            _ => Self { home: PathBuf::from(text), log: NONE.to_owned(), seal: NONE.to_owned() },
        }))
    }

    /// Whether it has a seal of this key over the files that are there.
    fn is_of(&self, key: &UserKey, folder: &OwnFolder) -> Result<bool, StoreError> {
        let Ok(seal) = blake3::Hash::from_hex(&self.seal) else { return Ok(false) };
        let sealed = seal == key.seal(&text(&self.home, &database(folder)?, &self.log));
        // An empty log holds nothing that anybody could have written.
        let log = log(folder)?;
        Ok(sealed && (log.is_empty || log.identity == self.log))
    }

    /// Writes the note of what is there now, if it does not say so already; without a key only the place.
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
        // Durable before anything is written to the log that it names.
        match file.replace(format!("{}\n{log}\n{seal}\n", home.display()).as_bytes()) {
            Err(error) if can_not_be_written(&error) => Ok(()),
            written => written.map_err(StoreError::io("write", &file.path())),
        }
    }
}

/// Where the journal of a state folder is from; to be asked before SQLite opens it, which may take its log in.
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

/// Which file it is on this disk: its number there, and when it was made, where the file system tells.
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

/// Marks every run that a journal knows of as one from elsewhere.
pub(super) fn mark_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["events", "runs", "inbox", "outbox", "results", "files"] {
        let sql = format!("INSERT OR IGNORE INTO foreign_runs SELECT DISTINCT run FROM {table}");
        transaction.execute(&sql, [])?;
    }
    // An id may be written in more than one way.
    let mut statement = transaction.prepare("SELECT run FROM foreign_runs")?;
    let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids.iter().filter_map(|id| uuid::Uuid::parse_str(id).ok()) {
        transaction.execute("INSERT OR IGNORE INTO foreign_runs (run) VALUES (?1)", [id.to_string()])?;
    }
    Ok(())
}

/// Whoever only reads has no need of the note.
fn can_not_be_written(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}
