//! The journal's tables and their migrations.
//!
//! `events` is the only truth. `runs` and `files` are caches that are filled in the same
//! transaction and can be rebuilt from it. `outbox` holds how far trackers have got.

use rusqlite::Connection;

use crate::crash::crash_point;

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
    crash_point!("schema::migrate");
    transaction.commit()?;
    crash_point!("schema::migrated");
    Ok(Ok(()))
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
