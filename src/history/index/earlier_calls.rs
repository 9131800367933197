//! What earlier attempts of a step did: the calls that may have changed something, and the answers of the user.

use crate::durable::{EarlierCall, StepSpec};
use crate::model::event::{
    ApprovalAnswered, ApprovalAsked, ApprovalDecision, FingerprintPart, PartDigest, PartKind, StepStarted,
};
use crate::model::{CallKey, Digest, Fingerprint, StepKey};

use super::{HistoryIndex, covers};

/// What determines the first request of a conversation. The schema is a part of it, although it does not belong to the
/// request digest of the step.
#[derive(PartialEq)]
struct FirstRequest<'a> {
    digest: &'a Digest,
    schemas: Vec<&'a PartDigest>,
}

impl<'a> FirstRequest<'a> {
    fn new(fingerprint: &'a Fingerprint, parts: &'a [FingerprintPart]) -> Self {
        let schemas = parts.iter().filter(|part| matches!(part.kind, PartKind::Schema(_))).map(|part| &part.digest);
        Self { digest: &fingerprint.request, schemas: schemas.collect() }
    }
}

impl HistoryIndex {
    /// The calls of a step and of the steps inside of it that changed something, or may have done so, since the step last
    /// completed or was forced to run again. With the number of an attempt, only the calls that the conversation of this
    /// attempt does not contain. None of this depends on what the request of the step was then.
    pub fn earlier_calls(&self, spec: &StepSpec, attempt: Option<u32>) -> Vec<EarlierCall> {
        let step = &spec.step;
        let begin = attempt.and_then(|attempt| {
            let request = FirstRequest::new(&spec.fingerprint, &spec.fingerprint_parts);
            let first = self.conversation_start(step, &request, attempt);
            self.first_start(step, first)
        });
        let range = self.fresh_start(step).saturating_add(1)..begin.unwrap_or(u64::MAX);
        self.calls.effects(step, &range)
    }

    /// The last call of a step that calls a tool itself, as a text, if a resume does not make it again: its effect is not
    /// known, or it took effect and the step failed because of its result.
    pub fn unrepeated_call(&self, spec: &StepSpec) -> Option<String> {
        let calls = self.earlier_calls(spec, None);
        let last = calls.iter().rfind(|call| call.key.step == spec.step && call.key.tool_call.is_none())?;
        let has_same_request = || {
            let start = self.start_of(&spec.step, last.key.attempt);
            start.is_some_and(|start| start.fingerprint.request == spec.fingerprint.request)
        };
        let took_effect = || self.calls.has_own_effect(&spec.step, last.key.attempt) && has_same_request();
        (last.is_effect_unknown || took_effect()).then(|| last.arguments.clone())
    }

    /// The `seq` of the event after which the calls of a step count: its last completion, or the last time when the user
    /// wanted it to run again.
    fn fresh_start(&self, step: &StepKey) -> u64 {
        let forced = self.forced_reruns.iter().filter(|(outer, _)| covers(outer, step)).map(|(_, seq)| *seq);
        self.last_results.get(step).copied().into_iter().chain(forced).max().unwrap_or(0)
    }

    /// The first of the attempts whose conversation an attempt with this first request continues: the attempt itself, if
    /// it begins a new one.
    fn conversation_start(&self, step: &StepKey, request: &FirstRequest<'_>, attempt: u32) -> u32 {
        let fresh_start = self.fresh_start(step);
        let mut first = attempt;
        for previous in (1..attempt).rev() {
            let is_recent = self.first_start(step, previous).is_some_and(|seq| seq > fresh_start);
            let has_same_request = self.first_request_of(step, previous).as_ref() == Some(request);
            if !is_recent || !has_same_request || !self.begins_execution(step, previous) {
                break;
            }
            let is_unfinished = self.last_ended.get(step).is_none_or(|last| *last < previous);
            if is_unfinished || self.continued_attempts.contains(&(step.clone(), previous)) {
                first = previous;
            } else if self.has_effects(step, previous) {
                break;
            }
        }
        first
    }

    /// Whether an attempt was the first of an execution of its step, and not that of a fallback, whose model begins a
    /// conversation of its own.
    fn begins_execution(&self, step: &StepKey, attempt: u32) -> bool {
        let previous = attempt.saturating_sub(1);
        let fingerprint = |attempt: u32| self.start_of(step, attempt).map(|start| &start.fingerprint);
        self.ended_attempts.contains(&(step.clone(), previous)) || fingerprint(previous) != fingerprint(attempt)
    }

    /// Whether calls that may have changed something were made in an attempt.
    fn has_effects(&self, step: &StepKey, attempt: u32) -> bool {
        let Some(begin) = self.first_start(step, attempt) else { return false };
        let end = self.first_start(step, attempt + 1).unwrap_or(u64::MAX);
        !self.calls.effects(step, &(begin..end)).is_empty()
    }

    pub(super) fn first_start(&self, step: &StepKey, attempt: u32) -> Option<u64> {
        self.first_starts.get(&(step.clone(), attempt)).copied()
    }

    /// What determines the first request of an attempt that has started.
    fn first_request_of(&self, step: &StepKey, attempt: u32) -> Option<FirstRequest<'_>> {
        self.start_of(step, attempt).map(|start| FirstRequest::new(&start.fingerprint, &start.fingerprint_parts))
    }

    /// The latest record of the start of an attempt.
    pub(super) fn start_of(&self, step: &StepKey, attempt: u32) -> Option<&StepStarted> {
        let mut latest_first = self.attempts.get(step)?.iter().rev().map(|attempt| &*attempt.start);
        latest_first.find(|start| start.attempt == attempt)
    }

    /// The recorded question with exactly this text; its `expires_at` is the deadline for an answer.
    pub fn find_question(&self, key: &CallKey, text_digest: &Digest) -> Option<&ApprovalAsked> {
        let is_same = |question: &&ApprovalAsked| question.key() == *key && question.question_digest == *text_digest;
        self.questions.get(&key.step)?.iter().find(is_same)
    }

    /// Whether an answer to exactly this text is recorded, also one that came too late.
    pub fn is_answered(&self, key: &CallKey, text_digest: &Digest) -> bool {
        self.own_answers(key, text_digest).next().is_some()
    }

    /// The recorded answer to exactly this text under this key, if it came in time.
    pub fn find_own_answer(&self, key: &CallKey, text_digest: &Digest) -> Option<ApprovalDecision> {
        let expires_at = self.find_question(key, text_digest).and_then(|question| question.expires_at);
        let is_in_time =
            |answer: &&ApprovalAnswered| expires_at.is_none_or(|expires_at| answer.answer.at <= expires_at);
        self.own_answers(key, text_digest).find(is_in_time).map(|answer| answer.answer.clone())
    }

    fn own_answers(&self, key: &CallKey, text_digest: &Digest) -> impl Iterator<Item = &ApprovalAnswered> {
        let is_same = move |answer: &&ApprovalAnswered| answer.key() == *key && answer.question_digest == *text_digest;
        self.answers_about(&key.step).map(|(_, answer)| answer).filter(is_same)
    }

    /// The recorded answer to exactly this text, if it came in time. If an attempt continues the conversation of earlier
    /// ones, their answers about calls of tools are valid for it too, each once.
    pub fn find_answer(&mut self, key: &CallKey, text_digest: &Digest) -> Option<ApprovalDecision> {
        let own_answer = self.find_own_answer(key, text_digest);
        if own_answer.is_some() {
            return own_answer;
        }
        let index = self.earlier_answer(key, text_digest)?;
        self.taken_answers.insert(index);
        self.answers.get(index).map(|answer| answer.answer.clone())
    }

    /// The index of an answer about a call of a tool in an earlier attempt whose conversation continues.
    fn earlier_answer(&self, key: &CallKey, text_digest: &Digest) -> Option<usize> {
        if key.tool_call.is_none() && key.input_round.is_none() {
            return None;
        }
        let request = self.first_request_of(&key.step, key.attempt)?;
        let first = self.conversation_start(&key.step, &request, key.attempt);
        let is_same = |(index, answer): &(usize, &ApprovalAnswered)| {
            let is_same_call = answer.tool_call == key.tool_call && answer.input_round == key.input_round;
            let is_earlier = answer.step == key.step && (first..key.attempt).contains(&answer.attempt);
            is_same_call && is_earlier && answer.question_digest == *text_digest && !self.taken_answers.contains(index)
        };
        self.answers_about(&key.step).find(is_same).map(|(index, _)| index)
    }

    /// The recorded answers about a step and its calls, with their indexes.
    fn answers_about(&self, step: &StepKey) -> impl Iterator<Item = (usize, &ApprovalAnswered)> {
        let indexes = self.answers_by_step.get(step).into_iter().flatten().copied();
        indexes.filter_map(|index| Some((index, self.answers.get(index)?)))
    }
}
