//! Damage by programs that a stop or a kill of orch interrupts: orch reports it, and a resume does not go on as if
//! nothing had happened.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{command_project, project_with, reaches_full, recorded_sandbox, run_command};
use crate::support::wait::output_of;
use crate::support::{Orch, RunOutput};

/// Makes the workspace a repository, so that git runs the programs that its settings name, and then hangs.
const DAMAGES: &str =
    "mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; echo '[core]' > config; touch made; sleep 600";

/// Hangs, unless it ran before.
const HANGS_ONCE: &str = "if [ ! -e made ]; then touch made; sleep 600; fi; echo fine";

/// A project with a CLI agent that damages the workspace.
fn agent_project() -> Orch {
    let agent = json!({ "command": ["sh", "-c", DAMAGES], "tools": ["any"] });
    let step = json!({ "id": "it", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
    project_with(&json!({ "a": agent }), &json!([step]))
}

/// Starts the run of a project, and sends orch a signal when the program has caused the damage.
fn signal_after_damage(orch: &Orch, signal: &str) -> RunOutput {
    let child = run_command(orch).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !orch.exists("workspace/made") {
        assert!(began.elapsed() < Duration::from_mins(2), "the program did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    RunOutput::of(&output_of(child))
}

/// The failure of the only step in a report.
fn step_error(ran: &RunOutput) -> Value {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    report["steps"][0]["error"].clone()
}

#[track_caller]
fn assert_damage(error: &Value) {
    assert_eq!(error["class"], "path_refused", "{error}");
    assert!(error["message"].as_str().unwrap().contains("workspace/HEAD`"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("before you run git there"), "{error}");
}

/// The files about the programs in flight.
fn program_files(orch: &Orch) -> usize {
    let entries = |path: std::path::PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    entries(orch.path().join(".orch/agents")).flat_map(|run| entries(run.path().join("programs"))).count()
}

#[test]
fn the_damage_by_a_program_that_ctrl_c_ends_is_reported() {
    if !reaches_full() {
        return;
    }
    for orch in [command_project(DAMAGES, json!({})), agent_project()] {
        let ran = signal_after_damage(&orch, "-INT").exits(1);
        assert_damage(&step_error(&ran));
        assert!(recorded_sandbox(&orch)["damage"].to_string().contains("HEAD"));
    }
}

#[test]
fn a_resume_reports_the_damage_by_a_program_during_which_orch_was_killed() {
    if !reaches_full() {
        return;
    }
    for (orch, noun) in [(command_project(DAMAGES, json!({})), "command"), (agent_project(), "turn")] {
        signal_after_damage(&orch, "-KILL");
        assert_eq!(program_files(&orch), 1);
        let resumed = orch.run(&["pipeline", "resume", "--output", "json"]).exits(1);
        let error = step_error(&resumed);
        assert_damage(&error);
        assert!(error["message"].as_str().unwrap().contains(&format!("orch was killed during the {noun}")), "{error}");
        resumed.says(&format!("a {noun} of step it was interrupted: the program created"));
        assert!(recorded_sandbox(&orch)["damage"].to_string().contains("HEAD"));
        // The user undoes the damage, and corrects the program.
        std::fs::remove_file(orch.path().join("workspace/HEAD")).unwrap();
        let harmless = orch.read("pipelines/main.yaml").replace(DAMAGES, "echo fine");
        orch.write("pipelines/main.yaml", &harmless);
        orch.run(&["pipeline", "resume"]).exits(0);
    }
}

#[test]
fn a_resume_after_a_kill_without_damage_runs_the_command_again() {
    if !reaches_full() {
        return;
    }
    let orch = command_project(HANGS_ONCE, json!({}));
    signal_after_damage(&orch, "-KILL");
    let resumed = orch.run(&["pipeline", "resume"]).exits(0);
    assert!(!resumed.stderr.contains("git repository"), "{resumed:?}");
    assert_eq!(orch.json("workspace/said.json")["stdout"], "fine\n");
}

#[test]
fn a_state_that_can_not_be_read_makes_the_damage_unknown() {
    if !reaches_full() {
        return;
    }
    let orch = command_project(HANGS_ONCE, json!({}));
    signal_after_damage(&orch, "-KILL");
    for run in std::fs::read_dir(orch.path().join(".orch/agents")).unwrap() {
        for file in std::fs::read_dir(run.unwrap().path().join("programs")).unwrap() {
            std::fs::write(file.unwrap().path(), "{").unwrap();
        }
    }
    let resumed = orch.run(&["pipeline", "resume"]).exits(0);
    resumed.says("orch does not know whether a program damaged a git repository or protected files");
}
