//! Changes whose contents orch does not record: `runs diff` and `runs revert` list them, and nothing restores them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::support::{Orch, RunOutput};

const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--quiet"];

/// A project with the steps `one` and `two`, whose CLI agents run these scripts in the workspace.
pub(crate) fn project(scripts: &[&str]) -> Orch {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    let (mut agents, mut steps) = (String::new(), String::new());
    for (name, script) in ["one", "two"].iter().zip(scripts) {
        let program = format!("{name}.sh");
        orch.write(&program, &format!("cat > /dev/null\n{script}\necho 1\n"));
        let path = orch.path().join(program);
        writeln!(agents, "  {name}: {{ command: [sh, \"{}\"], tools: [edit] }}", path.display()).unwrap();
        writeln!(steps, "  - {{ id: {name}, agent: {name}, prompt: ask.md, schema: any, output: said_{name} }}")
            .unwrap();
    }
    let pipeline = format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n{agents}steps:\n{steps}");
    orch.write("pipelines/main.yaml", &pipeline);
    orch.disable_unsupported_sandboxes();
    orch
}

/// Runs the pipeline, and returns the id of the run.
pub(crate) fn run(orch: &Orch) -> String {
    orch.run(&RUN).exits(0);
    latest_run(orch).unwrap().0
}

fn parse_stdout(ran: &RunOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn files_without_recorded_contents_are_listed_with_the_reason() {
    let script = "echo small > small.txt; head -c 1048577 /dev/zero > large.bin; ln -s small.txt link; \
                  echo \"$LOGIN\" > leaked.txt";
    let orch = project(&[script]);
    orch.edit("pipelines/main.yaml", "tools: [edit]", "tools: [edit], env: [LOGIN]");
    let ran = orch.command(&RUN).env("LOGIN", "x7Kp2qL9mZ4vT1wB8s").output().unwrap();
    RunOutput::of(&ran).exits(0);
    let (id, _) = latest_run(&orch).unwrap();
    let reasons = [
        ("large.bin", "it is larger than 1 MiB"),
        ("leaked.txt", "it contains a secret"),
        ("link", "it is not a regular file"),
    ];
    let diff = orch.run(&["runs", "diff", &id]).exits(0);
    let previewed = orch.run(&["runs", "revert", &id, "--dry-run"]).exits(1);
    assert!(previewed.stdout.contains("would revert small.txt"), "{previewed:?}");
    let reverted = orch.run(&["runs", "revert", &id]).exits(1).says("orch has no earlier content");
    assert!(!reverted.stderr.contains("--force"), "{reverted:?}");
    assert!(!orch.exists("workspace/small.txt") && orch.exists("workspace/large.bin"));
    for (name, reason) in reasons {
        let words = format!("one: orch did not record the change of `{name}`: {reason}");
        assert!(diff.stderr.contains(&words), "{words}: {diff:?}");
        let words = format!(" {name}: it was changed by step `one`, but orch did not record its content: {reason}");
        for ran in [&previewed, &reverted] {
            assert!(ran.stdout.lines().any(|line| line.starts_with("skipped") && line.ends_with(&words)), "{ran:?}");
        }
    }
    let forced = parse_stdout(&orch.run(&["runs", "revert", &id, "--force", "--output", "json"]).exits(1));
    let skipped = forced["files"].as_array().unwrap().iter().filter(|file| file["outcome"] == "skipped").count();
    assert_eq!((skipped, &forced["incomplete"]), (3, &json!([])), "{forced:#}");
    assert_eq!(forced["commands_ran"], false, "{forced:#}");
    let shown = parse_stdout(&orch.run(&["runs", "diff", &id, "--output", "json"]).exits(0));
    let expected = json!({ "step": "one", "path": "large.bin", "reason": "it is larger than 1 MiB" });
    assert_eq!(shown["unrecorded"][0], expected, "{shown:#}");
}

#[test]
fn a_file_is_restored_only_to_its_content_before_the_run() {
    let large = "head -c 2097152 /dev/zero";
    let orch = project(&[
        "echo small > shrunk.txt; echo small > grown.txt",
        &format!("echo other > shrunk.txt; {large} > grown.txt"),
    ]);
    orch.write("workspace/shrunk.txt", &"x".repeat(2 << 20)).write("workspace/grown.txt", "mine\n");
    let id = run(&orch);
    let reverted = orch.run(&["runs", "revert", &id]).exits(1).says("--force").says("orch has no earlier content");
    for (name, step) in [("shrunk.txt", "one"), ("grown.txt", "two")] {
        let words = format!("skipped   {name}: it was changed by step `{step}`, but orch did not record its content");
        assert!(reverted.stdout.contains(&words), "{words}: {reverted:?}");
    }
    assert_eq!(
        (orch.read("workspace/shrunk.txt").as_str(), orch.read("workspace/grown.txt").len()),
        ("other\n", 2 << 20)
    );
    orch.run(&["runs", "revert", &id, "--force"]).exits(1);
    assert_eq!(
        (orch.read("workspace/shrunk.txt").as_str(), orch.read("workspace/grown.txt").as_str()),
        ("other\n", "mine\n")
    );
}

#[test]
fn an_incomplete_list_of_changed_files_is_reported() {
    let orch = project(&["seq 1 1001 | split -l 1 -a 4"]);
    let id = run(&orch);
    let reason = "orch could not compare everything: more than 1000 files changed; more files may have changed";
    let words = format!("one: {reason}");
    orch.run(&["runs", "diff", &id]).exits(0).says(&words);
    orch.run(&["runs", "revert", &id, "--dry-run"]).exits(1).says(&words);
    let reverted = parse_stdout(&orch.run(&["runs", "revert", &id, "--output", "json"]).exits(1));
    assert_eq!(reverted["incomplete"], json!([{ "step": "one", "reason": reason }]));
    let restored = reverted["files"].as_array().unwrap().iter().filter(|file| file["outcome"] == "reverted").count();
    assert_eq!(restored, 1000, "the listed files are reverted");
}

#[test]
fn a_deleted_file_is_not_restored_to_an_older_content() {
    let orch = project(&["echo small > made.txt", "head -c 2097152 /dev/zero > made.txt"]);
    let id = run(&orch);
    std::fs::remove_file(orch.path().join("workspace/made.txt")).unwrap();
    orch.run(&["pipeline", "resume", &id]).exits(2).says("made.txt`, which step `one` wrote, was deleted");
    for more in [&["--dry-run"][..], &[]] {
        let args = [&["pipeline", "resume", &id, "--discard-changed"], more].concat();
        orch.run(&args).exits(2).says("can't be restored").says("`made.txt`: step `two` changed it later");
        assert!(!orch.exists("workspace/made.txt"));
    }
    orch.run(&["pipeline", "resume", &id, "--accept-changed"]).exits(0);
}

#[test]
fn a_run_with_commands_does_not_claim_that_it_changed_no_files() {
    let orch = project(&["true"]);
    orch.edit("pipelines/main.yaml", "steps:\n", "steps:\n  - { id: build, run: [\"true\"] }\n");
    let id = run(&orch);
    let words = format!("run {id} changed no files, as far as orch knows; orch does not know the changes of commands");
    orch.run(&["runs", "diff", &id]).exits(0).says(&words);
    orch.run(&["runs", "revert", &id]).exits(0).says(&words);
    let shown = parse_stdout(&orch.run(&["runs", "diff", &id, "--output", "json"]).exits(0));
    assert_eq!((&shown["commands_ran"], &shown["incomplete"]), (&json!(true), &json!([])), "{shown:#}");
}
