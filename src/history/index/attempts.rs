//! The attempts of steps: which of them continue, which replies orch parses again, and which steps must run again.

use std::collections::HashSet;
use std::sync::Arc;

use crate::durable::{CallReply, StepSpec};
use crate::model::StepKey;
use crate::model::event::StepStarted;

use super::{HistoryIndex, covers};
use crate::history::call_replies::final_replies;

/// An attempt of a step that has started.
pub(super) struct Attempt {
    pub(super) start: Arc<StepStarted>,
    /// Whether orch may parse its replies again: an earlier session started it, and the user did not ask to run the step
    /// again since.
    is_reparsable: bool,
}

impl HistoryIndex {
    pub(super) fn step_started(&mut self, fact: &StepStarted, seq: u64) {
        self.started_attempts.insert((fact.step.clone(), fact.attempt));
        self.first_starts.entry((fact.step.clone(), fact.attempt)).or_insert(seq);
        self.started_groups.extend(fact.step.ancestors());
        let start = Arc::new(fact.clone());
        if self.replaying {
            self.attempts_by_request.entry(fact.fingerprint.request.clone()).or_default().push(Arc::clone(&start));
        }
        let attempt = Attempt { start, is_reparsable: self.replaying };
        self.attempts.entry(fact.step.clone()).or_default().push(attempt);
    }

    /// Forces a step, its items and its iterations to run again: orch does not reuse their results from before the
    /// event `before_seq`.
    pub fn force_rerun(&mut self, step: &StepKey, before_seq: u64) {
        let is_covered = |key: &StepKey| covers(step, key);
        for attempts in self.attempts_by_request.values_mut() {
            attempts.retain(|attempt| !is_covered(&attempt.step));
        }
        let mut last_attempts: Vec<(StepKey, u32)> = Vec::new();
        for (key, attempts) in self.attempts.iter_mut().filter(|(key, _)| is_covered(key)) {
            for attempt in attempts.iter_mut() {
                attempt.is_reparsable = false;
            }
            let last = attempts.iter().map(|attempt| attempt.start.attempt).max();
            last_attempts.extend(last.map(|last| (key.clone(), last)));
        }
        for (key, attempt) in last_attempts {
            self.end_attempt(&key, attempt);
        }
        self.calls.forget_pipelines_around(step);
        self.forced_reruns.push((step.clone(), before_seq));
    }

    /// The recorded attempts with the same request as a step. If the step itself made this request before, the attempts
    /// of other steps do not count: there may be as many of them as the run has steps.
    fn attempts_with_same_request(&self, spec: &StepSpec) -> Vec<&StepStarted> {
        let fingerprints = || spec.alternative_fingerprints.iter().chain([&spec.fingerprint]);
        let own_attempts = self.attempts.get(&spec.step).map(Vec::as_slice).unwrap_or_default();
        let own_attempts = fingerprints().flat_map(|fingerprint| {
            let reparsable = own_attempts.iter().filter(|attempt| attempt.is_reparsable).map(|attempt| &*attempt.start);
            reparsable.filter(move |started| started.fingerprint.request == fingerprint.request)
        });
        let own_attempts: Vec<&StepStarted> = own_attempts.collect();
        if !own_attempts.is_empty() {
            return own_attempts;
        }
        let attempts = fingerprints().filter_map(|fingerprint| self.attempts_by_request.get(&fingerprint.request));
        attempts.flatten().map(|started| &**started).collect()
    }

    /// The recorded replies to the same request that orch parsed under other rules, latest first. If the user edited
    /// the last result, the edit comes first.
    pub fn replies_to_reparse(&self, spec: &StepSpec) -> Vec<CallReply> {
        let is_rerun = self.must_rerun(&spec.step);
        let mut attempts = self.attempts_with_same_request(spec);
        // If the user wants the step to run again, only its own attempts since then count.
        attempts.retain(|started| !is_rerun || started.step == spec.step);
        let attempts_with_same_rules: HashSet<(&StepKey, u32)> = attempts
            .iter()
            .filter(|started| started.fingerprint.decode == spec.fingerprint.decode)
            .map(|started| (&started.step, started.attempt))
            .collect();
        // Such an attempt has only the replies after those of the attempt before it, which has the required call.
        let continues = |started: &StepStarted| {
            let is_previous =
                |other: &&&StepStarted| other.step == started.step && other.attempt + 1 == started.attempt;
            let previous = attempts.iter().find(is_previous);
            previous.is_some_and(|start| self.continued_attempts.contains(&(start.step.clone(), start.attempt)))
        };
        let edit = self.edit_as_reply(spec).filter(|_| !is_rerun);
        let mut replies: Vec<CallReply> = edit.into_iter().collect();
        for started in attempts
            .iter()
            .rev()
            .filter(|started| !attempts_with_same_rules.contains(&(&started.step, started.attempt)))
        {
            let recorded = self.calls.replies(&started.step, started.attempt);
            replies.extend(final_replies(recorded, spec.requires_call && !continues(started)).cloned());
        }
        replies
    }

    /// The attempt to continue: the unfinished attempt with this fingerprint, else a new attempt.
    pub(in crate::history) fn next_attempt(&self, spec: &StepSpec) -> u32 {
        let first_unfinished = self.last_ended.get(&spec.step).copied().unwrap_or(0) + 1;
        let started = self.attempts.get(&spec.step).into_iter().flatten().map(|attempt| &attempt.start);
        let unfinished = started.filter(|start| start.attempt >= first_unfinished);
        // An unfinished attempt with another fingerprint must not continue, although no event records its end.
        let stale = unfinished.filter(|start| start.fingerprint != spec.fingerprint).map(|start| start.attempt).max();
        stale.map_or(first_unfinished, |stale| stale + 1)
    }
}
