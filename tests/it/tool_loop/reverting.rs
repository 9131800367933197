//! The changes of all attempts of a step with tools: shown, reverted, and missed by a resume.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::dialects::tool_results;
use super::{ScriptedTurn, answer, calls, run, scripted_reply, scripted_server, tool_project};
use crate::kill::latest_run;
use crate::reverted_files::assert_both_attempts_count;
use crate::support::{Orch, Reply, Server};

const SCHEMA: &str = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#;

fn write(path: &str, content: &str) -> (&'static str, Value) {
    ("write", json!({ "path": path, "content": content }))
}

/// The turn of the first attempt of a step.
fn first_turn() -> ScriptedTurn {
    calls([write("first.txt", "one\n"), write("both.txt", "half\n")])
}

/// The turn of the second attempt.
fn second_turn() -> ScriptedTurn {
    calls([write("second.txt", "two\n"), write("both.txt", "whole\n")])
}

/// A project with a file that the first turn changes.
fn project(server: &Server, agent: &Value, step: &Value) -> Orch {
    let mut agent_keys = json!({ "tools": ["write"] });
    agent_keys.as_object_mut().unwrap().extend(agent.as_object().unwrap().clone());
    let orch = tool_project(server, &agent_keys, step);
    orch.write("schemas/n.schema.json", SCHEMA).write("workspace/first.txt", "old\n");
    orch
}

/// A project whose run has reached `max_turns` after the first turn.
fn project_with_reached_max_turns() -> (Server, Orch) {
    let server = scripted_server(vec![first_turn(), second_turn(), answer(&json!("fine"))]);
    let orch = project(&server, &json!({ "max_turns": 2 }), &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("max_turns_reached")), "{ran:?}");
    assert!(orch.exists("workspace/both.txt") && !orch.exists("workspace/second.txt"));
    orch.edit("pipelines/main.yaml", "\"max_turns\":2", "\"max_turns\":3");
    (server, orch)
}

#[test]
fn the_changes_before_and_after_max_turns_was_raised_count() {
    let (server, orch) = project_with_reached_max_turns();
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 3, "the resume continues the conversation");
    assert_both_attempts_count(&orch, "work");
    assert_eq!(server.requests().len(), 3, "no model was asked again");
}

#[test]
fn the_changes_before_and_after_a_failed_request_count() {
    let works = Arc::new(AtomicBool::new(false));
    let server_works = Arc::clone(&works);
    let turns = vec![first_turn(), second_turn(), answer(&json!("fine"))];
    let server = Server::start(move |request| {
        let fails = tool_results(request).len() == 2 && !server_works.load(Ordering::SeqCst);
        if fails { Reply::status(503, "{}") } else { scripted_reply(&turns, request) }
    });
    let orch = project(&server, &json!({}), &json!({ "retry": { "max": 2, "backoff": "1ms" } }));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("provider_unavailable")), "{ran:?}");
    works.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_both_attempts_count(&orch, "work");
}

#[test]
fn the_changes_before_and_after_an_answer_that_does_not_fit_the_schema_count() {
    let fits = Arc::new(AtomicBool::new(false));
    let server_fits = Arc::clone(&fits);
    let (misfit, fit) =
        (vec![first_turn(), answer(&json!("no object"))], vec![second_turn(), answer(&json!({ "n": 7 }))]);
    let server = Server::start(move |request| {
        let turns = if server_fits.load(Ordering::SeqCst) { &fit } else { &misfit };
        scripted_reply(turns, request)
    });
    let orch = project(&server, &json!({}), &json!({ "schema": "n", "re_ask": 0 }));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 1, "{ran:?}");
    fits.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 4, "the second attempt is a new conversation");
    assert_both_attempts_count(&orch, "work");
}

#[test]
fn the_changes_before_and_after_a_retry_count() {
    let is_first = AtomicBool::new(true);
    let turns = vec![first_turn(), second_turn(), answer(&json!({ "n": 7 }))];
    let server = Server::start(move |request| {
        if tool_results(request).len() == 2 && is_first.swap(false, Ordering::SeqCst) {
            return Reply::text_for(&request.path, "\"no object\"");
        }
        scripted_reply(&turns, request)
    });
    let retry = json!({ "max": 2, "on": ["schema_mismatch", "no_json"], "backoff": "1ms" });
    let orch = project(&server, &json!({}), &json!({ "schema": "n", "re_ask": 0, "retry": retry }));
    let (ran, _) = run(&orch);
    assert_eq!((ran.code, server.requests().len()), (0, 4), "{ran:?}");
    assert_both_attempts_count(&orch, "work");
}

#[test]
fn a_conversation_continues_only_with_the_files_that_it_relies_on() {
    let (server, orch) = project_with_reached_max_turns();
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "revert", &id]).exits(0);
    let words = "first.txt`, which step `work` wrote, was reverted to its earlier contents";
    orch.run(&["pipeline", "resume", "--dry-run"]).exits(0).says(words).says("both.txt`, which step `work` wrote");
    orch.run(&["pipeline", "resume"]).exits(2).says(words).says("both.txt`, which step `work` wrote, was deleted");
    assert_eq!(server.requests().len(), 2);
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!(server.requests().len(), 3, "the resume continues the conversation");
    assert_both_attempts_count(&orch, "work");
}

#[test]
fn a_step_that_starts_again_needs_no_files_of_its_earlier_attempts() {
    let (server, orch) = project_with_reached_max_turns();
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "revert", &id]).exits(0);
    orch.run(&["pipeline", "resume", "--from", "work"]).exits(0);
    assert_eq!(server.requests().len(), 5, "a new conversation");
    assert_eq!(orch.read("workspace/first.txt"), "one\n");
}
