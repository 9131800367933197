//! Values that templates could not use are refused when they arrive, and every other value stays as it is.

use serde_json::{Value, json};

use crate::step_kinds::{project, run};
use crate::support::{Reply, Server};

/// The error of a pipeline whose only step has this contract, if the model sends this reply. There is one request.
fn error_of_reply(schema: &str, reply: Reply) -> Value {
    let server = Server::always(reply);
    let step = format!("  - {{ id: one, agent: a, schema: {schema}, prompt: one.md, output: said, re_ask: 0 }}\n");
    let (_, report) = run(&project(&server, &step), &[]);
    assert_eq!(server.requests().len(), 1, "{report}");
    report["steps"][0]["error"].clone()
}

/// The error of a pipeline whose only step runs this command.
fn error_of_command(schema: &str, command: &str) -> Value {
    let server = Server::saying("unused");
    let step = format!("  - {{ id: one, run: {}, schema: {schema}, output: said }}\n", json!(command));
    let (_, report) = run(&project(&server, &step), &[]);
    report["steps"][0]["error"].clone()
}

#[test]
fn values_that_no_template_can_use_do_not_fit_any_schema() {
    for (schema, reply, words) in [
        ("any", r#"{"n": 1e400}"#, "/n: expected a number between"),
        ("any", r#"{"n": [1e-400]}"#, "/n/0: expected 0, or a number"),
        ("any", r#"{"n": 1000000000000000000000000000000000000000}"#, "/n: expected an integer of at most 38 digits"),
        ("any", r#"{"t": "a\u0000b"}"#, "/t: expected text without NUL characters"),
        ("any", r#"{"t": "\ud800"}"#, "half of a surrogate pair"),
        ("any", "Here:\n```json\n{\"t\": \"\\udc00x\"}\n```", "half of a surrogate pair"),
        ("text", "a\u{0}b", "a NUL character"),
    ] {
        let error = error_of_reply(schema, Reply::openai_text(reply));
        assert_eq!(error["class"], "schema_mismatch", "{reply:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{reply:?}: {error}");
    }
}

#[test]
fn half_of_a_surrogate_pair_in_the_json_of_a_server_does_not_fit_any_schema() {
    for (schema, content) in [
        ("any", r#"{\"t\": \"a\ud83d\"}"#),
        ("text", r"hi \ud83d there"),
        ("text", r"hi \ude00"),
        ("text", r"hi \ud83d"),
    ] {
        let delta = format!(r#"{{"choices": [{{"delta": {{"content": "{content}"}}, "finish_reason": "stop"}}]}}"#);
        let message = delta.replace("delta", "message");
        let streamed = Reply::raw_events(format!("data: {delta}\n\ndata: [DONE]\n\n"));
        for reply in [streamed, Reply::status(200, message)] {
            let error = error_of_reply(schema, reply);
            assert_eq!(error["class"], "schema_mismatch", "{content}: {error}");
            assert!(error["message"].as_str().unwrap().contains("half of a surrogate pair"), "{content}: {error}");
        }
    }
}

#[cfg(unix)]
#[test]
fn the_same_values_do_not_fit_as_the_output_of_a_command() {
    for (schema, command, words) in [
        ("any", r#"echo '{"n": 1e400}'"#, "/n: expected a number between"),
        ("any", r#"printf '%s' '{"t": "a\u0000"}'"#, "/t: expected text without NUL characters"),
        ("any", r#"printf '%s' '"\ud800"'"#, "half of a surrogate pair"),
        ("text", r"printf 'a\000b'", "a NUL character"),
    ] {
        let error = error_of_command(schema, command);
        assert_eq!(error["class"], "schema_mismatch", "{command}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{command}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn all_other_values_stay_as_they_are_in_templates() {
    let reply = r#"{
      "n": 123456789012345678901234567890, "one": 1.0, "list": [1], "t": "\ue000\uf8fa0\uf8fb \ud83d\ude00"
    }"#;
    let server = Server::always(Reply::openai_text(reply));
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, output: said }
  - id: two
    inputs: [said]
    run: \"printf '%s|%s|%s' {{ said.n }} {{ said.t }} {{ said.one == 1 and said.one in said.list }}\"
    output: printed
    schema: text
  - id: three
    inputs: [said]
    run: [printf, '%s|%s', '{{ said.n + 1 }}', '{{ said.t }}']
    output: shown
    schema: text
",
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}\n{report}");
    let text = "\u{e000}\u{f8fa}0\u{f8fb} \u{1f600}";
    assert_eq!(orch.read("workspace/printed.md").trim_end(), format!("123456789012345678901234567890|{text}|True"));
    assert_eq!(orch.read("workspace/shown.md").trim_end(), format!("123456789012345678901234567891|{text}"));
}
