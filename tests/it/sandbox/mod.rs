//! Sandboxes of commands and CLI agents, enforced by the kernel of this machine.
//!
//! The attempts to escape are in `confine/tests/`. These tests check what orch makes of the settings, and what it
//! records. On a machine that does not reach a level, its tests say that they are skipped.

mod agents;
mod commands;
mod levels;
mod records;

use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;

use orch::model::SandboxLevel;
use orch::process::SandboxProbe;
use serde_json::{Value, json};

use crate::support::{Orch, RunOutput};

/// Whether this machine reaches the level `full`. If not, the test is skipped, with a notice.
fn reaches_full() -> bool {
    static LEVEL: OnceLock<(SandboxLevel, Vec<String>)> = OnceLock::new();
    let (level, obstacles) = LEVEL.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let probe = SandboxProbe::new(env!("CARGO_BIN_EXE_orch").into());
        let machine = runtime.block_on(probe.machine()).unwrap();
        (machine.level(), machine.obstacles())
    });
    if *level < SandboxLevel::Full {
        skip(&format!("this machine reaches the level `{level}`: {}", obstacles.join("; ")));
    }
    *level == SandboxLevel::Full
}

fn skip(why: &str) {
    // The macro's output is only shown for failing tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: a sandbox is not tested: {why}");
}

/// A project with these steps and agents.
fn project_with(agents: &Value, steps: &Value) -> Orch {
    let orch = Orch::empty();
    let pipeline = json!({ "name": "test", "agents": agents, "steps": steps });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/ask.md", "You answer.\n");
    orch
}

/// A project with one step `it`, which runs this shell line in this sandbox and succeeds with every exit code.
fn command_project(line: &str, sandbox: Value) -> Orch {
    let orch = Orch::empty();
    let step = json!({ "id": "it", "run": line, "output": "said", "expect": { "exit_code": [] }, "sandbox": sandbox });
    orch.write("pipelines/main.yaml", &json!({ "name": "test", "steps": [step] }).to_string());
    orch
}

fn run_command(orch: &Orch) -> Command {
    orch.command(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"])
}

/// Runs a prepared command; returns its output and the report.
fn report(command: &mut Command) -> (RunOutput, Value) {
    let ran = RunOutput::of(&command.output().unwrap());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// Runs a project of one command; returns what the command wrote to standard output.
#[track_caller]
fn output_of(orch: &Orch) -> String {
    let (ran, _) = report(&mut run_command(orch));
    assert_eq!(ran.code, 0, "{ran:?}");
    orch.json("workspace/said.json")["stdout"].as_str().unwrap().to_owned()
}

/// The record of the sandbox of the run's last call.
fn recorded(orch: &Orch) -> Value {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event["fact"].get("call_ended").cloned()).last().unwrap()["sandbox"].clone()
}

/// Runs a command where no process can create a namespace, as in a container. `None`, with a notice, where this machine
/// allows no user namespace to begin with.
fn without_namespaces(command: &Command) -> Option<Command> {
    let allowed = Command::new("unshare").args(["-U", "-r", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        skip("`unshare -U -r` does not work here, so there is no machine without namespaces to try");
        return None;
    }
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer.args(["-U", "-r", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap()).env_clear().stdin(std::process::Stdio::null());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(outer)
}
