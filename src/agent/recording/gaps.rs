//! The recordings of a run that may lack changes of files, for a message at the end of the run.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The recordings that may lack changes of files.
#[derive(Debug, Default)]
pub(super) struct RecordingGaps {
    sentences: Mutex<BTreeSet<String>>,
}

impl RecordingGaps {
    /// Adds what the recording of a call of a step lacks, as phrases.
    pub(super) fn add(&self, step: &StepKey, gaps: &[String]) {
        if gaps.is_empty() {
            return;
        }
        let sentence = format!("the recording of step {step} is incomplete: {}", gaps.join("; "));
        self.sentences.lock().unwrap_or_else(PoisonError::into_inner).insert(sentence);
    }

    /// One sentence for each recording, without equal ones.
    pub(super) fn sentences(&self) -> Vec<String> {
        self.sentences.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
