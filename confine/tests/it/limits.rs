//! Each limit ends a real program, and the report names it.

use std::time::{Duration, Instant};

use orch_confine::confine::{Limits, Policy, limit_in_output};

use super::support::{Lab, Run, User, attempts};

const LEVELS: [&str; 4] = ["full", "shared", "basic", "none"];
const MIB: u64 = 1 << 20;

fn limited(lab: &Lab, level: &str, limits: Limits, line: &str) -> Run {
    let program = attempts().display().to_string();
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
    lab.drive(level, &Policy { limits, ..lab.policy() }, &argv)
}

/// Calls a check for each user and level.
fn each(check: impl Fn(&Lab, &str)) {
    for user in User::all() {
        let lab = Lab::new(user);
        for level in LEVELS {
            check(&lab, level);
        }
    }
}

#[track_caller]
fn names(run: &Run, words: &str) {
    assert_ne!(run.code, Some(0), "{run:#?}");
    assert!(run.limit().is_some_and(|limit| limit.contains(words)), "{run:#?}");
}

#[test]
fn processor_time_of_one_process() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { cpu_time: Some(1), ..Limits::default() };
    each(|lab, level| {
        let start = Instant::now();
        names(&limited(lab, level, limits, "spin 60000"), "its limit of 1 s of processor time");
        assert!(start.elapsed() < Duration::from_secs(20), "{level}");
    });
}

#[test]
fn processor_time_of_processes_together() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { cpu_time: Some(2), ..Limits::default() };
    each(|lab, level| {
        // No process alone reaches the limit.
        names(&limited(lab, level, limits, "spin-children 1500"), "processor time");
    });
}

#[test]
fn the_size_of_a_file() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { file_size: Some(MIB), ..Limits::default() };
    each(|lab, level| {
        let run = limited(lab, level, limits, &format!("fill {}/big 4", lab.text("ws")));
        names(&run, "1048576 bytes in one file");
        assert_eq!(std::fs::metadata(lab.path("ws/big")).unwrap().len(), MIB, "{level}");
        std::fs::remove_file(lab.path("ws/big")).unwrap();
    });
}

#[test]
fn memory_of_one_process_fails_in_the_words_of_the_program() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    each(|lab, level| {
        let run = limited(lab, level, limits, "memory 512");
        assert_ne!(run.code, Some(0), "{level} {run:#?}");
        let named = run.limit().map(str::to_owned).or_else(|| Some(limit_in_output(&run.stderr, &limits)?.to_string()));
        assert!(named.as_ref().is_some_and(|named| named.contains("bytes of memory")), "{level} {named:?} {run:#?}");
    });
}

#[test]
fn memory_of_processes_together() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(128 * MIB), ..Limits::default() };
    each(|lab, level| {
        // Each of the four processes stays below the limit.
        names(&limited(lab, level, limits, "memory-children 100"), "134217728 bytes of memory");
    });
}

#[test]
fn files_in_memory_count_as_memory() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    for user in User::all() {
        let lab = Lab::new(user);
        names(&limited(&lab, "full", limits, "fill /tmp/big 512"), "bytes of memory");
        names(&limited(&lab, "full", limits, "fill /dev/shm/big 512"), "bytes of memory");
    }
}

#[test]
fn a_fork_bomb_ends() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { processes: Some(50), ..Limits::default() };
    each(|lab, level| {
        let run = limited(lab, level, limits, "fork-bomb 20000");
        assert_ne!(run.code, Some(0), "{level} {run:#?}");
        let alive: u64 = run.stdout.trim().parse().unwrap_or_default();
        // Where the kernel exempts root, orch ends the program, which may have started more by then.
        let is_exact = level == "full" || lab.user != User::Root;
        assert!(!is_exact || alive <= 350, "{level} {:?}: {alive}", lab.user);
        let named = run.limit().map(str::to_owned).or_else(|| Some(limit_in_output(&run.stderr, &limits)?.to_string()));
        assert!(named.is_some_and(|named| named.contains("50 processes")), "{level} {run:#?}");
        println!("fork bomb at {level} as {}: {alive} processes at most", lab.user.name());
    });
}

#[test]
fn open_files() {
    if !super::support::reaches_full() {
        return;
    }
    let limits = Limits { open_files: Some(20), ..Limits::default() };
    each(|lab, level| {
        let run = limited(lab, level, limits, "open-files 30");
        let reached = limit_in_output(&run.stderr, &limits).unwrap().to_string();
        assert!(reached.contains("probably reached its limit of 20 open files"), "{level} {reached}");
    });
}

#[test]
fn a_program_within_its_limits_is_left_alone() {
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
    each(|lab, level| {
        let run = limited(lab, level, limits, &format!("fill {}/file 4", lab.text("ws")));
        assert_eq!(run.succeeded().limit(), None);
    });
}

#[test]
fn node_runs_within_a_limit_of_memory() {
    if !super::support::reaches_full() {
        return;
    }
    if !super::support::has("node") {
        println!("SKIPPED: node is not installed");
        return;
    }
    let lab = Lab::new(User::all()[0]);
    let limits = Limits { memory: Some(1024 * MIB), ..Limits::default() };
    let run = lab.drive("full", &Policy { limits, ..lab.policy() }, &["node", "-p", "1 + 1"]);
    assert_eq!(run.succeeded().stdout, "2\n");
}
