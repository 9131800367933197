//! An index over the recorded calls of a run: their outcomes, and the tool calls that were interrupted.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use jiff::Timestamp;

use crate::durable::{CallOutcome, CallReply, EarlierCall};
use crate::model::event::{CallEnded, CallKind, CallOutput, CallStarted};
use crate::model::{CallKey, Digest, Failure, FailureClass, StepKey, is_unanswered_call};

use super::call_replies::{is_without_answer, may_have_succeeded, waits_for_input, without_full_output};

/// The calls of earlier sessions. It does not contain those of the current session, since no step needs them again.
#[derive(Default)]
pub(super) struct CallIndex {
    outcomes: HashMap<CallKey, (Digest, CallOutcome)>,
    /// The calls with a reply of a model or a result of a tool, by request digest. A step that was renamed or moved
    /// before it ended reuses them.
    by_request: HashMap<Digest, Vec<CallKey>>,
    /// The calls in `by_request` whose own step has taken their outcome, so that no other call takes it.
    taken_by_own_step: HashSet<CallKey>,
    by_attempt: HashMap<(StepKey, u32), Vec<CallKey>>,
    started: HashMap<CallKey, StartedCall>,
    /// The calls of each step that may have changed something, with the `seq` of their starts. Those of a nested step are
    /// calls of the outer steps too.
    effects: HashMap<StepKey, Vec<(u64, CallKey)>>,
    /// The calls that a stop, a budget or the end of the process interrupted.
    interrupted: HashSet<CallKey>,
}

/// The start of a call.
struct StartedCall {
    kind: CallKind,
    /// The digest of the request of a tool call.
    request_digest: Option<Digest>,
    /// The tool and a short form of its arguments.
    arguments: String,
    at: Timestamp,
}

impl CallIndex {
    /// Adds the start of a call, which the event `seq` records.
    pub(super) fn add_started(&mut self, fact: &CallStarted, seq: u64, at: Timestamp) {
        let arguments = fact.arguments.clone().unwrap_or_default();
        let started = StartedCall { kind: fact.kind, request_digest: fact.request_digest.clone(), arguments, at };
        if fact.kind.is_never_repeated() {
            let step = &fact.call.step;
            for step in step.ancestors().into_iter().chain([step.clone()]) {
                self.effects.entry(step).or_default().push((seq, fact.call.clone()));
            }
        }
        self.started.insert(fact.call.clone(), started);
    }

    /// The calls of a step, and of the steps inside of it, that changed something or may have done so, in the order in
    /// which they started. Only those count whose start has a `seq` in this range.
    pub(super) fn effects(&self, step: &StepKey, range: &Range<u64>) -> Vec<EarlierCall> {
        let calls = self.effects.get(step).into_iter().flatten().filter(|(seq, _)| range.contains(seq));
        calls.filter_map(|(_, call)| self.effect(call)).collect()
    }

    /// A call that changed something, or may have done so; `None` if it did not.
    fn effect(&self, call: &CallKey) -> Option<EarlierCall> {
        let started = self.started.get(call)?;
        let (_, outcome) = self.outcomes.get(call)?;
        let is_effect_unknown = match &outcome.result {
            Ok(reply) if waits_for_input(reply) => return None,
            Ok(reply) => is_without_answer(reply),
            Err(failure) if self.is_unknown(call, failure) => true,
            // The program of the call ran, and damaged something.
            Err(failure) if failure.class == FailureClass::PathRefused => false,
            Err(_) => return None,
        };
        Some(EarlierCall {
            key: call.clone(),
            kind: started.kind,
            arguments: started.arguments.clone(),
            outcome: outcome.clone(),
            is_effect_unknown,
        })
    }

    /// Whether a call has started.
    pub(super) fn has_started(&self, key: &CallKey) -> bool {
        self.started.contains_key(key)
    }

    /// Forgets what called pipelines returned that contain this step of the pipeline file: the user wants the step to run
    /// again.
    pub(super) fn forget_pipelines_around(&mut self, step: &StepKey) {
        self.outcomes.retain(|_, (_, outcome)| match &outcome.result {
            Ok(CallReply::Output(CallOutput::Pipeline(output))) => {
                let pipeline = output.step.declared_key();
                *step != pipeline && !step.is_within(&pipeline)
            }
            Ok(_) | Err(_) => true,
        });
    }

    /// The calls with an outcome.
    pub(super) fn keys(&self) -> impl Iterator<Item = &CallKey> {
        self.outcomes.keys()
    }

    /// Whether orch never repeats this call, although it was interrupted.
    fn is_never_repeated(&self, call: &CallKey) -> bool {
        self.started.get(call).is_some_and(|started| started.kind.is_never_repeated())
    }

    /// Whether this may be the record of a call that was interrupted because the process ended, and that has an outcome:
    /// of a tool call, or of a call whose program caused damage.
    pub(super) fn may_be_interrupted(&self, fact: &CallEnded) -> bool {
        let Some(failure) = &fact.failure else { return false };
        let is_interrupted_tool = self.is_tool(&fact.call) && failure.class == FailureClass::Crashed;
        is_interrupted_tool || self.damage_failure(fact).is_some()
    }

    /// The failure because of damage by the call's own program. An MCP server's program also runs between its calls.
    fn damage_failure(&self, fact: &CallEnded) -> Option<Failure> {
        if self.is_mcp_tool(&fact.call) { None } else { fact.damage_failure() }
    }

    fn is_mcp_tool(&self, call: &CallKey) -> bool {
        self.started.get(call).is_some_and(|started| matches!(started.kind, CallKind::McpTool(_)))
    }

    /// Whether this is a call of a tool, by a model or by a step.
    fn is_tool(&self, call: &CallKey) -> bool {
        let is_tool_kind = |kind: CallKind| matches!(kind, CallKind::Tool(_) | CallKind::McpTool(_));
        call.tool_call.is_some() || self.started.get(call).is_some_and(|started| is_tool_kind(started.kind))
    }

    /// Whether a failure of this class ended a call of a tool without a result. A model receives the failure in place
    /// of the result, and a call that may have changed something is not repeated.
    fn is_without_result(&self, call: &CallKey, class: FailureClass) -> bool {
        class.is_interruption() || is_unanswered_call(class) && self.is_mcp_tool(call)
    }

    /// Whether it is not known whether a call that failed took effect.
    fn is_unknown(&self, call: &CallKey, failure: &Failure) -> bool {
        let is_interrupted = self.interrupted.contains(call) || self.is_without_result(call, failure.class);
        is_interrupted && !failure.unperformed
    }

    /// Whether an attempt of a step that calls a tool itself ended after a call that changed something, or that may have
    /// done so. Then the next attempt of the step does not repeat the call.
    pub(super) fn has_own_effect(&self, step: &StepKey, attempt: u32) -> bool {
        let may_have_effect = |call: &CallKey| match self.outcomes.get(call).map(|(_, outcome)| &outcome.result) {
            Some(Ok(reply)) => may_have_succeeded(reply),
            Some(Err(failure)) => self.is_unknown(call, failure),
            None => false,
        };
        let has_effect =
            |call: &CallKey| call.tool_call.is_none() && self.is_never_repeated(call) && may_have_effect(call);
        self.by_attempt.get(&(step.clone(), attempt)).into_iter().flatten().any(has_effect)
    }

    /// Whether the model called tools in an attempt of a step.
    pub(super) fn has_tool_calls(&self, step: &StepKey, attempt: u32) -> bool {
        let calls = self.by_attempt.get(&(step.clone(), attempt));
        calls.into_iter().flatten().any(|call| call.tool_call.is_some())
    }

    /// Adds an outcome for each tool call that started, has no recorded end and must not be repeated. A session usually
    /// records these calls with their file changes when it begins, and then these records apply.
    pub(super) fn add_interrupted_tools(&mut self) {
        let is_open = |call: &CallKey, started: &StartedCall| {
            started.kind.is_never_repeated() && !self.outcomes.contains_key(call)
        };
        let open_calls = self.started.iter().filter(|(call, started)| is_open(call, started));
        let interrupted: Vec<(CallKey, Digest, Timestamp)> = open_calls
            .filter_map(|(call, started)| Some((call.clone(), started.request_digest.clone()?, started.at)))
            .collect();
        for (call, request_digest, at) in interrupted {
            let failure = Failure::new(FailureClass::Crashed, "orch was killed during the call");
            self.add_outcome(&call, &request_digest, CallOutcome::new(at, at, Err(failure)), true);
        }
    }

    /// Adds the end of a call.
    pub(super) fn add_ended(&mut self, fact: &CallEnded) {
        let interruption = fact.failure.as_ref().filter(|failure| failure.class.is_interruption());
        let damage = interruption.and_then(|_| self.damage_failure(fact));
        if interruption.is_some_and(|failure| failure.unperformed) {
            // The call never began, so orch makes it again.
            self.started.remove(&fact.call);
            let step = &fact.call.step;
            for step in step.ancestors().into_iter().chain([step.clone()]) {
                if let Some(calls) = self.effects.get_mut(&step) {
                    calls.retain(|(_, call)| *call != fact.call);
                }
            }
        } else if interruption.is_some() {
            self.interrupted.insert(fact.call.clone());
        }
        let result = match (CallReply::from_recorded(fact), damage.as_ref().or(fact.failure.as_ref())) {
            (Some(reply), _) if fact.call.tool_call.is_some() => Ok(without_full_output(reply)),
            (Some(reply), _) => Ok(reply),
            // If the budget, a stop or a crash ended the call, it has no outcome, and orch repeats it. A tool call that
            // may have changed something is not repeated.
            (None, Some(failure)) if failure.class.is_interruption() && !self.is_never_repeated(&fact.call) => return,
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => return,
        };
        // Only a complete reply, a complete result of a tool or what a model receives in its place is valid for another
        // attempt or another step.
        let is_tool_result = match &result {
            Ok(_) => self.is_tool(&fact.call),
            Err(failure) => {
                let is_kept = fact.call.tool_call.is_some() || self.is_never_repeated(&fact.call);
                is_kept && self.is_without_result(&fact.call, failure.class)
            }
        };
        let is_transferable = fact.reply.is_some() || is_tool_result;
        let outcome = CallOutcome {
            agent_activity: fact.agent_activity.clone().filter(|_| fact.reply.is_none()),
            cost: fact.cost,
            estimated: fact.estimated,
            estimated_cost: fact.estimated_cost,
            ..CallOutcome::new(fact.started, fact.ended, result)
        };
        self.add_outcome(&fact.call, &fact.request_digest, outcome, is_transferable);
    }

    /// Adds the outcome of a call, or replaces it. `is_transferable` is whether another step or attempt may use it.
    fn add_outcome(&mut self, call: &CallKey, request_digest: &Digest, outcome: CallOutcome, is_transferable: bool) {
        let previous = self.outcomes.insert(call.clone(), (request_digest.clone(), outcome));
        if previous.is_none() {
            self.by_attempt.entry((call.step.clone(), call.attempt)).or_default().push(call.clone());
        }
        let is_listed = previous.is_some_and(|(digest, _)| digest == *request_digest);
        if is_transferable && !is_listed {
            self.taken_by_own_step.remove(call);
            self.by_request.entry(request_digest.clone()).or_default().push(call.clone());
        }
    }

    /// Takes the outcome of a call, if its request was the same. Otherwise takes the outcome of the same request from
    /// another call for which `may_take` is true. Each outcome is taken once. No other step takes the failure of a step
    /// that calls a tool itself, since that step would then make its call again.
    pub(super) fn take_outcome(
        &mut self,
        key: &CallKey,
        request: &Digest,
        may_take: &dyn Fn(&CallKey) -> bool,
    ) -> Option<CallOutcome> {
        let has_same_request = |call: &CallKey| self.outcomes.get(call).is_some_and(|(digest, _)| digest == request);
        if has_same_request(key) {
            let own_outcome = self.outcomes.get(key).map(|(_, outcome)| outcome.clone());
            // Prevent another call from taking this outcome. Many calls may have the same request, so do not search for
            // this one among them.
            self.taken_by_own_step.insert(key.clone());
            return own_outcome;
        }
        let calls = self.by_request.get(request)?;
        let is_own_failure = |call: &CallKey| {
            call.tool_call.is_none() && self.outcomes.get(call).is_some_and(|(_, outcome)| outcome.result.is_err())
        };
        let is_match = |call: &CallKey| {
            let is_free = !self.taken_by_own_step.contains(call) && has_same_request(call);
            is_free && may_take(call) && (call.step == key.step || !is_own_failure(call))
        };
        let index = calls.iter().position(is_match)?;
        let call = self.by_request.get_mut(request)?.remove(index);
        // Remove the outcome, so that no other call takes it, not even the call that it belongs to.
        self.outcomes.remove(&call).map(|(_, outcome)| outcome)
    }

    /// The replies to the calls of an attempt of a step itself, latest first.
    pub(super) fn replies(&self, step: &StepKey, attempt: u32) -> impl Iterator<Item = &CallReply> {
        let outcomes = &self.outcomes;
        let calls = self.by_attempt.get(&(step.clone(), attempt)).into_iter().flatten().rev();
        let own_calls = calls.filter(|call| call.tool_call.is_none());
        own_calls.filter_map(move |call| outcomes.get(call)?.1.result.as_ref().ok())
    }
}

#[cfg(test)]
mod tests;
