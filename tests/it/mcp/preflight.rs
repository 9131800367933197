//! The variables and programs that MCP servers and CLI agents need: a run that lacks one does not start, so that no
//! earlier step costs anything.

use std::process::Command;

use serde_json::{Value, json};

use super::calls::{RUN as RUN_CALLS, calling_project};
use super::scripted::McpServer;
use crate::support::{ClosedPort, Orch, Reply, RunOutput, Server};

const RUN: [&str; 3] = ["pipeline", "run", "pipelines/main.yaml"];

/// A project whose first step asks a model. The last step calls the tool `find` of the server `docs`, and is skipped.
fn project(docs: &Value) -> (Server, Orch) {
    let find = json!({
        "id": "look", "call": "docs.find", "args": { "text": "a" }, "inputs": ["said"],
        "when": "said == 'more'", "output": "found",
    });
    project_with(&json!({}), &find, &json!({ "docs": docs }))
}

/// A project whose first step asks a model, with another agent, a last step and these servers.
fn project_with(other_agent: &Value, last_step: &Value, servers: &Value) -> (Server, Orch) {
    let model = Server::start(|_| Reply::openai_text("fine"));
    let orch = Orch::empty().with(&model);
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}mcp: {servers}\n"));
    let ask = json!({
        "id": "ask", "agent": "a", "prompt": "ask.md", "message": "go", "output": "said", "schema": "text",
    });
    let mut agents = json!({ "a": { "model": "auto" } });
    if other_agent.as_object().is_some_and(|keys| !keys.is_empty()) {
        agents["b"] = other_agent.clone();
    }
    let pipeline = json!({ "name": "test", "agents": agents, "steps": [ask, last_step] });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/ask.md", "Answer.\n").trust();
    (model, orch)
}

fn with_secret(mut command: Command) -> RunOutput {
    RunOutput::of(&command.env("DOCS_AUTH", "Bearer secret-of-the-test").output().unwrap())
}

/// The settings of a server whose header needs a variable.
fn guarded(server: &McpServer) -> Value {
    let mut settings = server.settings("read");
    settings["headers"] = json!({ "Authorization": { "env": "DOCS_AUTH" } });
    settings
}

#[test]
fn an_unset_variable_of_a_header_ends_a_run_before_a_model_is_called() {
    let server = McpServer::echo();
    let (model, orch) = project(&guarded(&server));
    let missing = "DOCS_AUTH is not set, and a header of the MCP server `docs` needs it";
    let ran = orch.run(&RUN).exits(2);
    ran.says(&format!("step `look` can't run: {missing}")).says("export DOCS_AUTH=…");
    assert_eq!((model.requests().len(), server.list_count()), (0, 0));
    assert!(!orch.exists("workspace/said.md"));
    orch.run(&["pipeline", "validate"]).exits(0).says(&format!("note: {missing}"));
    for command in [&["pipeline", "plan", "pipelines/main.yaml"][..], &["doctor"]] {
        let shown = orch.run(command).stdout;
        assert!(shown.contains(missing), "{command:?}: {shown}");
    }
    let planned = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--output", "json"]).exits(0).stdout;
    let planned: Value = serde_json::from_str(&planned).unwrap();
    assert_eq!(planned["missing_requirements"], json!([missing]));
    let replies = || model.requests().iter().filter(|request| request.method == "POST").count();
    // `doctor` asks a server of this machine only for the list of its models.
    assert_eq!(replies(), 0);
    with_secret(orch.command(&RUN)).exits(0);
    assert_eq!(replies(), 1);
    let validated = with_secret(orch.command(&["pipeline", "validate"])).exits(0);
    assert!(!validated.stderr.contains("is not set"), "{validated:?}");
}

#[test]
fn a_missing_program_of_a_server_ends_a_run_before_a_model_is_called() {
    for (program, is_missing) in [
        ("no-such-server", true),
        ("{{ project.root }}/no-such-server", true),
        // An earlier step could create it.
        ("./no-such-server", false),
    ] {
        let (model, orch) = project(&json!({ "command": [program], "sandbox": { "enabled": false } }));
        let ran = orch.run(&RUN);
        if !is_missing {
            assert_eq!((ran.code, model.requests().len()), (0, 1), "{program}: {ran:?}");
            continue;
        }
        let shown = program.replace("{{ project.root }}", &orch.path().canonicalize().unwrap().display().to_string());
        let missing = format!("there is no program `{shown}`, which the MCP server `docs` starts");
        ran.exits(2).says(&format!("step `look` can't run: {missing}")).says("in `mcp.docs.command`");
        assert_eq!(model.requests().len(), 0, "{program}");
        orch.run(&["pipeline", "validate"]).exits(0).says(&format!("note: {missing}"));
        let doctor = orch.run(&["doctor"]).stdout;
        assert!(doctor.contains("which the MCP server `docs` starts"), "{program}: {doctor}");
    }
}

#[test]
fn the_hint_for_a_server_that_is_down_names_it_and_no_model() {
    let closed = ClosedPort::reserve();
    let url = format!("{}/mcp", closed.url());
    for last_step in [
        json!({ "id": "look", "call": "docs.find", "args": { "text": "a" }, "output": "found" }),
        json!({
            "id": "look", "agent": "b", "prompt": "ask.md", "message": "go", "output": "found", "schema": "text",
            "retry": { "max": 1 },
        }),
    ] {
        let agent = json!({ "model": "auto", "tools": ["docs.find"] });
        let (_model, orch) = project_with(&agent, &last_step, &json!({ "docs": { "url": url, "access": "read" } }));
        let ran = orch.run(&RUN).exits(1).says("the MCP server `docs` runs").says(&format!("its address ({url})"));
        assert!(!ran.stderr.contains("--model"), "{}", ran.stderr);
    }
}

#[test]
fn an_unset_variable_that_a_server_may_do_without_is_only_noted() {
    let (model, orch) = project(&json!({ "command": ["sh"], "env": ["LOG_LEVEL"], "sandbox": { "enabled": false } }));
    let missing = "LOG_LEVEL is not set, and `env` of the MCP server `docs` lists it";
    orch.run(&RUN).exits(0).says(missing);
    assert_eq!(model.requests().len(), 1);
    orch.run(&["pipeline", "validate"]).exits(0).says(&format!("note: {missing}"));
}

#[test]
fn a_resume_and_a_replay_need_only_what_their_steps_use() {
    let server = McpServer::echo();
    let last = json!({ "id": "last", "run": "test -e go" });
    let orch = calling_project(&json!({}), &[last], &json!({ "docs": guarded(&server) }));
    with_secret(orch.command(&[&RUN_CALLS[..], &["--record", "recordings"]].concat())).exits(1);
    orch.write("workspace/go", "");
    orch.run(&["pipeline", "resume", "--from", "find"]).exits(2).says("step `find` can't run: DOCS_AUTH is not set");
    orch.run(&["pipeline", "resume"]).exits(0).says("find: reused");
    assert_eq!(server.calls().len(), 1);
    orch.run(&[&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat()).exits(0);
    assert_eq!(server.calls().len(), 1, "the replay needs no server");
}

#[test]
fn a_missing_program_of_a_cli_agent_ends_a_run_before_a_model_is_called() {
    let step = |keys: Value| {
        let mut step = json!({
            "id": "check", "agent": "b", "prompt": "ask.md", "message": "go", "output": "checked", "schema": "text",
        });
        step.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        step
    };
    let agent = json!({ "command": ["no-such-agent"] });
    let (model, orch) =
        project_with(&agent, &step(json!({ "inputs": ["said"], "when": "said == 'more'" })), &json!({}));
    let missing = "the CLI agent `no-such-agent` is not installed";
    orch.disable_unsupported_sandboxes();
    orch.run(&RUN).exits(2).says(&format!("step `check` can't run: {missing}")).says("install `no-such-agent`");
    assert_eq!(model.requests().len(), 0);
    let planned = orch.run(&["pipeline", "plan", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(planned.contains(&format!("note: {missing}")), "{planned}");
    // The step has another model.
    let (model, orch) = project_with(&agent, &step(json!({ "fallback": ["lab/test"] })), &json!({}));
    orch.disable_unsupported_sandboxes();
    orch.run(&RUN).exits(0);
    assert_eq!(model.requests().len(), 2);
}
