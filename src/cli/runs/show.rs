//! `orch runs show`: one run as it stands.

use std::borrow::Cow;

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::event::{CallEnded, CallOutput, Event, Fact, RunStatus};
use crate::model::{RunId, RunState};
use crate::process::beginning_and_end;
use crate::report::human;
use crate::report::summary::{NameColumn, step_line, summary};
use crate::session::project_state::printed_commands;
use crate::session::{ExitStatus, SessionError};

use super::{journal, pick, root};

/// Show a run: its steps, what they used and where their artifacts are
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsShowArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Also print every recorded reply as it came
    #[arg(long)]
    replies: bool,

    /// Of the replies, print only those of this step and of the steps inside it
    #[arg(long, value_name = "STEP", requires = "replies")]
    step: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsShowArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let journal = journal(&args.state, &root(&here))?;
    let row = pick(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let mut state = RunState::fold(row.run, &events);
    match journal.live_status(row.run, state.status) {
        RunStatus::Interrupted => state.interrupt(),
        status => state.status = status,
    }
    if args.output == OutputFormat::Json {
        let mut report =
            serde_json::to_value(state.report()).map_err(|error| SessionError::internal(error.to_string()))?;
        if args.replies {
            report["calls"] = calls(args, &events)?.into_iter().map(call_json).collect();
        }
        ui.data(&format!("{report:#}"))?;
        return Ok(ExitStatus::Success);
    }
    if let Some(task) = state.inputs.get("task").and_then(serde_json::Value::as_str) {
        ui.text(&format!("task: {}", human::first_line(task, 74)))?;
    }
    let names = NameColumn::of_steps(&state).within(ui.out_width());
    for step in state.in_order() {
        ui.text(&step_line(step, names, ui.out_style))?;
    }
    let commands = printed_commands(journal.state(), &here, &ui.commands);
    ui.text(summary(&state, ui.out_style, ui.out_width(), &here, &commands).trim_end())?;
    if args.replies {
        calls(args, &events)?.into_iter().try_for_each(|call| tell(call, row.run, ui))?;
    }
    Ok(ExitStatus::Success)
}

/// The calls that are asked for, in order.
fn calls<'e>(args: &RunsShowArgs, events: &'e [Event]) -> Result<Vec<&'e CallEnded>, SessionError> {
    let ended = |event: &'e Event| if let Fact::CallEnded(call) = &event.fact { Some(call) } else { None };
    let all: Vec<&CallEnded> = events.iter().filter_map(ended).collect();
    let Some(step) = &args.step else { return Ok(all) };
    let is_within = |name: &str| {
        name.strip_prefix(step.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
    };
    let (of_step, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|call| is_within(&call.call.step.to_string()));
    if of_step.is_empty() {
        let mut names: Vec<String> = others.iter().map(|call| format!("`{}`", call.call.step)).collect();
        names.dedup();
        names.truncate(20);
        let error = SessionError::usage(format!("the run has no reply of a step `{step}`"));
        return Err(if names.is_empty() { error } else { error.hint(format!("it has those of {}", names.join(", "))) });
    }
    Ok(of_step)
}

/// The most that a terminal is shown of one reply, in bytes: half of it from the beginning and half from the end.
const MOST_ON_A_TERMINAL: usize = 64 << 10;

fn tell(call: &CallEnded, run: RunId, ui: &Ui) -> Result<(), SessionError> {
    let text = match (&call.reply, &call.output, &call.failure) {
        (Some(reply), _, _) => reply.text.clone(),
        (None, Some(done), _) => words(done),
        (None, None, Some(failure)) => failure.to_string(),
        (None, None, None) => String::new(),
    };
    let model = call.model.as_ref().map_or_else(|| "no model".to_owned(), ToString::to_string);
    let text = beginning_and_end(&text, if ui.out_terminal { MOST_ON_A_TERMINAL } else { usize::MAX });
    ui.text(&format!("\n{} {} ({model})\n{text}", ui.out_style.strong("call"), call.call))?;
    if matches!(text, Cow::Owned(_)) {
        let step = call.call.step.place();
        let all = ui.commands.of(format!("orch runs show {run} --replies --step '{step}'"));
        ui.text(&ui.out_style.dim(format!("`{all} > FILE` writes all of it to a file")))?;
    }
    if let Some(beside) = call.reply.as_ref().and_then(|reply| reply.remarks.beside.as_ref()) {
        ui.text(&ui.out_style.dim(format!("beside the reply the server said: {beside}")))?;
    }
    work(call).iter().try_for_each(|line| ui.text(&ui.out_style.dim(line)))
}

/// What a call did that asked no model.
fn words(done: &CallOutput) -> String {
    match done {
        CallOutput::Command(done) if done.stderr.is_empty() => format!("exit code {}\n{}", done.exit_code, done.stdout),
        CallOutput::Command(done) => {
            let end = if done.stdout.is_empty() || done.stdout.ends_with('\n') { "" } else { "\n" };
            format!("exit code {}\n{}{end}standard error:\n{}", done.exit_code, done.stdout, done.stderr)
        }
        CallOutput::Snapshot(record) | CallOutput::Applied(record) => format!("{record:#}"),
    }
}

/// What an agent program did beside its answer, a line each.
fn work(call: &CallEnded) -> Vec<String> {
    let Some(work) = call.did() else { return Vec::new() };
    let each = |word: &'static str, list: &[String]| list.iter().map(|line| format!("{word:<8} {line}")).collect();
    let mut lines: Vec<String> = each("tool", &work.tools);
    lines.extend::<Vec<String>>(each("denied", &work.denied));
    lines.extend::<Vec<String>>(each("changed", &work.changed));
    if work.partial {
        lines.push("there were too many files to tell all that changed".to_owned());
    }
    let session = call.session();
    lines.extend(session.map(|session| format!("{:<8} {session}", "session")));
    if !call.usage().is_nothing() {
        lines.push(format!("{:<8} {}", "cost", human::cost(call.cost_total())));
    }
    lines
}

fn call_json(call: &CallEnded) -> serde_json::Value {
    json!({
        "call": call.call.to_string(), "model": call.model.as_ref().map(ToString::to_string), "started_at": call.started, "ended_at": call.ended,
        "reply": call.reply, "output": call.output, "agent_activity": call.agent_activity, "failure": call.failure, "usage": call.usage(), "cost_usd": call.cost, "estimated_cost_usd": call.estimated_cost,
    })
}
