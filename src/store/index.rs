//! An index over the recorded events of a run. It finds the outcomes of calls, reusable results, and the next attempt
//! of a step.

mod earlier_calls;
mod edits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::durable::{CallOutcome, CallReply, StepSpec};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, Event, Fact, StepCompleted, StepFailed, StepStarted};
use crate::model::{Artifact, CallKey, Digest, FailureClass, Fingerprint, McpListing, StepKey};

use super::call_index::CallIndex;
use super::call_replies::final_replies;
use super::changed_parts::describe_changes;

/// An index over the events of one run. [`LocalRun`](super::LocalRun) applies each new event to it.
///
/// It does not store the outcomes and results of the current session, since no step needs them again.
#[derive(Default)]
pub(super) struct Index {
    /// Whether `apply` receives events of earlier sessions.
    replaying: bool,
    calls: CallIndex,
    /// The failed attempts whose conversations the next attempt continues, or whose calls it does not repeat.
    continued_attempts: HashSet<(StepKey, u32)>,
    parsed_calls: HashSet<CallKey>,
    results: HashMap<Fingerprint, Vec<RecordedResult>>,
    /// The fingerprint of each result, by its `seq`.
    fingerprints: HashMap<u64, Fingerprint>,
    /// The execution ids of results whose files the user deleted or reverted, by the `seq` of the result. The loss
    /// counts as a new write, so these ids replace the original ones.
    renewed_ids: HashMap<u64, u64>,
    /// The `seq` of each step's last result.
    last_results: HashMap<StepKey, u64>,
    attempts: HashMap<StepKey, Vec<StepStarted>>,
    attempts_by_request: HashMap<Digest, Vec<StepStarted>>,
    /// The attempts whose start this session recorded. An earlier session may have started them too.
    started_attempts: HashSet<(StepKey, u32)>,
    /// The last attempt of each step that has ended.
    last_ended: HashMap<StepKey, u32>,
    /// The class of each step's last failure.
    failure_classes: HashMap<StepKey, FailureClass>,
    /// The steps that the user wants to re-run, each with the `seq` of an event. orch does not reuse their results from
    /// before that event.
    forced_reruns: Vec<(StepKey, u64)>,
    questions: Vec<ApprovalAsked>,
    answers: Vec<ApprovalAnswered>,
    /// The indexes of the answers that a later attempt of their step has taken.
    taken_answers: HashSet<usize>,
    /// The `seq` of the event with which an attempt started first.
    first_starts: HashMap<(StepKey, u32), u64>,
    /// The attempts after which their step failed or completed.
    ended_attempts: HashSet<(StepKey, u32)>,
    /// The last list of tools of each MCP server.
    listings: Arc<Listings>,
    /// The lists of tools when a step completed last, unless no server had listed its tools by then.
    listings_at_completion: HashMap<StepKey, Arc<Listings>>,
}

/// Lists of tools, by the name of the MCP server.
type Listings = HashMap<String, Arc<McpListing>>;

/// A result of a step.
struct RecordedResult {
    seq: u64,
    step: StepKey,
    artifact: Option<Artifact>,
    /// Whether the user edited the artifact.
    is_edited: bool,
}

impl Index {
    pub(super) fn from_events(events: &[Event]) -> Self {
        let mut index = Self { replaying: true, ..Self::default() };
        for event in events {
            index.apply(event);
        }
        index.replaying = false;
        index.started_attempts.clear();
        index.calls.add_interrupted_tools();
        index
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match &event.fact {
            Fact::StepStarted(fact) => self.step_started(fact, event.seq),
            // A session begins with the records of the calls that the end of the previous process interrupted.
            Fact::CallEnded(fact) if self.replaying || self.calls.may_be_interrupted(fact) => {
                self.calls.add_ended(fact);
            }
            Fact::CallStarted(fact) if self.replaying => self.calls.add_started(fact, event.seq, event.at),
            Fact::ReplyParsed(fact) if self.replaying => {
                self.parsed_calls.insert(fact.call.clone());
            }
            Fact::StepCompleted(fact) => {
                self.end_attempt(&fact.step, fact.attempt);
                // The current session needs no result of its own, since its steps have passed it on already.
                if self.replaying {
                    if !self.listings.is_empty() {
                        self.listings_at_completion.insert(fact.step.clone(), Arc::clone(&self.listings));
                    }
                    let is_edited = self.is_reparsed_edit(fact);
                    let (seq, step, artifact) = (event.seq, fact.step.clone(), fact.artifact.clone());
                    self.last_results.insert(step.clone(), seq);
                    let result = RecordedResult { seq, step, artifact, is_edited };
                    self.results.entry(fact.fingerprint.clone()).or_default().push(result);
                    self.fingerprints.insert(event.seq, fact.fingerprint.clone());
                }
            }
            Fact::StepFailed(fact) => self.step_failed(fact),
            Fact::RunResumed(fact) => {
                if let Some(step) = &fact.from {
                    self.force_rerun(step, event.seq);
                }
                self.renewed_ids
                    .extend(fact.missing_files.iter().filter_map(|file| Some((file.result_seq?, event.seq))));
            }
            Fact::ArtifactAccepted(fact) => self.apply_edit(fact.result_seq, &fact.artifact),
            Fact::ApprovalAsked(fact) => self.questions.push(fact.clone()),
            Fact::ApprovalAnswered(fact) => self.answers.push(fact.clone()),
            Fact::ToolsListed(fact) => {
                Arc::make_mut(&mut self.listings).insert(fact.listing.server.clone(), fact.listing.clone());
            }
            Fact::CallEnded(_)
            | Fact::ReplyParsed(_)
            | Fact::CallStarted(_)
            | Fact::RunStarted(_)
            | Fact::RunEnded(_)
            | Fact::StepReused(_)
            | Fact::StepSkipped(_) => {}
        }
    }

    fn step_started(&mut self, fact: &StepStarted, seq: u64) {
        self.started_attempts.insert((fact.step.clone(), fact.attempt));
        self.first_starts.entry((fact.step.clone(), fact.attempt)).or_insert(seq);
        self.attempts.entry(fact.step.clone()).or_default().push(fact.clone());
        if self.replaying {
            self.attempts_by_request.entry(fact.fingerprint.request.clone()).or_default().push(fact.clone());
        }
    }

    fn step_failed(&mut self, fact: &StepFailed) {
        self.end_attempt(&fact.step, fact.attempt);
        self.failure_classes.insert(fact.step.clone(), fact.failure.class);
        // The steps inside of an agent's step are those of the pipelines that its model called.
        let has_called_pipelines = || self.attempts.keys().any(|key| key.is_within(&fact.step));
        let has_calls = || self.calls.has_tool_calls(&fact.step, fact.attempt) || has_called_pipelines();
        let continues_conversation = may_continue_after(fact.failure.class) && has_calls();
        if continues_conversation || self.calls.has_own_effect(&fact.step, fact.attempt) {
            self.continued_attempts.insert((fact.step.clone(), fact.attempt));
        }
    }

    fn end_attempt(&mut self, step: &StepKey, attempt: u32) {
        self.ended_attempts.insert((step.clone(), attempt));
        let last = self.last_ended.entry(step.clone()).or_default();
        *last = (*last).max(attempt);
    }

    /// Whether a result is the user's edit of the previous result, which orch parsed again under other decode rules.
    fn is_reparsed_edit(&self, fact: &StepCompleted) -> bool {
        let previous = self.last_results.get(&fact.step);
        let previous = previous.and_then(|seq| Some((seq, self.fingerprints.get(seq)?)));
        let has_same_request = |fingerprint: &Fingerprint| fingerprint.request == fact.fingerprint.request;
        let Some((seq, fingerprint)) = previous.filter(|(_, fingerprint)| has_same_request(fingerprint)) else {
            return false;
        };
        let results = self.results.get(fingerprint).map(Vec::as_slice).unwrap_or_default();
        let value = fact.artifact.as_ref().map(|artifact| &artifact.value);
        let has_same_value =
            |result: &RecordedResult| result.artifact.as_ref().map(|artifact| &artifact.value) == value;
        results.iter().any(|result| result.seq == *seq && result.is_edited && has_same_value(result))
    }

    /// Replaces the artifact of the result with this `seq` by the user's edit.
    fn apply_edit(&mut self, seq: u64, artifact: &Artifact) {
        let results = self.fingerprints.get(&seq).and_then(|fingerprint| self.results.get_mut(fingerprint));
        if let Some(result) = results.and_then(|results| results.iter_mut().find(|result| result.seq == seq)) {
            result.artifact = Some(artifact.clone());
            result.is_edited = true;
        }
    }

    /// Forces a step, its items and its rounds to run again: orch does not reuse their results from before the event
    /// `before_seq`.
    pub(super) fn force_rerun(&mut self, step: &StepKey, before_seq: u64) {
        let is_covered = |key: &StepKey| covers(step, key);
        for attempts in self.attempts_by_request.values_mut() {
            attempts.retain(|attempt| !is_covered(&attempt.step));
        }
        let last_attempts: Vec<(StepKey, u32)> = self
            .attempts
            .iter()
            .filter(|(key, _)| is_covered(key))
            .filter_map(|(key, attempts)| Some((key.clone(), attempts.iter().map(|started| started.attempt).max()?)))
            .collect();
        for (key, attempt) in last_attempts {
            self.end_attempt(&key, attempt);
        }
        self.forced_reruns.push((step.clone(), before_seq));
    }

    /// Whether the user wants a step to re-run, and the step has not completed since.
    fn must_rerun(&self, step: &StepKey) -> bool {
        let has_no_result_since = |before_seq: u64| self.last_results.get(step).is_none_or(|seq| *seq < before_seq);
        self.forced_reruns.iter().any(|(key, before_seq)| covers(key, step) && has_no_result_since(*before_seq))
    }

    /// The execution id of a reused result, on which later steps with access to the workspace depend.
    pub(super) fn execution_id(&self, seq: u64) -> u64 {
        self.renewed_ids.get(&seq).copied().unwrap_or(seq)
    }

    /// The last artifact of a step, whether it can be reused or not.
    pub(super) fn last_result(&self, step: &StepKey) -> Option<&Artifact> {
        let results = self.results.values().flatten().filter(|result| result.step == *step);
        results.max_by_key(|result| result.seq)?.artifact.as_ref()
    }

    /// The reason why a step runs again; `None` if it never started.
    pub(super) fn rerun_reason(&self, spec: &StepSpec) -> Option<String> {
        if self.must_rerun(&spec.step) {
            return Some("requested with --from".to_owned());
        }
        let last = self.attempts.get(&spec.step)?.last()?;
        if last.fingerprint == spec.fingerprint {
            let class = self.failure_classes.get(&spec.step);
            return Some(class.map_or_else(|| "it did not complete".to_owned(), |class| format!("failed: {class}")));
        }
        let changed = describe_changes(&last.fingerprint_parts, &spec.fingerprint_parts);
        Some(if changed.is_empty() { "its request changed".to_owned() } else { changed.join(", ") })
    }

    /// Takes the recorded outcome of a call, if its request was the same. Otherwise takes a reply or a tool result for
    /// the same request from any unfinished attempt, since its step may have been renamed or moved, or from a failed
    /// attempt whose conversation continues. Each is taken once.
    pub(super) fn take_outcome(&mut self, key: &CallKey, request: &Digest) -> Option<CallOutcome> {
        let is_rerun = self.forced_reruns.iter().any(|(step, _)| covers(step, &key.step));
        let Self { calls, last_ended, continued_attempts, .. } = self;
        let has_ended = |call: &CallKey| last_ended.get(&call.step).is_some_and(|last| *last >= call.attempt);
        let continues =
            |call: &CallKey| call.step == key.step && continued_attempts.contains(&(call.step.clone(), call.attempt));
        calls.take_outcome(key, request, &|call| !is_rerun && (!has_ended(call) || continues(call)))
    }

    /// The recorded calls of attempts that a resume continues, if it makes the same requests again.
    pub(super) fn continued_calls(&self) -> HashSet<CallKey> {
        let is_rerun = |step: &StepKey| self.forced_reruns.iter().any(|(outer, _)| covers(outer, step));
        let is_continued = |call: &&CallKey| {
            let has_ended = self.last_ended.get(&call.step).is_some_and(|last| *last >= call.attempt);
            let continues_later = self.continued_attempts.contains(&(call.step.clone(), call.attempt));
            !has_ended || (continues_later && !is_rerun(&call.step))
        };
        self.calls.keys().filter(is_continued).cloned().collect()
    }

    /// Takes a reusable result for a step: its own result with this fingerprint, or else the result of another step.
    /// Each result is taken once. If the user edited the step's last result for the same request, this takes no earlier
    /// result, so that orch parses the edit first. Returns the `seq` of the result and its artifact.
    pub(super) fn take_reusable_result(&mut self, spec: &StepSpec) -> Option<(u64, Option<Artifact>)> {
        let edit_seq = self.edited_result(spec).map(|result| result.seq);
        let Self { results, forced_reruns, last_results, .. } = self;
        let is_reusable = |result: &RecordedResult| {
            if edit_seq.is_some_and(|edit_seq| result.step != spec.step || result.seq < edit_seq) {
                return false;
            }
            let is_stale =
                forced_reruns.iter().any(|(key, before_seq)| covers(key, &spec.step) && result.seq < *before_seq);
            let is_superseded = spec.depends_on_workspace && last_results.get(&result.step) != Some(&result.seq);
            !is_stale && !is_superseded && (spec.output.is_none() || result.artifact.is_some())
        };
        let fingerprints = || std::iter::once(&spec.fingerprint).chain(&spec.alternative_fingerprints);
        let find = |is_match: &dyn Fn(&RecordedResult) -> bool| {
            fingerprints()
                .find_map(|fingerprint| Some((fingerprint, results.get(fingerprint)?.iter().rposition(is_match)?)))
        };
        let own_result = find(&|result| result.step == spec.step && is_reusable(result));
        let (fingerprint, index) = own_result.or_else(|| find(&is_reusable))?;
        let result = results.get_mut(fingerprint)?.remove(index);
        Some((result.seq, result.artifact))
    }

    /// The recorded replies to the same request that orch parsed under other rules, latest first. If the user edited
    /// the last result, the edit comes first.
    pub(super) fn replies_to_reparse(&self, spec: &StepSpec) -> Vec<CallReply> {
        if self.must_rerun(&spec.step) {
            return Vec::new();
        }
        let fingerprints = spec.alternative_fingerprints.iter().chain([&spec.fingerprint]);
        let attempts = fingerprints.filter_map(|fingerprint| self.attempts_by_request.get(&fingerprint.request));
        let attempts: Vec<&StepStarted> = attempts.flatten().collect();
        // If the step itself made this request before, the replies to other steps do not count.
        let has_own_attempts = attempts.iter().any(|started| started.step == spec.step);
        let attempts = || attempts.iter().filter(|started| !has_own_attempts || started.step == spec.step);
        let attempts_with_same_rules: HashSet<(&StepKey, u32)> = attempts()
            .filter(|started| started.fingerprint.decode == spec.fingerprint.decode)
            .map(|started| (&started.step, started.attempt))
            .collect();
        // Such an attempt has only the replies after those of the attempt before it, which has the required call.
        let continues = |started: &StepStarted| {
            let previous = attempts().find(|other| other.step == started.step && other.attempt + 1 == started.attempt);
            previous.is_some_and(|start| self.continued_attempts.contains(&(start.step.clone(), start.attempt)))
        };
        let mut replies: Vec<CallReply> = self.edit_as_reply(spec).into_iter().collect();
        for started in
            attempts().rev().filter(|started| !attempts_with_same_rules.contains(&(&started.step, started.attempt)))
        {
            let recorded = self.calls.replies(&started.step, started.attempt);
            replies.extend(final_replies(recorded, spec.requires_call && !continues(started)).cloned());
        }
        replies
    }

    /// The attempt to continue: the unfinished attempt with this fingerprint, else a new attempt.
    pub(super) fn next_attempt(&self, spec: &StepSpec) -> u32 {
        let first_unfinished = self.last_ended.get(&spec.step).copied().unwrap_or(0) + 1;
        let started = self.attempts.get(&spec.step).map(Vec::as_slice).unwrap_or_default();
        let unfinished: Vec<&StepStarted> = started.iter().filter(|start| start.attempt >= first_unfinished).collect();
        // An unfinished attempt with another fingerprint must not continue, although no event records its end.
        let stale =
            unfinished.iter().filter(|start| start.fingerprint != spec.fingerprint).map(|start| start.attempt).max();
        stale.map_or(first_unfinished, |stale| stale + 1)
    }

    pub(super) fn has_recorded_start(&self, fact: &StepStarted) -> bool {
        self.started_attempts.contains(&(fact.step.clone(), fact.attempt))
    }

    /// Whether the attempt of this key has started before. If the key is that of a call, whether the call has started
    /// before.
    pub(super) fn has_started(&self, key: &CallKey) -> bool {
        if key.ordinal > 0 {
            return self.calls.has_started(key);
        }
        self.attempts.get(&key.step).is_some_and(|list| list.iter().any(|start| start.attempt == key.attempt))
    }

    pub(super) fn is_parsed(&self, call: &CallKey) -> bool {
        self.parsed_calls.contains(call)
    }

    /// The tools that an MCP server listed last.
    pub(super) fn listing(&self, server: &str) -> Option<Arc<McpListing>> {
        self.listings.get(server).cloned()
    }

    /// The tools of an MCP server with which a step completed last, or else those that it listed last. Another step may
    /// have recorded a changed list since, which does not make the result invalid.
    pub(super) fn listing_for(&self, step: &StepKey, server: &str) -> Option<Arc<McpListing>> {
        let at_completion = self.listings_at_completion.get(step).and_then(|listings| listings.get(server).cloned());
        at_completion.or_else(|| self.listing(server))
    }
}

/// Whether `step` is `outer`, an item or a round of `outer`, or a step inside `outer`.
fn covers(outer: &StepKey, step: &StepKey) -> bool {
    step == outer || step.declared_key() == *outer || step.is_within(outer) || step.declared_key().is_within(outer)
}

/// Whether the next attempt continues a conversation with tools after a failure of this class: a request failed and may
/// succeed later, or the user may allow more turns. After other failures, the next attempt starts a new conversation.
fn may_continue_after(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::RateLimited
            | FailureClass::ProviderUnavailable
            | FailureClass::Timeout
            | FailureClass::Auth
            | FailureClass::BadRequest
            | FailureClass::UnknownStop
            | FailureClass::MaxTurnsReached
            // A tool asked a question that no person could answer. A new conversation could make the same call again.
            | FailureClass::ToolFailed
    )
}
