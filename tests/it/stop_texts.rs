//! Replies that end at a text under `stop`: no message blames the token limit, and the re-ask names the text.

use serde_json::json;

use crate::step_kinds::{project, run};
use crate::support::{Orch, ReceivedRequest, Reply, Server};

const STEP: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: x, re_ask: 1, retry: { max: 1 } }\n";

/// The reply in the dialect of the request, as it ends at a text under `stop`.
fn stopped(request: &ReceivedRequest, text: &str) -> Reply {
    if request.path.contains("/messages") {
        Reply::anthropic_stopped(text, "stop_sequence")
    } else {
        Reply::openai_stopped(text, "stop")
    }
}

/// A project whose provider `lab` speaks this dialect, and whose agent ends its replies at `END`.
fn stopping_project(server: &Server, dialect: &str) -> Orch {
    let orch = project(server, STEP);
    if dialect == "anthropic" {
        let settings = format!(
            "providers:\n  lab: {{ dialect: anthropic, base_url: \"{}\" }}\ndefaults: {{ model: lab/test }}\n",
            server.url()
        );
        orch.write("orch.yaml", &settings);
    }
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, stop: [END]");
    orch
}

#[test]
fn a_re_ask_names_the_text_that_ended_the_reply() {
    for dialect in ["openai", "anthropic"] {
        let server = Server::start(|request| {
            let is_re_ask = request.last().contains("Your answer");
            stopped(request, if is_re_ask { "{\"n\": 1}" } else { "{\"n\": \"one " })
        });
        let orch = stopping_project(&server, dialect);
        let (ran, _) = run(&orch, &[]);
        assert_eq!(ran.code, 0, "{dialect}: {ran:?}");
        assert_eq!(orch.json("workspace/x.json"), json!({ "n": 1 }));
        let re_ask = server.requests()[1].last();
        assert!(re_ask.contains("one of these texts: \"END\""), "{dialect}: {re_ask}");
        assert!(!re_ask.contains("tokens"), "{dialect}: {re_ask}");
    }
}

#[test]
fn the_message_names_stop_unless_a_limit_cut_the_reply_off() {
    for (text, reason, says, never) in [
        (
            "{\"n\": ",
            "stop",
            "the reply ends inside a JSON value, probably at a text under `stop`",
            "max_output_tokens",
        ),
        ("{\"n\": ", "stop", "the agent ends its replies at \"END\" (`stop` of agent `a`)", "max_output_tokens"),
        ("", "stop", "the reply may have ended at once, at \"END\" (`stop` of agent `a`)", "in its text"),
        ("Here it is:", "stop", "or the reply ended at \"END\" (`stop` of agent `a`)", "max_output_tokens"),
        ("{\"n\": ", "length", "raise `max_output_tokens` of agent `a`", "`stop`"),
    ] {
        let message = json!({ "role": "assistant", "content": text });
        let body = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": reason }],
            "usage": { "prompt_tokens": 9, "completion_tokens": 3 } });
        let server = Server::always(Reply::status(200, body.to_string()));
        let (ran, _) = run(&stopping_project(&server, "openai"), &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let ran = ran.says(says);
        assert!(!ran.stderr.contains(never), "{never:?} in {ran:?}");
    }
}

#[test]
fn an_agent_without_stop_has_the_message_about_the_limit() {
    let server = Server::always(Reply::openai_stopped("{\"n\": ", "stop"));
    let (ran, _) = run(&project(&server, STEP), &[]);
    ran.exits(1).says("the reply ends inside a JSON value").says("raise `max_output_tokens` of agent `a`");
}
