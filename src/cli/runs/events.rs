//! `orch runs events`: what was recorded, one event a line.

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here, runner, runtime};
use crate::model::event::{CallEnded, CallOutput, Event, Fact};
use crate::model::{Artifact, Failure, StepKey};
use crate::report::human;
use crate::session::{ExitStatus, SessionError};

use super::{journal, pick, root};

/// Print what was recorded of a run, one event a line
///
/// Events are in the order in which they became true. With --follow, which works from any
/// process, new ones are printed as they are recorded, until the run ends or waits for a person.
/// With --output json every line is one JSON object with `run`, `seq`, `at` and `fact`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs events 7d1d --follow\n  orch runs events 7d1d --output json | jq -c .fact.step_failed"
)]
pub(in crate::cli) struct RunsEventsArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Go on with what is recorded until the run ends
    #[arg(long, short)]
    follow: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsEventsArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    if args.follow {
        let mut events = runner(ui)?.follow(&args.state.named(), args.run.as_deref())?;
        let runtime = runtime()?;
        while let Some(event) = runtime.block_on(events.next())? {
            print(&event, args.output, ui)?;
        }
        return Ok(ExitStatus::Success);
    }
    let journal = journal(&args.state, &root(&here()?))?;
    let row = pick(&journal, args.run.as_deref())?;
    journal.events(row.run)?.iter().try_for_each(|event| print(event, args.output, ui))?;
    Ok(ExitStatus::Success)
}

fn print(event: &Event, output: OutputFormat, ui: &Ui) -> Result<(), SessionError> {
    match output {
        OutputFormat::Json => {
            ui.data(&serde_json::to_string(event).map_err(|error| SessionError::internal(error.to_string()))?)
        }
        OutputFormat::Text => ui.text(&crate::model::visible::one_line(&line(event))),
    }
}

/// An event in one line: number, time, kind, step, and what matters of the rest.
fn line(event: &Event) -> String {
    let at = event.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    let (kind, step, rest) = words(&event.fact);
    let step = step.map_or_else(|| "-".to_owned(), ToString::to_string);
    let rest = human::first_line(&rest, 120);
    format!("{:>5}  {at}  {kind:<17}  {step:<16}  {rest}", event.seq).trim_end().to_owned()
}

fn words(fact: &Fact) -> (&'static str, Option<&StepKey>, String) {
    match fact {
        Fact::RunStarted(fact) => ("run_started", None, format!("{} in {}", fact.pipeline, fact.workspace)),
        Fact::RunResumed(fact) => ("run_resumed", None, format!("orch {}", fact.version)),
        Fact::StepReused(fact) => ("step_reused", Some(&fact.step), format!("result of event {}", fact.completed)),
        Fact::StepStarted(fact) => {
            let model = fact.model.as_ref().map(|model| format!(" with {model}")).unwrap_or_default();
            ("step_started", Some(&fact.step), format!("attempt {}{model}", fact.attempt))
        }
        Fact::CallEnded(fact) => ("call_ended", Some(&fact.call.step), call(fact)),
        Fact::ReplyParsed(fact) => {
            let how = match (&fact.source, &fact.failure) {
                (Some(source), _) if fact.left_out.is_empty() => {
                    format!("found in {source}, {} repairs", fact.repairs.len())
                }
                (Some(source), _) => {
                    format!("found in {source}, {} repairs, left out {}", fact.repairs.len(), fact.left_out.join(", "))
                }
                (None, failure) => why(failure.as_ref()),
            };
            ("reply_parsed", Some(&fact.call.step), how)
        }
        Fact::StepCompleted(fact) => {
            ("step_completed", Some(&fact.step), fact.artifact.as_ref().map(artifact).unwrap_or_default())
        }
        Fact::StepFailed(fact) => ("step_failed", Some(&fact.step), fact.failure.to_string()),
        Fact::StepSkipped(fact) => ("step_skipped", Some(&fact.step), fact.reason.clone()),
        Fact::RunEnded(fact) => {
            let why = fact.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
            ("run_ended", None, format!("{}{why}", fact.status.as_str()))
        }
        Fact::ArtifactAccepted(fact) => ("artifact_accepted", Some(&fact.step), artifact(&fact.artifact)),
        Fact::ApprovalAsked(fact) => ("approval_asked", Some(&fact.step), fact.shown.clone()),
        Fact::ApprovalAnswered(fact) => {
            let word = if fact.answer.approved { "yes" } else { "no" };
            ("approval_answered", Some(&fact.step), format!("{word} by {}", fact.answer.by))
        }
    }
}

fn call(fact: &CallEnded) -> String {
    let took = human::duration(human::between(fact.started, fact.ended));
    let what = match (&fact.reply, &fact.output, &fact.failure) {
        (Some(_), _, _) => human::usage(&fact.usage()),
        (None, Some(CallOutput::Command(done)), _) => format!("exit code {}", done.exit_code),
        (None, Some(CallOutput::Snapshot(_)), _) => "looked at the files".to_owned(),
        (None, Some(CallOutput::Applied(_)), _) => "wrote the files".to_owned(),
        // Its last words may be long; what it did stands after them.
        (None, None, failure) => human::first_line(&why(failure.as_ref()), 80),
    };
    format!("#{} {took}, {what}{}", fact.call.ordinal, work(fact))
}

/// What an agent program did, in a few words.
fn work(fact: &CallEnded) -> String {
    let Some(work) = fact.did() else { return String::new() };
    let mut words = String::new();
    let mut add = |count: usize, one: &str, many: &str| {
        if count > 0 {
            words.push_str(&format!(", {count} {}", if count == 1 { one } else { many }));
        }
    };
    add(work.tools.len(), "use of a tool", "uses of tools");
    add(work.changed.len(), "file changed", "files changed");
    add(work.denied.len(), "denied", "denied");
    if !fact.usage().is_nothing() {
        words.push_str(&format!(", {}", human::cost(fact.cost_total())));
    }
    if let Some(session) = fact.session() {
        words.push_str(&format!(", session {session}"));
    }
    words
}

fn why(failure: Option<&Failure>) -> String {
    failure.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

fn artifact(artifact: &Artifact) -> String {
    format!("{} {}", artifact.path.as_ref().unwrap_or(&artifact.name), artifact.digest.short())
}
