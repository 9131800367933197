//! Incomplete, late and empty replies in a run.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Orch, Reply, Server};

/// A project with one text step; these keys are added to the step and the pipeline.
fn project(server: &Server, step: &str, head: &str) -> Orch {
    let orch = Orch::empty().with(server);
    orch.write("prompts/p.md", "Answer.");
    let pipeline = format!(
        "name: one\n{head}inputs: {{ task: {{ type: string }} }}\nagents: {{ a: {{ model: lab/m }} }}\nsteps:\n  - {{ id: say, agent: a, prompt: p.md, schema: text, output: said{step} }}\n"
    );
    orch.write("pipelines/main.yaml", &pipeline);
    orch
}

fn report(orch: &Orch) -> Value {
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--output", "json"]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// A server that sends one reply first, and another one from then on.
fn server_with_replies(first: Reply, then: Reply) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| if count.fetch_add(1, Ordering::SeqCst) == 0 { first.clone() } else { then.clone() })
}

#[test]
fn a_reply_with_an_unknown_stop_reason_is_retried_once_and_then_fails() {
    let server = Server::always(Reply::openai_stopped("half an ans", "sleepy"));
    let orch = project(&server, "", "");
    let report = report(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!(error["class"], "unknown_stop");
    assert_eq!(error["message"], "the reply may be incomplete: its stop reason is `sleepy`");
    assert_eq!(server.requests().len(), 2);
    // The usage of both replies is recorded.
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0);
    assert!(shown.stdout.contains("half an ans"), "{shown:?}");
    let server = server_with_replies(Reply::openai_stopped("half", "sleepy"), Reply::openai_text("all of it"));
    assert_eq!(self::report(&project(&server, "", ""))["steps"][0]["output"], "all of it");
}

#[test]
fn the_reason_for_a_retry_is_printed_before_the_wait() {
    let server = server_with_replies(Reply::openai_stopped("half", "sleepy"), Reply::openai_text("all of it"));
    let ran = project(&server, "", "").run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(0);
    let reason = ran.stderr.find("say: orch rejected the reply");
    let wait = ran.stderr.find("say: waiting");
    assert!(reason.is_some() && reason < wait, "{ran:?}");
}

#[test]
fn a_recording_keeps_an_unknown_stop_reason() {
    let server = Server::always(Reply::openai_stopped("half", "sleepy"));
    let orch = project(&server, ", retry: { max: 1 }", "");
    let run = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    orch.run(&[&run[..], &["--record", "kept"]].concat()).exits(1).says("`sleepy`");
    orch.run(&[&run[..], &["--replay", "kept"]].concat()).exits(1).says("`sleepy`");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_reply_that_is_complete_when_the_time_budget_ends_is_kept() {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": "whole"}, "finish_reason": "stop"}]});
    let body = format!("data: {chunk}\n\n");
    let server = Server::always(Reply::raw_events(body.clone()).unframed().stall_after(body.len()));
    let report = report(&project(&server, "", "budget: { seconds: 2 }\n"));
    assert_eq!(report["steps"][0]["output"], "whole", "{report:#}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_message_for_a_reply_without_text_says_what_arrived_instead() {
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]});
    let call = json!({"tool_calls": [{"index": 0, "function": {"name": "json_tool_call", "arguments": "{}"}}]});
    for (events, message, hint) in [
        (vec![delta(call)], "the reply has no text, only a call of the tool `json_tool_call`", "have no tools"),
        (
            vec![delta(json!({"reasoning": "It is 4."}))],
            "the reply has no text, only reasoning (8 characters)",
            "max_output_tokens",
        ),
        (
            vec![json!({"note": "queue is full"}), delta(json!({"content": ""}))],
            "the reply has no text, only the words: {\"note\":\"queue is full\"}",
            "",
        ),
    ] {
        for schema in ["schema: text", "schema: any"] {
            let server = Server::always(Reply::events(&events));
            let orch = project(&server, ", re_ask: 0", "");
            orch.edit("pipelines/main.yaml", "schema: text", schema);
            let report = report(&orch);
            let error = &report["steps"][0]["error"];
            assert_eq!((&error["class"], &error["message"]), (&json!("empty_reply"), &json!(message)), "{schema}");
            assert!(error["hint"].as_str().unwrap_or_default().contains(hint), "{error}");
        }
    }
}

#[test]
fn the_text_before_a_tool_call_is_no_answer() {
    let server = Server::always(Reply::openai_stopped("Let me look that up.", "tool_calls"));
    let report = report(&project(&server, ", re_ask: 0", ""));
    assert_eq!(report["steps"][0]["error"]["message"], "the model called a tool instead of answering");
}
