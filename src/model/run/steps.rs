//! Applies events to the steps of a run.

use jiff::Timestamp;

use super::RunState;
use crate::model::event::{Event, Fact, RunStatus, StepCompleted};
use crate::model::failure::Failure;
use crate::model::id::StepKey;
use crate::model::step_state::StepStatus;

impl RunState {
    pub(super) fn end(&mut self, at: Timestamp, status: RunStatus, failure: Option<Failure>) {
        self.status = status;
        self.ended = Some(at);
        self.failure = failure;
        for step in &mut self.steps {
            // If a stop ended a call, that is on record, so no call is open.
            step.close_call();
            match step.status {
                // A run that has ended waits for no answer.
                StepStatus::InProgress | StepStatus::Waiting if status != RunStatus::Waiting => {
                    step.status = StepStatus::Cancelled;
                    step.question = None;
                    step.ended = Some(at);
                }
                // The step was not reached, or it is inside a skipped step.
                StepStatus::Pending if matches!(status, RunStatus::Completed | RunStatus::Failed) => {
                    step.status = StepStatus::Skipped;
                    step.ended = Some(at);
                }
                _ => {}
            }
        }
    }

    pub(super) fn apply_to_step(&mut self, event: &Event) {
        let at = event.at;
        if let Fact::StepCompleted(StepCompleted { artifact: Some(artifact), .. }) = &event.fact {
            self.completed.insert(event.seq, artifact.clone());
        }
        if let Fact::ArtifactAccepted(fact) = &event.fact {
            self.completed.insert(fact.completed, fact.artifact.clone());
        }
        let kept = match &event.fact {
            Fact::StepReused(fact) => match &fact.renamed_artifact {
                Some(artifact) => Some(artifact.clone()),
                None => self.completed.get(&fact.completed).cloned(),
            },
            _ => None,
        };
        let Some(key) = step_of(&event.fact) else { return };
        self.touch(key, at);
        let Some(step) = self.step_at(key).and_then(|at| self.steps.get_mut(at)) else { return };
        if is_end_of_step(&event.fact) {
            step.close_call();
        }
        match &event.fact {
            Fact::StepReused(_) => {
                step.status = StepStatus::Completed;
                step.reused = true;
                step.artifact = kept;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepStarted(fact) => {
                // A question that was asked before still waits for its answer.
                let asks = step.question.is_some() && fact.attempt <= step.attempts;
                step.status = if asks { StepStatus::Waiting } else { StepStatus::InProgress };
                step.attempts = step.attempts.max(fact.attempt);
                step.model = fact.model.clone();
                step.started.get_or_insert(at);
                step.ended = None;
                if !asks {
                    step.open_call(fact);
                }
            }
            Fact::CallEnded(fact) => step.spent(fact),
            Fact::ReplyParsed(fact) => step.read_reply(fact),
            Fact::StepCompleted(fact) => {
                step.status = StepStatus::Completed;
                step.artifact = fact.artifact.clone();
                step.reused_from = fact.reused_from;
                step.question = None;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepFailed(fact) => {
                step.status = StepStatus::Failed;
                step.failure = Some(fact.failure.clone());
                step.question = None;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepSkipped(fact) => {
                step.status = StepStatus::Skipped;
                step.reason = Some(fact.reason.clone());
                step.ended = Some(at);
            }
            Fact::ArtifactAccepted(fact) => step.artifact = Some(fact.artifact.clone()),
            Fact::ApprovalAsked(fact) => {
                step.status = StepStatus::Waiting;
                step.question = Some(fact.shown.clone());
            }
            Fact::ApprovalAnswered(_) => {
                step.status = StepStatus::InProgress;
                step.question = None;
            }
            Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => {}
        }
    }

    /// Marks everything that a step is inside of as in progress.
    fn touch(&mut self, key: &StepKey, at: Timestamp) {
        for ancestor in key.ancestors() {
            let Some(step) = self.at.get(&ancestor).and_then(|at| self.steps.get_mut(*at)) else { continue };
            if matches!(step.status, StepStatus::Pending | StepStatus::Waiting) {
                step.status = StepStatus::InProgress;
                step.started.get_or_insert(at);
            }
        }
    }
}

/// Whether a step has no call in flight after this fact.
fn is_end_of_step(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::StepReused(_)
            | Fact::StepCompleted(_)
            | Fact::StepFailed(_)
            | Fact::StepSkipped(_)
            | Fact::ApprovalAsked(_)
    )
}

fn step_of(fact: &Fact) -> Option<&StepKey> {
    match fact {
        Fact::StepReused(fact) => Some(&fact.step),
        Fact::StepStarted(fact) => Some(&fact.step),
        Fact::CallEnded(fact) => Some(&fact.call.step),
        Fact::ReplyParsed(fact) => Some(&fact.call.step),
        Fact::StepCompleted(fact) => Some(&fact.step),
        Fact::StepFailed(fact) => Some(&fact.step),
        Fact::StepSkipped(fact) => Some(&fact.step),
        Fact::ArtifactAccepted(fact) => Some(&fact.step),
        Fact::ApprovalAsked(fact) => Some(&fact.step),
        Fact::ApprovalAnswered(fact) => Some(&fact.step),
        Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => None,
    }
}
