//! `orch runs list`: past runs, the latest first.

use serde_json::json;

use crate::cli::error::{CliError, Code};
use crate::cli::report::Output;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::RunStatus;
use crate::report::human;
use crate::store::{Filter, Journal, RunRow};

use super::root;

/// List runs, the latest first
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT", value_parser = count)]
    limit: usize,

    /// Only runs with this status
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,

    /// Only runs of this pipeline, by its name
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,

    #[command(flatten)]
    state: State,
}

/// Reads a count of at least one.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 run is listed".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("`{text}` is not a count")),
    }
}

/// A status to list by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Status {
    /// A process is working on it
    Running,
    /// It waits for a person
    Waiting,
    /// It came to its end
    Completed,
    /// A step failed, or `success` is false
    Failed,
    /// A person stopped it
    Cancelled,
    /// Its process died
    Interrupted,
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Waiting => Self::Waiting,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Interrupted => Self::Interrupted,
        }
    }
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let folder = args.state.folder(&root(&here()?));
    let filter =
        Filter { limit: args.limit, status: args.status.map(RunStatus::from), pipeline: args.pipeline.clone() };
    let rows = match Journal::open_existing(&folder)? {
        Some(journal) => journal.list(&filter)?,
        None => Vec::new(),
    };
    if args.output == Output::Json {
        let list: Vec<_> = rows.iter().map(row_json).collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(Code::Ok);
    }
    if rows.is_empty() {
        let all = args.status.is_none() && args.pipeline.is_none();
        ui.say(if all { "no runs yet" } else { "no such runs" });
    }
    for row in rows {
        let started = row.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        let took = row.ended.map_or_else(|| "-".to_owned(), |end| human::duration(human::between(row.started, end)));
        let task = human::first_line(row.task.as_deref().unwrap_or_default(), 26);
        let status = format!("{:<11}", row.status.as_str());
        let status = match row.status {
            RunStatus::Completed => ui.out_style.good(status),
            RunStatus::Failed => ui.out_style.bad(status),
            RunStatus::Running | RunStatus::Waiting | RunStatus::Cancelled | RunStatus::Interrupted => {
                ui.out_style.warn(status)
            }
        };
        ui.text(format!("{}  {started}  {status} {took:>7}  {}  {task}", row.run, row.pipeline).trim_end())?;
    }
    Ok(Code::Ok)
}

fn row_json(row: &RunRow) -> serde_json::Value {
    json!({
        "run": row.run.to_string(), "id": row.run.0.to_string(), "pipeline": row.pipeline, "file": row.file, "workspace": row.workspace,
        "task": row.task, "status": row.status, "started_at": row.started, "ended_at": row.ended,
    })
}
