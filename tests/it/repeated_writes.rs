//! Steps that run again on resume and leave the workspace as it was, as far as orch knows: the completed steps after them
//! are reused.

use serde_json::json;

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Server};

/// A step that logs that it saw the workspace, and a step that fails until the workspace has the file `ready`.
const LAST_STEPS: &str =
    "  - { id: look, run: \"echo 1 >> ../look.log\", access: read }\n  - { id: last, run: \"test -f ready\" }\n";

/// A project whose first step is this one.
fn looking_project(first: &str) -> (Server, Orch) {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, &format!("  - {first}\n{LAST_STEPS}"));
    (server, orch)
}

/// How often the step `look` ran.
fn looks(orch: &Orch) -> usize {
    orch.read("look.log").lines().count()
}

/// Runs the pipeline, whose last step fails. Returns the id of the run.
fn run_to_failure(orch: &Orch) -> String {
    let (ran, report) = run(orch, &[]);
    assert_eq!((ran.code, looks(orch)), (1, 1), "{ran:?}");
    report["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_completed_step_is_reused_after_a_step_that_fails_again_in_the_same_way() {
    let (_server, orch) = looking_project("{ id: lint, run: \"echo no >&2; exit 3\", on_error: continue }");
    let id = run_to_failure(&orch);
    let dry_run = orch.run(&["pipeline", "resume", &id, "--dry-run"]).exits(0).stdout;
    let dry_run = dry_run.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["run lint failed: command_failed", "maybe_run look the workspace may change"] {
        assert!(dry_run.contains(part), "no {part:?} in {dry_run}");
    }
    for _ in 0..2 {
        orch.run(&["pipeline", "resume", &id]).exits(1);
    }
    assert_eq!(looks(&orch), 1);
}

#[test]
fn a_step_that_fails_in_another_way_or_completes_counts_as_a_write() {
    let lint = "{ id: lint, run: \"cat ../reason >&2; test -f fixed\", on_error: continue }";
    let (_server, orch) = looking_project(lint);
    orch.write("reason", "one\n");
    let id = run_to_failure(&orch);
    for (file, text, expected) in [("reason", "two\n", 2), ("workspace/fixed", "", 3)] {
        orch.write(file, text);
        orch.run(&["pipeline", "resume", &id]).exits(1);
        assert_eq!(looks(&orch), expected, "{file}");
        orch.run(&["pipeline", "resume", &id]).exits(1);
        assert_eq!(looks(&orch), expected, "{file}, again");
    }
}

#[test]
fn a_completed_step_is_reused_after_the_finally_of_a_called_pipeline_ran_again() {
    let (_server, orch) = looking_project("{ id: call, pipeline: inner.yaml }");
    let inner = json!({
        "name": "inner",
        "steps": [{ "id": "make", "run": "mkdir -p scratch" }],
        "finally": [{ "id": "tidy", "run": "rm -rf scratch; echo 1 >> ../tidy.log" }],
    });
    orch.write("pipelines/inner.yaml", &inner.to_string());
    let id = run_to_failure(&orch);
    for _ in 0..2 {
        orch.run(&["pipeline", "resume", &id]).exits(1);
    }
    assert_eq!((looks(&orch), orch.read("tidy.log").lines().count()), (1, 3));
}

#[test]
fn a_completed_step_is_reused_after_a_step_whose_recorded_output_was_read_again() {
    let first = "{ id: count, run: \"echo three\", output: count, schema: any, on_error: continue }";
    let (_server, orch) = looking_project(first);
    let id = run_to_failure(&orch);
    orch.edit("pipelines/main.yaml", "schema: any", "schema: text");
    orch.run(&["pipeline", "resume", &id]).exits(1);
    assert_eq!((orch.read("workspace/count.md").trim(), looks(&orch)), ("three", 1));
}

#[test]
fn a_step_sees_the_workspace_again_after_the_user_ran_an_earlier_step_again() {
    let (_server, orch) = looking_project("{ id: lint, run: \"exit 3\", on_error: continue }");
    let id = run_to_failure(&orch);
    orch.run(&["pipeline", "resume", &id, "--from", "lint"]).exits(1);
    assert_eq!(looks(&orch), 2);
    orch.run(&["pipeline", "resume", &id]).exits(1);
    assert_eq!(looks(&orch), 2, "lint failed as before");
}
