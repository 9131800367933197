//! How often a run waits for the disk, and how much it writes to the journal, counted with `strace`.

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

/// Runs the pipeline under `strace`; returns the log of these system calls.
fn trace(strace: &Path, orch: &Orch, calls: &str) -> String {
    let log = orch.path().join("calls.log");
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    let orch_command = orch.command(&args);
    let mut command = Command::new(strace);
    command.args(["-f", "-y", "-qq", "-s", "0", "-e", &format!("trace={calls}"), "-o"]).arg(&log);
    command.arg(orch_command.get_program()).args(args).current_dir(orch.path()).env_clear();
    command.envs(orch_command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(&log).unwrap()
}

/// Runs the pipeline, and counts how often orch waits for the disk.
fn count_syncs(strace: &Path, orch: &Orch) -> usize {
    let text = trace(strace, orch, "fsync,fdatasync");
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

/// Runs the pipeline, and counts the bytes that orch writes to the database and its log.
fn count_journal_bytes(strace: &Path, orch: &Orch) -> usize {
    let text = trace(strace, orch, "write,pwrite64,writev,pwritev,pwritev2");
    // A line that ends with `<unfinished ...>` has its result in a later one, without the file.
    let is_of_journal = |line: &&str| line.contains("/.orch/journal.db");
    let written = text.lines().filter(is_of_journal).map(|line| match line.rsplit_once(" = ") {
        Some((_, result)) => result.trim().parse().unwrap_or(0),
        None => argument_length(line),
    });
    written.sum()
}

/// The number of bytes in the arguments of an unfinished call: `pwrite64(5</f>, ""..., 1024, 24 <unfinished ...>`.
fn argument_length(line: &str) -> usize {
    let arguments = line.split_once("..., ").map_or("", |(_, rest)| rest);
    let digits = arguments.chars().take_while(char::is_ascii_digit).collect::<String>();
    digits.parse().unwrap_or(0)
}

#[test]
fn a_step_writes_little_more_to_the_journal_than_its_events() {
    const MAX_BYTES: usize = 15_000;
    let Some(strace) = find_strace() else { return };
    let count = |steps| {
        let (_server, orch) = project_with_steps(steps);
        count_journal_bytes(&strace, &orch)
    };
    let (many, few) = (count(13), count(3));
    assert!(few > 0 && many > few, "{many} and {few} bytes");
    assert!((many - few) / 10 <= MAX_BYTES, "10 steps write {} bytes", many - few);
}
