//! The summary at the end of a run: how it ended, where its files are, and what to do next.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::model::event::{RunStatus, StepKind};
use crate::model::visible::one_line;
use crate::model::{Class, Failure, RunState, StepState, StepStatus};

use super::commands::PrintedCommands;
use super::human;
use super::style::TerminalStyle;
use super::width::{columns, padded};

/// The summary of a run that has ended or waits; ends with a newline.
///
/// `commands` adds the options with which suggested commands find the run. `columns` is the width of the terminal;
/// `None` if the output is not a terminal.
pub fn summary(
    state: &RunState,
    style: TerminalStyle,
    columns: Option<usize>,
    here: &Path,
    commands: &PrintedCommands,
) -> String {
    let commands = &commands.clone().about(state.run);
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{text}");
    };
    line(headline(state, style));
    let steps = state.in_order();
    // A loop writes its file in each round, so the file shows the artifact of the last round.
    let (mut seen, mut files) = (HashSet::new(), Vec::new());
    for artifact in steps.iter().rev().filter_map(|step| step.artifact.as_ref()) {
        if let Some(path) = artifact.path.as_ref().filter(|_| seen.insert(&artifact.name)) {
            files.push((&artifact.name, shown(&Path::new(&state.workspace).join(path), here)));
        }
    }
    let names = files.iter().fold(NameColumn::default(), |names, (name, _)| names.with(name)).within(columns);
    for (name, path) in files.into_iter().rev() {
        line(format!("  {}", names.line(&one_line(name), &one_line(&path))));
    }
    // The failure of a group only repeats that of the step inside it.
    for step in &steps {
        let Some(failure) = &step.failure else { continue };
        if step.kind.is_group() && has_failed_inside(&steps, step) {
            continue;
        }
        line(format!("{} step {}: {}", style.bad("error:"), style.strong(&step.step), in_one(failure)));
        if let Some(hint) = &failure.hint {
            line(format!("\n{} {}", style.strong("hint:"), commands.complete(hint)));
        }
    }
    if let Some(failure) = &state.failure {
        line(format!("{} {}", style.bad("error:"), in_one(failure)));
        if let Some(hint) = &failure.hint {
            line(format!("\n{} {}", style.strong("hint:"), commands.complete(hint)));
        }
    }
    for step in steps.iter().filter(|step| step.status == StepStatus::Waiting) {
        let question = step.question.as_deref().unwrap_or_default();
        line(format!("{} step {} asks:\n\n{question}\n", style.warn("waiting:"), style.strong(&step.step)));
    }
    if let Some(next) = next_step(state, commands) {
        line(format!("\n{} {next}", style.strong("next:")));
    }
    out
}

/// A failure's message with the class at the end of its first line; callers write the step's name before it.
fn in_one(failure: &Failure) -> String {
    let class = failure.class;
    match failure.message.split_once('\n') {
        None => format!("{} ({class})", failure.message),
        Some((first, rest)) => match first.strip_suffix(':') {
            Some(first) => format!("{first} ({class}):\n{rest}"),
            None => format!("{first} ({class})\n{rest}"),
        },
    }
}

fn has_failed_inside(steps: &[&StepState], group: &StepState) -> bool {
    steps.iter().any(|step| step.failure.is_some() && step.step.is_within(&group.step))
}

fn headline(state: &RunState, style: TerminalStyle) -> String {
    let took = match (state.started, state.ended) {
        (Some(start), Some(end)) if state.sessions > 1 => {
            let (worked, all) = (human::duration(state.worked()), human::duration(human::between(start, end)));
            format!(" after {worked} of work, {all} after it began")
        }
        (Some(start), Some(end)) => format!(" in {}", human::duration(human::between(start, end))),
        _ => String::new(),
    };
    let word = match state.status {
        RunStatus::Completed => style.good("completed"),
        RunStatus::Failed => style.bad("failed"),
        RunStatus::Running | RunStatus::Waiting | RunStatus::Cancelled | RunStatus::Interrupted => {
            style.warn(state.status.as_str())
        }
    };
    // Groups are not counted, since their steps are.
    let leaves = || state.steps.iter().filter(|step| !step.kind.is_group() && !state.runs_over_items(step));
    let done = leaves().filter(|step| step.status == StepStatus::Completed).count();
    let usage = state.usage();
    let reused = leaves().filter(|step| step.status == StepStatus::Completed && step.is_reused()).count();
    let reused = if reused > 0 { format!(", {reused} reused") } else { String::new() };
    let mut facts = vec![format!("{done} of {} steps{reused}", leaves().count())];
    if !usage.is_nothing() {
        facts.push(format!("tokens {}", human::usage(&usage)));
        facts.push(human::cost(state.cost()));
    }
    format!("\nrun {} {word}{took} ({})", style.strong(state.run), facts.join("; "))
}

fn next_step(state: &RunState, commands: &PrintedCommands) -> Option<String> {
    let resume = commands.resume(state.run);
    match state.status {
        RunStatus::Completed => None,
        // If the hint names a command, the user follows that: a plain resume might fail for the same reason again.
        RunStatus::Failed if state.steps.iter().any(is_without_way) => {
            Some(format!("fix the cause, then `{resume}`; completed steps are not asked again"))
        }
        RunStatus::Failed if state.steps.iter().any(|step| step.status == StepStatus::Failed) => None,
        RunStatus::Failed => state.failure.as_ref().and_then(|failure| after_a_limit(failure, &resume)),
        RunStatus::Waiting => Some(format!(
            "`{}` or `{}` answers (--note says why), then `{resume}` goes on",
            commands.of(format!("orch runs approve {}", state.run)),
            commands.of(format!("orch runs reject {}", state.run)),
        )),
        // The hint for the storage failure is enough.
        RunStatus::Interrupted if state.failure.is_some() => None,
        RunStatus::Running | RunStatus::Cancelled | RunStatus::Interrupted => {
            Some(format!("`{resume}` goes on from here; nothing that was answered is asked again"))
        }
    }
}

/// Whether a step failed and its hint does not show how to continue the run.
fn is_without_way(step: &StepState) -> bool {
    let hint = step.failure.as_ref().and_then(|failure| failure.hint.as_deref()).unwrap_or_default();
    // A run with replayed replies can't be resumed.
    let is_replay = step.failure.as_ref().is_some_and(|failure| failure.class == Class::NoRecording);
    step.status == StepStatus::Failed && !step.kind.is_group() && !hint.contains("`orch pipeline ") && !is_replay
}

/// The command that resumes a run that reached a limit.
fn after_a_limit(failure: &Failure, resume: &str) -> Option<String> {
    let hint = failure.hint.as_deref().unwrap_or_default();
    let raised = hint.split('`').find(|words| words.starts_with("--budget "));
    match (failure.class, raised) {
        (Class::BudgetExceeded, Some(raised)) => Some(format!("`{resume} {raised}` goes on from here")),
        (Class::BudgetExceeded | Class::UsageUnknown, _) => {
            Some(format!("do what the hint says, then `{resume}`; what was answered is not asked again"))
        }
        // The failure's own hint is enough.
        _ => None,
    }
}

/// A path for messages: relative to `here` if it is below it.
pub fn shown(path: &Path, here: &Path) -> String {
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// One line for a step that has ended, with notes below it.
pub fn step_line(step: &StepState, names: NameColumn, style: TerminalStyle) -> String {
    let mark = match step.status {
        StepStatus::Completed => style.good("✓"),
        StepStatus::Failed => style.bad("✗"),
        StepStatus::Skipped => style.warn("-"),
        StepStatus::Pending | StepStatus::InProgress | StepStatus::Waiting | StepStatus::Cancelled => style.warn("·"),
    };
    let mut text = format!("{mark} {}", names.line(&one_line(step.step.as_str()), &one_line(&step_words(step))));
    for note in step_notes(step) {
        let _ = write!(text, "\n    {}", style.dim(one_line(&note)));
    }
    text
}

/// The column in which the texts after names start, so that they are aligned.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameColumn {
    longest: usize,
}

impl NameColumn {
    /// The minimum width of the column, and the maximum without a terminal.
    const WIDTHS: (usize, usize) = (10, 48);

    /// The column for the steps of a run that are known so far.
    pub fn of_steps(state: &RunState) -> Self {
        state.steps.iter().fold(Self::default(), |names, step| names.with(step.step.as_str()))
    }

    /// The same with one more name.
    #[must_use]
    pub fn with(mut self, name: &str) -> Self {
        self.see(name);
        self
    }

    /// Takes a name into account.
    pub fn see(&mut self, name: &str) {
        self.longest = self.longest.max(columns(name));
    }

    /// The column on a terminal with this many columns: names get at most two fifths of them.
    #[must_use]
    pub fn within(self, terminal: Option<usize>) -> Self {
        let (least, most) = Self::WIDTHS;
        Self { longest: self.longest.max(least).min(terminal.map_or(most, |columns| columns * 2 / 5)) }
    }

    /// A name with a text after it, or below it if the name is too long.
    pub fn line(self, name: &str, words: &str) -> String {
        if columns(name) > self.longest {
            return format!("{name}\n{}{words}", " ".repeat(self.longest + 3));
        }
        format!("{} {words}", padded(name, self.longest))
    }
}

/// How a step ended, without its name.
pub fn step_words(step: &StepState) -> String {
    let word = match step.reused_from {
        // For a failed or skipped step, that status matters more than that its result was reused.
        _ if step.status != StepStatus::Completed => step.status.as_str().to_owned(),
        Some(run) => format!("reused from run {run}"),
        None if step.reused => "reused".to_owned(),
        None => step.status.as_str().to_owned(),
    };
    let mut facts = vec![word];
    if let (Some(start), Some(end)) = (step.started, step.ended)
        && !step.is_reused()
        && step.attempts > 0
    {
        facts.push(human::duration(human::between(start, end)));
    }
    if !step.usage.is_nothing() && !step.reused {
        facts.push(human::usage(&step.usage));
        let free = step.cost.known().is_some_and(|usd| usd <= 0.0);
        facts.extend((!free).then(|| human::cost(step.cost)));
    }
    if let Some(reason) = &step.reason {
        facts.push(reason.clone());
    }
    if let Some(failure) = &step.failure {
        facts.push(failure.class.to_string());
    }
    facts.join(", ")
}

/// Notes on how a step got its result: retries, re-asks and repairs.
fn step_notes(step: &StepState) -> Vec<String> {
    let mut notes = Vec::new();
    let asks = step.kind == StepKind::Agent;
    if step.attempts > 1 && !step.reused {
        let requests = if asks { format!(", {} requests", step.calls) } else { String::new() };
        notes.push(format!("{} attempts{requests}", step.attempts));
    } else if asks && step.calls > 1 && !step.reused {
        notes.push(format!("{} requests: a reply was sent back with its errors", step.calls));
    }
    if let Some(read) = step.extraction.as_ref().filter(|read| !read.repairs.is_empty()) {
        notes.push(format!("the reply was repaired: {}", read.repairs.join(", ")));
    }
    notes
}
