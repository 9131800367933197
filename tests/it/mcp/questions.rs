//! MCP servers that ask the user for input: the run waits, and the call is made again with the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, project, text, tool};
use crate::kill::latest_run;
use crate::support::{Orch, Server};
use crate::tool_loop::{RUN, answer, calls, facts_of, last_results};

/// A server that asks for a size before it returns a result.
pub(super) fn asking_server() -> McpServer {
    let schema = json!({
        "type": "object",
        "properties": { "size": { "type": "string", "enum": ["S", "L"] }, "count": { "type": "integer", "default": 2 } },
        "required": ["size"],
    });
    let params = json!({ "mode": "form", "message": "Which size?", "requestedSchema": schema });
    let question = json!({ "method": "elicitation/create", "params": params });
    let asked = json!({
        "resultType": "input_required", "inputRequests": { "q": question }, "requestState": "s1",
    });
    let call = move |params: &Value| {
        let response = &params["inputResponses"]["q"];
        match response["action"].as_str() {
            None => CallAnswer::Result(asked.clone()),
            Some("accept") => text(&format!("size {}", response["content"]["size"].as_str().unwrap())),
            Some(_) => text("nothing ordered"),
        }
    };
    McpServer::start(Protocol::New, || json!([tool("order", "Orders.")]), call)
}

/// A project whose model calls the tool of a server that asks.
fn asking_project(server: &McpServer) -> (Server, Orch) {
    let turns = vec![calls([("shop__order", json!({ "text": "a" }))]), answer(&json!("fine"))];
    project(turns, &json!({ "tools": ["shop.order"] }), &json!({}), &json!({ "shop": server.settings("write") }))
}

/// Decides about the question of the latest run, and resumes the run. Returns the exit code.
pub(super) fn decide(orch: &Orch, decision: &[&str]) -> i32 {
    let (run, _) = latest_run(orch).unwrap();
    orch.run(&[&["runs"][..], decision, &[&run, "--resume"]].concat()).code
}

pub(super) fn last_question(orch: &Orch) -> String {
    facts_of(orch, "approval_asked").last().unwrap()["question"].as_str().unwrap().to_owned()
}

#[test]
fn a_call_waits_for_the_answer_of_the_user_and_is_made_again_with_it() {
    let server = asking_server();
    let (model, orch) = asking_project(&server);
    orch.run(&RUN).exits(3);
    let question = last_question(&orch);
    let beginning =
        "Agent `a` calls the tool `shop.order`, and the MCP server asks:\n\nWhich size?\n\nTo answer, approve";
    assert!(question.starts_with(beginning) && question.contains("\"enum\""), "{question}");
    // Without an answer, a resume waits again, and does not call the server again.
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(server.calls().len(), 1);
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "L"}"#]), 0);
    let received = server.calls();
    assert_eq!((received.len(), &received[1]["requestState"]), (2, &json!("s1")));
    let content = json!({ "size": "L", "count": 2 });
    assert_eq!(received[1]["inputResponses"], json!({ "q": { "action": "accept", "content": content } }));
    assert_eq!(last_results(&model), ["size L"]);
    assert_eq!(model.requests().len(), 2);
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("the server asks for input:\nWhich size?"), "{shown}");
    assert!(shown.contains("call work@1#1.1+1 (shop.order"), "{shown}");
    let report: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout).unwrap();
    assert_eq!(report["steps"][0]["tool_calls"], 1, "both calls are the same call of the model");
}

#[test]
fn a_note_that_is_no_answer_is_refused_and_the_run_still_waits() {
    let server = asking_server();
    let (_model, orch) = asking_project(&server);
    orch.run(&RUN).exits(3);
    for (note, problem) in [
        (r#"{"size": "XL"}"#, "/size: expected one of"),
        (r#"{"count": 1}"#, "\"size\""),
        (r#"{"size": "L", "count": "many"}"#, "/count: expected integer"),
        ("L", "the note is not JSON"),
        ("", "\"size\""),
    ] {
        for resume in [&[][..], &["--resume"][..]] {
            let ran = orch.run(&[&["runs", "approve", "--note", note][..], resume].concat()).exits(2);
            ran.says("the note does not answer the question of step `work`").says(problem);
        }
    }
    assert_eq!(facts_of(&orch, "approval_asked").len(), 1);
    assert!(facts_of(&orch, "approval_answered").is_empty() && server.calls().len() == 1);
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "S"}"#]), 0);
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_call_with_answers_has_another_id_than_the_call_that_another_process_made() {
    let server = asking_server();
    let (_model, orch) = asking_project(&server);
    orch.run(&RUN).exits(3);
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "L"}"#]), 0);
    let ids = server.call_ids();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn a_user_who_rejects_declines() {
    let server = asking_server();
    let (model, orch) = asking_project(&server);
    orch.run(&RUN).exits(3);
    assert_eq!(decide(&orch, &["reject"]), 0);
    assert_eq!(server.calls()[1]["inputResponses"], json!({ "q": { "action": "decline" } }));
    assert_eq!(last_results(&model), ["nothing ordered"]);
}

#[test]
fn a_server_that_asks_without_end_gets_no_further_call() {
    let count = Arc::new(AtomicUsize::new(0));
    let call = move |_: &Value| {
        let state = count.fetch_add(1, Ordering::SeqCst).to_string();
        CallAnswer::Result(json!({ "resultType": "input_required", "requestState": state }))
    };
    let server = McpServer::start(Protocol::New, || json!([tool("order", "Orders.")]), call);
    let (model, orch) = asking_project(&server);
    orch.run(&RUN).exits(0);
    let received = server.calls();
    assert_eq!(received.len(), 11);
    assert_eq!((&received[0]["requestState"], &received[10]["requestState"]), (&Value::Null, &json!("9")));
    let results = last_results(&model);
    assert!(
        results[0].contains("the MCP server `shop` asked for input more than 10 times, so orch ended"),
        "{results:?}"
    );
}
