//! The messages for replies that a model or a filter refused, or that the context window cut off.

use serde_json::{Value, json};

use crate::support::{Orch, Reply, Server};

/// A project with one step of this contract, whose provider speaks a dialect.
fn project(server: &Server, dialect: &str, schema: &str) -> Orch {
    let orch = Orch::empty();
    let settings = format!(
        "providers:\n  lab: {{ dialect: {dialect}, base_url: \"{}\" }}\ndefaults: {{ model: lab/test }}\n",
        server.url()
    );
    orch.write("orch.yaml", &settings).write("prompts/p.md", "Answer.");
    let pipeline = format!(
        "name: one\nagents: {{ a: {{ model: lab/m }} }}\nsteps:\n  - {{ id: say, agent: a, prompt: p.md, schema: {schema}, output: said, retry: {{ max: 1 }} }}\n"
    );
    orch.write("pipelines/main.yaml", &pipeline);
    orch
}

/// The error of the only step, and the number of requests.
fn error_of(reply: &Reply, dialect: &str, schema: &str) -> (Value, usize) {
    let server = Server::always(reply.clone());
    let ran = project(&server, dialect, schema).run(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (report["steps"][0]["error"].clone(), server.requests().len())
}

#[test]
fn a_reply_that_the_context_window_cut_off_is_not_asked_for_again() {
    for schema in ["text", "any"] {
        let reply = Reply::anthropic_stopped("{\"n\": ", "model_context_window_exceeded");
        let (error, requests) = error_of(&reply, "anthropic", schema);
        assert_eq!(error["class"], "max_tokens_reached", "{schema}: {error}");
        assert_eq!(error["message"], "the reply was cut off at the context window of the model");
        let hint = error["hint"].as_str().unwrap_or_default();
        assert!(hint.starts_with("shorten the prompt or the inputs of the step"), "{hint}");
        assert_eq!(requests, 1, "{schema}: a longer conversation exceeds the window even more");
        // A reply at the limit of the agent has its own hint.
        let (error, _) = error_of(&Reply::anthropic_stopped("{\"n\": ", "max_tokens"), "anthropic", schema);
        assert!(error["hint"].as_str().unwrap_or_default().contains("max_output_tokens"), "{error}");
    }
}

#[test]
fn the_message_of_a_refusal_names_its_reason_and_quotes_the_reply() {
    let refusal_field = json!({"choices": [{"index": 0, "delta": {"refusal": "I can't\nhelp with that."},
        "finish_reason": "stop"}]});
    let blocked_prompt = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
    let long = format!("No. {}", "x".repeat(300));
    let rows = [
        ("gemini", Reply::events(&[blocked_prompt]), "the model refused to answer (`PROHIBITED_CONTENT`)".to_owned()),
        ("gemini", Reply::gemini_stopped("", "SAFETY"), "the model refused to answer (`SAFETY`)".to_owned()),
        ("openai", Reply::events(&[refusal_field]), "the model refused to answer: I can't help with that".to_owned()),
        (
            "openai",
            Reply::openai_stopped("Not this", "content_filter"),
            "the model refused to answer (`content_filter`): Not this".to_owned(),
        ),
        ("anthropic", Reply::anthropic_stopped("", "refusal"), "the model refused to answer".to_owned()),
        (
            "anthropic",
            Reply::anthropic_stopped(&long, "refusal"),
            format!("the model refused to answer: No. {}…", "x".repeat(196)),
        ),
    ];
    for (dialect, reply, message) in rows {
        for schema in ["text", "any"] {
            let (error, requests) = error_of(&reply, dialect, schema);
            assert_eq!((&error["class"], &error["message"]), (&json!("refusal"), &json!(message)), "{schema}");
            assert_eq!(requests, 1, "{schema}");
        }
    }
}
