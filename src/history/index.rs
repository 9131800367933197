//! The index over the recorded events of a run: it finds the outcomes of calls, the results that are still valid, and the
//! next attempt of a step.

mod attempts;
mod earlier_calls;
mod edits;
mod executions;
mod results;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::durable::{CallOutcome, StepSpec};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, Event, Fact, StepCompleted, StepFailed, StepStarted};
use crate::model::{Artifact, CallKey, Digest, FailureClass, Fingerprint, McpListing, StepKey};

use self::attempts::Attempt;
use self::executions::{ExecutionEnd, ExecutionOutcome, Executions};
use self::results::{RecordedResult, RecordedResults};
use super::call_index::CallIndex;
use super::changed_parts::describe_changes;
use super::finally_steps::FinallySteps;

/// An index over the events of one run. An implementation of [`Durable`](crate::durable::Durable) builds it from the
/// events of the earlier sessions, and applies each event of its own session to it.
///
/// It does not store the outcomes and results of the current session, since no step needs them again.
#[derive(Default)]
pub struct HistoryIndex {
    /// Whether `apply` receives events of earlier sessions.
    replaying: bool,
    calls: CallIndex,
    /// The failed attempts whose conversations the next attempt continues, or whose calls it does not repeat.
    continued_attempts: HashSet<(StepKey, u32)>,
    parsed_calls: HashSet<CallKey>,
    results: RecordedResults,
    executions: Executions,
    /// The `seq` of each step's last result.
    last_results: HashMap<StepKey, u64>,
    attempts: HashMap<StepKey, Vec<Attempt>>,
    attempts_by_request: HashMap<Digest, Vec<Arc<StepStarted>>>,
    /// The steps, items and iterations in which steps have started.
    started_groups: HashSet<StepKey>,
    /// The attempts whose start this session recorded. An earlier session may have started them too.
    started_attempts: HashSet<(StepKey, u32)>,
    /// The last attempt of each step that has ended.
    last_ended: HashMap<StepKey, u32>,
    /// The class of each step's last failure.
    failure_classes: HashMap<StepKey, FailureClass>,
    /// The steps that the user wants to re-run, each with the `seq` of an event. orch does not reuse their results from
    /// before that event.
    forced_reruns: Vec<(StepKey, u64)>,
    /// The questions of each step.
    questions: HashMap<StepKey, Vec<ApprovalAsked>>,
    answers: Vec<ApprovalAnswered>,
    /// The indexes of the answers about each step.
    answers_by_step: HashMap<StepKey, Vec<usize>>,
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
    /// The steps of each `finally` that has started in this session. No event records them.
    finally_steps: FinallySteps,
}

/// Lists of tools, by the name of the MCP server.
type Listings = HashMap<String, Arc<McpListing>>;

impl HistoryIndex {
    /// Builds the index from the events of earlier sessions, in their order.
    pub fn from_events(events: &[Event]) -> Self {
        let mut index = Self { replaying: true, ..Self::default() };
        for event in events {
            index.apply(event);
        }
        index.replaying = false;
        index.started_attempts.clear();
        index.calls.add_interrupted_tools();
        index
    }

    /// Applies an event of the current session.
    pub fn apply(&mut self, event: &Event) {
        self.executions.note_call(&event.fact);
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
                self.execution_completed(fact, event.seq);
                // The current session needs no result of its own, since its steps have passed it on already.
                if self.replaying {
                    if !self.listings.is_empty() {
                        self.listings_at_completion.insert(fact.step.clone(), Arc::clone(&self.listings));
                    }
                    let is_edited = self.is_reparsed_edit(fact);
                    let (seq, step, artifact) = (event.seq, fact.step.clone(), fact.artifact.clone());
                    self.last_results.insert(step.clone(), seq);
                    let fingerprint = fact.fingerprint.clone();
                    self.results.insert(RecordedResult { seq, step, fingerprint, artifact, is_edited });
                }
            }
            Fact::StepFailed(fact) => self.step_failed(fact, event.seq),
            Fact::RunResumed(fact) => {
                if let Some(step) = &fact.from {
                    self.force_rerun(step, event.seq);
                }
                for result_seq in fact.missing_files.iter().filter_map(|file| file.result_seq) {
                    self.executions.renew(result_seq, event.seq);
                }
            }
            Fact::ArtifactAccepted(fact) => self.apply_edit(fact.result_seq, &fact.artifact),
            Fact::ApprovalAsked(fact) => {
                self.questions.entry(fact.step.clone()).or_default().push(fact.clone());
            }
            Fact::ApprovalAnswered(fact) => {
                self.answers_by_step.entry(fact.step.clone()).or_default().push(self.answers.len());
                self.answers.push(fact.clone());
            }
            Fact::ToolsListed(fact) => {
                Arc::make_mut(&mut self.listings).insert(fact.listing.server.clone(), fact.listing.clone());
            }
            Fact::CallEnded(_)
            | Fact::ReplyParsed(_)
            | Fact::CallStarted(_)
            | Fact::RunStarted(_)
            | Fact::RunEnded(_)
            | Fact::CancelRequested(_)
            | Fact::BudgetRaised(_)
            | Fact::StepReused(_)
            | Fact::StepSkipped(_) => {}
        }
    }

    /// Notes that these steps of a `finally` start in this session.
    pub fn start_finally(&mut self, steps: Vec<StepKey>) {
        self.finally_steps.add(steps);
    }

    /// Among the steps of each `finally` that has started, the innermost one that contains `step` or is `step` itself.
    pub fn finally_step(&self, step: &StepKey) -> Option<StepKey> {
        self.finally_steps.innermost_enclosing(step)
    }

    fn step_failed(&mut self, fact: &StepFailed, seq: u64) {
        self.end_attempt(&fact.step, fact.attempt);
        self.execution_failed(fact, seq);
        self.failure_classes.insert(fact.step.clone(), fact.failure.class);
        // The steps inside of an agent's step are those of the pipelines that its model called.
        let has_called_pipelines = || self.started_groups.contains(&fact.step);
        let has_calls = || self.calls.has_tool_calls(&fact.step, fact.attempt) || has_called_pipelines();
        let continues_conversation = may_continue_after(fact.failure.class) && has_calls();
        if continues_conversation || self.calls.has_own_effect(&fact.step, fact.attempt) {
            self.continued_attempts.insert((fact.step.clone(), fact.attempt));
        }
    }

    fn execution_completed(&mut self, fact: &StepCompleted, seq: u64) {
        let outcome = ExecutionOutcome::Completed(fact.artifact.as_ref().map(|artifact| artifact.digest.clone()));
        self.end_execution(&fact.step, ExecutionEnd { seq, request: fact.fingerprint.request.clone(), outcome });
    }

    fn execution_failed(&mut self, fact: &StepFailed, seq: u64) {
        // Without an attempt, the step did nothing.
        let Some(start) = self.start_of(&fact.step, fact.attempt) else { return };
        let request = start.fingerprint.request.clone();
        let outcome = ExecutionOutcome::Failed(fact.failure.class, fact.failure.message.clone());
        self.end_execution(&fact.step, ExecutionEnd { seq, request, outcome });
    }

    fn end_execution(&mut self, step: &StepKey, end: ExecutionEnd) {
        let Self { executions, forced_reruns, .. } = self;
        let forced_reruns = &*forced_reruns;
        executions.end(step, end, |seq| runs_again_since(forced_reruns, step, seq));
    }

    fn end_attempt(&mut self, step: &StepKey, attempt: u32) {
        self.ended_attempts.insert((step.clone(), attempt));
        let last = self.last_ended.entry(step.clone()).or_default();
        *last = (*last).max(attempt);
    }

    /// Whether a result is the user's edit of the previous result, which orch parsed again under other decode rules.
    fn is_reparsed_edit(&self, fact: &StepCompleted) -> bool {
        let previous = self.last_results.get(&fact.step).and_then(|seq| self.results.get(*seq));
        let value = fact.artifact.as_ref().map(|artifact| &artifact.value);
        previous.is_some_and(|result| {
            let has_same_request = result.fingerprint.request == fact.fingerprint.request;
            has_same_request && result.is_edited && result.artifact.as_ref().map(|artifact| &artifact.value) == value
        })
    }

    /// Replaces the artifact of the result with this `seq` by the user's edit.
    fn apply_edit(&mut self, seq: u64, artifact: &Artifact) {
        if let Some(result) = self.results.get_mut(seq) {
            result.artifact = Some(artifact.clone());
            result.is_edited = true;
        }
    }

    /// Whether the user wants a step to re-run, and the step has not completed since.
    fn must_rerun(&self, step: &StepKey) -> bool {
        let has_no_result_since = |before_seq: u64| self.last_results.get(step).is_none_or(|seq| *seq < before_seq);
        self.forced_reruns.iter().any(|(key, before_seq)| covers(key, step) && has_no_result_since(*before_seq))
    }

    /// The id of the execution whose end has this `seq`, on which later steps with access to the workspace depend.
    pub fn execution_id(&self, seq: u64) -> u64 {
        self.executions.id(seq)
    }

    /// The id that an execution of a step has if it ends as the last one did; `None` if the request is another one, or if
    /// the user wants the step to run again.
    pub fn last_execution_id(&self, spec: &StepSpec) -> Option<u64> {
        let (step, request) = (&spec.step, &spec.fingerprint.request);
        self.executions.last_id(step, request, |seq| runs_again_since(&self.forced_reruns, step, seq))
    }

    /// The last artifact of a step, whether it can be reused or not.
    pub fn last_result(&self, step: &StepKey) -> Option<&Artifact> {
        self.results.of_step(step).next()?.artifact.as_ref()
    }

    /// The reason why a step runs again; `None` if it never started.
    pub fn rerun_reason(&self, spec: &StepSpec) -> Option<String> {
        if self.must_rerun(&spec.step) {
            return Some("requested with --from".to_owned());
        }
        let last = &self.attempts.get(&spec.step)?.last()?.start;
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
    pub fn take_outcome(&mut self, key: &CallKey, request: &Digest) -> Option<CallOutcome> {
        let Self { calls, last_ended, continued_attempts, forced_reruns, first_starts, .. } = self;
        let forced_reruns = &*forced_reruns;
        // The user wanted the step to run again after this call.
        let is_superseded = |call: &CallKey| {
            let start = first_starts.get(&(call.step.clone(), call.attempt)).copied().unwrap_or_default();
            runs_again_since(forced_reruns, &key.step, start)
        };
        let has_ended = |call: &CallKey| last_ended.get(&call.step).is_some_and(|last| *last >= call.attempt);
        let continues =
            |call: &CallKey| call.step == key.step && continued_attempts.contains(&(call.step.clone(), call.attempt));
        calls.take_outcome(key, request, &|call| !is_superseded(call) && (!has_ended(call) || continues(call)))
    }

    /// The recorded calls of attempts that a resume continues, if it makes the same requests again.
    pub fn continued_calls(&self) -> HashSet<CallKey> {
        let is_superseded = |call: &CallKey| {
            let start = self.first_start(&call.step, call.attempt).unwrap_or_default();
            runs_again_since(&self.forced_reruns, &call.step, start)
        };
        let is_continued = |call: &&CallKey| {
            let has_ended = self.last_ended.get(&call.step).is_some_and(|last| *last >= call.attempt);
            let continues_later = self.continued_attempts.contains(&(call.step.clone(), call.attempt));
            !has_ended || (continues_later && !is_superseded(call))
        };
        self.calls.keys().filter(is_continued).cloned().collect()
    }

    /// Takes a reusable result for a step: its own result with this fingerprint, or else the result of another step.
    /// Each result is taken once. If the user edited the step's last result for the same request, this takes no earlier
    /// result, so that orch parses the edit first. Takes none for a step of a `finally`, which runs in each session.
    /// Returns the `seq` of the result and its artifact.
    pub fn take_reusable_result(&mut self, spec: &StepSpec) -> Option<(u64, Option<Artifact>)> {
        if self.finally_step(&spec.step).is_some() {
            return None;
        }
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
        let find_own = |fingerprint: &Fingerprint| {
            let mut own_results = results.of_step(&spec.step);
            own_results
                .find(|result| result.fingerprint == *fingerprint && is_reusable(result))
                .map(|result| result.seq)
        };
        let own_result = fingerprints().find_map(find_own);
        let seq =
            own_result.or_else(|| fingerprints().find_map(|fingerprint| results.find(fingerprint, is_reusable)))?;
        results.take(seq).map(|result| (result.seq, result.artifact))
    }

    /// Whether this session has recorded the start of an attempt.
    pub(super) fn has_recorded_start(&self, fact: &StepStarted) -> bool {
        self.started_attempts.contains(&(fact.step.clone(), fact.attempt))
    }

    /// Whether the attempt of this key has started before. If the key is that of a call, whether the call has started
    /// before.
    pub fn has_started(&self, key: &CallKey) -> bool {
        if key.ordinal > 0 {
            return self.calls.has_started(key);
        }
        self.attempts.get(&key.step).is_some_and(|list| list.iter().any(|attempt| attempt.start.attempt == key.attempt))
    }

    /// Whether an earlier session recorded how orch parsed the reply to a call.
    pub(super) fn is_parsed(&self, call: &CallKey) -> bool {
        self.parsed_calls.contains(call)
    }

    /// The tools that an MCP server listed last.
    pub fn listing(&self, server: &str) -> Option<Arc<McpListing>> {
        self.listings.get(server).cloned()
    }

    /// The tools of an MCP server with which a step completed last, or else those that it listed last. Another step may
    /// have recorded a changed list since, which does not make the result invalid.
    pub fn listing_for(&self, step: &StepKey, server: &str) -> Option<Arc<McpListing>> {
        let at_completion = self.listings_at_completion.get(step).and_then(|listings| listings.get(server).cloned());
        at_completion.or_else(|| self.listing(server))
    }
}

/// Whether the user wanted a step to run again after the event with this `seq`.
fn runs_again_since(forced_reruns: &[(StepKey, u64)], step: &StepKey, seq: u64) -> bool {
    forced_reruns.iter().any(|(outer, before_seq)| *before_seq > seq && covers(outer, step))
}

/// Whether `step` is `outer`, an item or an iteration of `outer`, or a step inside `outer`.
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
