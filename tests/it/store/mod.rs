//! The store: two processes for one run, damage, full and read-only disks.

mod damage;
pub(crate) mod disk;
mod full_workspace;
mod stored_once;

use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Reply, RunOutput, Server};

const AGENT: &str = "agent: a, schema: any";

/// Opens the journal as another process.
fn open_journal(orch: &Orch) -> rusqlite::Connection {
    rusqlite::Connection::open(orch.path().join(".orch/journal.db")).unwrap()
}

/// Asserts that the database passes SQLite's own thorough check, and that the events have no gaps.
#[track_caller]
pub(crate) fn assert_journal_whole(orch: &Orch) {
    let journal = open_journal(orch);
    let found: String = journal.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
    let gaps =
        "SELECT count(*) FROM (SELECT min(id & 0xffffffff) AS first, max(id & 0xffffffff) AS last, count(*) AS rows
                FROM events GROUP BY id >> 32) WHERE first <> 1 OR last <> rows";
    assert_eq!(journal.query_row(gaps, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "events are missing");
}

/// Waits until one of two processes ends; returns whether it was the first.
fn first_ended(one: &mut Child, other: &mut Child) -> bool {
    let began = Instant::now();
    loop {
        if one.try_wait().unwrap().is_some() {
            return true;
        }
        if other.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "both have the run, or neither goes on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_of_two_processes_gets_the_run_and_the_other_reports_its_owner() {
    const RACES: usize = 50;
    let (hold, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (waits, free) = (hold.clone(), held.clone());
    let server = Server::start(move |_| {
        // The winner keeps the run until the other process has ended.
        while waits.load(Ordering::SeqCst) && !free.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Reply::status(400, "{\"error\":{\"message\":\"not today\"}}")
    });
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    hold.store(true, Ordering::SeqCst);
    for race in 0..RACES {
        held.store(false, Ordering::SeqCst);
        let args = ["pipeline", "resume", &id, "-q"];
        let (mut one, mut other) = (orch.start(&args), orch.start(&args));
        let first = first_ended(&mut one, &mut other);
        held.store(true, Ordering::SeqCst);
        let (loser, winner) = if first { (one, other) } else { (other, one) };
        let (pid, won) = (winner.id(), RunOutput::of(&winner.wait_with_output().unwrap()));
        let lost = RunOutput::of(&loser.wait_with_output().unwrap());
        assert_eq!((lost.code, won.code), (2, 1), "race {race}: {lost:?}\n{won:?}");
        let told = format!("run {id} is in use by process {pid} (run {id})");
        assert!(lost.stderr.contains(&told), "race {race}: no {told:?} in {lost:?}");
    }
    assert_eq!(server.requests().len(), RACES + 1, "only winners ask");
    assert_journal_whole(&orch);
}

#[test]
fn a_journal_of_an_older_format_is_not_changed() {
    let server = answering_server(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    run(&orch, &[]).0.exits(0);
    open_journal(&orch).execute_batch("PRAGMA user_version = 5;").unwrap();
    for args in [&["runs", "list"][..], &["pipeline", "run", "pipelines/main.yaml", "--task", "x"]] {
        orch.run(args).exits(2).says("has format 5 of an earlier orch").says("move the `.orch` folder away");
    }
    // Following the advice helps; the new journal does not own what the old one wrote into its workspace.
    std::fs::rename(orch.path().join(".orch"), orch.path().join("old")).unwrap();
    run(&orch, &["--workspace", "fresh"]).0.exits(0);
}

#[test]
fn a_journal_of_a_newer_format_is_not_changed() {
    let server = answering_server(|step, _| json!({ "from": step }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    run(&orch, &[]).0.exits(0);
    open_journal(&orch).execute_batch("PRAGMA user_version = 99;").unwrap();
    for args in [&["runs", "list"][..], &["pipeline", "run", "pipelines/main.yaml", "--task", "x"]] {
        orch.run(args).exits(2).says("has format 99").says("install the newer orch");
    }
}

/// Copies the files of a folder, without its subfolders.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}
