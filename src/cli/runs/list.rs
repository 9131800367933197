//! `orch runs list`: past runs, the latest first.

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::RunStatus;
use crate::model::event::ApprovalAsked;
use crate::model::visible::one_line;
use crate::report::width::{columns, fitted, padded};
use crate::report::{human, printable};
use crate::session::{ExitStatus, SessionError, open_questions};
use crate::store::{Filter, Journal, RunRow};

use super::root;

/// List runs, the latest first
///
/// Of a run that waits for a person its questions are shown too. On a terminal lines are cut to its width; a pipe or a
/// file gets all of each task and question.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsListArgs {
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
    output: OutputFormat,

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

pub(super) fn run(args: &RunsListArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let folder = args.state.folder(&root(&here()?));
    let filter =
        Filter { limit: args.limit, status: args.status.map(RunStatus::from), pipeline: args.pipeline.clone() };
    let journal = Journal::open_existing(&folder)?;
    let rows = journal.as_ref().map(|journal| journal.list(&filter)).transpose()?.unwrap_or_default();
    let mut listed = Vec::new();
    for row in rows {
        let questions = match &journal {
            Some(journal) if row.status == RunStatus::Waiting => {
                open_questions(journal, row.run, &journal.events(row.run)?)?
            }
            Some(_) | None => Vec::new(),
        };
        listed.push(ListedRun { row, questions });
    }
    if args.output == OutputFormat::Json {
        let list: Vec<_> = listed.iter().map(ListedRun::json).collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(ExitStatus::Success);
    }
    if listed.is_empty() {
        let all = args.status.is_none() && args.pipeline.is_none();
        ui.say(if all { "no runs yet" } else { "no such runs" });
    }
    let table = RunTable::of(&listed, ui.out_width());
    listed.iter().try_for_each(|run| table.tell(run, ui)).map(|()| ExitStatus::Success)
}

/// A run in the list, with what it asks.
struct ListedRun {
    row: RunRow,
    questions: Vec<ApprovalAsked>,
}

impl ListedRun {
    fn took(&self) -> String {
        let row = &self.row;
        row.ended.map_or_else(|| "-".to_owned(), |end| human::duration(human::between(row.started, end)))
    }

    fn json(&self) -> serde_json::Value {
        let mut json = row_json(&self.row);
        if !self.questions.is_empty() {
            let each = self.questions.iter().map(|asked| json!({ "step": asked.step, "question": asked.shown }));
            json["questions"] = each.collect();
        }
        json
    }
}

/// What stands before a question below its run.
const UNDER: &str = "    ";

/// The columns of the list.
struct RunTable {
    status: usize,
    took: usize,
    pipeline: usize,
    /// The columns of the terminal, if there is one: what goes elsewhere is whole.
    terminal: Option<usize>,
}

impl RunTable {
    /// What comes before the status, and the least that is left for the task.
    const BEFORE: usize = 12 + 2 + 16 + 2;
    const TASK: usize = 10;

    fn of(runs: &[ListedRun], terminal: Option<usize>) -> Self {
        let widest = |width: &dyn Fn(&ListedRun) -> usize| runs.iter().map(width).max().unwrap_or_default();
        let status = widest(&|run| run.row.status.as_str().len());
        let took = widest(&|run| run.took().len());
        let pipeline = widest(&|run| columns(&printable(&one_line(&run.row.pipeline))));
        let left = terminal.map(|width| width.saturating_sub(Self::BEFORE + status + 1 + took + 2 + 2 + Self::TASK));
        Self { status, took, pipeline: pipeline.min(left.unwrap_or(usize::MAX)), terminal }
    }

    fn tell(&self, run: &ListedRun, ui: &Ui) -> Result<(), SessionError> {
        let row = &run.row;
        let started = row.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        let status = format!("{:<width$}", row.status.as_str(), width = self.status);
        let status = match row.status {
            RunStatus::Completed => ui.out_style.good(status),
            RunStatus::Failed => ui.out_style.bad(status),
            RunStatus::Running | RunStatus::Waiting | RunStatus::Cancelled | RunStatus::Interrupted => {
                ui.out_style.warn(status)
            }
        };
        let pipeline = one_line(&row.pipeline);
        let pipeline = printable(&pipeline);
        let pipeline = padded(&fitted(&pipeline, self.pipeline), self.pipeline);
        let used = Self::BEFORE + self.status + 1 + self.took + 2 + self.pipeline + 2;
        let task = self.shown(row.task.as_deref().unwrap_or_default(), used);
        let line =
            format!("{}  {started}  {status} {:>took$}  {pipeline}  {task}", row.run, run.took(), took = self.took);
        let asks = run.questions.iter().map(|asked| {
            let who = format!("step {} asks: ", one_line(asked.step.as_str()));
            let question = self.shown(&asked.shown, UNDER.len() + columns(&who));
            format!("{who}{question}")
        });
        // What reads a pipe takes a line for a run.
        let between = if self.terminal.is_some() { format!("\n{UNDER}") } else { "  ".to_owned() };
        let line = std::iter::once(line.trim_end().to_owned()).chain(asks).collect::<Vec<_>>().join(&between);
        ui.text(&line)
    }

    /// A text in one line, as much of it as the terminal has room for.
    fn shown(&self, text: &str, used: usize) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = printable(&line);
        self.terminal.map_or_else(|| line.to_string(), |width| fitted(&line, width.saturating_sub(used)).into_owned())
    }
}

fn row_json(row: &RunRow) -> serde_json::Value {
    json!({
        "run": row.run.to_string(), "id": row.run.0.to_string(), "pipeline": row.pipeline, "file": row.file, "workspace": row.workspace,
        "task": row.task, "status": row.status, "started_at": row.started, "ended_at": row.ended,
    })
}
