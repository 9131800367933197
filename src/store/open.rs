//! Ways to the database: to write and read, or only to read where nothing may be written.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use super::StoreError;

/// A connection that writes and reads; the database is made when it is not there.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(error)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(error)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(error)?;
    Ok(connection)
}

/// Whether a database that is there can't be opened because nothing may be written.
pub(super) fn is_read_only(error: &StoreError) -> bool {
    let StoreError::Journal { source, .. } = error else { return false };
    let code = source.sqlite_error_code();
    code.is_some_and(|code| matches!(code, ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied))
}

/// A connection that only reads, also from a medium that can't be written; with the folder of the
/// copy that it reads, if it needs one.
pub(super) fn read_only(path: &Path) -> Result<(Connection, Option<TempDir>), StoreError> {
    let log = path.with_file_name("journal.db-wal");
    let pending = std::fs::metadata(&log).is_ok_and(|meta| meta.len() > 0);
    if !pending {
        // Nothing is written, so nothing changes either.
        return Ok((immutable(path)?, None));
    }
    // Without its companions SQLite can't read a write-ahead log in place.
    let folder = tempfile::tempdir().map_err(StoreError::io("copy", path))?;
    let copy = folder.path().join("journal.db");
    std::fs::copy(path, &copy).map_err(StoreError::io("copy", path))?;
    std::fs::copy(&log, folder.path().join("journal.db-wal")).map_err(StoreError::io("copy", &log))?;
    writable(&copy)?;
    writable(&folder.path().join("journal.db-wal"))?;
    Ok((connect(&copy)?, Some(folder)))
}

fn immutable(path: &Path) -> Result<Connection, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let mut address = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(address + "?immutable=1", flags).map_err(error)
}

/// A copy keeps the permissions of what was copied.
fn writable(path: &Path) -> Result<(), StoreError> {
    let mut permissions = std::fs::metadata(path).map_err(StoreError::io("read", path))?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    std::fs::set_permissions(path, permissions).map_err(StoreError::io("change", path))
}
