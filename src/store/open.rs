//! Ways to the database: to write and read, or only to read where nothing may be written.
//!
//! SQLite opens files by their paths. It is given one without links, told not to follow any, and every name that it
//! opens is looked at before.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use crate::folder::{OwnFile, OwnFolder};

use super::StoreError;
use super::journal::{DATABASE, HOMES};

/// What SQLite adds to the name of a database for the files beside it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What else is in a state folder.
const OTHERS: [&str; 5] = [".gitignore", "home", "blobs", "locks", HOMES];

fn companion(folder: &OwnFolder, end: &str) -> OwnFile {
    folder.file(format!("{DATABASE}{end}"))
}

/// Fails when something of the state folder is a link: a run would come upon it after it was paid for.
pub(super) fn refuse_links(folder: &OwnFolder) -> Result<(), StoreError> {
    let database = COMPANIONS.iter().map(|end| companion(folder, end)).chain([folder.file(DATABASE)]);
    let others = OTHERS.iter().map(|name| folder.file(*name));
    for file in database.chain(others) {
        match file.about() {
            Ok(meta) if meta.is_symlink() => {
                // To open it says what is wrong with it.
                file.open().map_err(StoreError::io("open", &file.path()))?;
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("read", &file.path())(error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes the file of a new database, for the user alone; SQLite gives the files beside it the same rights.
///
/// No connection of this process may have it open: to close a file takes the locks of the process on it away.
pub(super) fn new_file(file: &OwnFile) -> Result<(), StoreError> {
    match file.create_new() {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(StoreError::io("create", &file.path())),
    }
}

/// A connection that writes and reads, to a database that is there.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(error)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(error)?;
    Ok(connection)
}

/// Whether a database that is there can't be opened because nothing may be written.
pub(super) fn is_read_only(error: &StoreError) -> bool {
    match error {
        StoreError::Journal { source, .. } => source.sqlite_error_code().is_some_and(|code| {
            matches!(code, ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied)
        }),
        _ => false,
    }
}

/// A connection that only reads and leaves the folder as it is, also on a medium that can't be written; with the
/// folder of the copy that it reads, if it needs one.
pub(super) fn read_only(folder: &OwnFolder) -> Result<(Connection, Option<TempDir>), StoreError> {
    let path = folder.file(DATABASE).path();
    let pending = companion(folder, "-wal").about().is_ok_and(|meta| meta.len() > 0);
    if !pending {
        // Nothing is written, so nothing changes either.
        return Ok((address(&path, "immutable=1")?, None));
    }
    if companion(folder, "-shm").exists() {
        // Another process writes, or died as it did: its index of the log is only read.
        let connection = address(&path, "readonly_shm=1")?;
        if connection.query_row("PRAGMA user_version", [], |_| Ok(())).is_ok() {
            return Ok((connection, None));
        }
    }
    // Without its companions SQLite can't read a write-ahead log in place.
    let copy = tempfile::tempdir().map_err(StoreError::io("copy", &path))?;
    let to = OwnFolder::open(copy.path(), crate::folder::Access::Private).map_err(StoreError::io("copy", &path))?;
    for name in [DATABASE.to_owned(), format!("{DATABASE}-wal")] {
        let file = folder.file(name.as_str());
        let mut from = file.open().map_err(StoreError::io("copy", &file.path()))?;
        let mut copied = to.file(name).create_new().map_err(StoreError::io("copy", &file.path()))?;
        std::io::copy(&mut from, &mut copied).map_err(StoreError::io("copy", &file.path()))?;
    }
    Ok((connect(&to.file(DATABASE).path())?, Some(copy)))
}

/// A connection that only reads, with a parameter of SQLite's.
fn address(path: &Path, parameter: &str) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(format!("{address}?{parameter}"), flags).map_err(error)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(error)?;
    Ok(connection)
}
