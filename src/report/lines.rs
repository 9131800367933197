//! Progress as plain lines, for pipes and logs: one when a step starts, one when it ends.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::durable::{CallProgress, Observer};
use crate::model::visible::one_line;
use crate::model::{Event, Fact, RunId, RunState};

use super::human;
use super::style::printable;
use super::summary::step_words;

/// Writes one line for each event that users want to see.
pub struct LineReport {
    inner: Mutex<LineReportState>,
}

struct LineReportState {
    state: RunState,
    out: Box<dyn Write + Send>,
}

impl LineReport {
    /// Follows a run that has these events already.
    pub fn new(run: RunId, events: &[Event], out: Box<dyn Write + Send>) -> Self {
        Self { inner: Mutex::new(LineReportState { state: RunState::fold(run, events), out }) }
    }
}

impl Observer for LineReport {
    fn event(&self, event: &Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state.apply(event);
        if let Some(line) = line(event, &inner.state) {
            // Progress is only information: a closed pipe must not stop the run.
            let _ = writeln!(inner.out, "{}", printable(&one_line(&line)));
            let _ = inner.out.flush();
        }
    }

    fn signal(&self, signal: &CallProgress) {
        let words = match signal {
            CallProgress::Backoff(step, millis) => {
                let pause = human::duration(std::time::Duration::from_millis(*millis));
                format!("{step}: waiting {pause} before the next try")
            }
            CallProgress::Stopping { at_once } => format!("\n{}", stopping(*at_once)),
            CallProgress::Sent(_)
            | CallProgress::Reading(..)
            | CallProgress::Text(..)
            | CallProgress::Reasoning(..)
            | CallProgress::Output(..)
            | CallProgress::Asking(_) => return,
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(inner.out, "{words}");
    }
}

/// The message when the user stops a run.
pub fn stopping(at_once: bool) -> &'static str {
    if at_once {
        return "stopping at once";
    }
    "stopping: a reply in flight has 10 s to arrive, commands and agent programs are ended now; once more stops at once"
}

fn line(event: &Event, state: &RunState) -> Option<String> {
    let words = |key| state.step(key).map(|step| format!("{key}: {}", step_words(step)));
    match &event.fact {
        Fact::RunStarted(fact) => Some(format!("run {}: {}", event.run, fact.pipeline)),
        Fact::RunResumed(_) => Some(format!("run {}: {}, resumed", event.run, state.pipeline)),
        Fact::StepStarted(fact) => Some(match &fact.model {
            Some(model) => {
                let why = fact.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
                format!("{}: attempt {} with {model} ({}){why}", fact.step, fact.attempt, fact.agent)
            }
            None if fact.attempt > 1 => format!("{}: attempt {}", fact.step, fact.attempt),
            None => format!("{}: begun", fact.step),
        }),
        Fact::CallEnded(fact) => {
            let failure = fact.failure.as_ref()?;
            Some(format!("{}: {failure}", fact.call.step))
        }
        Fact::ReplyParsed(fact) => {
            let failure = fact.failure.as_ref()?;
            Some(format!("{}: the reply was not taken: {failure}", fact.call.step))
        }
        Fact::StepReused(fact) => words(&fact.step),
        Fact::StepCompleted(fact) => words(&fact.step),
        Fact::StepFailed(fact) => words(&fact.step),
        Fact::StepSkipped(fact) => words(&fact.step),
        Fact::ApprovalAsked(fact) => Some(format!("{}: waiting for a person", fact.step)),
        Fact::ApprovalAnswered(fact) => {
            let word = if fact.answer.approved { "approved" } else { "rejected" };
            Some(format!("{}: {word} by {}", fact.step, fact.answer.by))
        }
        Fact::RunEnded(_) | Fact::ArtifactAccepted(_) => None,
    }
}
