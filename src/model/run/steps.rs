//! Applies events to the steps of a run.

use jiff::Timestamp;

use super::RunState;
use crate::model::event::{Event, Fact, RunStatus, StepCompleted};
use crate::model::failure::Failure;
use crate::model::id::StepKey;
use crate::model::step_status::StepStatus;

impl RunState {
    /// Sets the final status of the run, and of the steps that have not ended.
    pub(super) fn finish(&mut self, at: Timestamp, status: RunStatus, failure: Option<Failure>) {
        self.status = status;
        self.ended = Some(at);
        self.failure = failure;
        for step in &mut self.steps {
            // The end of each call is recorded before the end of the run, also if a stop ended the call.
            step.close_call();
            match step.status {
                // A run that has ended does not wait for an answer.
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

    /// Applies an event to its step.
    pub(super) fn apply_to_step(&mut self, event: &Event) {
        let at = event.at;
        if let Fact::StepCompleted(StepCompleted { artifact: Some(artifact), .. }) = &event.fact {
            self.artifacts_by_seq.insert(event.seq, artifact.clone());
        }
        if let Fact::ArtifactAccepted(fact) = &event.fact {
            self.artifacts_by_seq.insert(fact.result_seq, fact.artifact.clone());
        }
        let reused_artifact = match &event.fact {
            Fact::StepReused(fact) => match &fact.renamed_artifact {
                Some(artifact) => Some(artifact.clone()),
                None => self.artifacts_by_seq.get(&fact.result_seq).cloned(),
            },
            _ => None,
        };
        let Some(key) = event.fact.step() else { return };
        self.start_ancestors(key, at);
        let Some(step) = self.ensure_step_index(key).and_then(|index| self.steps.get_mut(index)) else { return };
        match &event.fact {
            Fact::StepReused(_) => {
                step.status = StepStatus::Completed;
                step.reused = true;
                step.artifact = reused_artifact;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepStarted(fact) => {
                // A question that was asked before a crash still waits for its answer.
                let has_question = step.question.is_some() && fact.attempt <= step.attempts;
                step.status = if has_question { StepStatus::Waiting } else { StepStatus::InProgress };
                step.question = step.question.take().filter(|_| has_question);
                step.attempts = step.attempts.max(fact.attempt);
                step.model = fact.model.clone();
                step.started.get_or_insert(at);
                step.ended = None;
            }
            Fact::CallStarted(fact) => step.open_call(fact),
            Fact::CallEnded(fact) => step.record_call(fact),
            Fact::ReplyParsed(fact) => step.record_parsed_reply(fact),
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
                step.question = Some(fact.question.clone());
            }
            Fact::ApprovalAnswered(_) => {
                step.status = StepStatus::InProgress;
                step.question = None;
            }
            Fact::RunStarted(_)
            | Fact::RunResumed(_)
            | Fact::RunEnded(_)
            | Fact::ToolsListed(_)
            | Fact::CancelRequested(_)
            | Fact::BudgetRaised(_) => {}
        }
    }

    /// Marks the steps and items that contain a step as in progress.
    fn start_ancestors(&mut self, key: &StepKey, at: Timestamp) {
        for ancestor in key.ancestors() {
            let Some(step) = self.step_index.get(&ancestor).and_then(|index| self.steps.get_mut(*index)) else {
                continue;
            };
            if matches!(step.status, StepStatus::Pending | StepStatus::Waiting) {
                step.status = StepStatus::InProgress;
                step.started.get_or_insert(at);
            }
        }
    }
}
