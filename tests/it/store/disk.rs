//! Disks that take no more, and such that take nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{AGENT, assert_whole};
use crate::control::{answering, project};
use crate::support::{Orch, Ran, Reply, Server};

/// A disk of so many KiB at a folder, gone with the value; none where one may not mount.
pub(super) struct Disk(PathBuf);

impl Disk {
    pub(super) fn small(folder: &Path, size: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let (option, folder) = (format!("size={size}k"), folder.to_owned());
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "none"]).arg(&folder).output().ok()?;
        done.status.success().then_some(Self(folder))
    }

    pub(super) fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A folder that stays mounted keeps the test's folder from being removed, and is told by that.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// Six steps whose replies are too large to be taken in by a small disk together.
fn six(server: &Server) -> Orch {
    let step = |name: &str| format!("  - {{ id: {name}, {AGENT}, prompt: {name}.md, output: of_{name} }}\n");
    project(server, &["plan", "code", "review", "one", "two", "three"].map(step).concat())
}

fn talkative() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::openai_text(&json!({ "number": number, "text": "x".repeat(60_000) }).to_string())
    })
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// After the disk was full: told, whole, and gone on with without asking again.
#[track_caller]
fn assert_mended(orch: &Orch, server: &Server, ran: Ran, more_room: impl Fn()) {
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("orch pipeline resume"), "{ran:?}");
    assert!(ran.stderr.contains("free some space"), "{ran:?}");
    let asked = server.requests().len();
    assert!((2..6).contains(&asked), "{asked} steps fitted");
    more_room();
    let recorded = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout.matches("\"call_ended\"").count();
    assert!(recorded + 1 >= asked, "only what was in flight is lost: {recorded} of {asked}");
    assert_whole(orch);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), asked + 6 - recorded, "what was recorded is not asked again");
    assert_whole(orch);
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing_that_was_recorded() {
    let server = talkative();
    let orch = six(&server);
    let Some(disk) = Disk::small(&orch.path().join(".orch"), 700) else {
        println!("skipped: this user may not mount a small disk");
        return;
    };
    let ran = orch.run(&RUN);
    assert_mended(&orch, &server, ran, || disk.remount("size=16m"));
}

#[test]
fn a_file_that_may_not_grow_stops_the_run_and_loses_nothing_that_was_recorded() {
    let server = talkative();
    let orch = six(&server);
    orch.run(&["runs", "list"]).exits(0);
    // In units of 512 bytes or 1 KiB, as the shell has it.
    let script = "trap '' XFSZ; ulimit -f 500; exec \"$0\" \"$@\"";
    let ran = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_orch")])
        .args(RUN)
        .current_dir(orch.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("XDG_CONFIG_HOME", orch.configuration())
        .output()
        .unwrap();
    let ran = Ran::of(&ran);
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("can't write the journal") && ran.stderr.contains("orch pipeline resume"), "{ran:?}");
    assert_whole(&orch);
    let asked = server.requests().len();
    orch.run(&["pipeline", "resume"]).exits(0);
    assert!(server.requests().len() <= asked + 6 - (asked - 1), "what was recorded is not asked again");
    assert_whole(&orch);
}

#[test]
fn a_journal_that_can_not_be_written_is_told_before_anything_is_asked() {
    let server = answering(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let Some(disk) = Disk::small(&orch.path().join(".orch"), 4096) else {
        println!("skipped: this user may not mount a disk");
        return;
    };
    disk.remount("ro");
    orch.run(&RUN).exits(2).says("make the folder writable");
    disk.remount("rw");
    orch.run(&RUN).exits(0);
    let asked = server.requests().len();
    disk.remount("ro");
    orch.run(&RUN).exits(2).says("make the folder writable");
    assert_eq!(server.requests().len(), asked);
    read_it(&orch);
    orch.run(&["pipeline", "resume"]).exits(2);
    disk.remount("rw");
    assert_whole(&orch);
}

/// Past runs can be listed and shown.
#[track_caller]
fn read_it(orch: &Orch) {
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("completed"));
    assert!(orch.run(&["runs", "show", "--replies"]).exits(0).stdout.contains("call one@1#1"));
    assert!(orch.run(&["runs", "events"]).exits(0).stdout.contains("run_ended"));
}

#[test]
fn a_journal_on_a_medium_that_can_not_be_written_can_be_read() {
    let server = answering(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    orch.run(&RUN).exits(0);
    // A process that reads keeps the write-ahead log from being folded in.
    let reader = rusqlite::Connection::open(orch.path().join(".orch/journal.db")).unwrap();
    let before: i64 = reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    orch.run(&RUN).exits(0);
    for log in [true, false] {
        let name = if log { ".orch 100% of #1?" } else { "plain" };
        let state = orch.path().join(name);
        let Some(disk) = Disk::small(&state, 4096) else {
            println!("skipped: this user may not mount a disk");
            return;
        };
        if !log {
            reader.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        super::copy(&orch.path().join(".orch"), &state);
        drop(std::fs::remove_file(state.join("journal.db-shm")));
        assert_eq!(std::fs::metadata(state.join("journal.db-wal")).is_ok_and(|meta| meta.len() > 0), log);
        disk.remount("ro");
        let at = |args: &[&str]| orch.run(&[args, &["--state", name]].concat());
        let listed = at(&["runs", "list"]).exits(0).stdout;
        assert_eq!(listed.matches("completed").count(), 2, "{listed}");
        assert!(at(&["runs", "show", "--replies"]).exits(0).stdout.contains("call one@1#1"));
        let events = at(&["runs", "events"]).exits(0).stdout.lines().count();
        assert!(i64::try_from(events).unwrap() <= before, "those of the latest run");
        at(&RUN).exits(2).says("make the folder writable");
    }
}
