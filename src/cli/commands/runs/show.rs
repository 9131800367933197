//! `orch runs show`: shows one run.

use std::borrow::Cow;

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::event::{CallEnded, CallOutput, Event, Fact, RunStatus};
use crate::model::visible::escape_line_breaks;
use crate::model::{ChatReply, ContentBlock, RunId, RunState, SandboxConnection, counted};
use crate::process::shorten_middle;
use crate::report::human;
use crate::report::summary::{NameColumn, render_step_line, render_summary};
use crate::session::project_state::{commands_for_journal, project_root};
use crate::session::{ExitStatus, SessionError};

use super::{find_run_or_latest, open_journal};

/// Show a run: its steps, their usage and their artifacts
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsShowArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Also print every recorded reply
    #[arg(long)]
    replies: bool,

    /// Print only the replies of this step and of the steps inside it
    #[arg(long, value_name = "STEP", requires = "replies")]
    step: Option<String>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsShowArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let journal = open_journal(&args.state, &project_root(&current_dir))?;
    let row = find_run_or_latest(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let mut state = RunState::fold(row.run, &events);
    match journal.live_status(row.run, state.status) {
        RunStatus::Interrupted => state.mark_interrupted(),
        status => state.status = status,
    }
    if args.output == OutputFormat::Json {
        let mut report = serde_json::to_value(state.report())?;
        if args.replies {
            report["calls"] = selected_calls(args, &events)?.into_iter().map(call_json).collect();
        }
        ui.write_data(&format!("{report:#}"))?;
        return Ok(ExitStatus::Success);
    }
    if let Some(task) = state.inputs.get("task").and_then(serde_json::Value::as_str) {
        const LABEL: &str = "task: ";
        let task = match ui.stdout_width() {
            Some(width) => human::first_line(task, width.saturating_sub(LABEL.len())),
            None => human::on_one_line(task),
        };
        ui.write_text(&format!("{LABEL}{task}"))?;
    }
    let name_column = NameColumn::from_steps(&state).fit_to_terminal(ui.stdout_width());
    for step in state.steps_in_file_order() {
        ui.write_text(&render_step_line(step, name_column, ui.stdout_style))?;
    }
    let commands = commands_for_journal(journal.state_folder(), &current_dir, &ui.commands);
    ui.write_text(render_summary(&state, ui.stdout_style, ui.stdout_width(), &current_dir, &commands).trim_end())?;
    if args.replies {
        selected_calls(args, &events)?.into_iter().try_for_each(|call| print_call(call, row.run, ui))?;
    }
    Ok(ExitStatus::Success)
}

/// The calls that the options select, in recorded order.
fn selected_calls<'e>(args: &RunsShowArgs, events: &'e [Event]) -> Result<Vec<&'e CallEnded>, SessionError> {
    let to_ended_call = |event: &'e Event| if let Fact::CallEnded(call) = &event.fact { Some(call) } else { None };
    let calls: Vec<&CallEnded> = events.iter().filter_map(to_ended_call).collect();
    let Some(step) = &args.step else { return Ok(calls) };
    let is_selected = |name: &str| {
        name.strip_prefix(step.as_str()).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['/', '[']))
    };
    let (selected, other_calls): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|call| is_selected(&call.call.step.to_string()));
    if selected.is_empty() {
        let mut names: Vec<String> = other_calls.iter().map(|call| format!("`{}`", call.call.step)).collect();
        names.dedup();
        names.truncate(20);
        let error = SessionError::usage(format!("the run has no reply from a step `{step}`"));
        return Err(if names.is_empty() {
            error
        } else {
            error.with_hint(format!("it has replies from {}", names.join(", ")))
        });
    }
    Ok(selected)
}

/// The maximum size in bytes of a reply on a terminal. orch omits the middle of a longer reply.
const MAX_TERMINAL_BYTES: usize = 64 << 10;

fn print_call(call: &CallEnded, run: RunId, ui: &Ui) -> Result<()> {
    let text = match (&call.reply, &call.output, &call.failure) {
        (Some(reply), _, _) => reply_text(reply),
        (None, Some(output), _) => output.full_text(),
        (None, None, Some(failure)) => failure.to_string(),
        (None, None, None) => String::new(),
    };
    let model = match (&call.model, &call.output) {
        (Some(model), _) => model.to_string(),
        (None, Some(CallOutput::Tool(output))) => format!("{} {}", output.tool, output.arguments).trim_end().to_owned(),
        (None, _) if call.call.tool_call.is_some() => "tool".to_owned(),
        (None, _) => "no model".to_owned(),
    };
    let model = escape_line_breaks(&model);
    let text = shorten_middle(&text, if ui.stdout_is_terminal { MAX_TERMINAL_BYTES } else { usize::MAX });
    ui.write_text(&format!("\n{} {} ({model})\n{text}", ui.stdout_style.bold("call"), call.call))?;
    if matches!(text, Cow::Owned(_)) {
        let step = call.call.step.declared_key();
        let command = ui.commands.with_options(format!("orch runs show {run} --replies --step '{step}'"));
        ui.write_text(&ui.stdout_style.dim(format!("`{command} > FILE` writes the whole reply to a file")))?;
    }
    if let Some(note) = call.reply.as_ref().and_then(|reply| reply.details.beside.as_ref()) {
        ui.write_text(&ui.stdout_style.dim(format!("with the reply, the server sent: {note}")))?;
    }
    let mut lines = activity_lines(call).into_iter().chain(sandbox_lines(call));
    lines.try_for_each(|line| ui.write_text(&ui.stdout_style.dim(&line)))
}

/// The text of a reply, and a line for each tool call in it.
fn reply_text(reply: &ChatReply) -> String {
    let mut lines = vec![reply.text().into_owned()];
    lines.retain(|text| !text.is_empty());
    lines.extend(reply.content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, arguments, .. } => Some(format!("[calls {name}] {arguments}")),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    }));
    lines.join("\n")
}

/// Describes the sandbox of the call's program: the level, the limit that it reached, what orch did not enforce,
/// and the connections.
fn sandbox_lines(call: &CallEnded) -> Vec<String> {
    let Some(sandbox) = &call.sandbox else { return Vec::new() };
    let add_label = |label: &str, text: &str| format!("{label:<8} {}", escape_line_breaks(text));
    let mut lines = vec![add_label("sandbox", &sandbox.summary())];
    lines.extend(sandbox.limit.iter().map(|limit| add_label("limit", limit)));
    lines.extend(sandbox.unenforced.iter().map(|sentence| add_label("caveat", sentence)));
    lines.extend(sandbox.changed_protected.iter().map(|path| add_label("changed", path)));
    lines.extend(sandbox.damage.iter().map(|damage| add_label("damage", damage)));
    for connection in &sandbox.connections {
        let SandboxConnection { host, port, sent, received, refused, failed } = connection;
        let outcome = match (refused, failed) {
            (Some(reason), _) => format!("refused: {reason}"),
            (None, Some(reason)) => format!("failed: {reason}"),
            (None, None) => format!("{} sent, {received} received", counted(*sent, "byte")),
        };
        lines.push(add_label("connect", &format!("{host}:{port}, {outcome}")));
    }
    if sandbox.omitted_connections > 0 {
        lines.push(add_label("connect", &counted(sandbox.omitted_connections, "more connection")));
    }
    lines
}

/// Describes the activity of a CLI agent or the changes of a tool, with one line for each action or file.
fn activity_lines(call: &CallEnded) -> Vec<String> {
    let Some(activity) = call.activity() else { return Vec::new() };
    let add_label =
        |label: &'static str, lines: &[String]| lines.iter().map(|line| format!("{label:<8} {line}")).collect();
    let mut lines: Vec<String> = add_label("tool", &activity.tools);
    lines.extend::<Vec<String>>(add_label("denied", &activity.denied));
    lines.extend::<Vec<String>>(add_label("changed", &activity.changed));
    if activity.partial {
        lines.push("the list of changed files is incomplete, because there were too many files".to_owned());
    }
    let session = call.session();
    lines.extend(session.map(|session| format!("{:<8} {session}", "session")));
    if !call.usage().is_empty() {
        lines.push(format!("{:<8} {}", "cost", human::format_cost(call.cost_total())));
    }
    lines
}

fn call_json(call: &CallEnded) -> serde_json::Value {
    json!({
        "call": call.call.to_string(), "model": call.model.as_ref().map(ToString::to_string), "started_at": call.started, "ended_at": call.ended,
        "reply": call.reply, "output": call.output, "agent_activity": call.agent_activity, "sandbox": call.sandbox, "failure": call.failure, "usage": call.usage(), "cost_usd": call.cost, "estimated_cost_usd": call.estimated_cost,
    })
}
