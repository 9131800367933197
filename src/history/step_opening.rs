//! How a step begins: with a recorded result, with recorded replies that orch parses again, or with an attempt.

use crate::durable::{BeginOutcome, ExecutionId, StepSpec};
use crate::model::event::{StepCompleted, StepReused};
use crate::model::{Artifact, Fingerprint, RunId};

use super::HistoryIndex;

/// A step that reuses a result of its own run.
#[derive(Clone, Debug, PartialEq)]
pub struct ReusedStep {
    /// The event that records the reuse.
    pub fact: StepReused,
    /// The artifact, with the name and the path that the step has now.
    pub artifact: Option<Artifact>,
    /// The execution that produced the result.
    pub execution_id: ExecutionId,
}

impl HistoryIndex {
    /// Takes a result of this run that a step reuses; `None` if it has none, or if the step belongs to a `finally`.
    pub fn reuse_step(&mut self, spec: &StepSpec) -> Option<ReusedStep> {
        let (result_seq, recorded) = self.take_reusable_result(spec)?;
        let mut fact = StepReused::new(spec.step.clone(), result_seq);
        let artifact = match (recorded, &spec.output) {
            (Some(recorded), Some(name)) => {
                let artifact = Artifact { name: name.clone(), path: spec.path.clone(), ..recorded.clone() };
                fact.renamed_artifact =
                    (artifact.name != recorded.name || artifact.path != recorded.path).then(|| artifact.clone());
                Some(artifact)
            }
            (_, None) | (None, _) => None,
        };
        Some(ReusedStep { fact, artifact, execution_id: self.execution_id(result_seq) })
    }

    /// How a step continues that reuses no result: with recorded replies, or with an attempt.
    pub fn open_attempt(&self, spec: &StepSpec) -> BeginOutcome {
        let attempt = self.next_attempt(spec);
        let replies = self.replies_to_reparse(spec);
        let rerun_reason = self.rerun_reason(spec);
        if replies.is_empty() {
            BeginOutcome::Attempt(attempt, rerun_reason)
        } else {
            BeginOutcome::Reparse { replies, attempt, rerun_reason }
        }
    }
}

/// A result of another run that a step may reuse.
#[derive(Clone, Debug)]
pub struct EarlierResult {
    /// The run.
    pub run: RunId,
    /// The fingerprint of the step in that run: the one of this step, or an alternative.
    pub fingerprint: Fingerprint,
    /// The artifact that it produced.
    pub artifact: Artifact,
}

/// The event that records that a step completes with a result of another run; `None` if the step has no output.
pub fn completed_with(result: EarlierResult, spec: &StepSpec) -> Option<StepCompleted> {
    let EarlierResult { run, fingerprint, artifact } = result;
    let artifact = Artifact { name: spec.output.clone()?, path: spec.path.clone(), ..artifact };
    let step = spec.step.clone();
    Some(StepCompleted { step, attempt: 0, fingerprint, reused_from: Some(run), artifact: Some(artifact) })
}
