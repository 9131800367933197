//! Tests of invalid settings of sandboxes: orch reports them before a run costs anything.

use serde_json::{Value, json};

use super::{command_project, project_with, reaches_full, run_command, run_with_report};
use crate::support::{Orch, Server};

/// Creates a project whose only command has this sandbox, in the last line of the pipeline.
fn project_with_sandbox(sandbox: &str) -> Orch {
    let orch = Orch::empty();
    let steps = format!("name: test\nsteps:\n  - id: it\n    run: [\"true\"]\n    sandbox: {sandbox}\n");
    orch.write("pipelines/main.yaml", &steps);
    orch
}

#[test]
fn an_invalid_setting_is_reported_with_its_place() {
    for (sandbox, messages) in [
        ("{ deny_read: [/] }", ["`/` of `deny_read` contains all files", "main.yaml:5:28"]),
        ("{ deny_read: [.] }", ["`.` of `deny_read` contains the workspace", "main.yaml:5:28"]),
        ("{ deny_read: [\"*.pem\"] }", ["contains `*`, and patterns are not supported", "main.yaml:5:"]),
        ("{ deny_read: [\"a?\"] }", ["contains `?`, and patterns are not supported", "main.yaml:5:"]),
        ("{ deny_read: [\"[ab]\"] }", ["contains `[`, and patterns are not supported", "main.yaml:5:"]),
        ("{ write: [\"out/*\"] }", ["contains `*`, and patterns are not supported", "main.yaml:5:"]),
        ("{ limits: { open_files: 19 } }", ["must be at least 20, not 19", "main.yaml:5:38"]),
        ("{ network: [169.254.169.254] }", ["it is a link-local address", "private: true"]),
        ("{ network: [168.63.129.16] }", ["it is the address of the metadata service of a cloud", "private: true"]),
        ("{ network: [\"::1\"] }", ["an IPv6 address needs brackets", "write `[ADDRESS]`"]),
        ("{ network: [\"https://example.org/\"] }", ["it is a URL", "write only its host"]),
    ] {
        let ran = project_with_sandbox(sandbox).run(&["pipeline", "validate"]).exits(2);
        messages.into_iter().fold(ran, |ran, message| ran.says(message));
    }
    for sandbox in ["{ network: [{ host: 169.254.169.254, private: true }] }", "{ limits: { open_files: 20 } }"] {
        project_with_sandbox(sandbox).run(&["pipeline", "validate"]).exits(0);
    }
}

#[test]
fn a_path_that_orch_cannot_use_is_reported_before_orch_calls_a_model() {
    let server = Server::saying("{}");
    for (sandbox, message) in [
        (json!({ "write": ["/nonexistent/orch"] }), "`/nonexistent/orch` of `sandbox.write` can't be used"),
        (json!({ "write": ["~/missing"] }), "`~/missing` of `sandbox.write` can't be used"),
        (json!({ "deny_read": ["~"] }), "`~` of `sandbox.deny_read` contains the workspace"),
    ] {
        let orch = Orch::empty().with(&server);
        let mut sandbox = sandbox;
        sandbox["min"] = json!("none");
        let steps = json!([
            { "id": "ask", "agent": "a", "prompt": "ask.md", "output": "x", "schema": "any" },
            { "id": "test", "run": "true", "sandbox": sandbox },
        ]);
        let pipeline = json!({ "name": "test", "agents": { "a": { "model": "auto" } }, "steps": steps });
        orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/ask.md", "You answer.\n");
        let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml"]);
        let output = command.env("HOME", orch.path()).output().unwrap();
        let ran = crate::support::RunOutput::of(&output).exits(2);
        ran.says(&format!("step `test` can't be confined: {message}"));
    }
    assert!(server.requests().is_empty());
}

/// A project with an agent that lists these hosts.
fn project_with_hosts(hosts: Value) -> Orch {
    let agent = json!({ "command": ["cat"], "sandbox": { "network": hosts } });
    let step = json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
    project_with(&json!({ "a": agent }), &json!([step]))
}

#[test]
fn an_agent_lists_hosts_of_this_machine_and_of_private_networks_only_if_the_project_does() {
    for host in [
        json!("localhost:5432"),
        json!("127.0.0.1:80"),
        json!("10.1.2.3:80"),
        json!({ "host": "git.internal", "private": true }),
        json!({ "host": "169.254.169.254", "private": true }),
    ] {
        let orch = project_with_hosts(json!(["crates.io", host]));
        let name = host.get("host").unwrap_or(&host).as_str().unwrap().to_owned();
        let ran = orch.run(&["pipeline", "validate"]).exits(2).says("ORCH0314").says("which allows public hosts");
        ran.says(&format!("`{name}`")).says("under `sandbox.network` in `orch.yaml`");
        orch.write("orch.yaml", &json!({ "sandbox": { "network": ["crates.io", host] } }).to_string());
        orch.run(&["pipeline", "validate"]).exits(0);
        orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(2).says("not trusted yet").says(&name);
    }
    project_with_hosts(json!(["crates.io"])).run(&["pipeline", "validate"]).exits(0);
}

#[test]
fn the_hint_for_a_file_below_tmp_says_that_tmp_is_private() {
    if !reaches_full() {
        return;
    }
    let script = tempfile::Builder::new().prefix("orch-script-").suffix(".sh").tempfile_in("/tmp").unwrap();
    std::fs::write(script.path(), "#!/bin/sh\necho ran\n").unwrap();
    let path = script.path().display().to_string();
    for run in [json!(["sh", path]), json!([path])] {
        let orch = project_with(&json!({}), &json!([{ "id": "it", "run": run, "sandbox": {} }]));
        let (ran, report) = run_with_report(&mut run_command(&orch));
        assert_eq!(ran.code, 1, "{report:#}");
        let hint = report["steps"][0]["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("`/tmp` is an empty folder of the program's own"), "{run}: {hint}");
    }
    // A file that is missing in the workspace has another reason.
    let orch = command_project("cat missing", json!({}));
    orch.edit("pipelines/main.yaml", "\"expect\":{\"exit_code\":[]},", "");
    let (_, report) = run_with_report(&mut run_command(&orch));
    assert!(!report["steps"][0]["error"]["hint"].to_string().contains("`/tmp`"), "{report:#}");
}
