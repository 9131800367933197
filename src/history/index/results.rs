//! The recorded results of steps.

use std::collections::HashMap;

use crate::model::{Artifact, Fingerprint, StepKey};

/// A result of a step.
pub(super) struct RecordedResult {
    pub(super) seq: u64,
    pub(super) step: StepKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) artifact: Option<Artifact>,
    /// Whether the user edited the artifact.
    pub(super) is_edited: bool,
}

/// The results that no step has taken yet. Many steps may have results with the same fingerprint, such as groups without
/// artifacts, so a step finds its own result by its key.
#[derive(Default)]
pub(super) struct RecordedResults {
    /// By `seq`.
    results: HashMap<u64, RecordedResult>,
    /// The `seq` of each result with a fingerprint, in ascending order. Some may have been taken.
    seqs_of_fingerprints: HashMap<Fingerprint, Vec<u64>>,
    /// The `seq` of each result of a step, in ascending order. Some may have been taken.
    seqs_of_steps: HashMap<StepKey, Vec<u64>>,
}

impl RecordedResults {
    /// Adds a result. Its `seq` is larger than those of all others.
    pub(super) fn insert(&mut self, result: RecordedResult) {
        self.seqs_of_fingerprints.entry(result.fingerprint.clone()).or_default().push(result.seq);
        self.seqs_of_steps.entry(result.step.clone()).or_default().push(result.seq);
        self.results.insert(result.seq, result);
    }

    /// The result with this `seq`.
    pub(super) fn get(&self, seq: u64) -> Option<&RecordedResult> {
        self.results.get(&seq)
    }

    /// The result with this `seq`, as a mutable reference.
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut RecordedResult> {
        self.results.get_mut(&seq)
    }

    /// Removes and returns the result with this `seq`.
    pub(super) fn take(&mut self, seq: u64) -> Option<RecordedResult> {
        self.results.remove(&seq)
    }

    /// The results of a step, latest first.
    pub(super) fn of_step(&self, step: &StepKey) -> impl Iterator<Item = &RecordedResult> {
        self.seqs_of_steps.get(step).into_iter().flatten().rev().filter_map(|seq| self.results.get(seq))
    }

    /// The `seq` of the latest result with this fingerprint that matches, of any step.
    pub(super) fn find(
        &mut self,
        fingerprint: &Fingerprint,
        is_match: impl Fn(&RecordedResult) -> bool,
    ) -> Option<u64> {
        let Self { results, seqs_of_fingerprints, .. } = self;
        let seqs = seqs_of_fingerprints.get_mut(fingerprint)?;
        // Forget the results that steps have taken, so that no later search passes over them again.
        while seqs.last().is_some_and(|seq| !results.contains_key(seq)) {
            seqs.pop();
        }
        let mut candidates = seqs.iter().rev().filter_map(|seq| results.get(seq));
        candidates.find(|result| is_match(result)).map(|result| result.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn fingerprint() -> Fingerprint {
        Fingerprint { request: Digest::compute(b"request"), decode: Digest::compute(b"decode") }
    }

    #[test]
    fn each_result_is_taken_once() {
        let mut results = RecordedResults::default();
        let steps = [(1, "a"), (2, "b"), (3, "a"), (4, "c")];
        for (seq, step) in steps {
            let (step, fingerprint) = (StepKey::root(step), fingerprint());
            results.insert(RecordedResult { seq, step, fingerprint, artifact: None, is_edited: false });
        }
        let seqs = |results: &RecordedResults| -> Vec<u64> {
            results.of_step(&StepKey::root("a")).map(|result| result.seq).collect()
        };
        assert_eq!(seqs(&results), [3, 1]);
        assert_eq!(results.find(&fingerprint(), |_| true), Some(4));
        assert_eq!(results.find(&fingerprint(), |result| result.step == StepKey::root("b")), Some(2));
        assert!(results.take(4).is_some() && results.take(4).is_none());
        assert!(results.take(3).is_some());
        assert_eq!((results.find(&fingerprint(), |_| true), seqs(&results)), (Some(2), vec![1]));
        assert!(results.get(1).is_some() && results.get(3).is_none());
    }
}
