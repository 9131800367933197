//! Servers whose answers do not follow the protocol: the call fails at once, and says why.

use std::time::Duration;

use orch::model::{FailureClass, McpAccess, McpServerSpec};
use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, tool};
use crate::support::mcp::McpSite;

/// The server `peer`, whose calls only read.
fn reader(mode: &str) -> McpServerSpec {
    McpServerSpec { access: McpAccess::Read, ..McpSite::hostile(mode) }
}

/// Answers to a request that orch does not accept, each with a part of the reason. `ID` stands for the id of the request.
pub(super) fn wrong_answers() -> Vec<(String, &'static str)> {
    let result = r#""result":{"content":[{"type":"text","text":"t"}]}"#;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    vec![
        (format!(r#"[{{"jsonrpc":"2.0","id":ID,{result}}}]"#), "it is a list of messages"),
        (format!(r#"{{"jsonrpc":"1.0","id":ID,{result}}}"#), "its `jsonrpc` is not"),
        (format!(r#"{{"id":ID,{result}}}"#), "its `jsonrpc` is not"),
        (format!(r#"{{"jsonrpc":"2.0","id":ID,{result},"error":{{"code":1,"message":"m"}}}}"#), "both"),
        (format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"structuredContent":{deep}}}}}"#), "127 levels"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"structuredContent":Infinity}}"#.to_owned(), "not valid JSON"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"isError":true,"isError":false}}"#.to_owned(), "`isError` twice"),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"a","text":"b"}]}}"#.to_owned(),
            "it has the member `text` twice",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"structuredContent":{"n":1,"n":2}}}"#.to_owned(),
            "the member `n` twice",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":99999999999,"message":"m"}}"#.to_owned(),
            "`code` of its error is not a whole number of 32 bits",
        ),
        (r#"{"jsonrpc":"2.0","result":{"content":["#.to_owned(), "not valid JSON"),
    ]
}

#[test]
fn an_answer_that_cannot_be_read_fails_the_call_at_once() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    for (line, reason) in wrong_answers() {
        let failure = site.call(&spec, "send_line", json!({ "line": line })).unwrap_err();
        assert_eq!(failure.class, FailureClass::AgentError, "{reason}: {failure}");
        let beginning = "the MCP server `peer` does not follow the protocol: its answer can't be read: ";
        assert!(failure.message.starts_with(beginning) && failure.message.contains(reason), "{reason}: {failure}");
    }
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    assert_eq!(site.log().iter().filter(|line| *line == "start").count(), 1, "the server was not started again");
}

#[test]
fn half_a_character_in_an_answer_is_replaced() {
    let site = McpSite::new();
    let line = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"a CUT"}]}}"#;
    let spec = McpSite::hostile("plain");
    assert_eq!(site.text(&spec, "send_line", json!({ "line": line })), "a \u{fffd}");
}

#[test]
fn a_tool_that_cannot_be_read_leaves_the_other_tools() {
    let listed = McpSite::new().list(&McpSite::hostile("wrong-tools")).unwrap();
    let names: Vec<&str> = listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!((names, listed.listing.tools[0].description.as_str()), (vec!["good"], "\u{fffd}"));
    let notes = listed.notes.join("\n");
    assert_eq!(listed.notes.len(), 2, "{notes}");
    assert!(notes.contains("the tool `deep`") && notes.contains("nested more than 124 levels"), "{notes}");
    assert!(notes.contains("the tool `endless`") && notes.contains("not valid JSON"), "{notes}");
}

#[test]
fn a_message_of_too_many_values_fails_the_call_at_once() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let values = vec!["0"; 600_000].join(",");
    let line = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"structuredContent":[{values}]}}}}"#);
    let failure = site.call(&spec, "send_line", json!({ "line": line })).unwrap_err();
    assert_eq!(failure.class, FailureClass::OutputTooLarge, "{failure}");
    assert_eq!(failure.message, "the MCP server `peer` sent a message of more than 500000 JSON values");
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
}

#[test]
fn a_result_with_members_of_other_types_is_a_failure() {
    let content = json!([{ "type": "text", "text": "done" }]);
    for (result, reason) in [
        (json!({ "content": content, "isError": "true" }), "`isError` of its result is neither true nor false"),
        (json!({ "content": content, "isError": 1 }), "`isError` of its result is neither true nor false"),
        (json!({ "content": content, "resultType": 5 }), "`resultType` of its result is not a text"),
        (json!({ "content": [{ "type": "text", "text": 5 }] }), "`text` of its content is not a text"),
        (json!({ "content": [{ "type": "image", "data": "!!!!" }] }), "`data` of its content is not base64"),
    ] {
        let message = format!("the MCP server `peer` does not follow the protocol: {reason}");
        for (spec, effect) in
            [(McpSite::hostile("plain"), "; it is not known whether the call took effect"), (reader("plain"), "")]
        {
            let returned = McpSite::new().call(&spec, "return_result", json!({ "result": result })).unwrap();
            assert_eq!((returned.is_error, returned.content), (true, format!("{message}{effect}")));
        }
    }
}

#[test]
fn only_the_first_questions_of_a_call_that_may_write_are_kept() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let asked = site.call(&spec, "ask_many", json!({ "count": 200, "bytes": 40_000 })).unwrap();
    assert!(asked.is_error && asked.content.starts_with("asked\n[the server asked a question"), "{}", asked.content);
    assert_eq!(asked.unanswered.len(), 20);
    let text = String::from_utf8(asked.full_output.unwrap()).unwrap();
    assert!(text.ends_with("[the server asked 180 more questions, which orch cancelled and did not read]"));
    assert!(text.len() < 20 * 50_000, "{}", text.len());
}

#[test]
fn a_call_ends_although_the_server_asks_without_an_end() {
    let site = McpSite::new();
    let asked = site.call(&McpSite::hostile("plain"), "ask_many", json!({ "count": null, "bytes": 10 })).unwrap();
    assert!(asked.is_error && asked.content.contains("does not read the answers"), "{}", asked.content);
    assert!(asked.content.contains("it is not known whether the call took effect"), "{}", asked.content);
    assert!(asked.unanswered.len() <= 20 && !site.is_running());
}

#[test]
fn a_question_of_a_call_that_has_ended_does_not_become_that_of_the_next_call() {
    let site = McpSite::new();
    let spec = reader("plain");
    let (first, limit) = (json!({ "who": "first" }), Duration::from_millis(300));
    let failure = site.call_until(&spec, "ask_late", &first, limit, std::future::pending()).unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout, "{failure}");
    assert!(site.is_running());
    let second = site.call(&spec, "ask_late", json!({ "who": "second" })).unwrap();
    assert!(second.input_required.is_none() && second.unanswered.is_empty(), "{second:?}");
    assert_eq!((second.content.as_str(), second.is_error), ("second done", false));
    // orch made the call again where the server no longer knows the first one.
    assert_eq!(site.log().iter().filter(|line| *line == "start").count(), 2);
}

/// The failure of a call over HTTP that gets this answer.
#[track_caller]
fn http_failure(call: impl Fn(&Value) -> CallAnswer + Send + Sync + 'static) -> String {
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), call);
    let spec = McpSite::spec(server.settings("write"));
    let failure = McpSite::new().call(&spec, "find", json!({ "text": "a" })).unwrap_err();
    assert_eq!(failure.class, FailureClass::AgentError, "{failure}");
    failure.message
}

#[test]
fn a_call_over_http_fails_at_once_if_no_answer_can_be_read() {
    let accepted = http_failure(|_| CallAnswer::Accepted);
    assert!(accepted.contains("with the HTTP status 202 or 204, and sent no answer"), "{accepted}");
    let event = http_failure(|_| CallAnswer::Event(r#"{"structuredContent":Infinity}"#));
    assert!(event.contains("its answer can't be read: it is not valid JSON"), "{event}");
}
