//! How steps ended, for the reason of a skip.

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::durable::StepOutcome;
use crate::model::StepStatus;

use super::shared_map::SharedMap;

/// How steps ended, by id, in the order in which they ended first. A copy takes constant time.
#[derive(Clone, Default)]
pub(super) struct StepOutcomes {
    outcomes: SharedMap<StepOutcome>,
    /// For each artifact, the positions of the steps that did not complete and would have produced it.
    unproduced: RedBlackTreeMapSync<String, RedBlackTreeSetSync<u64>>,
}

impl StepOutcomes {
    /// Adds the outcome of a step, or replaces it.
    pub(super) fn insert(&mut self, id: &str, outcome: StepOutcome) {
        let outputs = (outcome.status != StepStatus::Completed).then(|| outcome.outputs.clone());
        let position = self.outcomes.insert(id, outcome);
        for output in outputs.iter().flat_map(|outputs| outputs.iter()) {
            let mut positions = self.unproduced.get(output).cloned().unwrap_or_else(RedBlackTreeSetSync::new_sync);
            positions.insert_mut(position);
            self.unproduced.insert_mut(output.clone(), positions);
        }
    }

    /// The outcomes, in the order in which the steps ended first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &StepOutcome)> {
        self.outcomes.iter()
    }

    /// The last step that would have produced an artifact and whose status, which is not `completed`, fits.
    pub(super) fn last_producer(
        &self,
        artifact: &str,
        fits: impl Fn(StepStatus) -> bool,
    ) -> Option<(&String, &StepOutcome)> {
        let positions = self.unproduced.get(artifact)?;
        let steps = positions.iter().rev().filter_map(|position| self.outcomes.at(*position));
        // Another outcome may have replaced the one for which the position was added.
        let mut steps = steps.filter(|(_, outcome)| outcome.outputs.iter().any(|output| output == artifact));
        steps.find(|(_, outcome)| outcome.status != StepStatus::Completed && fits(outcome.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: StepStatus, outputs: &[&str]) -> StepOutcome {
        let outputs: Vec<String> = outputs.iter().map(|output| (*output).to_owned()).collect();
        StepOutcome { status, error: None, outputs: outputs.into() }
    }

    #[test]
    fn the_last_step_without_its_artifact_is_its_producer() {
        let mut outcomes = StepOutcomes::default();
        for (id, status, outputs) in [
            ("a", StepStatus::Failed, ["x"].as_slice()),
            ("b", StepStatus::Skipped, ["x", "y"].as_slice()),
            ("c", StepStatus::Completed, ["x"].as_slice()),
            ("d", StepStatus::Skipped, ["z"].as_slice()),
        ] {
            outcomes.insert(id, outcome(status, outputs));
        }
        let producer = |outcomes: &StepOutcomes, artifact: &str, status: Option<StepStatus>| {
            let fits = |found: StepStatus| status.is_none_or(|status| status == found);
            outcomes.last_producer(artifact, fits).map(|(id, _)| id.clone())
        };
        assert_eq!(producer(&outcomes, "x", None).as_deref(), Some("b"));
        assert_eq!(producer(&outcomes, "x", Some(StepStatus::Failed)).as_deref(), Some("a"));
        assert_eq!(producer(&outcomes, "none", None), None);
        // In another iteration, `b` completes, and `d` would produce something else.
        outcomes.insert("b", outcome(StepStatus::Completed, &["x", "y"]));
        outcomes.insert("d", outcome(StepStatus::Skipped, &["w"]));
        assert_eq!(producer(&outcomes, "x", None).as_deref(), Some("a"));
        assert_eq!((producer(&outcomes, "y", None), producer(&outcomes, "z", None)), (None, None));
        assert_eq!(producer(&outcomes, "w", None).as_deref(), Some("d"));
    }
}
