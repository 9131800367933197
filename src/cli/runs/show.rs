//! `orch runs show`: one run as it stands.

use serde_json::json;

use crate::cli::error::{CliError, Code};
use crate::cli::report::{Output, printed_commands};
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::RunState;
use crate::model::event::{CallEnded, Done, Fact, RunStatus};
use crate::report::human;
use crate::report::summary::{step_line, summary};

use super::{journal, pick, root};

/// Show a run: its steps, what they used and where their artifacts are
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
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

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let here = here()?;
    let journal = journal(&args.state, &root(&here))?;
    let row = pick(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let mut state = RunState::fold(row.run, &events);
    match journal.live_status(row.run, state.status) {
        RunStatus::Interrupted => state.interrupt(),
        status => state.status = status,
    }
    if args.output == Output::Json {
        let mut report = serde_json::to_value(state.report()).map_err(|error| CliError::internal(error.to_string()))?;
        if args.replies {
            report["calls"] = events.iter().filter_map(|event| call_json(&event.fact)).collect();
        }
        ui.data(&format!("{report:#}"))?;
        return Ok(Code::Ok);
    }
    if let Some(task) = state.inputs.get("task").and_then(serde_json::Value::as_str) {
        ui.text(&format!("task: {}", human::first_line(task, 74)))?;
    }
    for step in state.in_order() {
        ui.text(&step_line(step, ui.out_style))?;
    }
    ui.text(summary(&state, ui.out_style, &here, &printed_commands(journal.state(), &here, &ui.commands)).trim_end())?;
    for event in events.iter().filter(|_| args.replies) {
        if let Fact::CallEnded(call) = &event.fact {
            let text = match (&call.reply, &call.done, &call.failure) {
                (Some(reply), _, _) => reply.text.clone(),
                (None, Some(done), _) => words(done),
                (None, None, Some(failure)) => failure.to_string(),
                (None, None, None) => String::new(),
            };
            ui.text(&format!(
                "\n{} {} ({})\n{text}",
                ui.out_style.strong("call"),
                call.call,
                call.model.as_ref().map_or_else(|| "no model".to_owned(), ToString::to_string)
            ))?;
            for line in work(call) {
                ui.text(&ui.out_style.dim(&line))?;
            }
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

fn call_json(fact: &Fact) -> Option<serde_json::Value> {
    let Fact::CallEnded(call) = fact else { return None };
    Some(json!({
        "call": call.call.to_string(), "model": call.model.as_ref().map(ToString::to_string), "started_at": call.started, "ended_at": call.ended,
        "reply": call.reply, "done": call.done, "work": call.work, "failure": call.failure, "usage": call.usage(), "cost_usd": call.cost, "estimated_cost_usd": call.estimated_cost,
    }))
}
