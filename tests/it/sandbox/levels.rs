//! Tests of sandboxes on a machine that does not reach the level `full`.

use serde_json::json;

use super::{command_project, reaches_full, recorded_sandbox, run_command, run_with_report, without_namespaces};
use crate::support::{Orch, RunOutput, Server};

#[test]
fn doctor_shows_the_level_and_why_stronger_levels_do_not_work() {
    let orch = Orch::new();
    if reaches_full() {
        let ran = orch.run(&["doctor"]).exits(0);
        assert!(ran.stdout.contains("sandbox     this machine reaches the level `full`"), "{ran:?}");
    }
    let Some(mut command) = without_namespaces(&orch.command(&["doctor"])) else { return };
    let ran = RunOutput::of(&command.output().unwrap()).exits(0);
    assert!(ran.stdout.contains("this machine reaches the level `basic`"), "{ran:?}");
    let reason = "the sandbox level `full` does not work here: creating namespaces failed";
    assert!(ran.stdout.contains(reason) && ran.stdout.contains("require only `min: basic`"), "{ran:?}");
}

#[test]
fn a_level_that_the_machine_does_not_reach_is_refused_before_orch_calls_a_model() {
    let server = Server::saying("{}");
    let orch = Orch::empty().with(&server);
    let steps = json!([
        { "id": "ask", "agent": "a", "prompt": "ask.md", "output": "x", "schema": "any" },
        { "id": "test", "run": "touch ran", "sandbox": {} },
    ]);
    let pipeline = json!({ "name": "test", "agents": { "a": { "model": "auto" } }, "steps": steps });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/ask.md", "You answer.\n");
    let run = || {
        let mut command = without_namespaces(&orch.command(&["pipeline", "run", "pipelines/main.yaml"]))?;
        Some(RunOutput::of(&command.output().unwrap()))
    };
    let Some(ran) = run() else { return };
    let ran = ran.exits(2).says("step `test` can't be confined: the sandbox needs the level `full`");
    ran.says("creating namespaces failed").says("max_user_namespaces").says("`orch doctor`");
    assert!(server.requests().is_empty() && !orch.exists("workspace/ran"));
    // The suggested solution works.
    orch.edit("pipelines/main.yaml", "\"sandbox\":{}", "\"sandbox\":{\"min\":\"basic\"}");
    run().unwrap().exits(0);
    assert!(orch.exists("workspace/ran"));
}

#[test]
fn at_basic_a_command_can_change_only_the_workspace_and_the_level_is_recorded() {
    let line = "echo in > in.txt && echo in; echo out > ../out.txt || echo refused; echo tmp > $TMPDIR/t && echo tmp";
    let orch = command_project(line, json!({ "min": "basic" }));
    let Some(mut command) = without_namespaces(&run_command(&orch)) else { return };
    let (ran, report) = run_with_report(&mut command);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.json("workspace/said.json")["stdout"], "in\nrefused\ntmp\n");
    assert!(!orch.exists("out.txt"));
    assert_eq!(report["steps"][0]["sandbox"], "basic");
    assert!(!recorded_sandbox(&orch)["unenforced"].as_array().unwrap().is_empty());
}

#[test]
fn at_basic_a_changed_hook_fails_the_step() {
    let orch = command_project("echo x > .git/hooks/pre-commit", json!({ "min": "basic" }));
    orch.write("workspace/.git/config", "mine\n").write("workspace/.git/hooks/x", "mine\n");
    let Some(mut command) = without_namespaces(&run_command(&orch)) else { return };
    let (ran, report) = run_with_report(&mut command);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("path_refused")), "{report:#}");
    assert!(error["message"].as_str().unwrap().contains(".git/hooks"), "{report:#}");
    assert!(recorded_sandbox(&orch)["changed_protected"].to_string().contains("pre-commit"));
}

#[test]
fn a_list_of_hosts_is_refused_at_basic_with_the_alternatives() {
    let orch = command_project("true", json!({ "min": "basic", "network": ["crates.io"] }));
    let Some(mut command) = without_namespaces(&run_command(&orch)) else { return };
    RunOutput::of(&command.output().unwrap())
        .exits(2)
        .says("a list of hosts")
        .says("`network: none` or `network: all`");
}
