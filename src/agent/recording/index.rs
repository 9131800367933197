//! Finds the recordings whose requests equal a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::exchange::{Exchange, RequestText};
use super::normalize::RequestNormalizer;
use crate::model::{Digest, StepKey};

/// Recordings by their requests.
#[derive(Debug)]
pub(super) struct RecordingIndex<E> {
    /// The recordings, in the order of their file names.
    recordings: Vec<E>,
    /// The indexes of the recordings with each normalized request.
    by_request: BTreeMap<Digest, Vec<usize>>,
    /// The normalized request of each key: a recording without its secrets has another digest than its request.
    by_key: BTreeMap<Digest, Digest>,
    /// How often each step has sent each request.
    request_counts: Mutex<HashMap<(Digest, StepKey), usize>>,
}

impl<E: Exchange> RecordingIndex<E> {
    pub(super) fn new(recordings: Vec<E>, normalizer: &RequestNormalizer) -> Self {
        let (mut by_request, mut by_key) = (BTreeMap::<Digest, Vec<usize>>::new(), BTreeMap::new());
        for (index, recording) in recordings.iter().enumerate() {
            let digest = recording.request().normalized(normalizer).digest();
            by_key.insert(recording.id().key.clone(), digest.clone());
            by_request.entry(digest).or_default().push(index);
        }
        Self { recordings, by_request, by_key, request_counts: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recordings.is_empty()
    }

    /// Finds the recording for a request with this key and this normalized form. Returns the recordings of the step in
    /// the order of its requests, or else the first recording of another step.
    pub(super) fn find(&self, step: &StepKey, key: &Digest, normalized: &RequestText) -> Option<&E> {
        let digest = self.by_key.get(key).cloned().unwrap_or_else(|| normalized.digest());
        let indexes = self.by_request.get(&digest)?;
        let recordings: Vec<&E> = indexes.iter().filter_map(|index| self.recordings.get(*index)).collect();
        let is_of_step = |recording: &&E| recording.id().step == step.as_str();
        let mut step_recordings: Vec<&E> = recordings.iter().copied().filter(is_of_step).collect();
        step_recordings.sort_by(|first, second| first.id().position.cmp(second.id().position));
        let mut counts = self.request_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((digest, step.clone())).or_default();
        let index = (*count).min(step_recordings.len().saturating_sub(1));
        *count += 1;
        step_recordings.get(index).or_else(|| recordings.first()).copied()
    }

    /// Counts a request like [`find`](Self::find), for a request whose recording is not needed any more.
    pub(super) fn skip(&self, step: &StepKey, key: &Digest, normalized: &RequestText) {
        // Without a recording there is nothing to count.
        let _ = self.find(step, key, normalized);
    }

    /// Finds the recording whose request is most similar to a normalized request; one of the same step, if there is one.
    /// Also returns the normalized request of the recording.
    pub(super) fn find_nearest(
        &self,
        step: &StepKey,
        normalized: &RequestText,
        normalizer: &RequestNormalizer,
    ) -> Option<(&E, RequestText)> {
        let declared_key = step.declared_key();
        let is_of_step = |recording: &&E| StepKey::root(recording.id().step).declared_key() == declared_key;
        let step_recordings: Vec<&E> = self.recordings.iter().filter(is_of_step).collect();
        let candidates = if step_recordings.is_empty() { self.recordings.iter().collect() } else { step_recordings };
        let requested_text = normalized.full_text();
        let candidates =
            candidates.into_iter().map(|recording| (recording, recording.request().normalized(normalizer)));
        candidates.max_by_key(|(_, request)| count_common_lines(&request.full_text(), &requested_text))
    }
}

/// Counts the lines that two texts have in common.
fn count_common_lines(first: &str, second: &str) -> usize {
    let lines: std::collections::HashSet<&str> = first.lines().collect();
    second.lines().filter(|line| lines.contains(line)).count()
}
