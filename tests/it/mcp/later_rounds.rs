//! Calls that an MCP server performs only after the user answered its questions, and that are interrupted then.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::calls::calling_project;
use super::questions::{asking_server, decide};
use super::scripted::{CallAnswer, McpServer, Protocol, tool};
use crate::kill::latest_run;
use crate::support::{Reply, Server};
use crate::tool_loop::{RUN, answer, calls, facts_of, scripted_reply, tool_project, wait_until};

/// A server that asks one question, and never answers the call with the user's answer.
fn stalling_server() -> McpServer {
    let schema = json!({ "type": "object", "properties": { "size": { "type": "string" } }, "required": ["size"] });
    let params = json!({ "mode": "form", "message": "Which size?", "requestedSchema": schema });
    let question = json!({ "method": "elicitation/create", "params": params });
    let asked = json!({ "resultType": "input_required", "inputRequests": { "q": question }, "requestState": "s1" });
    let call = move |params: &Value| {
        if params["inputResponses"].is_null() { CallAnswer::Result(asked.clone()) } else { CallAnswer::Nothing }
    };
    McpServer::start(Protocol::New, || json!([tool("find", "Finds.")]), call)
}

#[test]
fn a_resume_asks_no_question_while_the_effect_of_the_answered_call_is_unknown() {
    let server = stalling_server();
    let orch = calling_project(&json!({}), &[], &json!({ "docs": server.settings("write") }));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(3);
    let (id, _) = latest_run(&orch).unwrap();
    let approve = ["runs", "approve", &id, "--note", r#"{"size": "L"}"#, "--resume"];
    let mut child = orch.command(&approve).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the call with the answer", || server.calls().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..3 {
        orch.run(&["pipeline", "resume", &id]).exits(1).says("it is not known whether the call took effect");
    }
    assert_eq!((server.calls().len(), facts_of(&orch, "approval_asked").len()), (2, 1));
}

#[test]
fn a_conversation_that_continues_keeps_the_answers_of_the_user() {
    let server = asking_server();
    let works = Arc::new(AtomicBool::new(false));
    let has_recovered = Arc::clone(&works);
    let turns = vec![calls([("shop__order", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let model = Server::start(move |request| {
        let has_result = request.body.to_string().contains("size L");
        let fails = has_result && !has_recovered.load(Ordering::SeqCst);
        if fails { Reply::status(503, "{}") } else { scripted_reply(&turns, request) }
    });
    let agent = json!({ "tools": ["shop.order"], "approve_tools": ["shop.order"] });
    let orch = tool_project(&model, &agent, &json!({ "retry": { "max": 2, "backoff": "1ms" } }));
    let settings = orch.read("orch.yaml");
    let servers = json!({ "shop": server.settings("write") });
    orch.write("orch.yaml", &format!("{settings}mcp: {servers}\n")).trust();
    orch.run(&RUN).exits(3);
    assert_eq!(decide(&orch, &["approve"]), 3, "the call is approved, and then the server asks");
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "L"}"#]), 1, "the model does not answer");
    works.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((server.calls().len(), facts_of(&orch, "approval_asked").len()), (2, 2));
}
