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
struct Disk(PathBuf);

impl Disk {
    fn small(folder: &Path, size: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let (option, folder) = (format!("size={size}k"), folder.to_owned());
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "none"]).arg(&folder).output().ok()?;
        done.status.success().then_some(Self(folder))
    }

    fn remount(&self, option: &str) {
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
    let listed = orch.run(&["runs", "list"]);
    assert!(listed.code == 0 || listed.stderr.contains("make the folder writable"), "{listed:?}");
    disk.remount("rw");
    assert_whole(&orch);
}
