//! Lists the runs of a journal, and finds a run by its id.

use jiff::Timestamp;
use rusqlite::params;

use crate::model::{RunId, RunStatus};

use super::lock::Lock;
use super::lock_holder::LockHolder;
use super::{Journal, StoreError};

/// A filter for a list of runs.
#[derive(Clone, Debug)]
pub struct RunFilter {
    /// The maximum number of runs.
    pub limit: usize,
    /// Only runs with this status.
    pub status: Option<RunStatus>,
    /// Only runs of the pipeline with this name.
    pub pipeline: Option<String>,
}

/// A run in a listing.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file, relative to the root.
    pub file: String,
    /// The workspace, absolute.
    pub workspace: String,
    /// The value of the input `task`, if it is a string.
    pub task: Option<String>,
    /// The status; `interrupted` if the process of the run died.
    pub status: RunStatus,
    /// The time of its start.
    pub started: Timestamp,
    /// The time of its end.
    pub ended: Option<Timestamp>,
}

impl Journal {
    /// At most `limit` runs, the latest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.select("ORDER BY started DESC, run DESC LIMIT ?1", params![i64::try_from(limit).unwrap_or(i64::MAX)])
    }

    /// The runs that match a filter, the latest first.
    pub fn list_runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        // A run that is stored as `running` is `interrupted` if no process holds its lock, which the database does not
        // record.
        let stored = filter.status.map(|status| match status {
            RunStatus::Interrupted => RunStatus::Running.as_str(),
            other => other.as_str(),
        });
        let depends_on_lock = matches!(filter.status, Some(RunStatus::Running | RunStatus::Interrupted));
        let limit = if depends_on_lock { usize::MAX } else { filter.limit };
        let mut rows = self.select(
            "WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR pipeline = ?2) ORDER BY started DESC, run DESC LIMIT ?3",
            params![stored, filter.pipeline, i64::try_from(limit).unwrap_or(i64::MAX)],
        )?;
        rows.retain(|row| filter.status.is_none_or(|status| row.status == status));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    /// The runs whose id matches `text`: a full id, or the start of a short id.
    pub fn find_runs(&self, text: &str) -> Result<Vec<RunRow>, StoreError> {
        let text: String = text.to_ascii_lowercase().chars().filter(char::is_ascii_hexdigit).collect();
        let rows = self.select(
            "WHERE replace(run, '-', '') LIKE ?1 ORDER BY started DESC LIMIT 20",
            params![format!("%{text}%")],
        )?;
        Ok(rows.into_iter().filter(|row| row.run.matches(&text)).collect())
    }

    fn select(&self, clauses: &str, params: impl rusqlite::Params) -> Result<Vec<RunRow>, StoreError> {
        let sql = format!("SELECT run, pipeline, file, workspace, task, status, started, ended FROM runs {clauses}");
        let mut statement = self.reader.prepare_cached(&sql).map_err(|error| self.read_error(error))?;
        let rows = statement.query_map(params, RawRow::from_row).map_err(|error| self.read_error(error))?;
        rows.map(|row| self.parse_row(row.map_err(|error| self.read_error(error))?)).collect()
    }

    fn parse_row(&self, raw: RawRow) -> Result<RunRow, StoreError> {
        let damaged = |problem: String| StoreError::Damaged { path: self.path.clone(), problem };
        let run = RunId(uuid::Uuid::parse_str(&raw.run).map_err(|error| damaged(error.to_string()))?);
        let timestamp = |micros| Timestamp::from_microsecond(micros).map_err(|error| damaged(error.to_string()));
        let stored = match raw.status.as_str() {
            "running" => RunStatus::Running,
            "waiting" => RunStatus::Waiting,
            "completed" => RunStatus::Completed,
            "failed" => RunStatus::Failed,
            "cancelled" => RunStatus::Cancelled,
            other => return Err(damaged(format!("run {run} has the status `{other}`"))),
        };
        Ok(RunRow {
            run,
            status: self.live_status(run, stored),
            pipeline: raw.pipeline,
            file: raw.file,
            workspace: raw.workspace,
            task: raw.task,
            started: timestamp(raw.started)?,
            ended: raw.ended.map(timestamp).transpose()?,
        })
    }

    /// The process that executes a run now, if there is one.
    pub fn run_owner(&self, run: RunId) -> Option<LockHolder> {
        Lock::holder(&self.lock_file(run))
    }

    /// The current status of a run, given its stored status. A run that is stored as `running` but has no owner is
    /// `interrupted`.
    fn live_status(&self, run: RunId, stored: RunStatus) -> RunStatus {
        if stored == RunStatus::Running && !Lock::is_held(&self.lock_file(run)) {
            RunStatus::Interrupted
        } else {
            stored
        }
    }
}

/// A row of the table `runs`.
struct RawRow {
    run: String,
    pipeline: String,
    file: String,
    workspace: String,
    task: Option<String>,
    status: String,
    started: i64,
    ended: Option<i64>,
}

impl RawRow {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            run: row.get(0)?,
            pipeline: row.get(1)?,
            file: row.get(2)?,
            workspace: row.get(3)?,
            task: row.get(4)?,
            status: row.get(5)?,
            started: row.get(6)?,
            ended: row.get(7)?,
        })
    }
}
