//! The summary of a run: reused results, and the time that the run took.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Orch, Server};

/// A project whose run fails after an agent's step, until a file exists.
fn project(server: &Server) -> Orch {
    let orch = Orch::empty().with(server);
    orch.write("prompts/a.md", "Say something.");
    orch.write(
        "pipelines/main.yaml",
        concat!(
            "name: main\nagents: { a: {} }\nsteps:\n",
            "  - { id: plan, agent: a, prompt: a.md, output: plan, schema: text }\n",
            "  - { id: check, run: test -e go }\n",
        ),
    );
    orch
}

#[test]
fn the_summary_of_a_resumed_run_distinguishes_working_time_from_total_time() {
    let server = Server::saying("hello");
    let orch = project(&server);
    orch.run(&["run", "main"])
        .exits(1)
        .says("failed in ")
        .says("(1 of 2 steps;")
        .says("; orch reuses the completed steps");
    std::thread::sleep(Duration::from_millis(1200));
    orch.write("workspace/go", "");
    let ran = orch.run(&["resume", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let times = |name: &str| report[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let all = times("ended_at").duration_since(times("started_at")).as_millis();
    let worked = i128::from(report["worked_ms"].as_u64().unwrap());
    assert_eq!(report["sessions"], 2);
    // No process worked while this test slept.
    assert!(worked + 1200 <= all, "{worked} of {all}");
    let words = ran.says(" of work, ").says(" after it began (2 of 2 steps, 1 reused;").says("plan: reused\n");
    assert!(!words.stderr.contains("kept"), "{}", words.stderr);
    let shown = orch.run(&["runs", "show"]).exits(0).stdout;
    assert!(shown.contains("✓ plan       reused\n") && shown.contains("1 reused"), "{shown}");
}

#[test]
fn a_result_of_an_earlier_run_names_that_run() {
    let server = Server::saying("hello");
    let orch = project(&server);
    orch.write("workspace/go", "");
    orch.run(&["run", "main"]).exits(0);
    let first: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).stdout).unwrap();
    let id = first["run"].as_str().unwrap();
    assert!(first["steps"][0].get("reused_from").is_none());
    let ran = orch.run(&["run", "main", "--reuse", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["steps"][0]["reused_from"], id);
    ran.says(&format!("plan: reused from run {id}\n")).says("(2 of 2 steps, 1 reused");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_failed_step_is_reported_with_one_prefix_and_its_class_once() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: main\nsteps:\n  - { id: x, run: \"echo one; echo two; exit 7\" }\n");
    let ran = orch.run(&["run", "main", "-q"]).exits(1);
    let error: Vec<&str> = ran.stderr.lines().skip_while(|line| !line.starts_with("error:")).take(3).collect();
    assert_eq!(error, ["error: step `x`: the command ended with exit code 7 (command_failed):", "one", "two"]);
}
