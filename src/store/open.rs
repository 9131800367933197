//! Opens the database for reading and writing, or read-only if this process may not write to its folder.
//!
//! SQLite opens files by their paths. orch passes it a path without links, forbids it to follow links, and first checks
//! every file that SQLite would open.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::crash::crash_point;
use crate::folder::{NoFollowFile, NoFollowFolder, TemporaryFolder};

use super::StoreError;
use super::copy::create_copy_folder;
use super::journal_identity::OpeningLock;
use super::schema::{SET_PAGE_SIZE, database_image};
use super::state_files::{AGENTS_FOLDER, DATABASE_FILE, MCP_SERVERS_FILE};

/// The suffix of SQLite's rollback journal, from which SQLite undoes an unfinished transaction after a crash.
const ROLLBACK_SUFFIX: &str = "-journal";

/// The suffixes of all files that SQLite opens together with the database.
const COMPANION_SUFFIXES: [&str; 3] = ["-wal", "-shm", ROLLBACK_SUFFIX];

/// The other files and folders in a state folder.
const STATE_FILES: [&str; 3] = [".gitignore", "location", MCP_SERVERS_FILE];
const STATE_FOLDERS: [&str; 3] = ["blobs", "locks", AGENTS_FOLDER];

/// The maximum length of a text or row in a journal, in bytes. orch stores larger facts in files.
const MAX_ROW_BYTES: i32 = 64 << 20;
/// The maximum size of a database with its log, in bytes, of which orch makes a copy in order to read it.
const MAX_COPY_BYTES: u64 = 1 << 30;
/// The number of pages in the write-ahead log, about 4 MB, from which SQLite writes them into the database.
const MAX_LOG_PAGES: u32 = 4000;
/// The maximum length of an SQL statement in bytes, including the statements in the schema.
const MAX_SQL_BYTES: i32 = 64 << 10;

/// A file that SQLite opens together with the database.
fn companion_file(folder: &NoFollowFolder, suffix: &str) -> NoFollowFile {
    folder.file(format!("{DATABASE_FILE}{suffix}"))
}

/// Fails if an entry of the state folder is a link, or a file that SQLite must not open. Without this check, a run
/// could fail after calls that cost money, or SQLite could wait for the other end of a named pipe.
pub(super) fn check_state_folder(folder: &NoFollowFolder) -> Result<(), StoreError> {
    let database =
        COMPANION_SUFFIXES.iter().map(|suffix| companion_file(folder, suffix)).chain([folder.file(DATABASE_FILE)]);
    let files = database.chain(STATE_FILES.iter().map(|name| folder.file(*name))).map(|file| (file, true));
    let folders = STATE_FOLDERS.iter().map(|name| (folder.file(*name), false));
    for (file, is_file) in files.chain(folders) {
        match file.metadata() {
            Ok(meta) if meta.is_symlink() => {
                // `open` returns the error that describes the link.
                file.open().map_err(StoreError::io("open", &file.path()))?;
            }
            Ok(meta) if is_file && !meta.is_file() => {
                return Err(unrecognized(folder, format!("`{}` is not a regular file", file.file_name())));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("read", &file.path())(error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    // A rollback journal can make SQLite open files outside of the folder. orch never lets SQLite create one on disk,
    // so another program or machine created it.
    if companion_file(folder, ROLLBACK_SUFFIX).metadata().is_ok_and(|meta| meta.len() > 0) {
        let reason = format!("`{DATABASE_FILE}{ROLLBACK_SUFFIX}` lies beside it, and orch creates no such file");
        return Err(unrecognized(folder, reason));
    }
    Ok(())
}

fn unrecognized(folder: &NoFollowFolder, reason: String) -> StoreError {
    StoreError::Unrecognized { path: folder.file(DATABASE_FILE).path(), reason }
}

/// Creates a new database, which only the user can access. SQLite gives its other files the same permissions. The bytes
/// of the file are durable when this returns. SQLite makes its name durable with the first commit to the log.
///
/// No connection of this process may have the file open, since closing a file releases all locks of the process on it.
pub(super) fn create_database(file: &NoFollowFile, lock: &OpeningLock) -> Result<(), StoreError> {
    if !lock.is_held() {
        return create_empty_database(file);
    }
    let error = |source| StoreError::Journal { operation: "create", path: file.path(), source };
    let image = database_image().map_err(error)?;
    crash_point!("schema::create");
    file.replace(&image).map_err(StoreError::io("create", &file.path()))?;
    crash_point!("schema::created");
    Ok(())
}

/// Creates the file without tables. Unlike a replacement of the file, this can't destroy a database that another process
/// creates at the same time.
fn create_empty_database(file: &NoFollowFile) -> Result<(), StoreError> {
    match file.create_new() {
        // Another process created it first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop).map_err(StoreError::io("create", &file.path())),
    }
}

/// Opens a connection for reading and writing to an existing database.
pub(super) fn open_read_write(path: &Path) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { operation: "open", path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).and_then(restrict_connection).map_err(error)?;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.len() == 0) {
        // SQLite uses a rollback journal while it switches a new database to a write-ahead log. Keep this rollback
        // journal in memory, so that a crash does not leave it on disk.
        connection.execute_batch(&format!("{SET_PAGE_SIZE} PRAGMA journal_mode = MEMORY;")).map_err(error)?;
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .and_then(|()| connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = {MAX_LOG_PAGES};")))
        .map_err(error)?;
    Ok(connection)
}

/// Whether orch can't open an existing database because this process may not write to it.
pub(super) fn is_read_only(error: &StoreError) -> bool {
    match error {
        StoreError::Journal { source, .. } => source.sqlite_error_code().is_some_and(|code| {
            matches!(code, ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied)
        }),
        _ => false,
    }
}

/// Opens a read-only connection that does not change the folder, even on a read-only file system. If the connection
/// needs a copy of the database, also returns the folder of the copy.
pub(super) fn open_read_only(folder: &NoFollowFolder) -> Result<(Connection, Option<TemporaryFolder>), StoreError> {
    let path = folder.file(DATABASE_FILE).path();
    let has_log = companion_file(folder, "-wal").metadata().is_ok_and(|meta| meta.len() > 0);
    if !has_log {
        // The log is empty, so the database is complete and does not change during the read.
        return Ok((open_uri(&path, "immutable=1")?, None));
    }
    if companion_file(folder, "-shm").exists() {
        // Another process is writing, or died while it wrote. Use its index of the log read-only.
        let connection = open_uri(&path, "readonly_shm=1")?;
        if connection.query_row("PRAGMA user_version", [], |_| Ok(())).is_ok() {
            return Ok((connection, None));
        }
    }
    // Without the index of the log (`-shm`), SQLite can't read the log without writing to the folder.
    open_copy(folder).map(|(connection, copy)| (connection, Some(copy)))
}

/// Copies a database with its write-ahead log, and opens a connection to the copy.
fn open_copy(folder: &NoFollowFolder) -> Result<(Connection, TemporaryFolder), StoreError> {
    let path = folder.file(DATABASE_FILE).path();
    let error = || StoreError::io("copy", &path);
    let names = [DATABASE_FILE.to_owned(), format!("{DATABASE_FILE}-wal")];
    let mut bytes = 0;
    for name in &names {
        bytes += folder.file(name.as_str()).metadata().map_err(error())?.len();
    }
    if bytes > MAX_COPY_BYTES {
        let reason =
            format!("orch must copy it to read it, and with its log it has {bytes} bytes, more than {MAX_COPY_BYTES}");
        return Err(error()(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason)));
    }
    let copy = create_copy_folder().map_err(error())?;
    let target = NoFollowFolder::open(copy.path(), crate::folder::FolderAccess::Private).map_err(error())?;
    for name in names {
        let file = folder.file(name.as_str());
        let source = file.open().map_err(StoreError::io("copy", &file.path()))?;
        let mut copied = target.file(name).create_new().map_err(StoreError::io("copy", &file.path()))?;
        std::io::copy(&mut source.take(MAX_COPY_BYTES), &mut copied).map_err(StoreError::io("copy", &file.path()))?;
    }
    Ok((open_read_write(&target.file(DATABASE_FILE).path())?, copy))
}

/// Opens a read-only connection with one of SQLite's URI parameters.
fn open_uri(path: &Path, parameter: &str) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { operation: "open", path: path.to_owned(), source };
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(format!("{uri}?{parameter}"), flags).and_then(restrict_connection).map_err(error)
}

/// Restricts the features and sizes that SQLite accepts, since the database may come from another machine. orch uses no
/// views or triggers.
fn restrict_connection(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::from_secs(30))?;
    for (setting, enabled) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, enabled)?;
    }
    for (limit, max) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES),
        // `VACUUM` attaches one database.
        (Limit::SQLITE_LIMIT_ATTACHED, 1),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    ] {
        connection.set_limit(limit, max)?;
    }
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}
