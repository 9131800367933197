//! Tests of the limits: each limit ends a real program, and the report names the limit.

use std::time::{Duration, Instant};

use orch_confine::confine::{Limits, Policy, limit_in_output};

use super::support::{Fixture, Run, User, attempts};

const LEVELS: [&str; 4] = ["full", "shared", "basic", "none"];
const MIB: u64 = 1 << 20;

/// Runs an attempt with limits.
fn run_limited(fixture: &Fixture, level: &str, limits: Limits, line: &str) -> Run {
    let program = attempts().display().to_string();
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
    fixture.drive(level, &Policy { limits, ..fixture.policy() }, &argv)
}

/// Calls a check for each user and level.
fn for_each_level(check: impl Fn(&Fixture, &str)) {
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in LEVELS {
            check(&fixture, level);
        }
    }
}

#[track_caller]
fn assert_limit(run: &Run, text: &str) {
    assert_ne!(run.code, Some(0), "{run:#?}");
    assert!(run.limit().is_some_and(|limit| limit.contains(text)), "{run:#?}");
}

#[test]
fn the_processor_time_of_one_process_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { cpu_time: Some(1), ..Limits::default() };
    for_each_level(|fixture, level| {
        let start = Instant::now();
        assert_limit(&run_limited(fixture, level, limits, "spin 60000"), "its limit of 1 s of processor time");
        assert!(start.elapsed() < Duration::from_secs(20), "{level}");
    });
}

#[test]
fn the_total_processor_time_of_several_processes_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { cpu_time: Some(2), ..Limits::default() };
    for_each_level(|fixture, level| {
        // No process alone reaches the limit.
        assert_limit(&run_limited(fixture, level, limits, "spin-children 1500"), "processor time");
    });
}

#[test]
fn the_size_of_a_file_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { file_size: Some(MIB), ..Limits::default() };
    for_each_level(|fixture, level| {
        let run = run_limited(fixture, level, limits, &format!("fill {}/big 4", fixture.text("ws")));
        assert_limit(&run, "1 MiB in one file");
        assert_eq!(std::fs::metadata(fixture.path("ws/big")).unwrap().len(), MIB, "{level}");
        std::fs::remove_file(fixture.path("ws/big")).unwrap();
    });
}

#[test]
fn the_memory_of_one_process_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    for_each_level(|fixture, level| {
        let run = run_limited(fixture, level, limits, "memory 512");
        assert_ne!(run.code, Some(0), "{level} {run:#?}");
        let message =
            run.limit().map(str::to_owned).or_else(|| Some(limit_in_output(&run.stderr, &limits)?.to_string()));
        let is_memory = message.as_ref().is_some_and(|message| message.contains("64 MiB of memory"));
        assert!(is_memory, "{level} {message:?} {run:#?}");
    });
}

#[test]
fn the_total_memory_of_several_processes_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    for_each_level(|fixture, level| {
        // Each of the four processes stays below the limit.
        assert_limit(&run_limited(fixture, level, limits, "memory-children 100"), "128 MiB of memory");
    });
}

#[test]
fn memory_that_processes_hide_counts_as_memory() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    for_each_level(|fixture, level| {
        // No other process can read how much memory these processes share.
        assert_limit(&run_limited(fixture, level, limits, "hidden-memory-children 100"), "128 MiB of memory");
    });
}

#[test]
fn files_in_memory_count_as_memory() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    for user in User::all() {
        let fixture = Fixture::new(user);
        assert_limit(&run_limited(&fixture, "full", limits, "fill /tmp/big 512"), "64 MiB of memory");
        assert_limit(&run_limited(&fixture, "full", limits, "fill /dev/shm/big 512"), "64 MiB of memory");
    }
}

#[test]
fn a_fork_bomb_ends() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { processes: Some(50), ..Limits::default() };
    for_each_level(|fixture, level| {
        let run = run_limited(fixture, level, limits, "fork-bomb 20000");
        assert_ne!(run.code, Some(0), "{level} {run:#?}");
        let alive: u64 = run.stdout.trim().parse().unwrap_or_default();
        // The kernel exempts root from the limit outside of a namespace. orch then kills the program, which may have
        // started more processes by then.
        let is_exact = level == "full" || fixture.user != User::Root;
        assert!(!is_exact || alive <= 350, "{level} {:?}: {alive}", fixture.user);
        let message =
            run.limit().map(str::to_owned).or_else(|| Some(limit_in_output(&run.stderr, &limits)?.to_string()));
        assert!(message.is_some_and(|message| message.contains("50 processes")), "{level} {run:#?}");
        println!("fork bomb at {level} as {}: {alive} processes at most", fixture.user.name());
    });
}

#[test]
fn the_number_of_open_files_is_limited() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { open_files: Some(20), ..Limits::default() };
    for_each_level(|fixture, level| {
        let run = run_limited(fixture, level, limits, "open-files 30");
        let reached = limit_in_output(&run.stderr, &limits).unwrap().to_string();
        assert!(reached.contains("probably reached its limit of 20 open files"), "{level} {reached}");
    });
}

#[test]
fn a_limit_in_the_middle_of_a_pipe_may_stay_undetected_and_orch_says_so() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { file_size: Some(MIB), memory: Some(512 * MIB), ..Limits::default() };
    for_each_level(|fixture, level| {
        let policy = Policy { limits, ..fixture.policy() };
        let run = fixture.drive(level, &policy, &["sh", "-c", "head -c 3000000 /dev/zero > big | cat; true"]);
        assert_eq!(run.succeeded().limit(), None, "{level} {run:#?}");
        let unenforced = run.result["applied"]["unenforced"].as_array().unwrap();
        let sentences: Vec<&str> = unenforced.iter().filter_map(serde_json::Value::as_str).collect();
        let names = |key: &str| sentences.iter().any(|sentence| sentence.contains(&format!("reached `{key}`")));
        // With a control group, the kernel reports every process that it ends because of the memory limit.
        let is_memory_detected = run.result["applied"]["limits_by"] == "cgroup";
        assert!(names("file_size") && names("memory") != is_memory_detected, "{level} {run:#?}");
        // A shell that looks at every command of a pipe fails, and then orch names the limit.
        if super::support::has("bash") {
            let line = "set -o pipefail; head -c 3000000 /dev/zero > big | cat";
            assert_limit(&fixture.drive(level, &policy, &["bash", "-c", line]), "1 MiB in one file");
        }
    });
}

#[test]
fn a_program_below_its_limits_succeeds() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits {
        memory: Some(512 * MIB),
        processes: Some(64),
        cpu_time: Some(60),
        file_size: Some(8 * MIB),
        open_files: Some(256),
    };
    for_each_level(|fixture, level| {
        let run = run_limited(fixture, level, limits, &format!("fill {}/file 4", fixture.text("ws")));
        assert_eq!(run.succeeded().limit(), None);
    });
}

#[test]
fn node_runs_with_a_memory_limit() {
    if !super::support::reaches_full() {
        return;
    }
    if !super::support::has("node") {
        super::support::skip("node is not installed");
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    let limits = Limits { memory: Some(1024 * MIB), ..Limits::default() };
    let run = fixture.drive("full", &Policy { limits, ..fixture.policy() }, &["node", "-p", "1 + 1"]);
    assert_eq!(run.succeeded().stdout, "2\n");
}
