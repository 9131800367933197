//! The journal's tables and their migrations.
//!
//! `events` is the only truth. `runs` and `files` are caches that are filled in the same
//! transaction and can be rebuilt from it.

use rusqlite::Connection;

/// The newest format; `PRAGMA user_version` of a journal.
pub(super) const VERSION: i64 = 2;

const V1: &str = "
CREATE TABLE events (
    id   INTEGER PRIMARY KEY,
    run  TEXT NOT NULL,
    seq  INTEGER NOT NULL,
    at   INTEGER NOT NULL,           -- microseconds since 1970, UTC
    kind TEXT NOT NULL,
    step TEXT,
    body TEXT,                       -- the fact as JSON, or
    blob TEXT,                       -- the digest of the blob that holds it
    UNIQUE (run, seq)
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
    event     INTEGER NOT NULL,      -- the latest event that recorded these bytes here
    PRIMARY KEY (workspace, path, digest)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

const V2: &str = "
CREATE TABLE inbox (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    run  TEXT NOT NULL,
    body TEXT NOT NULL               -- the letter as JSON
) STRICT;
CREATE INDEX inbox_by_run ON inbox (run);
PRAGMA user_version = 2;
";

/// What brings a journal from each format to the next.
const STEPS: &[&str] = &[V1, V2];

/// Brings a journal to [`VERSION`]; returns the version found when that is newer.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<Result<(), i64>> {
    let version = |c: &Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let found = version(connection)?;
    if found == VERSION {
        return Ok(Ok(()));
    }
    if found > VERSION {
        return Ok(Err(found));
    }
    // Another process may migrate at the same moment: look again under the write lock.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = usize::try_from(version(&transaction)?).unwrap_or_default();
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    transaction.commit()?;
    Ok(Ok(()))
}
