//! `orch runs`: past runs, and what they did.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::config;
use crate::model::event::{Done, Fact};
use crate::model::{RunState, RunStatus};
use crate::report::human;
use crate::report::summary::{step_line, summary};
use crate::store::{Journal, RunRow};

use super::error::{CliError, Code};
use super::report::{Output, resume_command};
use super::ui::Ui;
use super::{State, here};

/// List past runs and show what they did
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List runs, the latest first
    List(List),
    /// Show a run: its steps, what they used and where their artifacts are
    Show(Show),
    /// Say yes to what a run asks
    Approve(super::answer::Args),
    /// Say no to what a run asks
    Reject(super::answer::Args),
    /// Deliver runs to the trackers of orch.yaml
    Track(super::track::Args),
}

/// List runs, the latest first
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
    limit: usize,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,

    #[command(flatten)]
    state: State,
}

/// Show a run: its steps, what they used and where their artifacts are
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Also print every recorded reply as it came
    #[arg(long)]
    replies: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(command: &Runs, ui: &mut Ui) -> Result<Code, CliError> {
    match command {
        Runs::List(args) => list(args, ui),
        Runs::Show(args) => show(args, ui),
        Runs::Approve(args) => super::answer::run(args, true, ui),
        Runs::Reject(args) => super::answer::run(args, false, ui),
        Runs::Track(args) => super::track::run(args, ui),
    }
}

/// The root of the project that the current folder belongs to.
pub(super) fn root(here: &Path) -> PathBuf {
    let marked =
        here.ancestors().find(|folder| folder.join("orch.yaml").is_file() || folder.join("pipelines").is_dir());
    marked.map_or_else(|| config::find_root(&here.join("pipeline.yaml")), Path::to_owned)
}

/// The pipeline files of a root, absolute.
pub(super) fn pipelines(root: &Path) -> Vec<PathBuf> {
    config::list_pipelines(root).iter().map(|name| root.join(name)).collect()
}

/// The journal of a project, which must be there.
pub(super) fn journal(state: &State, root: &Path) -> Result<Journal, CliError> {
    let folder = state.folder(root);
    Journal::open_existing(&folder)?.ok_or_else(|| {
        CliError::could_not(format!("there are no runs in `{}`", folder.display()))
            .hint("go to the project's folder, or give its journal with --state")
    })
}

/// The one run of a name.
pub(super) fn find(journal: &Journal, name: &str) -> Result<RunRow, CliError> {
    let mut rows = journal.find(name)?;
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(CliError::could_not(format!("there is no run `{name}`")).hint("`orch runs list` shows past runs")),
        _ => {
            let names: Vec<String> = rows.iter().map(|row| row.run.to_string()).collect();
            Err(CliError::could_not(format!("`{name}` may be {}", names.join(" or "))).hint("give more of the id"))
        }
    }
}

fn list(args: &List, ui: &Ui) -> Result<Code, CliError> {
    let folder = args.state.folder(&root(&here()?));
    let rows = match Journal::open_existing(&folder)? {
        Some(journal) => journal.runs(args.limit)?,
        None => Vec::new(),
    };
    if args.output == Output::Json {
        let list: Vec<_> = rows.iter().map(row_json).collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(Code::Ok);
    }
    if rows.is_empty() {
        ui.say("no runs yet");
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
        ui.data(format!("{}  {started}  {status} {took:>7}  {}  {task}", row.run, row.pipeline).trim_end())?;
    }
    Ok(Code::Ok)
}

fn row_json(row: &RunRow) -> serde_json::Value {
    json!({
        "run": row.run.to_string(), "id": row.run.0.to_string(), "pipeline": row.pipeline, "file": row.file, "workspace": row.workspace,
        "task": row.task, "status": row.status, "started_at": row.started, "ended_at": row.ended,
    })
}

fn show(args: &Show, ui: &Ui) -> Result<Code, CliError> {
    let here = here()?;
    let journal = journal(&args.state, &root(&here))?;
    let row = match &args.run {
        Some(name) => find(&journal, name)?,
        None => journal.runs(1)?.into_iter().next().ok_or_else(|| CliError::could_not("there are no runs yet"))?,
    };
    let events = journal.events(row.run)?;
    let mut state = RunState::fold(row.run, &events);
    state.status = journal.live_status(row.run, state.status);
    if args.output == Output::Json {
        let mut report = serde_json::to_value(state.report()).map_err(|error| CliError::internal(error.to_string()))?;
        if args.replies {
            report["calls"] = events.iter().filter_map(|event| call_json(&event.fact)).collect();
        }
        ui.data(&format!("{report:#}"))?;
        return Ok(Code::Ok);
    }
    if let Some(task) = state.inputs.get("task").and_then(serde_json::Value::as_str) {
        ui.data(&format!("task: {}", human::first_line(task, 74)))?;
    }
    for step in state.in_order() {
        ui.data(&step_line(step, ui.out_style))?;
    }
    ui.data(summary(&state, ui.out_style, &here, &resume_command(row.run, journal.state(), &here)).trim_end())?;
    for event in events.iter().filter(|_| args.replies) {
        if let Fact::CallEnded(call) = &event.fact {
            let text = match (&call.reply, &call.done, &call.failure) {
                (Some(reply), _, _) => reply.text.clone(),
                (None, Some(done), _) => words(done),
                (None, None, Some(failure)) => failure.to_string(),
                (None, None, None) => String::new(),
            };
            ui.data(&format!(
                "\n{} {} ({})\n{text}",
                ui.out_style.strong("call"),
                call.call,
                call.model.as_ref().map_or_else(|| "no model".to_owned(), ToString::to_string)
            ))?;
        }
    }
    Ok(Code::Ok)
}

/// What a call did that asked no model.
fn words(done: &Done) -> String {
    match done {
        Done::Command(done) => format!("exit code {}\n{}{}", done.exit_code, done.stdout, done.stderr),
        Done::Looked(record) | Done::Written(record) => format!("{record:#}"),
    }
}

fn call_json(fact: &Fact) -> Option<serde_json::Value> {
    let Fact::CallEnded(call) = fact else { return None };
    Some(json!({
        "call": call.call.to_string(), "model": call.model.as_ref().map(ToString::to_string), "started_at": call.started, "ended_at": call.ended,
        "reply": call.reply, "done": call.done, "failure": call.failure, "cost_usd": call.cost,
    }))
}
