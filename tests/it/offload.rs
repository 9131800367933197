//! Long computations delay neither other steps nor a stop.
#![cfg(unix)]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::support::{Orch, Reply, Server};

/// The maximum time for which a test waits, so that it does not hang.
const PATIENCE: Duration = Duration::from_mins(2);

/// A schema whose check is slow: so many definitions, each of which offers the next one twice.
fn slow_schema(levels: usize) -> Value {
    let mut defs = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs.insert(format!("l{level}"), json!({ "anyOf": [next, next] }));
    }
    defs.insert(format!("l{levels}"), json!({ "type": "integer" }));
    json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array", "items": { "$ref": "#/$defs/l0" }, "$defs": defs })
}

/// A step whose reply is slow to check, beside a command that waits for the file `sign` and so many steps after it.
fn project(server: &Server, sign: &std::path::Path, quick: usize) -> Orch {
    let orch = Orch::empty().with(server);
    orch.write("prompts/slow.md", "slow");
    orch.write("schemas/slow.schema.json", &slow_schema(12).to_string());
    let chain: String =
        (0..quick).map(|at| format!("          - {{ id: q{at}, run: [\"true\"], output: q{at} }}\n")).collect();
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", sign.display());
    let slow = "{ id: slow, agent: a, prompt: slow.md, output: slow, schema: slow, re_ask: 0, on_error: continue }";
    let quick = format!(
        "      - id: quick\n        steps:\n          - {{ id: wait, run: \"{wait}\", output: wait }}\n{chain}"
    );
    let text = format!(
        "name: main\nagents: {{ a: {{ model: lab/m }} }}\nsteps:\n  - id: both\n    parallel:\n      - {slow}\n{quick}"
    );
    orch.write("pipelines/main.yaml", &text);
    orch
}

/// A server whose reply fits no alternative of so many items, and which creates the file `sign` when it receives the
/// request.
fn server(items: usize, sign: std::path::PathBuf) -> Server {
    let reply = json!(vec!["x"; items]).to_string();
    Server::start(move |_| {
        std::fs::write(&sign, "").unwrap();
        Reply::openai_text(&reply)
    })
}

/// The facts of the last run in order: the kind and the step of each.
fn facts(orch: &Orch) -> Vec<(String, String)> {
    let ran = orch.run(&["runs", "events", "--output", "json"]);
    let events = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fact = |event: Value| {
        let (kind, fact) = event["fact"].as_object()?.iter().next().map(|(kind, fact)| (kind.clone(), fact.clone()))?;
        let key = fact["step"].as_str().or(fact["call"]["step"].as_str()).unwrap_or_default().to_owned();
        Some((kind, key))
    };
    events.filter_map(fact).collect()
}

fn position(facts: &[(String, String)], kind: &str, step: &str) -> Option<usize> {
    facts.iter().position(|(of, key)| of == kind && key == step)
}

#[test]
fn other_steps_continue_while_a_reply_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let sign = folder.path().join("asked");
    let server = server(100, sign.clone());
    let orch = project(&server, &sign, 5);
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(1).says("slow");
    let facts = facts(&orch);
    let came = position(&facts, "call_ended", "both/slow").unwrap();
    let quick = position(&facts, "step_completed", "both/quick/q4").unwrap();
    let read = position(&facts, "reply_parsed", "both/slow").unwrap();
    assert!(came < quick && quick < read, "the steps beside it waited: {facts:?}");
}

#[test]
fn a_stop_ends_the_check_of_a_reply_and_a_resume_does_not_repeat_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let sign = folder.path().join("asked");
    // The check of so many items takes minutes, so that the stop comes during it on every machine.
    let server = server(60_000, sign.clone());
    let orch = project(&server, &sign, 1);
    let args = ["pipeline", "run", "pipelines/main.yaml"];
    let mut child = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The parallel step ends although the reply is being checked.
    wait_until("the reply and the end of the parallel step", || {
        orch.exists("workspace/q0.json") && position(&facts(&orch), "call_ended", "both/slow").is_some()
    });
    send_sigint(&child);
    let begun = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        assert!(begun.elapsed() < PATIENCE, "the stop was not heard");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(130));
    assert_eq!(position(&facts(&orch), "reply_parsed", "both/slow"), None, "the stop waited for the check");
    orch.write("schemas/slow.schema.json", r#"{ "type": "array", "items": { "type": "string" } }"#);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 1, "the reply was paid for");
}

fn send_sigint(child: &Child) {
    let done = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
