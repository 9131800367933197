//! `orch runs list`: lists runs, the latest first.

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::RunStatus;
use crate::model::event::ApprovalAsked;
use crate::model::visible::escape_line_breaks;
use crate::report::width::{display_width, pad_end, truncate_end};
use crate::report::{human, to_printable};
use crate::runner::project_state::project_root;
use crate::runner::run_recording::required_options;
use crate::runner::{AnsweredQuestion, ExitStatus, RunQuestions};
use crate::store::{Journal, RunFilter, RunRow};

/// List runs, the latest first
///
/// For a run that waits for an approval, orch also prints the open questions, and the answers with which a resume
/// continues the run. On a terminal, orch truncates lines to the width of the terminal. In a pipe or a file, it prints
/// the full task and questions.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsListArgs {
    /// The maximum number of runs
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT", value_parser = parse_limit)]
    limit: usize,

    /// List only runs with this status
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<StatusFilter>,

    /// List only runs of the pipeline with this name
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

/// Parses a limit of at least one.
fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("the limit must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("`{text}` is not a number")),
    }
}

/// The status of the runs to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StatusFilter {
    /// A process executes the run
    Running,
    /// The run waits for an approval
    Waiting,
    /// The run completed
    Completed,
    /// A step failed, or `success` is false
    Failed,
    /// The user stopped the run
    Cancelled,
    /// The process died before the run ended
    Interrupted,
}

impl From<StatusFilter> for RunStatus {
    fn from(status: StatusFilter) -> Self {
        match status {
            StatusFilter::Running => Self::Running,
            StatusFilter::Waiting => Self::Waiting,
            StatusFilter::Completed => Self::Completed,
            StatusFilter::Failed => Self::Failed,
            StatusFilter::Cancelled => Self::Cancelled,
            StatusFilter::Interrupted => Self::Interrupted,
        }
    }
}

pub(super) fn run(args: &RunsListArgs, ui: &Ui) -> Result<ExitStatus> {
    let folder = args.state.folder(&project_root(&current_dir()?));
    let filter =
        RunFilter { limit: args.limit, status: args.status.map(RunStatus::from), pipeline: args.pipeline.clone() };
    let journal = Journal::open_existing(&folder)?;
    let rows = journal.as_ref().map(|journal| journal.list_runs(&filter)).transpose()?.unwrap_or_default();
    let mut listed_runs = Vec::new();
    for row in rows {
        let questions = match &journal {
            Some(journal) if row.status == RunStatus::Waiting => {
                RunQuestions::read(journal, row.run, &journal.events(row.run)?)?
            }
            Some(_) | None => RunQuestions::default(),
        };
        let resume = match &journal {
            Some(journal) if questions.open.is_empty() && !questions.answered.is_empty() => {
                let commands = ui.commands.clone().with_resume_options(required_options(journal, row.run)?);
                Some(commands.resume(row.run))
            }
            Some(_) | None => None,
        };
        listed_runs.push(ListedRun { row, questions, resume });
    }
    if args.output == OutputFormat::Json {
        let runs: Vec<_> = listed_runs.iter().map(ListedRun::to_json).collect();
        ui.write_data(&format!("{:#}", serde_json::Value::from(runs)))?;
        return Ok(ExitStatus::Success);
    }
    if listed_runs.is_empty() {
        let is_unfiltered = args.status.is_none() && args.pipeline.is_none();
        ui.print_message(if is_unfiltered { "no runs yet" } else { "no runs match" });
    }
    let table = RunTable::new(&listed_runs, ui.stdout_width());
    listed_runs.iter().try_for_each(|run| table.print_row(run, ui)).map(|()| ExitStatus::Success)
}

/// A run in the list, with its open questions.
struct ListedRun {
    row: RunRow,
    questions: RunQuestions,
    /// The command that continues the run, if all its questions have answers.
    resume: Option<String>,
}

impl ListedRun {
    fn format_duration(&self) -> String {
        let row = &self.row;
        row.ended
            .map_or_else(|| "-".to_owned(), |end| human::format_duration(human::duration_between(row.started, end)))
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = run_json(&self.row);
        let question_json = |asked: &ApprovalAsked| json!({ "step": asked.step, "question": asked.question });
        if !self.questions.open.is_empty() {
            json["questions"] = self.questions.open.iter().map(question_json).collect();
        }
        if !self.questions.answered.is_empty() {
            let answered = self.questions.answered.iter().map(|AnsweredQuestion { asked, answer }| {
                let mut question = question_json(asked);
                question["answer"] = json!(answer.answer);
                question
            });
            json["answered_questions"] = answered.collect();
        }
        json
    }
}

/// The indent of a question below its run.
const QUESTION_INDENT: &str = "    ";

/// Prints runs as a table.
struct RunTable {
    status_width: usize,
    duration_width: usize,
    pipeline_width: usize,
    /// The number of columns of the terminal. If the output is not a terminal, this is `None`, and orch truncates no
    /// lines.
    terminal_columns: Option<usize>,
}

impl RunTable {
    /// The total width of the columns before the status: the id and the start time, each with two spaces.
    const PREFIX_WIDTH: usize = 12 + 2 + 16 + 2;
    /// The minimum width of the task.
    const MIN_TASK_WIDTH: usize = 10;

    fn new(runs: &[ListedRun], terminal_columns: Option<usize>) -> Self {
        let max_width = |width: &dyn Fn(&ListedRun) -> usize| runs.iter().map(width).max().unwrap_or_default();
        let status_width = max_width(&|run| run.row.status.as_str().len());
        let duration_width = max_width(&|run| run.format_duration().len());
        let longest_pipeline = max_width(&|run| display_width(&to_printable(&escape_line_breaks(&run.row.pipeline))));
        let available_width = terminal_columns.map(|width| {
            width.saturating_sub(Self::PREFIX_WIDTH + status_width + 1 + duration_width + 2 + 2 + Self::MIN_TASK_WIDTH)
        });
        let pipeline_width = longest_pipeline.min(available_width.unwrap_or(usize::MAX));
        Self { status_width, duration_width, pipeline_width, terminal_columns }
    }

    fn print_row(&self, run: &ListedRun, ui: &Ui) -> Result<()> {
        let row = &run.row;
        let started = row.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        let status = format!("{:<width$}", row.status.as_str(), width = self.status_width);
        let status = match row.status {
            RunStatus::Completed => ui.stdout_style.success(status),
            RunStatus::Failed => ui.stdout_style.error(status),
            RunStatus::Running | RunStatus::Waiting | RunStatus::Cancelled | RunStatus::Interrupted => {
                ui.stdout_style.warning(status)
            }
        };
        let pipeline = escape_line_breaks(&row.pipeline);
        let pipeline = to_printable(&pipeline);
        let pipeline = pad_end(&truncate_end(&pipeline, self.pipeline_width), self.pipeline_width);
        let used_width = Self::PREFIX_WIDTH + self.status_width + 1 + self.duration_width + 2 + self.pipeline_width + 2;
        let task = self.fit_to_line(row.task.as_deref().unwrap_or_default(), used_width);
        let columns = format!(
            "{}  {started}  {status} {:>width$}  {pipeline}  ",
            row.run,
            run.format_duration(),
            width = self.duration_width
        );
        let questions = run.questions.open.iter().map(|question| {
            let label = format!("step `{}` asks: ", escape_line_breaks(question.step.as_str()));
            let text = self.fit_to_line(&question.question, QUESTION_INDENT.len() + display_width(&label));
            (label, text)
        });
        let answers = run.questions.answered.iter().map(|AnsweredQuestion { asked, answer }| {
            let label = format!("step `{}` was ", escape_line_breaks(asked.step.as_str()));
            let text = self.fit_to_line(&answer.answer.summary(), QUESTION_INDENT.len() + display_width(&label));
            (label, text)
        });
        let resume = run.resume.as_ref().map(|command| (String::new(), format!("`{command}` continues the run")));
        let mut details = questions.chain(answers).chain(resume);
        if self.terminal_columns.is_none() {
            // Without a terminal, print one line for each run, so that scripts can process the list.
            let details: String = details.map(|(label, text)| format!("  {label}{text}")).collect();
            let run = format!("{columns}{task}");
            return ui.write_text(&format!("{}{details}", run.trim_end()));
        }
        ui.write_row(&columns, &task)?;
        details.try_for_each(|(label, text)| ui.write_row(&format!("{QUESTION_INDENT}{label}"), &text))
    }

    /// Joins the lines of a text, and truncates the text to the remaining width of the terminal.
    fn fit_to_line(&self, text: &str, used_width: usize) -> String {
        let line = human::on_one_line(text);
        let line = to_printable(&line);
        self.terminal_columns.map_or_else(
            || line.to_string(),
            |width| truncate_end(&line, width.saturating_sub(used_width)).into_owned(),
        )
    }
}

fn run_json(row: &RunRow) -> serde_json::Value {
    json!({
        "run": row.run.to_string(), "id": row.run.0.to_string(), "pipeline": row.pipeline, "file": row.file, "workspace": row.workspace,
        "task": row.task, "status": row.status, "started_at": row.started, "ended_at": row.ended,
    })
}
