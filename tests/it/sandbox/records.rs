//! Tests of the records of sandboxes, of the reuse of results, and of agreements.

use serde_json::{Value, json};

use super::{command_project, project_with, reaches_full, recorded_sandbox, run_command, run_with_report, stdout_of};
use crate::support::Orch;

#[test]
fn the_level_in_force_is_in_the_events_the_report_and_runs_show() {
    if !reaches_full() {
        return;
    }
    let orch = command_project("true", json!({ "limits": { "processes": 500 } }));
    let (_, report) = run_with_report(&mut run_command(&orch));
    assert_eq!(report["steps"][0]["sandbox"], "full", "{report:#}");
    let sandbox = recorded_sandbox(&orch);
    assert_eq!(sandbox["level"], "full");
    assert!(sandbox["landlock"].as_u64().is_some() && sandbox["limits_by"].is_string(), "{sandbox:#}");
    assert!(orch.run(&["runs", "events"]).stdout.contains(", sandbox full"));
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("sandbox  full"), "{shown}");
    let shown: Value =
        serde_json::from_str(&orch.run(&["runs", "show", "--replies", "--output", "json"]).stdout).unwrap();
    assert_eq!(shown["calls"][0]["sandbox"]["level"], "full", "{shown:#}");
}

#[test]
fn a_command_without_a_sandbox_has_no_record_of_one() {
    let orch = project_with(&json!({}), &json!([{ "id": "it", "run": "true" }]));
    let (ran, report) = run_with_report(&mut run_command(&orch));
    assert_eq!((ran.code, report["steps"][0].get("sandbox")), (0, None), "{report:#}");
    assert_eq!(recorded_sandbox(&orch), Value::Null);
}

/// Creates and runs a project whose first step counts its executions, and whose second step fails.
fn counting_project() -> Orch {
    let count = json!({ "id": "count", "run": "echo x >> count", "sandbox": { "min": "none" } });
    let orch = project_with(&json!({}), &json!([count, { "id": "fail", "run": "false" }]));
    run_with_report(&mut run_command(&orch)).0.exits(1);
    assert_eq!(orch.read("workspace/count"), "x\n");
    orch
}

#[test]
fn a_changed_policy_repeats_a_step_and_a_changed_level_does_not() {
    let orch = counting_project();
    orch.edit("pipelines/main.yaml", "\"min\":\"none\"", "\"min\":\"none\",\"limits\":{}");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(orch.read("workspace/count"), "x\n", "the sandbox has not changed");
    if reaches_full() {
        orch.edit("pipelines/main.yaml", "\"min\":\"none\"", "\"min\":\"full\"");
        orch.run(&["pipeline", "resume"]).exits(1);
        assert_eq!(orch.read("workspace/count"), "x\n", "the level is not part of the fingerprint");
    }
    let orch = counting_project();
    orch.edit("pipelines/main.yaml", "\"min\":\"none\"", "\"min\":\"none\",\"network\":\"all\"");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(orch.read("workspace/count"), "x\nx\n");
    let events = orch.run(&["runs", "events", "--output", "json"]).stdout;
    assert!(events.contains("sandbox changed"), "the reason mentions the sandbox: {events}");
}

#[test]
fn the_settings_of_the_project_are_the_defaults_and_need_an_agreement_if_they_allow_more() {
    let orch = command_project("true", json!({}));
    orch.write("orch.yaml", "sandbox: { min: none, network: all }\n");
    orch.run(&["pipeline", "run", "pipelines/main.yaml"])
        .exits(2)
        .says("not trusted yet")
        .says("`sandbox.min` lets confined programs run at the level `none`")
        .says("`sandbox.network` lets confined programs and the tool `fetch` reach every host");
    let shown = orch.run(&["pipeline", "show", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(shown.contains("allows `sandbox.network` lets"), "{shown}");
    orch.trust();
    assert_eq!(stdout_of(&orch), "");
    orch.write("orch.yaml", "sandbox: { limits: { memory: 1GiB }, deny_read: [\"~/x\"] }\n");
    if reaches_full() {
        orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(0);
    }
    // A step may allow only what the project allows.
    orch.edit("pipelines/main.yaml", "\"sandbox\":{}", "\"sandbox\":{\"limits\":{\"memory\":\"2GiB\"}}");
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(2).says("ORCH0314").says("limits.memory: 1GiB");
}
