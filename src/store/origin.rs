//! Determines whether this user wrote a journal on this machine, or the journal came with a project.
//!
//! A journal can't prove its own origin, since the author of a committed `.orch` can write all of it. So orch puts a
//! note with a seal beside the database. The seal is a hash with the user's key over the identity of the files on this
//! disk. A clone, a pull, a copy or an unpacked archive creates other files. The current path does not count, so a
//! moved project keeps its runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::Transaction;

use crate::folder::{NoFollowFile, NoFollowFolder};

use super::StoreError;
use super::journal::DATABASE_FILE;
use super::key::{KeyUnavailable, UserKey};

/// The name of the file with the note.
const NOTE_FILE: &str = "location";

/// The longest note that orch reads, in bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// The placeholder for the identity of a missing file and for a missing seal.
const PLACEHOLDER: &str = "-";

/// The number of times that a reader checks the note, since another process may open the journal at the same moment.
const CHECKS: usize = 3;

/// The origin of a journal.
#[derive(Clone, Debug)]
pub(super) enum JournalOrigin {
    /// This user's orch wrote it on this machine. orch has marked the runs in it that came from elsewhere.
    Own,
    /// Another user or machine wrote it, or it is a copy. All of its runs are from elsewhere.
    Elsewhere,
    /// The origin is unknown, since there is no usable key.
    Unknown(KeyUnavailable),
}

/// The note: the folder that contained the state folder, the identity of the write-ahead log, and the seal over both
/// and the identity of the database.
#[derive(Debug)]
pub(super) struct OriginNote {
    pub(super) project_folder: PathBuf,
    log: String,
    seal: String,
}

impl OriginNote {
    /// Reads the note of a state folder; `None` if it is missing or too long.
    pub(super) fn read(folder: &NoFollowFolder) -> Result<Option<Self>, StoreError> {
        let file = folder.file(NOTE_FILE);
        let bytes = match file.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.len() > MAX_NOTE_BYTES => return Ok(None),
            _ => file.read().map_err(StoreError::io("read", &file.path()))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\n');
        let mut lines = text.rsplitn(3, '\n');
        let (seal, log, home) = (lines.next(), lines.next(), lines.next());
        Ok(Some(match (home, log, seal) {
            (Some(home), Some(log), Some(seal)) => {
                Self { project_folder: PathBuf::from(home), log: log.to_owned(), seal: seal.to_owned() }
            }
            // An earlier version of orch, which did not seal journals, wrote the note.
            _ => {
                Self { project_folder: PathBuf::from(text), log: PLACEHOLDER.to_owned(), seal: PLACEHOLDER.to_owned() }
            }
        }))
    }

    /// Whether the seal is valid for this key and the current files.
    fn is_valid(&self, key: &UserKey, folder: &NoFollowFolder) -> Result<bool, StoreError> {
        let Ok(seal) = blake3::Hash::from_hex(&self.seal) else { return Ok(false) };
        let is_sealed = seal == key.seal(&sealed_text(&self.project_folder, &database_identity(folder)?, &self.log));
        // An empty log contains nothing from another user.
        let log = log_identity(folder)?;
        Ok(is_sealed && (log.is_empty || log.identity == self.log))
    }

    /// Writes the note for the current files, unless it is up to date. Without a key, the note has no seal.
    pub(super) fn write(folder: &NoFollowFolder, home: &Path, key: Option<&UserKey>) -> Result<(), StoreError> {
        let log = log_identity(folder)?.identity;
        let seal = match key {
            Some(key) => key.seal(&sealed_text(home, &database_identity(folder)?, &log)).to_hex().to_string(),
            None => PLACEHOLDER.to_owned(),
        };
        if Self::read(folder)?.is_some_and(|note| note.project_folder == home && note.log == log && note.seal == seal) {
            return Ok(());
        }
        let file = folder.file(NOTE_FILE);
        // The note must be durable before SQLite writes to the log that it names.
        match file.replace(format!("{}\n{log}\n{seal}\n", home.display()).as_bytes()) {
            Err(error) if is_unwritable(&error) => Ok(()),
            result => result.map_err(StoreError::io("write", &file.path())),
        }
    }
}

/// Determines the origin of the journal in a state folder. Call this before SQLite opens the journal, which may apply
/// the log.
pub(super) fn determine_origin(
    folder: &NoFollowFolder,
    key: Result<&UserKey, &KeyUnavailable>,
) -> Result<JournalOrigin, StoreError> {
    let key = match key {
        Ok(key) => key,
        Err(reason) => return Ok(JournalOrigin::Unknown(reason.clone())),
    };
    for _ in 0..CHECKS {
        if OriginNote::read(folder)?.map_or(Ok(false), |note| note.is_valid(key, folder))? {
            return Ok(JournalOrigin::Own);
        }
    }
    Ok(JournalOrigin::Elsewhere)
}

/// The text that the seal covers.
fn sealed_text(home: &Path, database: &str, log: &str) -> String {
    format!("orch journal\n{}\n{database}\n{log}\n", home.display())
}

fn database_identity(folder: &NoFollowFolder) -> Result<String, StoreError> {
    Ok(file_identity(&folder.file(DATABASE_FILE))?.identity)
}

fn log_identity(folder: &NoFollowFolder) -> Result<FileIdentity, StoreError> {
    file_identity(&folder.file(format!("{DATABASE_FILE}-wal")))
}

/// The identity of a file, and whether the file is empty.
struct FileIdentity {
    identity: String,
    is_empty: bool,
}

/// The identity of a file on this disk: its inode number and its creation time, where the file system records one.
fn file_identity(file: &NoFollowFile) -> Result<FileIdentity, StoreError> {
    let path = file.path();
    let meta = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(FileIdentity { identity: PLACEHOLDER.to_owned(), is_empty: true });
        }
        meta => meta.map_err(StoreError::io("read", &path))?,
    };
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    let created =
        meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_nanos());
    Ok(FileIdentity { identity: format!("{inode} {created}"), is_empty: meta.len() == 0 })
}

/// Marks every run in a journal as one from elsewhere.
pub(super) fn mark_all_runs_foreign(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["events", "runs", "inbox", "outbox", "results", "files"] {
        let sql = format!("INSERT OR IGNORE INTO foreign_runs SELECT DISTINCT run FROM {table}");
        transaction.execute(&sql, [])?;
    }
    // An id has several spellings, so mark its canonical spelling too.
    let mut statement = transaction.prepare("SELECT run FROM foreign_runs")?;
    let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids.iter().filter_map(|id| uuid::Uuid::parse_str(id).ok()) {
        transaction.execute("INSERT OR IGNORE INTO foreign_runs (run) VALUES (?1)", [id.to_string()])?;
    }
    Ok(())
}

/// Whether this process can't write the note here. A process that only reads does not need the note.
fn is_unwritable(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}
