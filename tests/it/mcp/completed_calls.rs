//! Steps that called a tool of an MCP server that may change the workspace, after other steps that run again on resume:
//! orch does not make the call again by itself.

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::support::Orch;
use crate::tool_loop::facts_of;

/// A command that changes the workspace and fails in another way each time.
const CHANGING: &str = "echo x >> tries; wc -l tries >&2; exit 3";

/// A project with this step, and after it the step `order`, which calls a tool that appends a line to `made.txt`.
fn ordering_project(first: &Value, order: &Value) -> Orch {
    let orch = Orch::empty();
    let mut keys = json!({ "id": "order", "call": "files.append", "args": { "text": "tea" }, "output": "made" });
    keys.as_object_mut().unwrap().extend(order.as_object().unwrap().clone());
    let pipeline = json!({ "name": "test", "steps": [first, keys] });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/writer.py");
    let server = json!({ "command": ["python3", script], "sandbox": { "enabled": false } });
    orch.write("orch.yaml", &json!({ "mcp": { "files": server } }).to_string()).trust();
    orch
}

/// What `resume --dry-run` prints, with single spaces.
fn dry_run(orch: &Orch) -> String {
    let shown = orch.run(&["pipeline", "resume", "--dry-run"]).exits(0).stdout;
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failing_step() -> Value {
    json!({ "id": "hat", "run": CHANGING, "on_error": "continue" })
}

#[test]
fn a_completed_call_is_not_made_again_after_a_step_that_fails_again() {
    let orch = ordering_project(&failing_step(), &json!({}));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(1);
    for _ in 0..2 {
        orch.run(&["pipeline", "resume"]).exits(1);
    }
    assert_eq!(
        (orch.read("workspace/tries").as_str(), orch.read("workspace/made.txt").as_str()),
        ("x\nx\nx\n", "tea\n")
    );
    assert_eq!(facts_of(&orch, "step_reused").len(), 2);
}

#[test]
fn a_completed_call_is_not_made_again_after_a_step_that_the_user_runs_again() {
    let orch = ordering_project(&json!({ "id": "hat", "run": "echo x >> tries" }), &json!({}));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(0);
    let (run, _) = latest_run(&orch).unwrap();
    orch.run(&["pipeline", "resume", &run, "--from", "hat"]).exits(0);
    assert_eq!((orch.read("workspace/tries").as_str(), orch.read("workspace/made.txt").as_str()), ("x\nx\n", "tea\n"));
    orch.run(&["pipeline", "resume", &run, "--from", "order"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "tea\ntea\n");
    orch.edit("pipelines/main.yaml", r#""text":"tea""#, r#""text":"hat""#);
    orch.run(&["pipeline", "resume", &run]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "tea\ntea\nhat\n", "other arguments are another call");
}

#[test]
fn a_recorded_result_is_read_again_after_a_step_that_fails_again() {
    let orch = ordering_project(&failing_step(), &json!({ "schema": "any" }));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(1).says("no_json");
    orch.run(&["pipeline", "resume"]).exits(1).says("no_json");
    let call = r#"`files.append {"text":"tea"}`"#;
    let refused = format!("fail order {call} may have taken effect, and orch does not repeat it");
    assert!(dry_run(&orch).contains(&refused), "{}", dry_run(&orch));
    orch.edit("pipelines/main.yaml", r#""schema":"any""#, r#""schema":"text""#);
    let read_again = format!("run order orch reads the recorded result of {call} again, and makes no call");
    assert!(dry_run(&orch).contains(&read_again), "{}", dry_run(&orch));
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!((orch.read("workspace/made.md").trim(), orch.read("workspace/made.txt").as_str()), ("written", "tea\n"));
    assert_eq!(facts_of(&orch, "step_completed").len(), 1);
}

#[test]
fn a_call_that_the_user_made_again_is_not_made_once_more() {
    let orch = ordering_project(&json!({ "id": "hat", "run": "true" }), &json!({ "schema": "any" }));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(1).says("no_json");
    orch.run(&["pipeline", "resume", "--from", "order"]).exits(1).says("no_json");
    assert_eq!(orch.read("workspace/made.txt"), "tea\ntea\n");
    orch.run(&["pipeline", "resume"]).exits(1).says("no_json");
    orch.edit("pipelines/main.yaml", r#""schema":"any""#, r#""schema":"text""#);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "tea\ntea\n", "a resume without --from makes no call");
}
