//! Recording a run, replaying it offline, and test cases.

use serde_json::json;

use crate::control::{answering, project, run};
use crate::support::Orch;

const AGENT: &str = "agent: a, schema: any";

fn recorded() -> (Orch, usize) {
    let server = answering(|step, message| json!({ "step": step, "heard": message.trim() }));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, message: \"{{{{ task }}}}\", output: plan }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [plan], for_each: \"[1, 2]\", message: \"{{{{ plan.heard }}}} {{{{ item }}}}\", output: parts }}\n  - {{ id: ask, approve: \"ok?\", on_reject: continue, output: verdict }}\n"
        ),
    );
    let (ran, _) = run(&orch, &["--record", "pipelines/tests/main"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    (orch, server.requests().len())
}

#[test]
fn a_recorded_run_is_replayed_without_any_server() {
    let (orch, asked) = recorded();
    let files: Vec<String> =
        orch.files().into_iter().filter(|name| name.starts_with("pipelines/tests/main/")).collect();
    assert_eq!((files.len(), asked), (3, 3), "{files:?}");
    let first = orch.json(files.iter().find(|name| name.contains("/plan.")).unwrap());
    assert_eq!((&first["step"], &first["model"]), (&json!("plan"), &json!("lab/test")));
    // The server is gone by now.
    let (ran, report) = run(&orch, &["--replay", "pipelines/tests/main", "--workspace", "second"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(report["steps"][1]["output"][1]["heard"], "do it 2", "{report:#}");
    assert_eq!(orch.json("second/plan.json"), orch.json("workspace/plan.json"));
}

#[test]
fn what_is_not_recorded_fails_and_shows_how_it_differs() {
    let (orch, _) = recorded();
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe bold.");
    let (ran, report) = run(&orch, &["--replay", "pipelines/tests/main"]);
    assert_eq!(ran.code, 1);
    assert_eq!(report["steps"][0]["error"]["class"], "no_recording");
    assert!(ran.stderr.contains("+Be bold."), "{}", ran.stderr);
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--replay", "nowhere"]).exits(2);
    assert!(ran.stderr.contains("--record"), "{}", ran.stderr);
}

#[test]
fn test_cases_pass_fail_and_report() {
    let (orch, _) = recorded();
    orch.write(
        "pipelines/tests/main.yaml",
        "pipeline: ../main.yaml\ninputs: { task: do it }\nanswers:\n  ask: { approved: false, note: later }\nexpect:\n  steps: { plan: completed, \"work[1]\": completed }\n  assert: [\"plan.heard == 'do it'\", \"parts | length == 2\", \"verdict.note == 'later'\"]\n  files: [plan.json, parts.json]\n",
    );
    let ran = orch.run(&["pipeline", "test"]).exits(0);
    assert!(ran.stdout.contains("ok") && ran.stdout.contains("1 passed, 0 failed"), "{ran:?}");
    assert!(
        !orch.exists(".orch/locks") || orch.run(&["runs", "list"]).stdout.lines().count() == 1,
        "tests leave no run"
    );

    orch.edit("pipelines/tests/main.yaml", "parts | length == 2", "parts | length == 3");
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("FAIL") && ran.stdout.contains("`parts | length == 3` is false"), "{ran:?}");
    let ran = orch.run(&["pipeline", "test", "--format", "junit"]).exits(1);
    assert!(ran.stdout.contains("<testsuite ") && ran.stdout.contains("failures=\"1\""), "{}", ran.stdout);

    orch.edit("pipelines/tests/main.yaml", "expect:", "expct:");
    orch.run(&["pipeline", "test"]).exits(1).says("unknown key `expct`").says("did you mean `expect`?");
}

#[test]
fn a_case_is_recorded_anew() {
    let server = answering(|step, _| json!({ "step": step }));
    let orch = project(&server, &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n"));
    orch.write("pipelines/tests/first.yaml", "pipeline: ../main.yaml\ninputs: { task: do it }\n");
    orch.write("pipelines/tests/first/old.json", "{}");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    assert!(!orch.exists("pipelines/tests/first/old.json"));
    assert_eq!(server.requests().len(), 1);
    orch.run(&["pipeline", "test"]).exits(0);
    assert_eq!(server.requests().len(), 1);
}
