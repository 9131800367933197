//! `orch tools call` without a result: the exit code, and whether the call may have taken effect.

use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, tool};
use crate::support::{Orch, Reply, RunOutput};

/// What orch says about a call that may have taken effect.
const UNKNOWN_EFFECT: &str = "it is not known whether the call took effect";

/// Calls the tool `find` of a server that answers in this way. Returns what the command printed, after one call.
fn call(access: &str, protocol: Protocol, answer: impl Fn() -> CallAnswer + Send + Sync + 'static) -> RunOutput {
    let server = McpServer::start(protocol, || json!([tool("find", "Finds.")]), move |_: &Value| answer());
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": { "docs": server.settings(access) } }).to_string()).trust();
    orch.run(&["tools", "call", "docs.find", "--arg", "text=a", "--yes"])
}

/// An answer whose body ends before its length.
fn cut_off() -> CallAnswer {
    CallAnswer::Reply(Reply::status(200, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#).cut_after(20))
}

type NewAnswer = fn() -> CallAnswer;

#[test]
fn a_call_that_may_have_taken_effect_without_a_result_says_so() {
    let answers: [(&str, NewAnswer); 8] = [
        ("a body that is cut off", cut_off),
        ("an error of the server", || CallAnswer::Status(500)),
        ("a limit of the server", || CallAnswer::Status(429)),
        ("a stream that ends", || CallAnswer::Reply(Reply::raw_events(": nothing\n\n"))),
        ("the answer to another call", || CallAnswer::Body(200, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#.to_owned())),
        ("a redirect", || CallAnswer::Reply(Reply::status(307, "").header("location", "https://docs.example/mcp"))),
        ("a page", || CallAnswer::Reply(Reply::html("<p>done</p>"))),
        ("no result", || CallAnswer::Result(json!({ "content": "done" }))),
    ];
    for (name, answer) in answers {
        for (access, may_have_effect) in [("write", true), ("read", false)] {
            let ran = call(access, Protocol::Old, answer).exits(1);
            let text = format!("{}{}", ran.stdout, ran.stderr);
            assert_eq!(text.contains(UNKNOWN_EFFECT), may_have_effect, "{name}, {access}: {ran:?}");
        }
    }
}

#[test]
fn a_call_that_the_server_refused_had_no_effect() {
    for status in [401, 403] {
        let ran = call("write", Protocol::Old, move || CallAnswer::Status(status)).exits(2);
        assert!(!ran.stderr.contains(UNKNOWN_EFFECT), "{status}: {ran:?}");
    }
}

#[test]
fn a_server_that_asks_without_end_gives_no_answer() {
    let asks = || CallAnswer::Result(json!({ "resultType": "input_required", "requestState": "s" }));
    call("write", Protocol::New, asks).exits(1).says("the MCP server `docs` asked for input more than 10 times");
}
