//! What the recordings of a run lack, for the warnings at the end of the run.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::model::StepKey;

/// The recordings that lack, or may lack, changes of files.
#[derive(Debug, Default)]
pub(super) struct RecordingOmissions {
    sentences: Mutex<BTreeSet<String>>,
}

impl RecordingOmissions {
    /// Adds what the recording of a call of a step lacks, if it lacks anything.
    pub(super) fn add(&self, step: &StepKey, omission: Option<&str>) {
        if let Some(omission) = omission {
            let sentence = format!("the recording of step `{step}` is incomplete: {omission}");
            self.sentences.lock().unwrap_or_else(PoisonError::into_inner).insert(sentence);
        }
    }

    /// One sentence for each recording, without equal ones.
    pub(super) fn sentences(&self) -> Vec<String> {
        self.sentences.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
