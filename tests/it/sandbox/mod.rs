//! Tests of the sandboxes of commands and CLI agents, which the kernel of this machine enforces.
//!
//! These tests check the effect of the settings and the records. The tests in `confine/tests/` try to escape. On a
//! machine that does not reach the level `full`, most of these tests report that they are skipped.

mod agents;
mod commands;
mod hidden_programs;
mod interrupted;
mod levels;
mod other_user;
mod protection;
mod records;
mod settings;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::sandbox::{has_landlock, reaches_full, skip};
use crate::support::{Orch, RunOutput};

/// Creates a project with these agents and steps.
fn project_with(agents: &Value, steps: &Value) -> Orch {
    let orch = Orch::empty();
    let pipeline = json!({ "name": "test", "agents": agents, "steps": steps });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/ask.md", "You answer.\n");
    orch
}

/// Creates a project with one step `it`, which runs this shell line in this sandbox and succeeds with every exit code.
fn command_project(line: &str, sandbox: Value) -> Orch {
    let orch = Orch::empty();
    let step = json!({ "id": "it", "run": line, "output": "said", "expect": { "exit_code": [] }, "sandbox": sandbox });
    orch.write("pipelines/main.yaml", &json!({ "name": "test", "steps": [step] }).to_string());
    orch
}

fn run_command(orch: &Orch) -> Command {
    orch.command(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"])
}

/// Runs an orch command; returns its output and the report of the run.
fn run_with_report(command: &mut Command) -> (RunOutput, Value) {
    let ran = RunOutput::of(&command.output().unwrap());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// Runs a project of [`command_project`]; returns the standard output of the step.
#[track_caller]
fn stdout_of(orch: &Orch) -> String {
    let (ran, _) = run_with_report(&mut run_command(orch));
    assert_eq!(ran.code, 0, "{ran:?}");
    orch.json("workspace/said.json")["stdout"].as_str().unwrap().to_owned()
}

/// The record of the sandbox of the last call.
fn recorded_sandbox(orch: &Orch) -> Value {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut calls = events.filter_map(|event| event["fact"].get("call_ended").cloned());
    calls.next_back().unwrap()["sandbox"].clone()
}

/// Whether this machine allows user namespaces, in which a test can forbid further ones, and has the Landlock of the
/// level `basic`. If not, reports that the test is skipped.
fn can_remove_namespaces() -> bool {
    let is_allowed = Command::new("unshare").args(["-U", "-r", "true"]).status().is_ok_and(|status| status.success());
    if !is_allowed {
        skip("a sandbox at the level `basic` is not tested: `unshare -U -r` does not work here");
    }
    is_allowed && has_landlock()
}

/// Wraps a command so that no process in it can create a namespace, as in a container. The level is then `basic`.
/// Returns `None` and reports that the test is skipped if this machine can't do this.
pub(crate) fn without_namespaces(command: &Command) -> Option<Command> {
    if !can_remove_namespaces() {
        return None;
    }
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer.args(["-U", "-r", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap()).env_clear().stdin(std::process::Stdio::null());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(outer)
}
