//! `orch runs show`: shows one run.

mod calls;

use std::borrow::Cow;

use anyhow::Result;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::event::{CallEnded, CallOutput, Event, RunStatus};
use crate::model::visible::{escape_line_breaks, one_line};
use crate::model::{ChatReply, ContentBlock, RunId, RunState, SandboxConnection, counted};
use crate::process::shorten_middle;
use crate::report::human;
use crate::report::summary::{NameColumn, render_step_line, render_summary};
use crate::runner::project_state::{commands_for_journal, project_root};
use crate::runner::run_recording::required_options;
use crate::runner::{ExitStatus, RunQuestions, RunnerError};
use crate::store::LockHolder;

use super::{find_run_or_latest, open_journal};
use calls::{ShownCall, call_json, required_input, shown_calls, tool_output};

/// Show a run: its steps, their usage and their artifacts
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsShowArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Also print every recorded reply, and every tool call with the result that the model received
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
    // The owner comes first: if it ends the run now, the events contain the end.
    let owner = journal.run_owner(row.run);
    let events = journal.events(row.run)?;
    let mut state = RunState::fold(row.run, &events);
    if state.status == RunStatus::Running && owner.is_none() {
        state.mark_interrupted();
    }
    let questions = RunQuestions::read(&journal, row.run, &events)?;
    questions.answered.iter().for_each(|question| state.add_pending_answer(&question.answer));
    if args.output == OutputFormat::Json {
        let mut report = serde_json::to_value(state.report())?;
        if args.replies {
            report["calls"] = selected_calls(args, &events)?.iter().map(call_json).collect();
        }
        ui.write_data(&format!("{report:#}"))?;
        return Ok(ExitStatus::Success);
    }
    if let Some(task) = state.inputs.get("task").and_then(serde_json::Value::as_str) {
        const LABEL: &str = "task: ";
        let task = match ui.stdout_width() {
            Some(width) => one_line(task, width.saturating_sub(LABEL.len())),
            None => human::on_one_line(task),
        };
        ui.write_text(&format!("{LABEL}{task}"))?;
    }
    let name_column = NameColumn::from_steps(&state).fit_to_terminal(ui.stdout_width());
    for step in state.steps_in_file_order() {
        ui.write_text(&render_step_line(step, name_column, ui.stdout_style))?;
    }
    let commands = commands_for_journal(journal.state_folder(), &current_dir, &ui.commands)
        .with_resume_options(required_options(&journal, row.run)?);
    let owner = owner.as_ref().map(LockHolder::process);
    let summary = render_summary(&state, owner, ui.stdout_style, ui.stdout_width(), &current_dir, &commands);
    ui.write_text(summary.trim_end())?;
    if args.replies {
        selected_calls(args, &events)?.iter().try_for_each(|call| print_call(call, row.run, ui))?;
    }
    Ok(ExitStatus::Success)
}

/// The calls that the options select, in the order of the conversations.
fn selected_calls<'e>(args: &RunsShowArgs, events: &'e [Event]) -> Result<Vec<ShownCall<'e>>, RunnerError> {
    let calls = shown_calls(events);
    let Some(step) = &args.step else { return Ok(calls) };
    let is_selected = |name: &str| {
        name.strip_prefix(step.as_str()).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['/', '[']))
    };
    let (selected, other_calls): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|call| is_selected(call.key.step.as_str()));
    if selected.is_empty() {
        let mut names: Vec<String> = other_calls.iter().map(|call| format!("`{}`", call.key.step)).collect();
        names.dedup();
        names.truncate(20);
        let error = RunnerError::usage(format!("the run has no reply from a step `{step}`"));
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

fn print_call(call: &ShownCall<'_>, run: RunId, ui: &Ui) -> Result<()> {
    let (text, performer) = (call_text(call), performer_label(call));
    let is_error = match (call.result, call.ended.and_then(tool_output)) {
        (Some(result), _) => result.is_error,
        (None, output) => output.is_some_and(|output| output.is_error),
    };
    let failed = if is_error { ", failed" } else { "" };
    let text = shorten_middle(&text, if ui.stdout_is_terminal { MAX_TERMINAL_BYTES } else { usize::MAX });
    ui.write_text(&format!("\n{} {} ({performer}){failed}\n{text}", ui.stdout_style.bold("call"), call.key))?;
    let step = call.key.step.declared_key();
    let command = ui.commands.with_options(format!("orch runs show {run} --replies --step '{step}'"));
    if matches!(text, Cow::Owned(_)) {
        ui.write_text(&ui.stdout_style.dim(format!("`{command} > FILE` writes the whole reply to a file")))?;
    }
    let Some(ended) = call.ended else { return Ok(()) };
    // A step that calls a tool itself gets the whole output.
    if let Some(output) = tool_output(ended).filter(|_| call.key.tool_call.is_some())
        && let Some(full_output) = &output.full_output
    {
        let (received, all) = (output.content.len(), full_output.len());
        ui.write_text(&ui.stdout_style.dim(format!(
            "the model received {received} of {all} bytes; `{command} --output json` has all of them as `full_output`"
        )))?;
    }
    if let Some(note) = ended.reply.as_ref().and_then(|reply| reply.details.beside.as_ref()) {
        let note = escape_line_breaks(note);
        ui.write_text(&ui.stdout_style.dim(format!("with the reply, the server sent: {note}")))?;
    }
    let elided = call.elided_results.iter().map(|result| format!("#{}.{}", result.ordinal, result.tool_call));
    let elided: Vec<String> = elided.collect();
    if !elided.is_empty() {
        let text = format!("the request leaves out the results of {}", elided.join(", "));
        CallDetail::new("elided", &text).print(ui)?;
    }
    activity_details(ended).iter().chain(&sandbox_details(ended)).try_for_each(|detail| detail.print(ui))
}

/// A line below the text of a call.
struct CallDetail {
    /// What the line is about; empty for a line without a label.
    label: &'static str,
    text: String,
}

impl CallDetail {
    fn new(label: &'static str, text: &str) -> Self {
        Self { label, text: escape_line_breaks(text).into_owned() }
    }

    /// The first column, with the spaces after it.
    fn column(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("{:<8} ", self.label) }
    }

    fn print(&self, ui: &Ui) -> Result<()> {
        let (style, column) = (ui.stdout_style, self.column());
        let column = if column.is_empty() { column } else { style.dim(column) };
        ui.write_row(&column, &style.dim(&self.text))
    }
}

/// The reply or the output of a call, or why it has none; for a tool call of a model the result that it received.
fn call_text<'c>(call: &ShownCall<'c>) -> Cow<'c, str> {
    let failure = call.ended.and_then(|ended| ended.failure.as_ref());
    if let (None, Some(input)) = (&call.result, call.ended.and_then(required_input)) {
        let messages = input.questions.values().map(|question| question.message.as_str());
        let lines: Vec<&str> = std::iter::once("the server asks for input:").chain(messages).collect();
        return Cow::Owned(lines.join("\n"));
    }
    if call.key.tool_call.is_some() {
        return match (&call.result, failure) {
            (Some(result), _) => result.text(),
            (None, Some(failure)) => Cow::Owned(format!("the model received no result: {failure}")),
            (None, None) => match &call.awaited_step {
                Some(step) => Cow::Owned(format!("the call waits for an answer to the question of step `{step}`")),
                None => Cow::Borrowed("the model received no result"),
            },
        };
    }
    let Some(ended) = call.ended else { return Cow::Borrowed("") };
    Cow::Owned(match (&ended.reply, &ended.output, failure) {
        (Some(reply), _, _) => reply_text(reply, &call.requested_tools),
        (None, Some(output), _) => output.full_text(),
        (None, None, Some(failure)) => failure.to_string(),
        (None, None, None) => String::new(),
    })
}

/// The model of a call, or the tool with a short form of its arguments.
fn performer_label(call: &ShownCall<'_>) -> String {
    let ended = call.ended;
    let label = match (ended.and_then(|ended| ended.model.as_ref()), ended.and_then(|ended| ended.output.as_ref())) {
        (Some(model), _) => model.to_string(),
        (None, Some(CallOutput::Tool(output))) => format!("{} {}", output.tool, output.arguments).trim_end().to_owned(),
        (None, Some(CallOutput::McpTool(output))) => output.arguments.clone(),
        (None, Some(CallOutput::Pipeline(output))) => output.arguments.clone(),
        (None, _) if call.key.tool_call.is_some() => {
            let (tool, arguments) = (call.tool.as_deref().unwrap_or("tool"), call.arguments.unwrap_or_default());
            format!("{tool} {arguments}").trim_end().to_owned()
        }
        (None, _) => "no model".to_owned(),
    };
    escape_line_breaks(&label).into_owned()
}

/// The text of a reply, and a line for each tool call in it. `tools` has the names of the tools that it calls.
fn reply_text(reply: &ChatReply, tools: &[String]) -> String {
    let mut lines = vec![reply.text().into_owned()];
    lines.retain(|text| !text.is_empty());
    let arguments = reply.content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { arguments, .. } => Some(arguments),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    let calls = tools.iter().zip(arguments);
    lines.extend(calls.map(|(tool, arguments)| format!("[calls {}] {arguments}", escape_line_breaks(tool))));
    lines.join("\n")
}

/// Describes the sandbox of the call's program: the level, the limit that it reached, what orch does not know about the
/// limits, what orch did not enforce, and the connections.
fn sandbox_details(call: &CallEnded) -> Vec<CallDetail> {
    let Some(sandbox) = &call.sandbox else { return Vec::new() };
    let mut details = vec![CallDetail::new("sandbox", &sandbox.summary())];
    details.extend(sandbox.limit.iter().map(|limit| CallDetail::new("limit", limit)));
    details.extend(sandbox.unknown.iter().map(|sentence| CallDetail::new("unknown", sentence)));
    details.extend(sandbox.unenforced.iter().map(|sentence| CallDetail::new("caveat", sentence)));
    details.extend(sandbox.changed_protected.iter().map(|path| CallDetail::new("changed", path)));
    details.extend(sandbox.damage.iter().map(|damage| CallDetail::new("damage", damage)));
    for connection in &sandbox.connections {
        let SandboxConnection { host, port, sent, received, refused, failed } = connection;
        let outcome = match (refused, failed) {
            (Some(reason), _) => format!("refused: {reason}"),
            (None, Some(reason)) => format!("failed: {reason}"),
            (None, None) => format!("{} sent, {received} received", counted(*sent, "byte")),
        };
        details.push(CallDetail::new("connect", &format!("{host}:{port}, {outcome}")));
    }
    if sandbox.omitted_connections > 0 {
        details.push(CallDetail::new("connect", &counted(sandbox.omitted_connections, "more connection")));
    }
    details
}

/// Describes the activity of a CLI agent or the changes of a tool, with one line for each action or file.
fn activity_details(call: &CallEnded) -> Vec<CallDetail> {
    let Some(activity) = call.activity() else { return Vec::new() };
    let mut details = Vec::new();
    for (label, lines) in [("tool", &activity.tools), ("denied", &activity.denied), ("changed", &activity.changed)] {
        details.extend(lines.iter().map(|line| CallDetail::new(label, line)));
    }
    details.extend(activity.partial_note().map(|note| CallDetail::new("", &note)));
    details.extend(call.session().map(|session| CallDetail::new("session", session)));
    if !call.usage().is_empty() {
        details.push(CallDetail::new("cost", &human::format_cost(call.cost_total())));
    }
    details
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Digest;

    fn lines(details: &[CallDetail]) -> Vec<String> {
        details.iter().map(|detail| format!("{}{}", detail.column(), detail.text)).collect()
    }

    #[test]
    fn what_is_unknown_about_the_limits_of_a_program_is_shown() {
        let call = json!({
            "call": { "step": "step", "attempt": 1, "ordinal": 1 },
            "request_digest": Digest::compute(b"request"),
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:01Z",
            "sandbox": { "level": "full", "unknown": ["orch could not read how often"], "unenforced": ["a"] },
        });
        let call: CallEnded = serde_json::from_value(call).unwrap();
        let expected = ["sandbox  full", "unknown  orch could not read how often", "caveat   a"];
        assert_eq!(lines(&sandbox_details(&call)), expected);
    }

    #[test]
    fn names_from_models_and_agents_add_no_line() {
        let call = json!({
            "call": { "step": "step", "attempt": 1, "ordinal": 1 },
            "request_digest": Digest::compute(b"request"),
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:01Z",
            "agent_activity": { "session": "s\nx", "tools": ["Bash ls\nrm"], "changed": ["a\nb"], "denied": ["c\rd"] },
        });
        let call: CallEnded = serde_json::from_value(call).unwrap();
        let lines = lines(&activity_details(&call));
        let expected = ["tool     Bash ls\\nrm", "denied   c\\rd", "changed  a\\nb", "session  s\\nx"];
        assert_eq!(lines[..4], expected, "{lines:?}");
    }
}
