//! The journal's tables.
//!
//! `events` is the source of truth, and `run_numbers` determines the ids of its rows. `runs`, `files` and `results` are
//! caches: orch fills them in the same transaction, and could rebuild them from `events`. `outbox` stores the last event
//! of each run that each tracker has received.
//!
//! A step writes a row to `events` for each of its events, and one to `results`. So these tables repeat neither the id
//! of the run, which the id of the event implies, nor digests as text.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// The version of the format (`PRAGMA user_version`). It increases with each incompatible change. Until the first
/// release, orch refuses older journals instead of migrating them.
pub const VERSION: i64 = 15;

/// The statement that sets the size of the pages of a new database. SQLite writes whole pages, and the events of a step
/// are small, so small pages halve the bytes that a step writes.
pub(super) const SET_PAGE_SIZE: &str = "PRAGMA page_size = 1024;";

/// The positions in the header of a database of the two bytes that are 2 if it has a write-ahead log.
const LOG_VERSIONS: std::ops::Range<usize> = 18..20;

const SCHEMA: &str = "
CREATE TABLE run_numbers (
    number INTEGER PRIMARY KEY,
    run    TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE events (
    id    INTEGER PRIMARY KEY,       -- the number of the run * 2^32 + seq
    at    INTEGER NOT NULL,          -- microseconds since 1970, UTC
    kind  TEXT NOT NULL,
    step  TEXT,
    body  TEXT,                      -- the fact as JSON, or
    blob  TEXT,                      -- the digest of the blob that holds it
    value TEXT                       -- the place of the artifact's value in a reply, if the fact has null instead of it
) STRICT;
CREATE TABLE runs (
    run       TEXT PRIMARY KEY,
    pipeline  TEXT NOT NULL,
    file      TEXT NOT NULL,
    workspace TEXT NOT NULL,
    task      TEXT,
    status    TEXT NOT NULL,
    started   INTEGER NOT NULL,
    ended     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_start ON runs (started);
CREATE TABLE files (
    workspace TEXT NOT NULL,
    path      TEXT NOT NULL,
    digest    TEXT NOT NULL,
    run       TEXT NOT NULL,
    event     INTEGER NOT NULL,      -- the time of the latest event that recorded these bytes; unique for a path
    PRIMARY KEY (workspace, path, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE inbox (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    run  TEXT NOT NULL,
    body TEXT NOT NULL               -- the message as JSON
) STRICT;
CREATE INDEX inbox_by_run ON inbox (run);
CREATE TABLE outbox (
    tracker TEXT NOT NULL,
    run     TEXT NOT NULL,
    seq     INTEGER NOT NULL,        -- the last event that needs no more deliveries
    refused INTEGER,                 -- the first event that the tracker refused
    why     TEXT,
    PRIMARY KEY (tracker, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE results (
    request BLOB NOT NULL,           -- the fingerprint of the step, as bytes
    decode  BLOB NOT NULL,
    id      INTEGER NOT NULL,        -- increases with each result of a fingerprint
    event   INTEGER NOT NULL,        -- the id of the event
    PRIMARY KEY (request, decode, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE foreign_runs (           -- runs whose records came from another machine
    run TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 15;
";

/// Creates the tables of an empty database, or checks that an existing journal has the format [`VERSION`]. Refuses a
/// database whose schema is not exactly the one that orch creates, since another program could have replaced a table by
/// a view or added a trigger.
pub(super) fn create_or_check_tables(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let error = |source| StoreError::Journal { operation: "open", path: path.to_owned(), source };
    let found_version = version(connection).map_err(error)?;
    if found_version > VERSION {
        return Err(StoreError::TooNew { path: path.to_owned(), found: found_version, known: VERSION });
    }
    if found_version < VERSION && found_version != 0 {
        return Err(StoreError::TooOld { path: path.to_owned(), found: found_version, known: VERSION });
    }
    if let Some(name) = schema_difference(connection, path)? {
        let reason = format!("orch creates no table, index, view or trigger like its `{name}`");
        return Err(StoreError::Unrecognized { path: path.to_owned(), reason });
    }
    if found_version == VERSION {
        return Ok(());
    }
    create_tables(connection).map_err(error)
}

/// The bytes of a new database with the tables. A process that writes them to the file waits for the disk once; SQLite
/// would wait several times for the tables and the switch to a write-ahead log.
pub(super) fn database_image() -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch(SET_PAGE_SIZE)?;
    connection.execute_batch(SCHEMA)?;
    let mut image = connection.serialize(rusqlite::MAIN_DB)?.to_vec();
    if let Some(versions) = image.get_mut(LOG_VERSIONS) {
        versions.fill(2);
    }
    Ok(image)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn create_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    // Another process may create the tables at the same moment, so check again under the write lock.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(SCHEMA)?;
    }
    transaction.commit()
}

/// Compares the schema of the database with the schema that orch creates. Returns the name of an additional, missing or
/// different entry; `None` if the schemas are equal.
fn schema_difference(connection: &mut Connection, path: &Path) -> Result<Option<String>, StoreError> {
    let error = |source| StoreError::Journal { operation: "open", path: path.to_owned(), source };
    // Read the version and the entries in one transaction, since another process may be creating the tables.
    let transaction = connection.transaction().map_err(error)?;
    let actual_version = version(&transaction).map_err(error)?;
    let actual = schema_entries(&transaction).map_err(error)?;
    drop(transaction);
    let reference = Connection::open_in_memory().map_err(error)?;
    if actual_version > 0 {
        reference.execute_batch(SCHEMA).map_err(error)?;
    }
    let expected = schema_entries(&reference).map_err(error)?;
    Ok(actual.symmetric_difference(&expected).next().map(|entry| entry.1.clone()))
}

/// The type, name, table and SQL of one entry of a database's schema.
type SchemaEntry = (String, String, String, Option<String>);

/// The entries of a database's schema. Ignores SQLite's own table `sqlite_sequence`, which remains when the table that
/// needed it is dropped.
fn schema_entries(connection: &Connection) -> rusqlite::Result<BTreeSet<SchemaEntry>> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' OR type <> 'table' OR sql <> 'CREATE TABLE sqlite_sequence(name,seq)'")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_sets_the_current_version() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        assert_eq!(version(&connection).unwrap(), VERSION);
    }

    #[test]
    fn the_image_is_a_whole_database_with_the_tables_and_a_write_ahead_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        std::fs::write(&path, database_image().unwrap()).unwrap();
        let mut connection = Connection::open(&path).unwrap();
        let text = |sql: &str| -> String { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!([text("PRAGMA integrity_check"), text("PRAGMA journal_mode")], ["ok", "wal"]);
        let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        assert_eq!(page_size, 1024);
        connection.execute("INSERT INTO foreign_runs (run) VALUES ('x')", []).unwrap();
        assert_eq!(version(&connection).unwrap(), VERSION);
        assert_eq!(schema_difference(&mut connection, &path).unwrap(), None);
    }
}
