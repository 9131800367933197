//! The journal's tables and their migrations.
//!
//! `events` is the only truth. `runs` and `files` are caches that are filled in the same
//! transaction and can be rebuilt from it. `outbox` holds how far trackers have got.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use crate::crash::crash_point;

use super::StoreError;

/// The newest format; `PRAGMA user_version` of a journal.
pub(super) const VERSION: i64 = 5;

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

const V3: &str = "
CREATE TABLE outbox (
    tracker TEXT NOT NULL,
    run     TEXT NOT NULL,
    seq     INTEGER NOT NULL,        -- the last event that needs no more deliveries
    refused INTEGER,                 -- the first event that the tracker refused
    why     TEXT,
    PRIMARY KEY (tracker, run)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
";

/// Results by recipe, of steps that completed since this format.
const V4: &str = "
CREATE TABLE results (
    id   INTEGER PRIMARY KEY,
    ask  TEXT NOT NULL,
    take TEXT NOT NULL,
    run  TEXT NOT NULL,
    seq  INTEGER NOT NULL
) STRICT;
CREATE INDEX results_by_recipe ON results (ask, take);
PRAGMA user_version = 4;
";

/// Runs whose records came from elsewhere: what they say of the machine was not seen to by this orch.
const V5: &str = "
CREATE TABLE foreign_runs (
    run TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 5;
";

/// What brings a journal from each format to the next.
const STEPS: &[&str] = &[V1, V2, V3, V4, V5];

/// Brings a journal to [`VERSION`]. One that is not made up of what orch makes, and of nothing else, is refused: it did
/// not come from orch, and a view or a trigger would answer in the place of a table.
pub(super) fn bring_up(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    let found = version(connection).map_err(error)?;
    if found > VERSION {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known: VERSION });
    }
    if let Some(name) = strange(connection, path)? {
        let why = format!("orch makes no table, index, view or trigger like its `{name}`");
        return Err(StoreError::Strange { path: path.to_owned(), why });
    }
    if found == VERSION {
        return Ok(());
    }
    migrate(connection).map_err(error)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    // Another process may migrate at the same moment: look again under the write lock.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = usize::try_from(version(&transaction)?).unwrap_or_default();
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    crash_point!("schema::migrate");
    transaction.commit()?;
    crash_point!("schema::migrated");
    Ok(())
}

/// The name of something in a database that orch does not make, or that it makes and that is not there.
fn strange(connection: &mut Connection, path: &Path) -> Result<Option<String>, StoreError> {
    let error = |source| StoreError::Journal { doing: "open", path: path.to_owned(), source };
    // Both at one moment: another process may migrate.
    let transaction = connection.transaction().map_err(error)?;
    let made = usize::try_from(version(&transaction).map_err(error)?).unwrap_or_default();
    let found = parts(&transaction).map_err(error)?;
    drop(transaction);
    let own = Connection::open_in_memory().map_err(error)?;
    for step in STEPS.iter().take(made) {
        own.execute_batch(step).map_err(error)?;
    }
    let own = parts(&own).map_err(error)?;
    Ok(found.symmetric_difference(&own).next().map(|part| part.1.clone()))
}

/// The kind, name, table and text of everything in a database's schema but SQLite's own table of numbers, which stays when
/// the table that had it made is gone.
type Part = (String, String, String, Option<String>);

fn parts(connection: &Connection) -> rusqlite::Result<BTreeSet<Part>> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' OR type <> 'table' OR sql <> 'CREATE TABLE sqlite_sequence(name,seq)'")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Journal, Outbox};

    #[test]
    fn a_journal_of_version_1_is_migrated_with_its_runs() {
        let folder = tempfile::tempdir().unwrap();
        let run = uuid::Uuid::now_v7();
        let file = Connection::open(folder.path().join("journal.db")).unwrap();
        file.execute_batch(V1).unwrap();
        let started = r#"{"run_started":{"pipeline":"p","file":"p.yaml","workspace":"/w","inputs":{},"models":{},"steps":[],"version":"0.1.0"}}"#;
        let ended = r#"{"run_ended":{"status":"completed"}}"#;
        for (seq, kind, body) in [(1, "run_started", started), (2, "run_ended", ended)] {
            let sql = "INSERT INTO events (run, seq, at, kind, body) VALUES (?1, ?2, 1000000, ?3, ?4)";
            file.execute(sql, rusqlite::params![run.to_string(), seq, kind, body]).unwrap();
        }
        let row = "INSERT INTO runs (run, pipeline, file, workspace, status, started) VALUES (?1, 'p', 'p.yaml', '/w', 'completed', 1000000)";
        file.execute(row, [run.to_string()]).unwrap();
        drop(file);

        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.runs(9).unwrap()[0].pipeline, "p");
        assert_eq!(journal.events(crate::model::RunId(run)).unwrap().len(), 2);
        assert_eq!(Outbox::open(folder.path()).unwrap().runs().unwrap(), []);
        let version = Connection::open(folder.path().join("journal.db")).unwrap();
        assert_eq!(version.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap(), VERSION);
    }
}
