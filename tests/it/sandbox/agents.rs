//! Tests of the sandboxes of CLI agents: scripts, and the real Claude Code and Codex.

use serde_json::{Value, json};

use super::{project_with, reaches_full, recorded_sandbox, run_command, run_with_report};
use crate::cli_agents::{Agents, has_tool_result};
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// Creates a project whose only agent is a Python script, with additional keys of the agent.
fn script_project(script: &str, keys: Value) -> Orch {
    let mut agent = json!({ "command": ["python3", "../agent.py"], "tools": ["any"] });
    agent.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let step =
        json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "message": "Go.", "output": "said", "schema": "text" });
    let orch = project_with(&json!({ "a": agent }), &json!([step]));
    orch.write("agent.py", script);
    orch
}

#[test]
fn an_agent_is_confined_by_default() {
    if !reaches_full() {
        return;
    }
    let script = "import socket\nopen('made', 'w').write('x')\nfor path in ['../escaped', '/etc/escaped']:\n  try: open(path, 'w')\n  except OSError as e: print(e.errno)\ntry: socket.create_connection(('127.0.0.1', PORT), 5); print('connected')\nexcept OSError as e: print('refused')\n";
    let server = Server::always(Reply::status(200, ""));
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let orch = script_project(&script.replace("PORT", &port), json!({}));
    let (ran, report) = run_with_report(&mut run_command(&orch));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.read("workspace/said.md"), "30\n30\nrefused\n", "EROFS, and no network");
    assert!(orch.exists("workspace/made") && !orch.exists("escaped"));
    assert_eq!(report["steps"][0]["sandbox"], "full");
    // An agent may list a service of this machine only if the project allows it.
    let sandbox = json!({ "network": [format!("127.0.0.1:{port}")] });
    let orch = script_project(&script.replace("PORT", &port), json!({ "sandbox": sandbox }));
    orch.write("orch.yaml", &json!({ "sandbox": sandbox }).to_string()).trust();
    run_with_report(&mut run_command(&orch)).0.exits(0);
    assert!(orch.read("workspace/said.md").ends_with("connected\n"));
    assert_eq!(recorded_sandbox(&orch)["connections"][0]["port"].to_string(), port);
}

#[test]
fn without_write_access_the_workspace_of_an_agent_is_read_only() {
    if !reaches_full() {
        return;
    }
    let script = "try: open('made', 'w')\nexcept OSError as e: print(e.errno)\n";
    let orch = script_project(script, json!({ "tools": "none" }));
    run_with_report(&mut run_command(&orch)).0.exits(0);
    assert_eq!(orch.read("workspace/said.md"), "30\n");
}

#[test]
fn the_hint_for_an_agent_without_network_says_how_to_list_a_host() {
    if !reaches_full() {
        return;
    }
    let orch = script_project("import sys\nsys.exit('no route to the model')\n", json!({}));
    let (ran, report) = run_with_report(&mut run_command(&orch));
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("agent_error")), "{report:#}");
    assert!(
        report["steps"][0]["error"]["hint"].as_str().unwrap().contains("sandbox: { network: [HOST] }"),
        "{report:#}"
    );
}

#[test]
fn an_agent_may_loosen_its_sandbox_only_if_the_project_does() {
    let script = "open('../escaped', 'w').write('x')\nprint('fine')\n";
    let orch = script_project(script, json!({ "sandbox": { "enabled": false } }));
    orch.run(&["pipeline", "validate"]).exits(2).says("ORCH0314").says("`enabled` allows more than `orch.yaml`");
    orch.disable_sandboxes();
    run_with_report(&mut run_command(&orch)).0.exits(0);
    assert!(orch.exists("escaped"));
    assert_eq!(recorded_sandbox(&orch), Value::Null);
}

#[test]
fn a_cli_agent_that_replaces_another_one_for_a_run_keeps_the_sandbox() {
    if !reaches_full() {
        return;
    }
    let orch = script_project("print('not me')\n", json!({ "sandbox": { "limits": { "open_files": 500 } } }));
    let mut command = run_command(&orch);
    run_with_report(command.args(["--agent", "a=command:cat"])).0.exits(0);
    assert!(!orch.read("workspace/said.md").contains("not me"));
    assert!(recorded_sandbox(&orch)["limits_by"].is_string(), "the limit is in force");
}

#[test]
fn the_real_claude_runs_a_shell_that_writes_in_the_workspace_and_not_outside() {
    if !reaches_full() {
        return;
    }
    let answer = |request: &ReceivedRequest| {
        if has_tool_result(request) {
            return Reply::anthropic_text("done");
        }
        let line = "echo in > made.txt; echo out > ../escaped.txt; echo end";
        Reply::anthropic_tool("Bash", &json!({ "command": line, "description": "try it" }))
    };
    let Some(agents) = Agents::one("cli: claude, tools: [Bash]", ", schema: text", answer) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.read("workspace/made.txt"), "in\n");
    assert!(!agents.orch.exists("escaped.txt"));
    let last = agents.model_requests().pop().unwrap().body.to_string();
    assert!(last.contains("Read-only file system"), "the model receives the error: {last}");
    assert_eq!(report["steps"][0]["sandbox"], "full");
    assert_eq!(agents.calls()[0]["agent_activity"]["changed"], json!(["made.txt"]));
}

#[test]
fn the_real_codex_runs_a_shell_that_writes_in_the_workspace_and_not_outside() {
    if !reaches_full() {
        return;
    }
    let answer = |request: &ReceivedRequest| {
        if has_tool_result(request) {
            return Reply::response_text("done");
        }
        // orch would count an error message on standard error as a denied action.
        let line = "echo in > made.txt; (echo out > ../escaped.txt) 2> error.txt; true";
        Reply::response_call("exec_command", &json!({ "cmd": line, "login": false }))
    };
    let agent = "cli: codex, model: scripted, tools: [shell]";
    let Some(agents) = Agents::one(agent, ", schema: text", answer) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.read("workspace/made.txt"), "in\n");
    assert!(agents.orch.read("workspace/error.txt").contains("Read-only file system"));
    assert!(!agents.orch.exists("escaped.txt"));
    assert_eq!(report["steps"][0]["sandbox"], "full");
}

#[test]
fn codex_without_write_access_changes_nothing_although_its_own_sandbox_is_off() {
    if !reaches_full() {
        return;
    }
    let answer = |request: &ReceivedRequest| {
        if has_tool_result(request) {
            return Reply::response_text("done");
        }
        // The output differs from the text of the command, which a request may repeat.
        let line = "(echo in > made.txt) 2> /dev/null || echo $((6 * 7))-refused";
        Reply::response_call("exec_command", &json!({ "cmd": line, "login": false }))
    };
    let agent = "cli: codex, model: scripted, tools: [shell]";
    let Some(agents) = Agents::one(agent, ", schema: text, access: read", answer) else { return };
    agents.run(&[]).0.exits(0);
    assert!(!agents.orch.exists("workspace/made.txt"));
    let last = agents.model_requests().pop().unwrap().body.to_string();
    assert!(last.contains("42-refused"), "the command ran, and the sandbox refused the write: {last}");
}
