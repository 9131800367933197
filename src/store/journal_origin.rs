//! Determines whether this user wrote a journal on this machine, or the journal came with a project.
//!
//! The journal itself can't prove its origin, since the author of a committed `.orch` can write all of it. So orch
//! stores an origin note with a seal in the folder of the database. The seal is a hash with the user's signing key over
//! the identities of the files on this disk. A clone, a pull, a copy or an unpacked archive creates files with other
//! identities. The seal does not cover the current path, so a moved project keeps its runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::Transaction;

use crate::folder::{NoFollowFile, NoFollowFolder};

use super::StoreError;
use super::signing_key::{KeyUnavailable, SigningKey};
use super::state_files::DATABASE_FILE;

/// The name of the file with the origin note.
const NOTE_FILE: &str = "location";

/// The maximum length of a note in bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// Replaces the identity of a missing file, and a missing seal.
const PLACEHOLDER: &str = "-";

/// How often orch checks the note, since another process may replace it at the same moment.
const MAX_CHECKS: usize = 3;

/// The origin of a journal.
#[derive(Clone, Debug)]
pub(super) enum JournalOrigin {
    /// This user's orch wrote it on this machine. It contains a list of its foreign runs.
    Own,
    /// Another user or machine wrote it, or it is a copy. All of its runs are foreign.
    Foreign,
    /// The origin is unknown, since there is no usable key.
    Unknown(KeyUnavailable),
}

/// The origin note: the folder that contained the state folder, the identity of the write-ahead log, and the seal. The
/// seal covers both and the identity of the database.
#[derive(Debug)]
pub(super) struct OriginNote {
    pub(super) project_folder: PathBuf,
    log_identity: String,
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
        let (seal, log, project_folder) = (lines.next(), lines.next(), lines.next());
        Ok(Some(match (project_folder, log, seal) {
            (Some(project_folder), Some(log), Some(seal)) => Self {
                project_folder: PathBuf::from(project_folder),
                log_identity: log.to_owned(),
                seal: seal.to_owned(),
            },
            // An earlier version of orch, which did not seal journals, wrote this note.
            _ => Self {
                project_folder: PathBuf::from(text),
                log_identity: PLACEHOLDER.to_owned(),
                seal: PLACEHOLDER.to_owned(),
            },
        }))
    }

    /// Whether the seal is valid for this key and the current files.
    fn is_valid(&self, key: &SigningKey, folder: &NoFollowFolder) -> Result<bool, StoreError> {
        let Ok(seal) = blake3::Hash::from_hex(&self.seal) else { return Ok(false) };
        let is_sealed =
            seal == key.seal(&sealed_text(&self.project_folder, &database_identity(folder)?, &self.log_identity));
        // The identity of an empty log does not matter, since it contains nothing from another user.
        let log = log_identity(folder)?;
        Ok(is_sealed && (log.is_empty || log.identity == self.log_identity))
    }

    /// Writes the note for the current files, unless it is up to date. Without a key, the note has no seal.
    pub(super) fn write(
        folder: &NoFollowFolder,
        project_folder: &Path,
        key: Option<&SigningKey>,
    ) -> Result<(), StoreError> {
        let log = log_identity(folder)?.identity;
        let seal = match key {
            Some(key) => key.seal(&sealed_text(project_folder, &database_identity(folder)?, &log)).to_hex().to_string(),
            None => PLACEHOLDER.to_owned(),
        };
        if Self::read(folder)?
            .is_some_and(|note| note.project_folder == project_folder && note.log_identity == log && note.seal == seal)
        {
            return Ok(());
        }
        let file = folder.file(NOTE_FILE);
        // The note must be durable before SQLite writes to the log.
        match file.replace(format!("{}\n{log}\n{seal}\n", project_folder.display()).as_bytes()) {
            Err(error) if is_unwritable(&error) => Ok(()),
            result => result.map_err(StoreError::io("write", &file.path())),
        }
    }
}

/// Determines the origin of the journal in a state folder. Call this before SQLite opens the journal, since SQLite may
/// then apply the log to the database.
pub(super) fn determine_origin(
    folder: &NoFollowFolder,
    key: Result<&SigningKey, &KeyUnavailable>,
) -> Result<JournalOrigin, StoreError> {
    let key = match key {
        Ok(key) => key,
        Err(reason) => return Ok(JournalOrigin::Unknown(reason.clone())),
    };
    for _ in 0..MAX_CHECKS {
        if OriginNote::read(folder)?.map_or(Ok(false), |note| note.is_valid(key, folder))? {
            return Ok(JournalOrigin::Own);
        }
    }
    Ok(JournalOrigin::Foreign)
}

/// The text that the seal covers.
fn sealed_text(project_folder: &Path, database: &str, log: &str) -> String {
    format!("orch journal\n{}\n{database}\n{log}\n", project_folder.display())
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

/// The identity of a file on this disk: its inode number and, if the file system records it, its creation time.
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

/// Marks every run in a journal as foreign.
pub(super) fn mark_all_runs_foreign(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    // orch finds events and results only through `run_numbers`.
    for table in ["run_numbers", "runs", "inbox", "outbox", "files"] {
        let sql = format!("INSERT OR IGNORE INTO foreign_runs SELECT DISTINCT run FROM {table}");
        transaction.execute(&sql, [])?;
    }
    // A UUID has several spellings, so also mark the canonical spelling, for which orch searches.
    let mut statement = transaction.prepare("SELECT run FROM foreign_runs")?;
    let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids.iter().filter_map(|id| uuid::Uuid::parse_str(id).ok()) {
        transaction.execute("INSERT OR IGNORE INTO foreign_runs (run) VALUES (?1)", [id.to_string()])?;
    }
    Ok(())
}

/// Whether this process may not write to the folder. Then it only reads the journal, and needs no new note.
fn is_unwritable(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}
