//! An index over the recorded calls of a run: their outcomes, and the tool calls that were interrupted.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::durable::{CallOutcome, CallReply};
use crate::model::event::{CallEnded, CallKind, CallStarted};
use crate::model::{CallKey, Digest, Failure, FailureClass, StepKey, is_unanswered_call};

use super::call_replies::{may_have_succeeded, without_full_output};

/// The calls of earlier sessions. It does not contain those of the current session, since no step needs them again.
#[derive(Default)]
pub(super) struct CallIndex {
    outcomes: HashMap<CallKey, (Digest, CallOutcome)>,
    /// The calls with a reply of a model or a result of a tool, by request digest. A step that was renamed or moved
    /// before it ended reuses them.
    by_request: HashMap<Digest, Vec<CallKey>>,
    by_attempt: HashMap<(StepKey, u32), Vec<CallKey>>,
    started: HashMap<CallKey, StartedCall>,
}

/// The start of a call.
struct StartedCall {
    kind: CallKind,
    /// The digest of the request of a tool call.
    request_digest: Option<Digest>,
    at: Timestamp,
}

impl CallIndex {
    /// Adds the start of a call.
    pub(super) fn add_started(&mut self, fact: &CallStarted, at: Timestamp) {
        let started = StartedCall { kind: fact.kind, request_digest: fact.request_digest.clone(), at };
        self.started.insert(fact.call.clone(), started);
    }

    /// Whether a call has started.
    pub(super) fn has_started(&self, key: &CallKey) -> bool {
        self.started.contains_key(key)
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

    /// Whether an attempt of a step that calls a tool itself ended after a call that changed something, or that may have
    /// done so. Then the next attempt of the step does not repeat the call.
    pub(super) fn has_own_effect(&self, step: &StepKey, attempt: u32) -> bool {
        let may_have_effect = |call: &CallKey| match self.outcomes.get(call).map(|(_, outcome)| &outcome.result) {
            Some(Ok(reply)) => may_have_succeeded(reply),
            Some(Err(failure)) => self.is_without_result(call, failure.class),
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
            let outcome = CallOutcome {
                started: at,
                ended: at,
                result: Err(failure),
                agent_activity: None,
                cost: None,
                estimated: None,
                estimated_cost: None,
                reverted_files: Vec::new(),
                sandbox: None,
            };
            self.add_outcome(&call, &request_digest, outcome, true);
        }
    }

    /// Adds the end of a call.
    pub(super) fn add_ended(&mut self, fact: &CallEnded) {
        let interruption = fact.failure.as_ref().filter(|failure| failure.class.is_interruption());
        let damage = interruption.and_then(|_| self.damage_failure(fact));
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
            started: fact.started,
            ended: fact.ended,
            result,
            agent_activity: fact.agent_activity.clone().filter(|_| fact.reply.is_none()),
            cost: fact.cost,
            estimated: fact.estimated,
            estimated_cost: fact.estimated_cost,
            reverted_files: Vec::new(),
            sandbox: None,
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
            // Prevent another call from taking this outcome.
            if let Some(calls) = self.by_request.get_mut(request) {
                calls.retain(|call| call != key);
            }
            return own_outcome;
        }
        let calls = self.by_request.get(request)?;
        let is_own_failure = |call: &CallKey| {
            call.tool_call.is_none() && self.outcomes.get(call).is_some_and(|(_, outcome)| outcome.result.is_err())
        };
        let is_match = |call: &CallKey| {
            has_same_request(call) && may_take(call) && (call.step == key.step || !is_own_failure(call))
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::event::CallOutput;
    use crate::model::{BuiltinTool, McpCallKind, SandboxUse, ToolCallOutput, ToolOutput};
    use crate::store::call_replies::final_replies;

    fn tool_key(attempt: u32) -> CallKey {
        CallKey { step: StepKey::root("code"), attempt, ordinal: 1, tool_call: Some(1), input_round: None }
    }

    fn started(tool: BuiltinTool) -> CallStarted {
        serde_json::from_value(json!({
            "call": tool_key(1), "kind": { "tool": tool }, "request_digest": Digest::compute(b"call"),
        }))
        .unwrap()
    }

    fn ended(output: Option<CallOutput>, class: FailureClass) -> CallEnded {
        let failure = output.is_none().then(|| Failure::new(class, "ended early"));
        serde_json::from_value(json!({
            "call": tool_key(1), "request_digest": Digest::compute(b"call"), "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:01Z", "output": output, "failure": failure,
        }))
        .unwrap()
    }

    fn take(index: &mut CallIndex, attempt: u32) -> Option<Result<CallReply, Failure>> {
        let outcome = index.take_outcome(&tool_key(attempt), &Digest::compute(b"call"), &|_| true);
        outcome.map(|outcome| outcome.result)
    }

    #[test]
    fn an_interrupted_tool_that_writes_has_an_outcome_and_one_that_reads_has_none() {
        for tool in BuiltinTool::ALL {
            for end in [None, Some(FailureClass::Cancelled), Some(FailureClass::BudgetExceeded)] {
                let mut index = CallIndex::default();
                index.add_started(&started(tool), Timestamp::UNIX_EPOCH);
                if let Some(class) = end {
                    index.add_ended(&ended(None, class));
                }
                index.add_interrupted_tools();
                let class = take(&mut index, 1).map(|result| result.unwrap_err().class);
                let expected = end.unwrap_or(FailureClass::Crashed);
                assert_eq!(class, (!tool.only_reads()).then_some(expected), "{tool} {end:?}");
            }
        }
    }

    fn mcp_started(call: &CallKey, kind: McpCallKind) -> CallStarted {
        let digest = Digest::compute(b"call");
        serde_json::from_value(json!({ "call": call, "kind": { "mcp_tool": kind }, "request_digest": digest })).unwrap()
    }

    #[test]
    fn the_next_attempt_does_not_repeat_a_call_of_an_mcp_tool_without_an_answer() {
        let taken_after = |class: FailureClass| {
            let mut index = CallIndex::default();
            index.add_started(&mcp_started(&tool_key(1), McpCallKind::RemoteWrite), Timestamp::UNIX_EPOCH);
            index.add_ended(&ended(None, class));
            index.add_interrupted_tools();
            take(&mut index, 2).map(|result| result.unwrap_err().class)
        };
        for class in [FailureClass::Timeout, FailureClass::ProviderUnavailable, FailureClass::AgentError] {
            assert_eq!(taken_after(class), Some(class));
        }
        assert_eq!(taken_after(FailureClass::NotInstalled), None, "the call was not performed");
    }

    fn own_key(step: &str, attempt: u32) -> CallKey {
        CallKey { step: StepKey::root(step), attempt, ordinal: 1, tool_call: None, input_round: None }
    }

    #[test]
    fn only_the_step_itself_takes_the_unknown_end_of_its_own_call() {
        let mut index = CallIndex::default();
        index.add_started(&mcp_started(&own_key("send", 1), McpCallKind::RemoteWrite), Timestamp::UNIX_EPOCH);
        index.add_interrupted_tools();
        assert!(index.has_own_effect(&StepKey::root("send"), 1));
        let mut take_class = |key: &CallKey| {
            let outcome = index.take_outcome(key, &Digest::compute(b"call"), &|_| true)?;
            outcome.result.err().map(|failure| failure.class)
        };
        assert_eq!(take_class(&own_key("other", 1)), None);
        assert_eq!(take_class(&own_key("send", 2)), Some(FailureClass::Crashed));
    }

    #[test]
    fn the_result_of_a_call_that_a_step_makes_itself_is_kept_whole() {
        let output = |is_error: bool| {
            let full_output = Some("all of it".to_owned());
            let result = ToolOutput { content: "all".to_owned(), is_error, full_output, ..ToolOutput::default() };
            CallOutput::Tool(ToolCallOutput { tool: BuiltinTool::Shell, arguments: String::new(), result })
        };
        for is_error in [false, true] {
            let key = own_key("code", 1);
            let mut index = CallIndex::default();
            index.add_started(&CallStarted { call: key.clone(), ..started(BuiltinTool::Shell) }, Timestamp::UNIX_EPOCH);
            let record = ended(Some(output(is_error)), FailureClass::Internal);
            index.add_ended(&CallEnded { call: key.clone(), ..record });
            let expected = CallReply::Output(output(is_error));
            let replies: Vec<&CallReply> = final_replies(index.replies(&key.step, 1), false).collect();
            assert_eq!(replies, [&expected], "other rules may read it in another way");
            assert_eq!(index.has_own_effect(&key.step, 1), !is_error, "a call that failed is made again");
            assert!(!index.has_tool_calls(&key.step, 1));
            let taken = index.take_outcome(&own_key("code", 2), &Digest::compute(b"call"), &|_| true);
            assert_eq!(taken.map(|outcome| outcome.result), Some(Ok(expected)));
        }
    }

    #[test]
    fn damage_is_the_outcome_of_an_interrupted_call() {
        let mut interrupted = ended(None, FailureClass::Cancelled);
        let mut index = CallIndex::default();
        index.add_ended(&interrupted);
        assert_eq!(take(&mut index, 1), None, "orch repeats the call");
        let damage = vec!["the program removed or damaged `.git/HEAD`".to_owned()];
        interrupted.sandbox = Some(Box::new(SandboxUse { damage, ..SandboxUse::default() }));
        index.add_ended(&interrupted);
        let failure = take(&mut index, 1).unwrap().unwrap_err();
        assert_eq!((failure.class, failure.message.contains(".git/HEAD")), (FailureClass::PathRefused, true));
        assert!(index.may_be_interrupted(&interrupted));
        assert_eq!(take(&mut index, 2), None, "a later attempt runs the program again");
    }

    #[test]
    fn damage_by_a_server_does_not_replace_the_outcome_of_its_call() {
        let mut interrupted = ended(None, FailureClass::Cancelled);
        let damage = vec!["the program removed or damaged `.git/HEAD`".to_owned()];
        interrupted.sandbox = Some(Box::new(SandboxUse { damage, ..SandboxUse::default() }));
        let mut index = CallIndex::default();
        index.add_started(&mcp_started(&tool_key(1), McpCallKind::WorkspaceWrite), Timestamp::UNIX_EPOCH);
        index.add_ended(&interrupted);
        let class = take(&mut index, 2).map(|result| result.unwrap_err().class);
        assert_eq!(class, Some(FailureClass::Cancelled), "a later attempt does not repeat the call");
    }

    #[test]
    fn the_record_of_a_crash_replaces_the_assumed_outcome() {
        let mut index = CallIndex::default();
        index.add_started(&started(BuiltinTool::Edit), Timestamp::UNIX_EPOCH);
        index.add_interrupted_tools();
        let mut record = ended(None, FailureClass::Crashed);
        record.agent_activity = Some(Box::new(crate::model::AgentActivity {
            changed: vec!["a.txt".to_owned()],
            ..crate::model::AgentActivity::default()
        }));
        assert!(index.may_be_interrupted(&record));
        index.add_ended(&record);
        let outcome = index.take_outcome(&tool_key(1), &Digest::compute(b"call"), &|_| false).unwrap();
        assert_eq!(outcome.agent_activity.unwrap().changed, ["a.txt"]);
    }

    #[test]
    fn another_attempt_takes_the_result_of_a_tool_once_and_without_the_whole_output() {
        let mut index = CallIndex::default();
        index.add_started(&started(BuiltinTool::Shell), Timestamp::UNIX_EPOCH);
        let (content, full_output) = ("ok".to_owned(), Some("all".to_owned()));
        let result = ToolOutput { content, full_output, ..ToolOutput::default() };
        let output = ToolCallOutput { tool: BuiltinTool::Shell, arguments: String::new(), result };
        index.add_ended(&ended(Some(CallOutput::Tool(output)), FailureClass::Internal));
        index.add_interrupted_tools();
        assert!(index.has_tool_calls(&StepKey::root("code"), 1));
        assert_eq!(final_replies(index.replies(&StepKey::root("code"), 1), false).count(), 0);
        let taken = take(&mut index, 2);
        let Some(Ok(CallReply::Output(CallOutput::Tool(output)))) = taken else { panic!("{taken:?}") };
        assert_eq!((output.result.content.as_str(), output.result.full_output), ("ok", None));
        assert_eq!((take(&mut index, 2), take(&mut index, 1)), (None, None));
    }
}
