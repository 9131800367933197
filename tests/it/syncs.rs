//! How often a run waits for the disk, counted with `strace`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, Server, print_skipped};

/// How often a test counts: orch syncs a commit once more if the machine pauses for 0.2 seconds at the wrong moment.
const ATTEMPTS: usize = 5;

fn find_strace() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let strace = std::env::split_paths(&path).map(|folder| folder.join("strace")).find(|file| file.is_file());
    if strace.is_none() {
        print_skipped("the number of syncs is not tested", "`strace` is not installed (`apt-get install strace`)");
    }
    strace
}

/// A project with so many sequential agent steps, each with an artifact.
fn project_with_steps(count: usize) -> (Server, Orch) {
    let server = answering_server(|step, _| json!({ "step": step }));
    let steps: String = (0..count)
        .map(|index| format!("  - {{ id: s{index}, {AGENT}, prompt: one.md, output: o{index} }}\n"))
        .collect();
    let orch = project(&server, &steps);
    (server, orch)
}

/// Runs the pipeline, and counts how often orch waits for the disk.
fn count_syncs(strace: &Path, orch: &Orch) -> usize {
    let log = orch.path().join("syncs.log");
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    let orch_command = orch.command(&args);
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]).arg(&log);
    command.arg(orch_command.get_program()).args(args).current_dir(orch.path()).env_clear();
    command.envs(orch_command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&log).unwrap();
    let count = text.lines().filter(|line| line.contains("fsync(") || line.contains("fdatasync(")).count();
    assert!(count > 0, "strace saw no sync, not even of the end of the run: {text}");
    count
}

/// The smallest result of some attempts; stops at the first that is at most `limit`.
fn smallest(limit: isize, count: impl Fn() -> isize) -> isize {
    let mut smallest = isize::MAX;
    for _ in 0..ATTEMPTS {
        smallest = smallest.min(count());
        if smallest <= limit {
            break;
        }
    }
    smallest
}

#[test]
fn a_step_waits_for_the_disk_once() {
    let Some(strace) = find_strace() else { return };
    let count = |steps| {
        let (_server, orch) = project_with_steps(steps);
        count_syncs(&strace, &orch).cast_signed()
    };
    let additional = smallest(10, || count(13) - count(3));
    assert!(additional <= 10, "10 steps add {additional} syncs");
}

#[test]
fn a_new_journal_waits_for_the_disk_twice_more_than_an_existing_one() {
    let Some(strace) = find_strace() else { return };
    let additional = smallest(2, || {
        let (_server, orch) = project_with_steps(1);
        let first = count_syncs(&strace, &orch).cast_signed();
        first - count_syncs(&strace, &orch).cast_signed()
    });
    // For the database and for the user's signing key.
    assert!(additional <= 2, "a new journal adds {additional} syncs");
}
