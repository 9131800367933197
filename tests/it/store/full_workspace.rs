//! A full disk under the workspace: no run counts as completed while its files are missing.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::assert_journal_whole;
use super::disk::Disk;
use crate::step_kinds::{project, prompt_name};
use crate::support::{Orch, Reply, RunOutput, Server, print_skipped};

const RUN: [&str; 7] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--output", "json"];

/// A project with one step whose reply is 28 KB of text.
fn project_with_large_text() -> (Server, Orch) {
    let server = Server::start(|_| Reply::openai_text(&"word ".repeat(5_600)));
    let orch = project(&server, "  - { id: one, agent: a, prompt: one.md, output: x, schema: text }\n");
    (server, orch)
}

fn mount_small_disk(orch: &Orch, folder: &str, size: u32) -> Option<Disk> {
    let disk = Disk::small(&orch.path().join(folder), size);
    if disk.is_none() {
        print_skipped("a full disk is not tested", "this user may not mount a small disk");
    }
    disk
}

/// Asserts exit code 1 and the report of a run that has not ended.
#[track_caller]
fn assert_reports_a_storage_failure(ran: &RunOutput) {
    assert_eq!(ran.code, 1, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!((&report["status"], &report["success"]), (&"interrupted".into(), &false.into()), "{report:#}");
    assert_eq!(report["error"]["class"], "storage", "{report:#}");
}

/// Asserts the same, and that there is one hint with a command.
#[track_caller]
fn assert_interrupted_with_hint(ran: &RunOutput) {
    assert_reports_a_storage_failure(ran);
    assert_eq!(ran.stderr.matches("hint:").count() + ran.stderr.matches("next:").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("free some space on the disk, then `orch pipeline resume "), "{ran:?}");
}

/// The command that the hint prints, without the program's name.
fn printed_resume(ran: &RunOutput) -> Vec<String> {
    let command = ran.stderr.split("`orch ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    command.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect()
}

#[test]
fn a_run_whose_last_file_does_not_fit_is_resumed_without_a_request() {
    let (server, orch) = project_with_large_text();
    let Some(disk) = mount_small_disk(&orch, "workspace", 16) else { return };
    assert_interrupted_with_hint(&orch.run(&RUN));
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("interrupted"));
    let shown: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).stdout).unwrap();
    assert_eq!((&shown["status"], &shown["success"]), (&"interrupted".into(), &false.into()));
    // The file still does not fit, and orch reports it again.
    assert_interrupted_with_hint(&orch.run(&["pipeline", "resume", "--output", "json"]));
    disk.remount("size=16m");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/x.md"), format!("{}\n", "word ".repeat(5_600)));
    assert_eq!(server.requests().len(), 1, "the answer was paid for once");
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("completed"));
    assert_journal_whole(&orch);
}

#[test]
fn the_printed_command_names_the_given_state_folder() {
    let (server, orch) = project_with_large_text();
    let Some(disk) = mount_small_disk(&orch, "workspace", 16) else { return };
    let ran = orch.run(&[&RUN[..], &["--state", "elsewhere"]].concat());
    assert_interrupted_with_hint(&ran);
    disk.remount("size=16m");
    let command = printed_resume(&ran);
    assert!(command.ends_with(&["--state".to_owned(), "elsewhere".to_owned()]), "{command:?}");
    orch.run(&command.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_full_state_folder_or_workspace_is_reported_at_every_point_of_a_run() {
    let (server, orch) = project_with_large_text();
    let Some(state) = mount_small_disk(&orch, ".orch", 4096) else { return };
    let mut reports = 0;
    for (rest, both) in [8, 16, 24, 32, 40, 48, 64, 72].into_iter().flat_map(|rest| [(rest, false), (rest, true)]) {
        let workspace = both.then(|| mount_small_disk(&orch, "workspace", 16).unwrap());
        fill_disk(&orch, rest << 10);
        let asked = server.requests().len();
        let ran = orch.run(&RUN);
        assert!(server.requests().len() <= asked + 1);
        assert_eq!(ran.stderr.matches("hint:").count() + ran.stderr.matches("next:").count(), 1, "{rest}: {ran:?}");
        // If orch can't even open the journal, there is no run to report.
        if ran.code == 2 {
            assert!(ran.stdout.is_empty() && ran.stderr.contains("can't"), "{ran:?}");
        } else {
            assert_reports_a_storage_failure(&ran);
            reports += 1;
        }
        std::fs::remove_file(orch.path().join(".orch/filling")).unwrap();
        state.remount("size=16m");
        drop(workspace);
        orch.run(&RUN).exits(0);
        assert_journal_whole(&orch);
        state.remount("size=4m");
        orch.run(&["runs", "gc", "--keep", "1"]).exits(0);
    }
    assert!(reports > 3, "{reports}");
}

/// Fills a disk except for so much space.
fn fill_disk(orch: &Orch, rest: u64) {
    let path = orch.path().join(".orch/filling");
    let filled = std::fs::write(&path, vec![0; 16 << 20]);
    assert!(filled.is_err(), "the disk took 16 MiB");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - rest).unwrap();
}

#[test]
fn a_reply_in_flight_is_recorded_when_a_file_beside_it_does_not_fit() {
    let failed = Arc::new(AtomicBool::new(false));
    let wait = failed.clone();
    let server = Server::start(move |request| {
        if prompt_name(request) == "two" {
            while !wait.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Reply::openai_text("late");
        }
        Reply::openai_text(&"word ".repeat(5_600))
    });
    let orch = project(
        &server,
        "  - id: both\n    parallel:\n      - id: left\n        steps:\n          - { id: one, agent: a, prompt: one.md, output: x, schema: text }\n          - { id: look, run: \"true\", inputs: [x] }\n      - { id: two, agent: a, prompt: two.md, output: y, schema: text }\n",
    );
    let Some(disk) = mount_small_disk(&orch, "workspace", 16) else { return };
    let ran = orch.start(&RUN);
    // The first step is recorded, and its file does not fit: the command beside the slow reply can't begin.
    while !orch.run(&["runs", "events"]).stdout.contains("step_completed") {
        std::thread::sleep(Duration::from_millis(20));
    }
    failed.store(true, Ordering::SeqCst);
    assert_interrupted_with_hint(&RunOutput::of(&ran.wait_with_output().unwrap()));
    disk.remount("size=16m");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/y.md"), "late\n");
    assert_eq!(server.requests().len(), 2, "what was in flight is on record");
}
