//! The runs of failed test cases: `--keep` keeps them, and the advice about them works.

use serde_json::json;

use crate::step_kinds::{answering_server, project};
use crate::support::Orch;

/// A project whose command fails, with a test case without recordings.
fn project_with_failing_case() -> Orch {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: check, run: [sh, -c, 'echo made > made.txt; echo broken; exit 3'] }\n");
    let case = "pipeline: ../main.yaml\ninputs: { task: do it }\ncommands: run\n";
    orch.write("pipelines/tests/main.yaml", case);
    orch
}

/// Runs the test cases, and returns the results and the words of each command between backticks.
fn failed_test(orch: &Orch, more: &[&str]) -> (String, Vec<Vec<String>>) {
    let ran = orch.run(&[&["pipeline", "test"], more].concat()).exits(1);
    let commands = ran.stdout.split('`').skip(1).step_by(2).filter(|part| part.starts_with("orch "));
    let commands = commands.map(|command| command.split(' ').skip(1).map(str::to_owned).collect()).collect();
    (ran.stdout, commands)
}

#[test]
fn without_keep_the_test_says_that_its_run_is_deleted_and_how_to_keep_it() {
    let orch = project_with_failing_case();
    let (said, _) = failed_test(&orch, &[]);
    assert!(said.contains("`orch runs show --replies`"), "the failure of a command names its output: {said}");
    let advice = "`orch pipeline test --keep pipelines/tests/main.yaml` keeps the run";
    assert!(said.contains("orch deleted the run of this test") && said.contains(advice), "{said}");
    let (junit, _) = failed_test(&orch, &["--format", "junit"]);
    assert!(junit.contains("orch pipeline test --keep pipelines/tests/main.yaml"), "{junit}");
}

#[test]
fn the_commands_of_a_kept_test_show_its_run() {
    let orch = project_with_failing_case();
    let (said, commands) = failed_test(&orch, &["--keep"]);
    assert!(!said.contains("orch deleted the run"), "{said}");
    let shown: Vec<&Vec<String>> = commands.iter().filter(|words| words.starts_with(&["runs".to_owned()])).collect();
    assert!(shown.len() >= 2, "the hint of the failure, and the place of the run: {said}");
    for words in shown {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = orch.run(&words).exits(0);
        assert!(ran.stdout.contains("broken"), "{words:?}: {ran:?}");
    }
    let path = |before: &str| said.split(before).nth(1).unwrap().split('`').next().unwrap().to_owned();
    let workspace = std::path::PathBuf::from(path("kept the workspace `"));
    assert_eq!(std::fs::read_to_string(workspace.join("made.txt")).unwrap(), "made\n");
    std::fs::remove_dir_all(workspace.parent().unwrap()).unwrap();
}

#[test]
fn a_kept_replay_is_resumed_with_its_recordings() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, "  - { id: plan, agent: a, schema: any, prompt: plan.md, output: plan }\n");
    let case = "pipeline: ../main.yaml\ninputs: { task: do it }\n";
    orch.write("pipelines/tests/main.yaml", case);
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    orch.edit("prompts/plan.md", "step:plan", "step:other");
    let (said, commands) = failed_test(&orch, &["--keep"]);
    let shown = commands.iter().find(|words| words.starts_with(&["runs".to_owned()])).unwrap();
    let (run, state) = (&shown[2], shown.last().unwrap());
    orch.edit("prompts/plan.md", "step:other", "step:plan");
    orch.run(&["pipeline", "resume", run, "--state", state]).exits(0);
    assert_eq!(server.requests().len(), 1, "{said}");
    std::fs::remove_dir_all(std::path::Path::new(state).parent().unwrap()).unwrap();
}

#[test]
fn a_passed_test_keeps_nothing() {
    let orch = project_with_failing_case();
    orch.edit("pipelines/main.yaml", "exit 3", "exit 0");
    let ran = orch.run(&["pipeline", "test", "--keep"]).exits(0);
    assert!(!ran.stdout.contains("kept"), "{ran:?}");
}
