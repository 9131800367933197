//! Finds the recordings whose requests equal a request.

use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// A request at the same position of a conversation has as many parts, so the number of parts counts first, and then
    /// the size of the difference. Also returns the normalized request of the recording.
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
        let candidates =
            candidates.into_iter().map(|recording| (recording, recording.request().normalized(normalizer)));
        candidates.min_by_key(|(_, request)| RequestDistance::between(request, normalized))
    }
}

/// How far two requests are apart. The fields are compared in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RequestDistance {
    /// How many more parts one of them has.
    parts: usize,
    /// How many lines only one of them has.
    lines: usize,
    /// The length of the texts between their common beginnings and ends.
    bytes: usize,
}

impl RequestDistance {
    fn between(first: &RequestText, second: &RequestText) -> Self {
        let count = first.parts.len().max(second.parts.len());
        let pairs = (0..count).map(|index| (part_text(first, index), part_text(second, index)));
        let (mut lines, mut bytes) = (0, 0);
        for (first, second) in pairs.filter(|(first, second)| first != second) {
            lines += count_own_lines(first, second) + count_own_lines(second, first);
            bytes += different_bytes(first.as_bytes(), second.as_bytes());
        }
        Self { parts: first.parts.len().abs_diff(second.parts.len()), lines, bytes }
    }
}

/// The text of a part of a request; empty if it has no such part.
fn part_text(request: &RequestText, index: usize) -> &str {
    request.parts.get(index).map_or("", |part| part.text.as_str())
}

/// Counts the lines of a text that another text does not have.
fn count_own_lines(text: &str, other: &str) -> usize {
    let lines: HashSet<&str> = other.lines().collect();
    text.lines().filter(|line| !lines.contains(line)).count()
}

/// The length of the longer of two texts, without their common beginning and end.
fn different_bytes(first: &[u8], second: &[u8]) -> usize {
    let shorter = first.len().min(second.len());
    let start = first.iter().zip(second).take_while(|(first, second)| first == second).count();
    let end = first.iter().rev().zip(second.iter().rev()).take_while(|(first, second)| first == second).count();
    first.len().max(second.len()) - start - end.min(shorter - start)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::recording::exchange::{ReplyRecording, RequestPart};

    const SYSTEM: &str = "You buy things.";

    fn recording(messages: &[&str]) -> ReplyRecording {
        let messages: Vec<_> = messages.iter().map(|text| json!(["user", text.lines().collect::<Vec<_>>()])).collect();
        let recording = json!({
            "step": "buy", "model": "lab/m", "key": Digest::compute(json!(messages).to_string().as_bytes()),
            "system": [SYSTEM], "messages": messages, "reply": ["fine"], "stop": "end", "usage": {},
        });
        serde_json::from_value(recording).unwrap()
    }

    /// The text of the last part of the recorded request that is the nearest one.
    fn nearest(recordings: Vec<ReplyRecording>, system: &str, messages: &[&str]) -> String {
        let normalizer = RequestNormalizer::new(&[]).unwrap();
        let part = |name: &str, text: &str| RequestPart { name: name.to_owned(), text: text.to_owned() };
        let system = part("system", system);
        let parts = std::iter::once(system).chain(messages.iter().map(|text| part("user", text))).collect();
        let index = RecordingIndex::new(recordings, &normalizer);
        let request = RequestText { parts, schema: None };
        let (_, nearest) = index.find_nearest(&StepKey::root("buy"), &request, &normalizer).unwrap();
        nearest.parts.last().unwrap().text.clone()
    }

    #[test]
    fn the_nearest_recording_is_at_the_same_position_of_the_conversation() {
        let recordings = || vec![recording(&["Buy tea."]), recording(&["Buy tea.", "call stock", "12"])];
        assert_eq!(nearest(recordings(), "You buy stuff.", &["Buy tea."]), "Buy tea.");
        assert_eq!(nearest(recordings(), SYSTEM, &["Buy tea.", "call stock", "7"]), "12");
        // Without a recording at the position, the one before or after it is the nearest.
        assert_eq!(nearest(recordings(), SYSTEM, &["Buy tea.", "call stock", "12", "call order"]), "12");
    }

    #[test]
    fn the_nearest_recording_has_the_smallest_difference() {
        let (few, many) = ("a\nb\ndenied: enough checked", "a\nx\ny");
        let recordings =
            vec![recording(&["Buy tea.\nNow."]), recording(&["Buy tea.", many]), recording(&["Buy tea.", few])];
        let requested = ["Buy tea.", "a\nb\ndenied: too dear"];
        assert_eq!(nearest(recordings, SYSTEM, &requested), few);
        // Of several with one other line, the line with the most in common counts.
        let recordings = vec![recording(&["a long line: x"]), recording(&["a long line: is red"])];
        assert_eq!(nearest(recordings, SYSTEM, &["a long line: is blue"]), "a long line: is red");
    }

    #[test]
    fn the_different_part_of_two_texts_has_no_common_beginning_and_end() {
        for (first, second, count) in [("abc", "abc", 0), ("abc", "axc", 1), ("aa", "aaa", 1), ("", "ab", 2)] {
            assert_eq!(different_bytes(first.as_bytes(), second.as_bytes()), count, "{first} {second}");
        }
    }
}
