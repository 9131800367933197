//! Progress as plain lines, for pipes and logs: one line when a step starts, one when it ends.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::durable::{CallProgress, Observer};
use crate::model::visible::escape_line_breaks;
use crate::model::{Event, Fact, RunId, RunState};

use super::human;
use super::style::to_printable;
use super::summary::describe_step_result;

/// Writes one line for each event that users want to see.
pub struct LineReporter {
    shared: Mutex<LineReportState>,
}

struct LineReportState {
    state: RunState,
    out: Box<dyn Write + Send>,
}

impl LineReporter {
    /// Follows a run that already has these events.
    pub fn new(run: RunId, events: &[Event], out: Box<dyn Write + Send>) -> Self {
        Self { shared: Mutex::new(LineReportState { state: RunState::fold(run, events), out }) }
    }
}

impl Observer for LineReporter {
    fn on_event(&self, event: &Event) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.state.apply(event);
        if let Some(line) = event_line(event, &shared.state) {
            // Progress is only information: a closed pipe must not stop the run.
            let _ = writeln!(shared.out, "{}", to_printable(&escape_line_breaks(&line)));
            let _ = shared.out.flush();
        }
    }

    fn on_progress(&self, signal: &CallProgress) {
        let text = match signal {
            CallProgress::Backoff(step, millis) => {
                let pause = human::format_duration(std::time::Duration::from_millis(*millis));
                format!("{step}: waiting {pause} before the next attempt")
            }
            CallProgress::Stopping { immediately: at_once } => format!("\n{}", stop_message(*at_once)),
            CallProgress::Sent(_)
            | CallProgress::ReadingPrompt(..)
            | CallProgress::Text(..)
            | CallProgress::Reasoning(..)
            | CallProgress::Output(..)
            | CallProgress::AwaitingApproval(_) => return,
        };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(shared.out, "{text}");
    }
}

/// The message when the user stops a run.
pub fn stop_message(at_once: bool) -> &'static str {
    if at_once {
        return "stopping now";
    }
    "stopping: waiting up to 10 s for replies in flight, ending commands and CLI agents; press Ctrl-C again to stop now"
}

fn event_line(event: &Event, state: &RunState) -> Option<String> {
    let result_line = |key| state.step(key).map(|step| format!("{key}: {}", describe_step_result(step)));
    match &event.fact {
        Fact::RunStarted(fact) => Some(format!("run {}: {}", event.run, fact.pipeline)),
        Fact::RunResumed(_) => Some(format!("run {}: {}, resumed", event.run, state.pipeline)),
        Fact::StepStarted(fact) => Some(match &fact.model {
            Some(model) => {
                let reason = fact.reason.as_ref().map_or_else(String::new, |reason| format!("; {reason}"));
                format!("{}: attempt {} with {model} ({}){reason}", fact.step, fact.attempt, fact.agent)
            }
            None if fact.attempt > 1 => format!("{}: attempt {}", fact.step, fact.attempt),
            None => format!("{}: started", fact.step),
        }),
        Fact::CallEnded(fact) => {
            let failure = fact.failure.as_ref()?;
            Some(format!("{}: {failure}", fact.call.step))
        }
        Fact::ReplyParsed(fact) => {
            let failure = fact.failure.as_ref()?;
            Some(format!("{}: orch rejected the reply: {failure}", fact.call.step))
        }
        Fact::StepReused(fact) => result_line(&fact.step),
        Fact::StepCompleted(fact) => result_line(&fact.step),
        Fact::StepFailed(fact) => result_line(&fact.step),
        Fact::StepSkipped(fact) => result_line(&fact.step),
        Fact::ApprovalAsked(fact) => Some(format!("{}: waiting for an approval", fact.step)),
        Fact::ApprovalAnswered(fact) => {
            let decision = if fact.answer.approved { "approved" } else { "rejected" };
            Some(format!("{}: {decision} by {}", fact.step, fact.answer.by))
        }
        Fact::CallStarted(_) | Fact::RunEnded(_) | Fact::ArtifactAccepted(_) => None,
    }
}
