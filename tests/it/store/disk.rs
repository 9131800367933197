//! Full and read-only disks.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{AGENT, assert_journal_whole};
use crate::step_kinds::{answering_server, project};
use crate::support::{Orch, Reply, RunOutput, Server, print_skipped};

/// A disk of so many KiB that is mounted at a folder until the value is dropped; `None` where mounting is not allowed.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn small(folder: &Path, size: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let (option, folder) = (format!("size={size}k"), folder.to_owned());
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "none"]).arg(&folder).output().ok()?;
        done.status.success().then_some(Self(folder))
    }

    pub(crate) fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If the folder stays mounted, removing the test's folder fails and shows it.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// Six steps whose replies together exceed a small disk.
fn project_with_large_replies(server: &Server) -> Orch {
    let step = |name: &str| format!("  - {{ id: {name}, {AGENT}, prompt: {name}.md, output: of_{name} }}\n");
    project(server, &["plan", "code", "review", "one", "two", "three"].map(step).concat())
}

fn server_with_large_replies() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::openai_text(&json!({ "number": number, "text": "x".repeat(60_000) }).to_string())
    })
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// Asserts that the full disk was reported and the journal is whole, and that a resume sends no request again.
#[track_caller]
fn assert_recovered(orch: &Orch, server: &Server, ran: RunOutput, more_room: impl Fn()) {
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("orch pipeline resume"), "{ran:?}");
    assert!(ran.stderr.contains("free some space"), "{ran:?}");
    let asked = server.requests().len();
    assert!((2..6).contains(&asked), "{asked} steps fitted");
    more_room();
    let recorded = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout.matches("\"call_ended\"").count();
    assert!(recorded + 1 >= asked, "only what was in flight is lost: {recorded} of {asked}");
    assert_journal_whole(orch);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), asked + 6 - recorded, "what was recorded is not asked again");
    assert_journal_whole(orch);
}

#[test]
fn a_full_disk_stops_the_run_and_loses_no_record() {
    let server = server_with_large_replies();
    let orch = project_with_large_replies(&server);
    let Some(disk) = Disk::small(&orch.path().join(".orch"), 340) else {
        print_skipped("a full disk is not tested", "this user may not mount a small disk");
        return;
    };
    let ran = orch.run(&RUN);
    assert_recovered(&orch, &server, ran, || disk.remount("size=16m"));
}

#[test]
fn a_limit_on_the_file_size_stops_the_run_and_loses_no_record() {
    let server = server_with_large_replies();
    let orch = project_with_large_replies(&server);
    orch.run(&["runs", "list"]).exits(0);
    // The unit is 512 bytes or 1 KiB, depending on the shell.
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
    let ran = RunOutput::of(&ran);
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("can't write the journal") && ran.stderr.contains("orch pipeline resume"), "{ran:?}");
    assert_journal_whole(&orch);
    let asked = server.requests().len();
    orch.run(&["pipeline", "resume"]).exits(0);
    assert!(server.requests().len() <= asked + 6 - (asked - 1), "what was recorded is not asked again");
    assert_journal_whole(&orch);
}

#[test]
fn an_unwritable_journal_on_disk_is_reported_before_any_request() {
    let server = answering_server(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let Some(disk) = Disk::small(&orch.path().join(".orch"), 4096) else {
        print_skipped("an unwritable disk is not tested", "this user may not mount a disk");
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
    assert_readable(&orch);
    orch.run(&["pipeline", "resume"]).exits(2);
    disk.remount("rw");
    assert_journal_whole(&orch);
}

/// Asserts that runs can be listed and shown.
#[track_caller]
fn assert_readable(orch: &Orch) {
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("completed"));
    assert!(orch.run(&["runs", "show", "--replies"]).exits(0).stdout.contains("call one@1#1"));
    assert!(orch.run(&["runs", "events"]).exits(0).stdout.contains("run_ended"));
}

#[test]
fn a_journal_on_a_read_only_disk_can_be_read() {
    let server = answering_server(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    orch.run(&RUN).exits(0);
    // A reading process keeps SQLite from writing the log back into the database.
    let reader = rusqlite::Connection::open(orch.path().join(".orch/journal.db")).unwrap();
    let before: i64 = reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    orch.run(&RUN).exits(0);
    for log in [true, false] {
        let name = if log { ".orch 100% of #1?" } else { "plain" };
        let state = orch.path().join(name);
        let Some(disk) = Disk::small(&state, 4096) else {
            print_skipped("a read-only disk is not tested", "this user may not mount a disk");
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
