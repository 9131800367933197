//! Agents with tools, end to end: models of scripted servers call tools until they answer.

mod approvals;
mod checks;
mod dialects;
mod durability;
mod escapes;
mod fixing;
mod kills;
mod limits;
mod recording;
mod required_calls;
mod reverting;
mod shown;
mod turns;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};
use dialects::{ToolCall, reply_with_calls, tool_results};

pub(crate) const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];

/// A turn of a scripted model.
#[derive(Clone, Debug)]
pub(crate) enum ScriptedTurn {
    Calls(Vec<ToolCall>),
    Answer(String),
}

pub(crate) fn calls(calls: impl IntoIterator<Item = ToolCall>) -> ScriptedTurn {
    ScriptedTurn::Calls(calls.into_iter().collect())
}

pub(crate) fn answer(value: &Value) -> ScriptedTurn {
    ScriptedTurn::Answer(value.to_string())
}

/// The reply of a scripted model. The number of tool results in the request determines the turn.
pub(crate) fn scripted_reply(turns: &[ScriptedTurn], request: &ReceivedRequest) -> Reply {
    let mut remaining = tool_results(request).len();
    for (index, turn) in turns.iter().enumerate() {
        match turn {
            ScriptedTurn::Calls(calls) if remaining >= calls.len() => remaining -= calls.len(),
            ScriptedTurn::Calls(calls) => return reply_with_calls(request, index + 1, calls),
            ScriptedTurn::Answer(text) => return Reply::text_for(&request.path, text),
        }
    }
    Reply::status(500, r#"{"error": {"message": "the script has no further turn"}}"#)
}

/// Starts a server whose model follows a script.
pub(crate) fn scripted_server(turns: Vec<ScriptedTurn>) -> Server {
    Server::start(move |request| scripted_reply(&turns, request))
}

/// A project with one step `work`, whose agent and step have these additional keys.
pub(crate) fn tool_project(server: &Server, agent: &Value, step: &Value) -> Orch {
    let orch = Orch::empty().with(server);
    let mut agent_keys = json!({ "model": "auto" });
    let mut step_keys = json!({ "id": "work", "agent": "a", "prompt": "work.md", "schema": "any", "output": "result" });
    for (keys, more) in [(&mut agent_keys, agent), (&mut step_keys, step)] {
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    let pipeline = json!({
        "name": "test",
        "inputs": { "task": { "type": "string" } },
        "agents": { "a": agent_keys },
        "steps": [step_keys],
    });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/work.md", "You work.\n");
    orch
}

/// Allows the tool `fetch` of a project to read pages of a server on this machine.
#[track_caller]
fn allow_pages(orch: &Orch, pages: &Server) {
    let settings = orch.read("orch.yaml");
    let sandbox = json!({ "network": [format!("127.0.0.1:{}", pages.port())] });
    orch.write("orch.yaml", &format!("{settings}sandbox: {sandbox}\n")).trust();
}

/// Makes the server the provider `lab` of the project, in this dialect.
fn use_dialect(orch: &Orch, server: &Server, dialect: &str) {
    let base_url = if ["openai", "responses"].contains(&dialect) { server.openai_url() } else { server.url() };
    let settings = format!(
        "providers:\n  lab: {{ dialect: {dialect}, base_url: \"{base_url}\" }}\ndefaults: {{ model: lab/test }}\n"
    );
    orch.write("orch.yaml", &settings);
}

/// Runs the pipeline; returns the output and the report.
fn run(orch: &Orch) -> (RunOutput, Value) {
    let ran = orch.run(&[&RUN[..], &["--output", "json"]].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_mins(2), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The tool results of the last request of a server.
pub(crate) fn last_results(server: &Server) -> Vec<String> {
    server.requests().last().map(tool_results).unwrap_or_default()
}

/// The recorded facts of the latest run, in order.
fn facts(orch: &Orch) -> Vec<Value> {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fact"].clone()).collect()
}

/// The facts of this kind.
pub(crate) fn facts_of(orch: &Orch, kind: &str) -> Vec<Value> {
    facts(orch).into_iter().filter_map(|fact| fact.get(kind).cloned()).collect()
}
