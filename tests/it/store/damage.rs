//! Damaged files in `.orch`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{AGENT, assert_journal_whole, copy, open_journal};
use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Reply, Server};

/// A project with one run whose reply and artifact are blobs: the journal refers to the reply only for a value that orch
/// did not have to repair.
fn project_with_blobs() -> (Server, Orch, String) {
    let server = Server::always(Reply::openai_text(&format!("{{\"text\": \"{}\",}}", "x".repeat(100_000))));
    let orch = project(&server, &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n"));
    let (_, report) = run(&orch, &[]);
    (server, orch, report["run"].as_str().unwrap().to_owned())
}

/// The blob of the artifact, which a repetition of the run uses, too.
fn artifact_blob(orch: &Orch) -> PathBuf {
    let sql = "SELECT blob FROM events WHERE kind = 'step_completed'";
    let digest: String = open_journal(orch).query_row(sql, [], |row| row.get(0)).unwrap();
    orch.path().join(".orch/blobs").join(&digest[..2]).join(digest)
}

#[test]
fn a_torn_blob_is_reported_and_the_next_run_writes_it_again() {
    let (_server, orch, id) = project_with_blobs();
    let path = artifact_blob(&orch);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (damage, words) in [
        (Some(whole[..whole.len() - 1].to_vec()), "its bytes do not match its name"),
        (Some(flipped), "its bytes do not match its name"),
        (Some(Vec::new()), "its bytes do not match its name"),
        (None, "the file is missing"),
    ] {
        match damage {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        for args in [&["runs", "show", &id][..], &["runs", "export", &id], &["pipeline", "resume", &id]] {
            orch.run(args).exits(2).says(words).says("is damaged").says("restore the `.orch` folder");
        }
        // Commands that need no payload still work, and the same payload repairs the blob.
        assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains(&id));
        let (_, again) = run(&orch, &[]);
        assert_eq!(fs::read(&path).unwrap(), whole);
        orch.run(&["runs", "show", &id]).exits(0);
        orch.run(&["runs", "delete", again["run"].as_str().unwrap()]).exits(0);
    }
    fs::remove_file(&path).unwrap();
    orch.run(&["runs", "delete", &id]).exits(0);
    assert_journal_whole(&orch);
}

#[test]
fn a_corrupt_page_of_the_journal_is_reported_and_not_overwritten() {
    let (_server, orch, _) = project_with_blobs();
    let path = orch.path().join(".orch/journal.db");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let ran = orch.run(&["doctor"]).exits(2);
    assert!(ran.stdout.contains("journal") && ran.stdout.contains("damaged"), "{ran:?}");
    for args in [&["runs", "show"][..], &["runs", "events"], &["runs", "list"]] {
        let ran = orch.run(args);
        let told = ran.code == 2 && ran.stderr.contains("malformed") && ran.stderr.contains("restore the `.orch`");
        assert!(ran.code == 0 || told, "{ran:?}");
    }
    bytes[..100].fill(0);
    fs::write(&path, &bytes).unwrap();
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    orch.run(&args).exits(2).says("file is not a database").says("move it away to start a new journal");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// A project whose run was killed, with the write-ahead log that it left.
#[cfg(unix)]
fn project_with_killed_run() -> (Server, Orch) {
    let server = Server::start(|request| {
        let late = if request.system().contains("two") { Duration::from_secs(30) } else { Duration::ZERO };
        Reply::openai_text(&json!({ "text": "x".repeat(9_000) }).to_string()).delay(late)
    });
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
        ),
    );
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]);
    while server.requests().len() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The start of the attempt is recorded a moment after the request.
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    (server, orch)
}

#[cfg(unix)]
#[test]
fn a_corrupt_end_of_the_write_ahead_log_loses_only_the_last_commits() {
    let (_server, orch) = project_with_killed_run();
    let (state, saved) = (orch.path().join(".orch"), orch.path().join("saved"));
    copy(&state, &saved);
    let wal = fs::read(saved.join("journal.db-wal")).unwrap();
    let events = || -> Vec<Value> {
        let lines = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = events();
    let mut flipped = wal.clone();
    let end = flipped.len() - 100;
    flipped[end] ^= 1;
    // The log is damaged in its last page, torn in its last page, or torn before that.
    for log in [&flipped[..], &wal[..wal.len() - 7], &wal[..wal.len() / 5 * 4]] {
        copy(&saved, &state);
        fs::write(state.join("journal.db-wal"), log).unwrap();
        drop(fs::remove_file(state.join("journal.db-shm")));
        let left = events();
        assert!(left.len() < all.len() && !left.is_empty(), "{} of {}", left.len(), all.len());
        assert_eq!(left[..], all[..left.len()], "what is left is the beginning");
        assert_journal_whole(&orch);
    }
    let quick = answering_server(|_, _| json!({ "text": "y" }));
    let orch = orch.with(&quick);
    // A log that was restored by hand may come from anyone, so its runs are foreign.
    orch.run(&["pipeline", "resume"]).exits(2).says("came from elsewhere");
    let resume = ["pipeline", "resume", "--workspace", "workspace"];
    // orch does not know a file whose record is lost, so it does not overwrite it.
    orch.run(&resume).exits(2).says("was not written by orch");
    // The number of records in a commit, which are lost together, differs from run to run.
    fs::remove_dir_all(orch.path().join("workspace")).unwrap();
    orch.run(&resume).exits(0);
    assert_journal_whole(&orch);
}

#[test]
fn damage_of_the_journal_during_a_run_is_reported_as_such() {
    let (_server, orch, _) = project_with_blobs();
    let path = orch.path().join(".orch/journal.db");
    let file = path.clone();
    let server = Server::start(move |_| {
        // Another writer makes the owner read pages again, which are damaged.
        let other = rusqlite::Connection::open(&file).unwrap();
        other.execute("INSERT INTO inbox (run, body) VALUES ('x', 'y')", []).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes[4096..].fill(0xa5);
        fs::write(&file, &bytes).unwrap();
        Reply::openai_text("1")
    });
    let orch = orch.with(&server);
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    let ran = orch.run(&args).exits(1).says("restore the `.orch` folder from a copy");
    // The page that SQLite reads first determines its message.
    assert!(["malformed", "file is not a database"].iter().any(|told| ran.stderr.contains(told)), "{ran:?}");
    assert!(!ran.stderr.contains("free some space"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn a_write_ahead_log_without_its_journal_is_kept_and_reported() {
    let (_server, orch) = project_with_killed_run();
    let (state, saved) = (orch.path().join(".orch"), orch.path().join("saved"));
    copy(&state, &saved);
    fs::remove_file(state.join("journal.db")).unwrap();
    let wal = fs::read(state.join("journal.db-wal")).unwrap();
    assert!(!wal.is_empty());
    for args in
        [&["runs", "list"][..], &["pipeline", "run", "pipelines/main.yaml", "--task", "x"], &["pipeline", "resume"]]
    {
        orch.run(args).exits(2).says("it is missing, but its write-ahead log").says("restore the `.orch` folder");
    }
    assert_eq!(fs::read(state.join("journal.db-wal")).unwrap(), wal);
    fs::copy(saved.join("journal.db"), state.join("journal.db")).unwrap();
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("interrupted"));
}

#[cfg(unix)]
#[test]
fn a_removed_journal_is_reported_during_a_run_and_no_further_request_is_sent() {
    let folder = std::sync::Arc::new(std::sync::OnceLock::<PathBuf>::new());
    let state = folder.clone();
    let server = Server::start(move |request| {
        if request.system().contains("one") {
            fs::remove_dir_all(state.get().unwrap()).unwrap();
        }
        Reply::openai_text("1")
    });
    let steps = ["plan", "one", "two"]
        .map(|name| format!("  - {{ id: {name}, {AGENT}, prompt: {name}.md, output: of_{name} }}\n"));
    let orch = project(&server, &steps.concat());
    folder.set(orch.path().join(".orch")).unwrap();
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    let ran = orch.run(&args).exits(1).says("was removed or replaced during the run");
    assert_eq!(server.requests().len(), 2, "{ran:?}");
}
