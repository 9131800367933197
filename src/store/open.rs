//! Opens the database: for reading and writing, or only for reading where nothing may be written.
//!
//! SQLite opens files by their paths. It gets a path without links and the order to follow none, and orch checks every
//! file first that SQLite would open.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::folder::{OwnFile, OwnFolder, TemporaryFolder};

use super::StoreError;
use super::copy::copy_folder;
use super::journal::{DATABASE, HOMES};

/// The suffix of SQLite's rollback journal, from which SQLite undoes an unfinished transaction after a crash.
const ROLLBACK: &str = "-journal";

/// The suffixes of all files that SQLite opens beside the database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", ROLLBACK];

/// The other files and folders in a state folder.
const NOTES: [&str; 2] = [".gitignore", "location"];
const FOLDERS: [&str; 3] = ["blobs", "locks", HOMES];

/// The longest text or row of a journal, in bytes; larger facts are stored in files.
const MAX_ROW: i32 = 64 << 20;
/// The most bytes of a database and its log together that orch copies to read them elsewhere.
const MAX_COPY: u64 = 1 << 30;
/// The longest SQL statement in bytes, including those of the schema.
const MAX_SQL: i32 = 64 << 10;

fn companion(folder: &OwnFolder, end: &str) -> OwnFile {
    folder.file(format!("{DATABASE}{end}"))
}

/// Fails if part of the state folder is a link, or a file that SQLite must not open. Otherwise a run would meet it
/// after it was paid for, or wait until another process opens the other end of a pipe.
pub(super) fn refuse_strange(folder: &OwnFolder) -> Result<(), StoreError> {
    let database = COMPANIONS.iter().map(|end| companion(folder, end)).chain([folder.file(DATABASE)]);
    let files = database.chain(NOTES.iter().map(|name| folder.file(*name))).map(|file| (file, true));
    let folders = FOLDERS.iter().map(|name| (folder.file(*name), false));
    for (file, is_file) in files.chain(folders) {
        match file.about() {
            Ok(meta) if meta.is_symlink() => {
                // Opening it returns the error that describes the link.
                file.open().map_err(StoreError::io("open", &file.path()))?;
            }
            Ok(meta) if is_file && !meta.is_file() => {
                return Err(unusable(folder, format!("`{}` is not a regular file", file.last_name())));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("read", &file.path())(error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    // A rollback journal names files that SQLite would open, wherever they are. orch never lets SQLite create one on
    // disk.
    if companion(folder, ROLLBACK).about().is_ok_and(|meta| meta.len() > 0) {
        return Err(unusable(folder, format!("`{DATABASE}{ROLLBACK}` lies beside it, and orch makes no such file")));
    }
    Ok(())
}

fn unusable(folder: &OwnFolder, why: String) -> StoreError {
    StoreError::Strange { path: folder.file(DATABASE).path(), why }
}

/// Creates the file of a new database, for the user alone; SQLite gives the files beside it the same permissions.
///
/// No connection of this process may have it open: closing a file releases all locks of the process on it.
pub(super) fn new_file(file: &OwnFile) -> Result<(), StoreError> {
    match file.create_new() {
        // Another process created it first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(StoreError::io("create", &file.path())),
    }
}

/// A connection for reading and writing to an existing database.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).and_then(careful).map_err(error)?;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.len() == 0) {
        // While SQLite switches a new database to a write-ahead log, it keeps its rollback journal in memory, so that a
        // process that dies here leaves none on disk.
        connection.execute_batch("PRAGMA journal_mode = MEMORY;").map_err(error)?;
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(error)?;
    Ok(connection)
}

/// Whether an existing database can't be opened because nothing may be written there.
pub(super) fn is_read_only(error: &StoreError) -> bool {
    match error {
        StoreError::Journal { source, .. } => source.sqlite_error_code().is_some_and(|code| {
            matches!(code, ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied)
        }),
        _ => false,
    }
}

/// A read-only connection that leaves the folder unchanged, even on a read-only medium. With it comes the folder of the
/// copy that it reads, if it needs one.
pub(super) fn read_only(folder: &OwnFolder) -> Result<(Connection, Option<TemporaryFolder>), StoreError> {
    let path = folder.file(DATABASE).path();
    let pending = companion(folder, "-wal").about().is_ok_and(|meta| meta.len() > 0);
    if !pending {
        // The log is empty, so the database is complete and does not change while it is read.
        return Ok((address(&path, "immutable=1")?, None));
    }
    if companion(folder, "-shm").exists() {
        // Another process writes, or died while it wrote: use its index of the log, but only for reading.
        let connection = address(&path, "readonly_shm=1")?;
        if connection.query_row("PRAGMA user_version", [], |_| Ok(())).is_ok() {
            return Ok((connection, None));
        }
    }
    // Without its companion files SQLite can't read a write-ahead log in place.
    copied(folder).map(|(connection, copy)| (connection, Some(copy)))
}

/// A connection to a copy of a database and its write-ahead log.
fn copied(folder: &OwnFolder) -> Result<(Connection, TemporaryFolder), StoreError> {
    let path = folder.file(DATABASE).path();
    let error = || StoreError::io("copy", &path);
    let names = [DATABASE.to_owned(), format!("{DATABASE}-wal")];
    let mut bytes = 0;
    for name in &names {
        bytes += folder.file(name.as_str()).about().map_err(error())?.len();
    }
    if bytes > MAX_COPY {
        let why =
            format!("it has to be copied to be read, and with its log it has {bytes} bytes of {MAX_COPY} that may be");
        return Err(error()(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
    }
    let copy = copy_folder().map_err(error())?;
    let to = OwnFolder::open(copy.path(), crate::folder::FolderAccess::Private).map_err(error())?;
    for name in names {
        let file = folder.file(name.as_str());
        let from = file.open().map_err(StoreError::io("copy", &file.path()))?;
        let mut copied = to.file(name).create_new().map_err(StoreError::io("copy", &file.path()))?;
        std::io::copy(&mut from.take(MAX_COPY), &mut copied).map_err(StoreError::io("copy", &file.path()))?;
    }
    Ok((connect(&to.file(DATABASE).path())?, copy))
}

/// A read-only connection with one of SQLite's URI parameters.
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
    Connection::open_with_flags(format!("{address}?{parameter}"), flags).and_then(careful).map_err(error)
}

/// Limits what a database can make SQLite do, since it may have come with a project. orch uses no views or triggers.
fn careful(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::from_secs(30))?;
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_ROW),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL),
        // `VACUUM` attaches one database.
        (Limit::SQLITE_LIMIT_ATTACHED, 1),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}
