use serde_json::json;

use super::*;
use crate::history::call_replies::final_replies;
use crate::model::event::CallOutput;
use crate::model::{BuiltinTool, McpCallKind, SandboxUse, ToolCallOutput, ToolOutput};

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
            index.add_started(&started(tool), 1, Timestamp::UNIX_EPOCH);
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
        index.add_started(&mcp_started(&tool_key(1), McpCallKind::RemoteWrite), 1, Timestamp::UNIX_EPOCH);
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
    index.add_started(&mcp_started(&own_key("send", 1), McpCallKind::RemoteWrite), 1, Timestamp::UNIX_EPOCH);
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
        index.add_started(&CallStarted { call: key.clone(), ..started(BuiltinTool::Shell) }, 1, Timestamp::UNIX_EPOCH);
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
    index.add_started(&mcp_started(&tool_key(1), McpCallKind::WorkspaceWrite), 1, Timestamp::UNIX_EPOCH);
    index.add_ended(&interrupted);
    let class = take(&mut index, 2).map(|result| result.unwrap_err().class);
    assert_eq!(class, Some(FailureClass::Cancelled), "a later attempt does not repeat the call");
}

#[test]
fn the_record_of_a_crash_replaces_the_assumed_outcome() {
    let mut index = CallIndex::default();
    index.add_started(&started(BuiltinTool::Edit), 1, Timestamp::UNIX_EPOCH);
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
    index.add_started(&started(BuiltinTool::Shell), 1, Timestamp::UNIX_EPOCH);
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

#[test]
fn the_effects_of_a_step_are_the_calls_that_may_have_changed_something() {
    let effects = |class: Option<FailureClass>, unperformed: bool| {
        let mut index = CallIndex::default();
        index.add_started(&mcp_started(&tool_key(1), McpCallKind::RemoteWrite), 5, Timestamp::UNIX_EPOCH);
        if let Some(class) = class {
            let mut record = ended(None, class);
            record.failure = record.failure.map(|failure| Failure { unperformed, ..failure });
            index.add_ended(&record);
        }
        index.add_interrupted_tools();
        let count = |step: &StepKey, range: Range<u64>| index.effects(step, &range).len();
        let step = StepKey::root("code");
        assert_eq!((count(&step, 0..5), count(&step, 6..9), count(&StepKey::root("other"), 0..9)), (0, 0, 0));
        count(&step, 5..6)
    };
    for class in [None, Some(FailureClass::Cancelled), Some(FailureClass::Timeout), Some(FailureClass::RateLimited)] {
        assert_eq!(effects(class, false), 1, "{class:?}");
    }
    for class in [FailureClass::Cancelled, FailureClass::AgentError] {
        assert_eq!(effects(Some(class), true), 0, "{class}: the server did not perform the call");
    }
    assert_eq!(effects(Some(FailureClass::Auth), false), 0, "the server refused the call");
}

#[test]
fn the_effects_of_a_step_include_those_of_the_steps_inside_of_it() {
    let outer = StepKey::root("manage");
    let key = CallKey { step: outer.child("design").item(0).child("send"), ..own_key("send", 1) };
    let mut index = CallIndex::default();
    index.add_started(&mcp_started(&key, McpCallKind::RemoteWrite), 1, Timestamp::UNIX_EPOCH);
    index.add_started(&mcp_started(&own_key("manage", 1), McpCallKind::RemoteRead), 2, Timestamp::UNIX_EPOCH);
    index.add_interrupted_tools();
    let effects = index.effects(&outer, &(0..9));
    assert!(effects.len() == 1 && effects[0].is_effect_unknown && effects[0].key == key, "{effects:?}");
}
