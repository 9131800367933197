//! `tool_choice: required`: the first reply of a conversation must call a tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::dialects::{DIALECTS, openai_calls, tool_results};
use super::{
    RUN, ScriptedTurn, answer, calls, facts_of, run, scripted_reply, scripted_server, tool_project, use_dialect,
};
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// The beginning of the message that asks for the missing call.
const ASKS_FOR_CALL: &str = "You answered without calling a tool";

/// The keys of an agent that must call `read` first.
fn reader() -> Value {
    json!({ "tools": ["read"], "tool_choice": "required" })
}

/// A project with such an agent, and a file to read.
fn reader_project(server: &Server, step: &Value) -> Orch {
    let orch = tool_project(server, &reader(), step);
    orch.write("workspace/a.txt", "one\n");
    orch
}

/// Reads the file, then answers.
fn reading_turns() -> Vec<ScriptedTurn> {
    vec![calls([("read", json!({ "path": "a.txt" }))]), answer(&json!("fine"))]
}

/// The choice in each request in the dialect `openai`; null if the model decides.
fn choices(server: &Server) -> Vec<Value> {
    server.requests().iter().map(|request| request.body["tool_choice"].clone()).collect()
}

#[test]
fn only_the_first_request_requires_a_call_in_every_dialect() {
    for dialect in DIALECTS.into_iter().chain(["converse"]) {
        let server = scripted_server(reading_turns());
        let orch = reader_project(&server, &json!({}));
        use_dialect(&orch, &server, dialect);
        if dialect == "converse" {
            // Bedrock accepts the choice only for some models.
            orch.edit("orch.yaml", "lab/test", "lab/amazon.nova-pro-v1:0");
        }
        let (ran, report) = run(&orch);
        assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{dialect}: {ran:?}");
        let (pointer, required) = match dialect {
            "anthropic" => ("/tool_choice", json!({ "type": "any" })),
            "gemini" => ("/toolConfig/functionCallingConfig/mode", json!("ANY")),
            "converse" => ("/toolConfig/toolChoice", json!({ "any": {} })),
            _ => ("/tool_choice", json!("required")),
        };
        let requests = server.requests();
        let sent: Vec<Option<&Value>> = requests.iter().map(|request| request.body.pointer(pointer)).collect();
        assert_eq!(sent, [Some(&required), None], "{dialect}");
    }
}

#[test]
fn an_answer_in_place_of_the_required_call_is_not_accepted_and_the_model_is_asked_for_a_call() {
    // Like the server of llama.cpp, it ignores the choice.
    let server = Server::start(|request| {
        let is_asked = request.messages().iter().any(|(_, text)| text.contains(ASKS_FOR_CALL));
        if is_asked { scripted_reply(&reading_turns(), request) } else { Reply::openai_text("\"it works\"") }
    });
    let orch = reader_project(&server, &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{ran:?}");
    assert_eq!(choices(&server), [json!("required"), json!("required"), Value::Null]);
    let messages = server.requests()[1].messages();
    let [.., (role, quoted), (_, instruction)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((role.as_str(), quoted.as_str()), ("assistant", "\"it works\""));
    assert!(instruction.contains("Call a tool first: `read`."), "{instruction}");
    let parsed = facts_of(&orch, "reply_parsed");
    assert_eq!((&parsed[0]["failure"]["class"], &parsed[0]["re_asks"]), (&json!("output_rejected"), &json!(true)));
}

#[test]
fn a_model_that_never_makes_the_required_call_fails_the_step() {
    let server = Server::always(Reply::openai_text("\"it works\""));
    let orch = reader_project(&server, &json!({ "re_ask": 1 }));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("output_rejected")), "{ran:?}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("agent `a` requires a call before the answer (`tool_choice: required`)"), "{error}");
    assert_eq!(choices(&server), [json!("required"), json!("required")]);
    // Under other rules, orch reads recorded replies again, but not those that lack the call.
    orch.edit("pipelines/main.yaml", "\"schema\":\"any\"", "\"schema\":\"text\"");
    orch.run(&["pipeline", "resume"]).exits(1).says("requires a call before the answer");
    assert_eq!(choices(&server).len(), 4, "the resume starts a new conversation");
}

#[test]
fn retry_repeats_the_request_that_got_no_required_call_if_it_names_the_class() {
    let server = Server::always(Reply::openai_text("\"it works\""));
    let retry = json!({ "re_ask": 0, "retry": { "max": 2, "backoff": "1ms", "on": ["output_rejected"] } });
    let orch = reader_project(&server, &retry);
    assert_eq!(run(&orch).0.code, 1);
    assert_eq!(choices(&server), [json!("required"), json!("required")]);
}

#[test]
fn an_answer_that_is_cut_off_before_the_required_call_does_not_switch_calls_off() {
    let server = Server::start(|request| {
        let is_asked = request.messages().iter().any(|(_, text)| text.contains("None of its tool calls ran"));
        if is_asked { scripted_reply(&reading_turns(), request) } else { Reply::openai_stopped("I will", "length") }
    });
    let orch = reader_project(&server, &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{ran:?}");
    assert_eq!(choices(&server), [json!("required"), json!("required"), Value::Null]);
    assert_eq!(facts_of(&orch, "reply_parsed")[0]["failure"]["class"], "max_tokens_reached");
}

#[test]
fn a_refusal_in_place_of_the_required_call_is_a_refusal() {
    let server = Server::always(Reply::openai_stopped("I can't do this.", "content_filter"));
    let orch = reader_project(&server, &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("refusal")), "{ran:?}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_request_for_the_final_answer_forbids_calls() {
    let server = Server::start(|request| {
        let is_corrected = request.messages().iter().any(|(_, text)| text.contains("Your answer held no JSON"));
        match (tool_results(request).len(), is_corrected) {
            (0, _) => openai_calls(request, 1, &[("read", json!({ "path": "a.txt" }))], "stop"),
            (_, false) => Reply::openai_text("I have finished."),
            (_, true) => Reply::openai_text("{\"n\": 1}"),
        }
    });
    let orch = reader_project(&server, &json!({ "schema": "n" }));
    orch.write("schemas/n.schema.json", r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#);
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(choices(&server), [json!("required"), Value::Null, json!("none")]);
}

#[test]
fn a_conversation_that_a_resume_continues_requires_no_further_call() {
    let works = Arc::new(AtomicBool::new(false));
    let server_works = Arc::clone(&works);
    let server = Server::start(move |request: &ReceivedRequest| {
        let fails = tool_results(request).len() == 1 && !server_works.load(Ordering::SeqCst);
        if fails { Reply::status(503, "{}") } else { scripted_reply(&reading_turns(), request) }
    });
    let orch = reader_project(&server, &json!({ "retry": { "max": 1 } }));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("provider_unavailable")), "{ran:?}");
    works.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    let choices = choices(&server);
    let (first, later) = choices.split_first().unwrap();
    assert_eq!(first, "required");
    assert!(later.len() >= 2 && later.iter().all(Value::is_null), "{choices:?}");
    let requests = server.requests();
    let [.., failed, repeated] = requests.as_slice() else { panic!("two requests at least") };
    assert_eq!(failed.body, repeated.body, "the conversation is the same");
}

#[test]
fn a_replay_repeats_the_conversation() {
    let server = scripted_server(reading_turns());
    let orch = reader_project(&server, &json!({}));
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(0);
    drop(server);
    orch.write("second/a.txt", "one\n");
    orch.run(&[&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat()).exits(0);
}

#[test]
fn a_changed_choice_makes_the_step_run_again() {
    let server = scripted_server(reading_turns());
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    orch.run(&RUN).exits(0);
    orch.edit("pipelines/main.yaml", "\"tools\":[\"read\"]", "\"tools\":[\"read\"],\"tool_choice\":\"required\"");
    let (id, _) = crate::kill::latest_run(&orch).unwrap();
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(choices(&server), [Value::Null, Value::Null, json!("required"), Value::Null]);
    let starts = facts_of(&orch, "step_started");
    assert!(starts.last().unwrap()["reason"].as_str().unwrap().contains("tools changed"), "{starts:?}");
}

#[test]
fn plan_counts_the_required_call_and_a_cli_agent_drops_the_choice() {
    let server = scripted_server(Vec::new());
    let orch = reader_project(&server, &json!({}));
    let plan = ["pipeline", "plan", "pipelines/main.yaml", "--task", "do it"];
    let planned = orch.run(&[&plan[..], &["--output", "json"]].concat()).exits(0);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(planned["steps"][0]["requests"]["calls"], json!({ "min": 2, "max": 42 }), "{planned:#}");
    let replaced = orch.run(&[&plan[..], &["--agent", "a=command:cat"]].concat()).exits(0);
    replaced.says("agent `a` is a CLI agent in this run, so these options do not apply: `tools`, `tool_choice`\n");
}
