//! Servers that send requests and do not read the answers: the answers that wait are limited.

use std::time::Duration;

use orch::model::{Failure, FailureClass};
use serde_json::{Value, json};

use crate::support::mcp::McpSite;
use crate::support::{ReceivedRequest, Reply, Server};

/// How the failure of such a server begins.
const FLOODED: &str = "the MCP server `peer` sends requests and does not read the answers: more than 1000 of them";

#[test]
fn a_program_that_reads_no_answers_ends() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    for method in ["ping", "sampling/createMessage", "roots/list", "no/such/method"] {
        let arguments = json!({ "method": method, "count": null });
        let failure = site.call(&spec, "flood_requests", arguments).unwrap_err();
        assert!(failure.message.starts_with(FLOODED), "{method}: {failure}");
        assert_eq!((failure.class, failure.unperformed), (FailureClass::AgentError, false), "{method}");
        assert!(!site.is_running(), "{method}");
        // The next call starts the server again.
        assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    }
}

#[test]
fn a_call_ends_at_its_time_limit_while_answers_wait() {
    let site = McpSite::new();
    let arguments = json!({ "method": "ping", "count": 500 });
    let limit = Duration::from_millis(300);
    let spec = McpSite::hostile("plain");
    let failure = site.call_until(&spec, "flood_requests", &arguments, limit, std::future::pending()).unwrap_err();
    let expected = (FailureClass::Timeout, "`peer.flood_requests` took longer than 300ms");
    assert_eq!((failure.class, failure.message.as_str()), expected);
    assert!(!site.is_running());
}

/// The failure of a call over HTTP to a server that takes no answers. It sends its requests in the answer to the call, or
/// in the stream of the session.
fn http_failure(is_in_answer: bool) -> Failure {
    let server = Server::start(move |request| respond(request, is_in_answer));
    McpSite::new().call(&McpSite::spec(json!({ "url": server.url() })), "find", json!({})).unwrap_err()
}

fn respond(request: &ReceivedRequest, is_in_answer: bool) -> Reply {
    let result = |value: Value| {
        Reply::status(200, json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": value }).to_string())
    };
    match (request.method.as_str(), request.body["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let info = json!({ "name": "flood", "version": "1" });
            let begun = json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} }, "serverInfo": info });
            result(begun).header("mcp-session-id", "s1")
        }
        ("POST", Some("tools/list")) => {
            result(json!({ "tools": [{ "name": "find", "inputSchema": { "type": "object" } }] }))
        }
        ("POST", Some("tools/call")) if is_in_answer => flood(),
        ("POST", Some("tools/call")) => result(json!({})).stall_after(0),
        ("POST", Some("server/discover")) => Reply::status(404, ""),
        ("GET", _) if !is_in_answer => flood(),
        // An answer. orch sends one at a time.
        ("POST", None) => Reply::status(202, "").delay(Duration::from_mins(10)),
        ("GET", _) => Reply::status(405, ""),
        _ => Reply::status(202, ""),
    }
}

/// A stream with more requests than answers may wait.
fn flood() -> Reply {
    let ping =
        |number: usize| json!({ "jsonrpc": "2.0", "id": format!("{}{number}", "y".repeat(1000)), "method": "ping" });
    let pings: Vec<Value> = (0..3000).map(ping).collect();
    let reply = Reply::events(&pings);
    let length = reply.len();
    reply.stall_after(length)
}

#[test]
fn a_server_over_http_that_takes_no_answers_is_left() {
    for is_in_answer in [true, false] {
        let failure = http_failure(is_in_answer);
        assert_eq!(failure.class, FailureClass::AgentError, "{failure}");
        assert!(failure.message.starts_with(FLOODED), "{is_in_answer}: {failure}");
    }
}
