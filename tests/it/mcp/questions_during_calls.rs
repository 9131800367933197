//! Servers of the old protocol that ask the user during a call. Such a server waits for the answer while the call is open.

use serde_json::{Value, json};

use super::calls::{RUN, calling_project};
use super::questions::{decide, last_question};
use super::scripted::project;
use crate::support::Orch;
use crate::support::mcp::hostile_server;
use crate::tool_loop::{RUN as RUN_AGENT, answer, calls, facts_of};

/// The server `shop`, whose tool `order` asks two questions. Its log is outside of the workspace.
fn servers(access: &str) -> Value {
    let mut command = hostile_server("plain");
    *command.last_mut().unwrap() = "../mcp.log".to_owned();
    json!({ "shop": { "command": command, "access": access, "sandbox": { "enabled": false } } })
}

/// A project whose step calls that tool.
fn ordering_project(access: &str) -> Orch {
    calling_project(&json!({ "call": "shop.order", "args": {} }), &[], &servers(access))
}

/// How often the server was called.
fn call_count(orch: &Orch) -> usize {
    orch.read("mcp.log").lines().filter(|line| *line == "tools/call").count()
}

/// The error of the only step of the latest run.
fn step_error(orch: &Orch) -> Value {
    let shown = orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout;
    let report: Value = serde_json::from_str(&shown).unwrap();
    report["steps"][0]["error"].clone()
}

#[test]
fn a_run_waits_for_the_answers_to_the_questions_of_a_call_that_only_reads() {
    let orch = ordering_project("read");
    orch.run(&RUN).exits(3);
    let question = last_question(&orch);
    let beginning = "Step `find` calls the tool `shop.order`, and the MCP server asks:\n\nWhich size?";
    assert!(question.starts_with(beginning) && question.contains("\"enum\""), "{question}");
    assert_eq!(call_count(&orch), 1);
    // Without an answer, a resume waits again, and does not call the server again.
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(call_count(&orch), 1);
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "XL"}"#]), 2);
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"size": "L"}"#]), 3, "the server asks again");
    assert!(last_question(&orch).contains("How often?"));
    assert_eq!(decide(&orch, &["approve", "--note", r#"{"times": "twice"}"#]), 0);
    assert_eq!((orch.json("workspace/found.json"), call_count(&orch)), (json!("ordered L twice"), 3));
}

#[test]
fn a_user_who_rejects_declines_during_a_call_that_only_reads() {
    let orch = ordering_project("read");
    orch.run(&RUN).exits(3);
    assert_eq!(decide(&orch, &["reject"]), 0);
    assert_eq!(orch.json("workspace/found.json"), json!("nothing ordered: decline"));
}

#[test]
fn a_question_of_a_call_that_may_write_fails_the_step_and_no_resume_repeats_the_call() {
    let orch = ordering_project("write");
    orch.run(&RUN).exits(1);
    let error = step_error(&orch);
    assert_eq!(error["class"], "tool_failed");
    let message = error["message"].as_str().unwrap();
    let beginning = "`shop.order` asked a question during the call, and no person answered it: Which size?";
    assert!(message.starts_with(beginning) && message.contains("\"enum\":[\"S\",\"L\"]"), "{message}");
    assert!(message.ends_with("it is not known whether the call took effect"), "{message}");
    let ended = facts_of(&orch, "call_ended");
    let output = &ended[0]["output"]["mcp_tool"];
    assert_eq!(
        (&output["unanswered"][0]["message"], &output["result"]["is_error"]),
        (&json!("Which size?"), &json!(true))
    );
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("nothing ordered: cancel\n[the server asked a question during this call"), "{shown}");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!((step_error(&orch)["message"].as_str(), call_count(&orch)), (Some(message), 1));
    orch.run(&["pipeline", "resume", "--from", "find"]).exits(1);
    assert_eq!(call_count(&orch), 2, "the user asked for another call");
}

#[test]
fn a_question_of_a_call_by_a_model_fails_the_step_and_no_resume_repeats_the_call() {
    let turns = vec![calls([("shop__order", json!({}))]), answer(&json!("fine"))];
    let (model, orch) = project(turns, &json!({ "tools": ["shop.order"] }), &json!({}), &servers("write"));
    orch.run(&RUN_AGENT).exits(1).says("`shop.order` asked a question during the call").says("Which size?");
    assert_eq!((step_error(&orch)["class"].as_str(), model.requests().len()), (Some("tool_failed"), 1));
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!((call_count(&orch), model.requests().len()), (1, 1));
}

#[test]
fn a_call_without_a_run_answers_or_shows_the_question() {
    let call = |access: &str, more: &[&str]| {
        let orch = Orch::empty();
        orch.write("orch.yaml", &json!({ "mcp": servers(access) }).to_string()).trust();
        orch.run(&[&["tools", "call", "shop.ask", "--yes"][..], more].concat())
    };
    call("read", &[]).exits(3).says("Your password?").says("--answer JSON");
    let unanswered = call("write", &[]).exits(1).stdout;
    assert!(unanswered.contains("orch cancelled it (no person could answer): Your password?"), "{unanswered}");
    for access in ["read", "write"] {
        let answered = call(access, &["--answer", "{}"]).exits(0).stdout;
        assert_eq!(answered, "the answer is {\"action\": \"accept\", \"content\": {}}\n");
        let declined = call(access, &["--answer", "null"]).exits(0).stdout;
        assert_eq!(declined, "the answer is {\"action\": \"decline\"}\n");
    }
}
