//! The bodies of responses over HTTP that are JSON and no stream: the checks are those of lines and events.

use orch::model::{Failure, FailureClass};
use orch::tool::mcp::McpResult;
use serde_json::{Value, json};

use super::malformed::wrong_answers;
use super::scripted::{CallAnswer, McpServer, Protocol, text, tool};
use crate::support::mcp::McpSite;

/// Calls a tool over HTTP. The response has this status and this body, in which `ID` stands for the id of the call.
fn call(status: u16, body: &str) -> Result<McpResult, Failure> {
    let body = body.to_owned();
    let answer = move |_: &Value| CallAnswer::Body(status, body.clone());
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), answer);
    McpSite::new().call(&McpSite::spec(server.settings("write")), "find", json!({ "text": "a" }))
}

/// The message of a call that fails because the server does not follow the protocol.
#[track_caller]
fn protocol_error(status: u16, body: &str) -> String {
    let failure = call(status, body).unwrap_err();
    assert_eq!(failure.class, FailureClass::AgentError, "{failure}");
    failure.message
}

#[test]
fn a_body_that_cannot_be_read_fails_the_call_with_the_reason() {
    for (body, reason) in wrong_answers() {
        for status in [200, 400, 500] {
            let message = protocol_error(status, &body);
            let beginning = "the MCP server `peer` does not follow the protocol: its answer can't be read: ";
            assert!(message.starts_with(beginning) && message.contains(reason), "{status} {reason}: {message}");
        }
    }
}

#[test]
fn a_body_of_too_many_values_fails_the_call() {
    let values = vec!["0"; 600_000].join(",");
    let result = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"structuredContent":[{values}]}}}}"#);
    let error = format!(r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":-1,"message":"m","data":[{values}]}}}}"#);
    for (status, body) in [(200, &result), (200, &error), (400, &error), (500, &error)] {
        let failure = call(status, body).unwrap_err();
        assert_eq!(failure.class, FailureClass::OutputTooLarge, "{status}: {failure}");
        assert_eq!(failure.message, "the MCP server `peer` sent a message of more than 500000 JSON values");
    }
}

#[test]
fn a_body_that_is_too_large_fails_the_call() {
    let body = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"x":"{}"}}}}"#, "x".repeat(17 << 20));
    for status in [200, 400] {
        let failure = call(status, &body).unwrap_err();
        assert_eq!(failure.class, FailureClass::OutputTooLarge, "{status}: {failure}");
        assert_eq!(failure.message, "the MCP server `peer` sent a message of more than 16 MiB");
    }
}

#[test]
fn half_a_character_in_a_body_is_replaced() {
    let body = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"a CUT"}]}}"#;
    assert_eq!(call(200, body).unwrap().content, "a \u{fffd}");
}

#[test]
fn a_tool_in_a_body_that_cannot_be_read_leaves_the_other_tools() {
    let tools = || {
        let deep = (0..200).fold(json!([]), |inner, _| json!([inner]));
        let wrong = json!({ "name": "deep", "inputSchema": { "type": "object", "default": deep } });
        json!([tool("good", "Works."), wrong])
    };
    let server = McpServer::start(Protocol::Old, tools, |_| text("fine"));
    let listed = McpSite::new().list(&McpSite::spec(server.settings("read"))).unwrap();
    let names: Vec<&str> = listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let notes = listed.notes.join("\n");
    assert!(notes.contains("the tool `deep`") && notes.contains("nested more than 124 levels"), "{notes}");
}

#[test]
fn a_body_without_an_answer_to_the_call_fails_it_at_once() {
    for (body, reason) in [
        ("", "its answer is empty"),
        ("ready", "its answer is no message: ready"),
        ("{}", "its answer is no message: {}"),
        (r#"{"jsonrpc":"2.0","id":123456,"result":{}}"#, "its answer has the id of another request"),
        (r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#, "it sent a message that is no answer"),
    ] {
        let message = protocol_error(200, body);
        assert!(message.contains(reason), "{reason}: {message}");
    }
    // A status says more than a body without a message.
    for (body, reason) in [("", "HTTP 400"), (r#"{"detail":"no"}"#, r#"{"detail":"no"}"#)] {
        let message = protocol_error(400, body);
        assert!(message.contains(reason), "{reason}: {message}");
    }
    assert_eq!(call(500, r#"{"detail":"no"}"#).unwrap_err().status, Some(500));
}

#[test]
fn an_error_in_a_body_belongs_to_the_request_of_the_response() {
    for (status, id) in
        [(200, "ID"), (200, "null"), (400, "ID"), (400, "null"), (400, r#""server-error""#), (500, "null")]
    {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no"}}}}"#);
        let refused = call(status, &body).unwrap();
        let beginning = "the MCP server `peer` refused the call: no (error -32000)";
        assert!(refused.is_error && refused.content.starts_with(beginning), "{status} {id}: {refused:?}");
    }
}
