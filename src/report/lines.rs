//! Shows progress as plain lines, for pipes and logs: a line when a step starts and a line when the step ends.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::durable::{CallProgress, Observer};
use crate::model::visible::escape_line_breaks;
use crate::model::{Event, Fact, RunId, RunState, StepKey, StepStatus};

use super::early_waits::EarlyWaits;
use super::human;
use super::style::to_printable;
use super::summary::describe_step_result;
use super::tool_failures::{ToolFailures, describe_call_failure, describe_program_failure};

/// Writes a line for each event that is relevant to users.
pub struct LineReporter {
    inner: Mutex<LineReportState>,
}

struct LineReportState {
    state: RunState,
    tool_failures: ToolFailures,
    early_waits: EarlyWaits,
    out: Box<dyn Write + Send>,
}

impl LineReporter {
    /// Creates a reporter for a run. `events` are the run's events so far.
    pub fn new(run: RunId, events: &[Event], out: Box<dyn Write + Send>) -> Self {
        let (state, tool_failures) = (RunState::fold(run, events), ToolFailures::default());
        Self { inner: Mutex::new(LineReportState { state, tool_failures, early_waits: EarlyWaits::default(), out }) }
    }
}

impl Observer for LineReporter {
    fn on_event(&self, event: &Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state.apply(event);
        let tool_failures = inner.tool_failures.describe(&event.fact);
        let step = event.fact.step();
        let failure_lines = tool_failures.iter().filter_map(|failure| Some(format!("{}: {failure}", step?)));
        let wait_line = match &event.fact {
            Fact::StepStarted(fact) if inner.early_waits.take(&fact.step) => Some(budget_wait_line(&fact.step)),
            _ => None,
        };
        for line in failure_lines.chain(render_event(event, &inner.state)).chain(wait_line) {
            // Ignore errors, because a closed pipe must not stop the run.
            let _ = writeln!(inner.out, "{}", to_printable(&escape_line_breaks(&line)));
            let _ = inner.out.flush();
        }
    }

    fn on_progress(&self, progress: &CallProgress) {
        let text = match progress {
            CallProgress::Backoff(step, millis) => {
                let pause = human::format_duration(std::time::Duration::from_millis(*millis));
                format!("{step}: waiting {pause} before the next attempt")
            }
            CallProgress::AwaitingBudget(step) => {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if inner.state.step(step).is_none_or(|step| step.status == StepStatus::Pending) {
                    inner.early_waits.add(step);
                    return;
                }
                budget_wait_line(step)
            }
            CallProgress::ListingFailed(step, failure) => {
                to_printable(&escape_line_breaks(&format!("{step}: {}", describe_program_failure(failure))))
                    .into_owned()
            }
            CallProgress::Stopping { immediately } => format!("\n{}", stop_message(*immediately)),
            CallProgress::Sent(call) => {
                self.inner.lock().unwrap_or_else(PoisonError::into_inner).early_waits.take(&call.step);
                return;
            }
            CallProgress::ReadingPrompt(..)
            | CallProgress::Text(..)
            | CallProgress::Reasoning(..)
            | CallProgress::Output(..)
            | CallProgress::AwaitingApproval(_)
            | CallProgress::ApprovalEnded(_) => return,
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(inner.out, "{text}");
    }
}

fn budget_wait_line(step: &StepKey) -> String {
    format!("{step}: waiting for budget that other calls reserve")
}

/// The message that orch prints when the user stops a run.
pub fn stop_message(immediately: bool) -> &'static str {
    if immediately {
        return "stopping now";
    }
    "stopping: waiting up to 10 s for replies in flight, ending commands and CLI agents; press Ctrl-C again to stop now"
}

fn render_event(event: &Event, state: &RunState) -> Option<String> {
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
            Some(format!("{}: {}", fact.call.step, describe_call_failure(failure)))
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
        Fact::CallStarted(fact) => {
            let (tool, arguments) = fact.tool_and_arguments()?;
            Some(format!("{}: {tool} {arguments}", fact.call.step).trim_end().to_owned())
        }
        Fact::ToolsListed(fact) => {
            (!fact.notes.is_empty()).then(|| format!("MCP server {}: {}", fact.listing.server, fact.notes.join("; ")))
        }
        Fact::BudgetRaised(fact) => Some(fact.to_string()),
        Fact::RunEnded(_) | Fact::ArtifactAccepted(_) | Fact::CancelRequested(_) => None,
    }
}
