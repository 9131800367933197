//! Renders the summary at the end of a run: the status, the files, the errors, and the next command.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::model::event::{ApprovalDecision, RunStatus, StepKind};
use crate::model::visible::escape_line_breaks;
use crate::model::{Failure, FailureClass, RunState, StepKey, StepState, StepStatus, counted, describe_partial};

use super::commands::SuggestedCommands;
use super::human;
use super::style::TerminalStyle;
use super::width::{display_width, pad_end, wrap_row};

/// Renders the summary of a run. The summary ends with a newline.
///
/// `owner` is the process that executes the run now, such as `process 42`. `commands` adds options to the suggested
/// commands. `terminal_width` is `None` if the output is not a terminal. The summary shows paths relative to
/// `current_dir`.
pub fn render_summary(
    state: &RunState,
    owner: Option<&str>,
    style: TerminalStyle,
    terminal_width: Option<usize>,
    current_dir: &Path,
    commands: &SuggestedCommands,
) -> String {
    let commands = &commands.clone().for_run(state.run);
    let mut out = String::new();
    let mut write_line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{text}");
    };
    write_line(render_headline(state, owner, style));
    let steps = state.steps_in_file_order();
    // Each iteration of a loop writes the same file, so list only the last artifact of each name.
    let (mut seen_names, mut files) = (HashSet::new(), Vec::new());
    for artifact in steps.iter().rev().filter_map(|step| step.artifact.as_ref()) {
        if let Some(path) = artifact.path.as_ref().filter(|_| seen_names.insert(&artifact.name)) {
            files.push((&artifact.name, display_path(&Path::new(&state.workspace).join(path), current_dir)));
        }
    }
    let name_column = files
        .iter()
        .fold(NameColumn::default(), |column, (name, _)| column.with_name(name))
        .fit_to_terminal(terminal_width);
    for (name, path) in files.into_iter().rev() {
        write_line(format!("  {}", name_column.align(&escape_line_breaks(name), &escape_line_breaks(&path))));
    }
    // A run may complete in spite of a failed step, for example if a model received the failure.
    let label = if state.status == RunStatus::Completed { style.warning("warning:") } else { style.error("error:") };
    // The failure of a group only repeats the failure of a step inside it.
    let failed_steps = steps.iter().filter(|step| step.failure.is_some());
    let groups_with_failed_steps: HashSet<StepKey> = failed_steps.flat_map(|step| step.key.ancestors()).collect();
    for step in &steps {
        let Some(failure) = &step.failure else { continue };
        if step.kind.is_group() && groups_with_failed_steps.contains(&step.key) {
            continue;
        }
        write_line(format!("{label} step {}: {}", style.bold(format!("`{}`", step.key)), message_with_class(failure)));
        if let Some(hint) = &failure.hint {
            write_line(format!("\n{} {}", style.bold("hint:"), commands.complete_commands(hint)));
        }
    }
    if let Some(failure) = &state.failure {
        write_line(format!("{} {}", style.error("error:"), message_with_class(failure)));
        if let Some(hint) = &failure.hint {
            write_line(format!("\n{} {}", style.bold("hint:"), commands.complete_commands(hint)));
        }
    }
    for step in steps.iter().filter(|step| step.status == StepStatus::Waiting) {
        if let Some(answer) = step.pending_answer() {
            let (label, step) = (style.success("answered:"), style.bold(format!("`{}`", step.key)));
            write_line(format!("{label} the question of step {step} was {}", answer.summary()));
            continue;
        }
        let question = step.question.as_deref().unwrap_or_default();
        write_line(format!(
            "{} step {} asks:\n\n{question}\n",
            style.warning("waiting:"),
            style.bold(format!("`{}`", step.key))
        ));
    }
    if let Some(suggestion) = suggest_next_command(state, commands) {
        write_line(format!("\n{} {suggestion}", style.bold("next:")));
    }
    out
}

/// A failure's message with the class at the end of its first line.
fn message_with_class(failure: &Failure) -> String {
    let class = failure.class;
    match failure.message.split_once('\n') {
        None => format!("{} ({class})", failure.message),
        Some((first_line, other_lines)) => match first_line.strip_suffix(':') {
            Some(first_line) => format!("{first_line} ({class}):\n{other_lines}"),
            None => format!("{first_line} ({class})\n{other_lines}"),
        },
    }
}

fn render_headline(state: &RunState, owner: Option<&str>, style: TerminalStyle) -> String {
    let duration = match (state.started, state.ended) {
        (Some(start), Some(end)) if state.sessions > 1 => {
            let (work_time, total_time) = (
                human::format_duration(state.total_session_time()),
                human::format_duration(human::duration_between(start, end)),
            );
            format!(" after {work_time} of work, {total_time} after it began")
        }
        (Some(start), Some(end)) => format!(" in {}", human::format_duration(human::duration_between(start, end))),
        _ => match owner {
            Some(owner) if state.status == RunStatus::Running => format!(" in {owner}"),
            Some(_) | None => String::new(),
        },
    };
    let status = match state.status {
        RunStatus::Completed => style.success("completed"),
        RunStatus::Failed => style.error("failed"),
        RunStatus::Running | RunStatus::Waiting | RunStatus::Cancelled | RunStatus::Interrupted => {
            style.warning(state.status.as_str())
        }
    };
    let completed = completed_steps(state).count();
    let usage = state.usage();
    let reused = completed_steps(state).filter(|step| step.is_reused()).count();
    let reused = if reused > 0 { format!(", {reused} reused") } else { String::new() };
    let mut details = vec![format!("{completed} of {}{reused}", counted(leaf_steps(state).count(), "step"))];
    if !usage.is_empty() {
        details.push(format!("tokens {}", human::format_usage(&usage)));
        details.push(human::format_cost(state.cost()));
    }
    format!("\nrun {} {status}{duration} ({})", style.bold(state.run), details.join("; "))
}

/// The steps of a run without groups: the steps inside a group count instead of the group.
fn leaf_steps(state: &RunState) -> impl Iterator<Item = &StepState> {
    state.steps.iter().filter(move |step| !step.kind.is_group() && !state.has_item_states(step))
}

fn completed_steps(state: &RunState) -> impl Iterator<Item = &StepState> {
    leaf_steps(state).filter(|step| step.status == StepStatus::Completed)
}

fn suggest_next_command(state: &RunState, commands: &SuggestedCommands) -> Option<String> {
    let resume = commands.resume(state.run);
    match state.status {
        RunStatus::Completed => None,
        // If the hint of a failed step names a command, suggest no other command: a plain resume might fail again for
        // the same reason.
        RunStatus::Failed if state.steps.iter().any(needs_resume_command) => {
            let reuse = if completed_steps(state).next().is_some() { "; orch reuses the completed steps" } else { "" };
            let model_option = state.steps.iter().find_map(|step| unknown_model_option(step, state));
            Some(match model_option {
                Some(option) => {
                    let resume = commands.with_options(format!("orch pipeline resume {} {option}", state.run));
                    format!("run `{resume}` with the name of a model that the provider has{reuse}")
                }
                None => format!("fix the cause, then run `{resume}`{reuse}"),
            })
        }
        RunStatus::Failed if state.steps.iter().any(|step| step.status == StepStatus::Failed) => None,
        RunStatus::Failed => state.failure.as_ref().and_then(|failure| resume_after_limit(failure, &resume)),
        RunStatus::Waiting if is_answered(state) => {
            Some(format!("`{resume}` continues the run with what was answered"))
        }
        RunStatus::Waiting => Some(format!(
            "answer with `{}` or `{}` (--note adds a reason), then run `{resume}`",
            commands.with_options(format!("orch runs approve {}", state.run)),
            commands.with_options(format!("orch runs reject {}", state.run)),
        )),
        // The storage failure that interrupted the run has a hint of its own.
        RunStatus::Interrupted if state.failure.is_some() => None,
        RunStatus::Cancelled | RunStatus::Interrupted => {
            Some(format!("`{resume}` continues the run; orch reuses the recorded replies"))
        }
        RunStatus::Running => Some(suggest_while_running(state, commands)),
    }
}

/// Whether every question of a run has an answer, so that the run only needs a resume.
fn is_answered(state: &RunState) -> bool {
    let has_answer = state.steps.iter().any(|step| step.pending_answer().is_some());
    has_answer && !state.steps.iter().any(StepState::is_asking)
}

/// Suggests what the user can do about a run that another process executes now.
fn suggest_while_running(state: &RunState, commands: &SuggestedCommands) -> String {
    let command = |words: &str| commands.with_options(format!("orch runs {words}"));
    let run = state.run;
    let answer = if state.steps.iter().any(StepState::is_asking) {
        let (approve, reject) = (command(&format!("approve {run}")), command(&format!("reject {run}")));
        format!("answer the question in the run's terminal; if it has none, with `{approve}` or `{reject}`. ")
    } else {
        String::new()
    };
    let (follow, cancel) = (command(&format!("events {run} --follow")), command(&format!("cancel {run}")));
    format!(
        "{answer}`{follow}` prints the events until the run ends or waits; `{cancel}` stops it, as Ctrl-C does in its \
         terminal"
    )
}

/// Whether a step failed and its hint names no command that continues the run.
fn needs_resume_command(step: &StepState) -> bool {
    let hint = step.failure.as_ref().and_then(|failure| failure.hint.as_deref()).unwrap_or_default();
    // The hint says how to record the reply that is missing.
    let is_replay = step.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::NoRecording);
    step.status == StepStatus::Failed && !step.kind.is_group() && !hint.contains("`orch pipeline ") && !is_replay
}

/// The option of a resume that replaces a model of the command line, if the provider does not know this model. A resume
/// without the option would call the same model again.
fn unknown_model_option(step: &StepState, state: &RunState) -> Option<String> {
    let failure = step.failure.as_ref().filter(|_| needs_resume_command(step))?;
    if failure.class != FailureClass::BadRequest || failure.status != Some(404) {
        return None;
    }
    if state.agents.contains_key(&step.agent) {
        return Some(format!("--agent {}=NAME", step.agent));
    }
    state.model.as_ref().map(|_| "--model NAME".to_owned())
}

/// Suggests how to resume a run that reached a limit.
fn resume_after_limit(failure: &Failure, resume: &str) -> Option<String> {
    let hint = failure.hint.as_deref().unwrap_or_default();
    let budget_flag = hint.split('`').find(|part| part.starts_with("--budget "));
    match (failure.class, budget_flag) {
        (FailureClass::BudgetExceeded, Some(budget_flag)) => {
            Some(format!("`{resume} {budget_flag}` continues the run"))
        }
        (FailureClass::BudgetExceeded | FailureClass::UsageUnknown, _) => {
            Some(format!("follow the hint, then run `{resume}`; orch reuses the recorded replies"))
        }
        // Other failures have a complete hint of their own.
        _ => None,
    }
}

/// Formats a path for messages. A path inside the current folder is relative to it.
pub fn display_path(path: &Path, current_dir: &Path) -> String {
    path.strip_prefix(current_dir).unwrap_or(path).display().to_string()
}

/// Renders a step that has ended: one line, with notes below it.
pub fn render_step_line(step: &StepState, name_column: NameColumn, style: TerminalStyle) -> String {
    let symbol = match step.status {
        StepStatus::Completed => style.success("✓"),
        StepStatus::Failed => style.error("✗"),
        StepStatus::Skipped => style.warning("-"),
        StepStatus::Pending | StepStatus::InProgress | StepStatus::Waiting | StepStatus::Cancelled => {
            style.warning("·")
        }
    };
    let mut text = format!(
        "{symbol} {}",
        name_column.align(&escape_line_breaks(step.key.as_str()), &escape_line_breaks(&describe_step_result(step)))
    );
    for note in step_notes(step) {
        let _ = write!(text, "\n    {}", style.dim(escape_line_breaks(&note)));
    }
    text
}

/// A column of names. The texts after the names are aligned.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameColumn {
    width: usize,
    /// The width of the terminal, if orch wraps the texts for one.
    terminal_width: Option<usize>,
}

impl NameColumn {
    const MIN_WIDTH: usize = 10;
    /// The width of the text before a name.
    const PREFIX_WIDTH: usize = 2;

    /// Creates a column for the names of a run's steps so far.
    pub fn from_steps(state: &RunState) -> Self {
        state.steps.iter().fold(Self::default(), |column, step| column.with_name(step.key.as_str()))
    }

    /// Adds a name and returns the column.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.add_name(name);
        self
    }

    /// Adds a name.
    pub fn add_name(&mut self, name: &str) {
        self.width = self.width.max(display_width(name));
    }

    /// Limits the width to two fifths of the terminal's columns. Without a terminal, every name fits into the column.
    #[must_use]
    pub fn fit_to_terminal(self, terminal_width: Option<usize>) -> Self {
        let max_width = terminal_width.map_or(usize::MAX, |columns| columns * 2 / 5);
        Self { width: self.width.max(Self::MIN_WIDTH).min(max_width), terminal_width }
    }

    /// Formats a name with a text after it, for a line that begins with a symbol and a space or with two spaces. If the
    /// name is too long, the text is on the next line. On a terminal, all lines of the text begin in the same column.
    pub fn align(self, name: &str, text: &str) -> String {
        let indent = " ".repeat(Self::PREFIX_WIDTH + self.width + 1);
        let text = match self.terminal_width {
            Some(width) => wrap_row(&indent, text, width),
            None => format!("{indent}{text}"),
        };
        if display_width(name) > self.width {
            return format!("{name}\n{}", text.trim_start_matches('\n'));
        }
        format!("{} {}", pad_end(name, self.width), text.trim_start_matches(' '))
    }
}

/// Describes the result of a step without the step's name.
pub fn describe_step_result(step: &StepState) -> String {
    let status = match step.reused_from {
        // For a step that did not complete, show its status even if orch reused the result.
        _ if step.status != StepStatus::Completed => {
            step.pending_answer().map_or_else(|| step.status.as_str().to_owned(), ApprovalDecision::summary)
        }
        Some(run) => format!("reused from run {run}"),
        None if step.reused => "reused".to_owned(),
        None => step.status.as_str().to_owned(),
    };
    let mut details = vec![status];
    if let (Some(start), Some(end)) = (step.started, step.ended)
        && !step.is_reused()
        && step.attempts > 0
    {
        details.push(human::format_duration(human::duration_between(start, end)));
    }
    if !step.usage.is_empty() && !step.reused {
        details.push(human::format_usage(&step.usage));
        let is_free = step.cost.exact().is_some_and(|usd| usd <= 0.0);
        details.extend((!is_free).then(|| human::format_cost(step.cost)));
    }
    if let Some(reason) = &step.reason {
        details.push(reason.message.clone());
    }
    if let Some(failure) = &step.failure {
        details.push(failure.class.to_string());
    }
    details.join(", ")
}

/// Notes about how a step got its result: retries, re-asks, repairs, and changes that orch may have missed.
fn step_notes(step: &StepState) -> Vec<String> {
    let mut notes = Vec::new();
    let is_agent = step.kind == StepKind::Agent;
    let tool_calls = match step.tool_calls {
        0 => String::new(),
        count => format!(", {}", counted(count, "tool call")),
    };
    if step.attempts > 1 && !step.reused {
        let requests = if is_agent { format!(", {}", counted(step.calls, "request")) } else { String::new() };
        notes.push(format!("{} attempts{requests}{tool_calls}", step.attempts));
    } else if step.tool_calls > 0 && !step.reused {
        notes.push(format!("{}{tool_calls}", counted(step.calls, "request")));
    } else if is_agent && step.calls > 1 && !step.reused {
        notes.push(format!("{} requests: orch sent a reply back with its errors", step.calls));
    }
    if let Some(extraction) = step.extraction.as_ref().filter(|extraction| !extraction.repairs.is_empty()) {
        notes.push(format!("orch repaired the reply: {}", extraction.repairs.join(", ")));
    }
    if !step.partial_changes.is_empty() {
        notes.push(format!("{}; more files may have changed", describe_partial(&step.partial_changes)));
    }
    notes
}
