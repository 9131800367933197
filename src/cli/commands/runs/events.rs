//! `orch runs events`: prints the recorded events of a run.

use anyhow::Result;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::{current_dir, runner, runtime};
use crate::model::event::{CallEnded, CallStarted, Event, Fact};
use crate::model::visible::{escape_line_breaks, one_line};
use crate::model::{Artifact, ChatReply, ContentBlock, Failure, McpListing, counted};
use crate::report::human;
use crate::runner::ExitStatus;
use crate::runner::project_state::project_root;

use super::{find_run_or_latest, open_journal};

/// Print the recorded events of a run, one per line
///
/// With --follow, orch continues to print new events until the run ends or waits for an approval, even if another
/// process executes the run. With --output json, every line is one JSON object with `run`, `seq`, `at` and `fact`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs events 7d1d --follow\n  orch runs events 7d1d --output json | jq -c .fact.step_failed"
)]
pub(in crate::cli) struct RunsEventsArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Continue to print new events until the run ends
    #[arg(long, short)]
    follow: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsEventsArgs, ui: &Ui) -> Result<ExitStatus> {
    if args.follow {
        let mut events = runner(ui)?.follow(&args.state.state_folder(), args.run.as_deref())?;
        let runtime = runtime()?;
        while let Some(event) = runtime.block_on(events.next())? {
            print_event(&event, args.output, ui)?;
        }
        return Ok(ExitStatus::Success);
    }
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let row = find_run_or_latest(&journal, args.run.as_deref())?;
    journal.events(row.run)?.iter().try_for_each(|event| print_event(event, args.output, ui))?;
    Ok(ExitStatus::Success)
}

fn print_event(event: &Event, output: OutputFormat, ui: &Ui) -> Result<()> {
    match output {
        OutputFormat::Json => ui.write_data(&serde_json::to_string(event)?),
        OutputFormat::Text => {
            let length = if ui.stdout_is_terminal { TextLength::Short } else { TextLength::Whole };
            let details = length.fit(describe_fact(&event.fact, length), 120);
            ui.write_row(&escape_line_breaks(&event_columns(event)), &escape_line_breaks(&details))
        }
    }
}

/// How much of a long text a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextLength {
    /// The beginning, on a terminal.
    Short,
    /// The whole text.
    Whole,
}

impl TextLength {
    /// The text, shortened to this number of characters on a terminal.
    fn fit(self, text: String, max_chars: usize) -> String {
        match self {
            Self::Short => one_line(&text, max_chars),
            Self::Whole => text,
        }
    }
}

/// The columns before the details of an event: number, time, kind and step.
fn event_columns(event: &Event) -> String {
    let time = event.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    let step = event.fact.step().map_or_else(|| "-".to_owned(), ToString::to_string);
    format!("{:>5}  {time}  {:<17}  {step:<16}  ", event.seq, event.fact.kind())
}

/// The most important details of an event.
fn describe_fact(fact: &Fact, length: TextLength) -> String {
    match fact {
        Fact::RunStarted(fact) => format!("{} in {}", fact.pipeline, fact.workspace),
        Fact::RunResumed(fact) => format!("orch {}", fact.version),
        Fact::StepReused(fact) => format!("result of event {}", fact.result_seq),
        Fact::StepStarted(fact) => {
            let model = fact.model.as_ref().map(|model| format!(" with {model}")).unwrap_or_default();
            format!("attempt {}{model}", fact.attempt)
        }
        Fact::CallStarted(fact) => describe_call_start(fact),
        Fact::CallEnded(fact) => describe_call(fact, length),
        Fact::ReplyParsed(fact) => match (&fact.source, &fact.failure) {
            (Some(source), _) if fact.left_out.is_empty() => {
                format!("found in {source}, {}", counted(fact.repairs.len(), "repair"))
            }
            (Some(source), _) => {
                let repairs = counted(fact.repairs.len(), "repair");
                format!("found in {source}, {repairs}, left out {}", fact.left_out.join(", "))
            }
            (None, failure) => describe_failure(failure.as_ref()),
        },
        Fact::StepCompleted(fact) => fact.artifact.as_ref().map(describe_artifact).unwrap_or_default(),
        Fact::StepFailed(fact) => fact.failure.to_string(),
        Fact::StepSkipped(fact) => fact.reason.message.clone(),
        Fact::RunEnded(fact) => {
            let suffix = fact.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
            format!("{}{suffix}", fact.status.as_str())
        }
        Fact::ArtifactAccepted(fact) => describe_artifact(&fact.artifact),
        Fact::ApprovalAsked(fact) => fact.question.clone(),
        Fact::ApprovalAnswered(fact) => {
            let decision = if fact.answer.approved { "approved" } else { "rejected" };
            format!("{decision} by {}", fact.answer.by)
        }
        Fact::CancelRequested(fact) => format!("by {}", fact.by),
        Fact::BudgetRaised(fact) => fact.to_string(),
        Fact::ToolsListed(fact) => {
            let McpListing { server, protocol_version, tools } = &*fact.listing;
            let notes: String = fact.notes.iter().map(|note| format!("; {note}")).collect();
            format!("{} tools of {server} (MCP {protocol_version}){notes}", tools.len())
        }
    }
}

/// Describes the start of a call: the model, the tool with its arguments, or the kind of the call.
fn describe_call_start(fact: &CallStarted) -> String {
    let target = match (&fact.model, fact.tool_and_arguments()) {
        (Some(model), _) => model.to_string(),
        (None, Some((tool, arguments))) => format!("{tool} {arguments}"),
        (None, None) => fact.kind.as_str().to_owned(),
    };
    let elided = match fact.elided_results.len() {
        0 => String::new(),
        count => format!(", leaves out {}", counted(count, "tool result")),
    };
    format!("#{} {}{elided}", fact.call.number(), target.trim_end())
}

fn describe_call(fact: &CallEnded, length: TextLength) -> String {
    let duration = human::format_duration(human::duration_between(fact.started, fact.ended));
    let outcome = match (&fact.reply, &fact.output, &fact.failure) {
        (Some(reply), _, _) => format!("{}{}", human::format_usage(&fact.usage()), describe_tool_calls(reply)),
        (None, Some(output), _) => output.summary(),
        // Shorten the message, so that the activity of a CLI agent after it stays visible.
        (None, None, failure) => length.fit(describe_failure(failure.as_ref()), 80),
    };
    let sandbox = fact.sandbox.as_ref().map(|sandbox| format!(", sandbox {}", sandbox.summary())).unwrap_or_default();
    format!("#{} {duration}, {outcome}{sandbox}{}", fact.call.number(), describe_activity(fact))
}

/// The number of tool calls in a reply.
fn describe_tool_calls(reply: &ChatReply) -> String {
    let is_call = |block: &&ContentBlock| matches!(block, ContentBlock::ToolCall { .. });
    match reply.content.blocks().iter().filter(is_call).count() {
        0 => String::new(),
        count => format!(", {}", counted(count, "tool call")),
    }
}

/// Describes the activity of a CLI agent during a turn, or the files that a tool changed.
fn describe_activity(fact: &CallEnded) -> String {
    let Some(activity) = fact.activity() else { return String::new() };
    let mut text = String::new();
    let mut add_count = |prefix: &str, count: usize, noun: &str, participle: &str| {
        if count > 0 {
            text.push_str(&format!(", {prefix}{}{participle}", counted(count, noun)));
        }
    };
    add_count("", activity.tools.len(), "tool call", "");
    let at_least = if activity.partial { "at least " } else { "" };
    add_count(at_least, activity.changed.len(), "file", " changed");
    add_count("", activity.denied.len(), "call", " denied");
    if activity.partial && activity.changed.is_empty() {
        text.push_str(", files may have changed");
    }
    if !fact.usage().is_empty() {
        text.push_str(&format!(", {}", human::format_cost(fact.cost_total())));
    }
    if let Some(session) = fact.session() {
        text.push_str(&format!(", session {session}"));
    }
    text
}

fn describe_failure(failure: Option<&Failure>) -> String {
    failure.map_or_else(|| "no result".to_owned(), ToString::to_string)
}

fn describe_artifact(artifact: &Artifact) -> String {
    format!("{} {}", artifact.path.as_ref().unwrap_or(&artifact.name), artifact.digest.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_shows_that_a_command_has_more_lines() {
        let fit = |text: &str| TextLength::Short.fit(text.to_owned(), 20);
        assert_eq!(fit("#1 shell ls\nrm x"), "#1 shell ls\\nrm x");
        assert_eq!(fit("#1 shell ls\nrm -rf /"), "#1 shell ls\\nrm -rf…");
    }
}
