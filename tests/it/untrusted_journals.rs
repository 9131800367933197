//! Untrusted journals: a project brings its `.orch` folder from version control, an archive or a pull.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, RunOutput, Server};

const STEPS: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: put, write: made, inputs: [made] }\n";

/// A project with a run that wrote `sub/new.txt`, and the id of that run.
fn project_with_run() -> (Server, Orch, String) {
    let server = answering_server(|_, _| json!([{ "path": "sub/new.txt", "content": "written by the run" }]));
    let orch = project(&server, STEPS);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    (server, orch, id)
}

fn open_journal(folder: &Path) -> Connection {
    Connection::open(folder.join(".orch/journal.db")).unwrap()
}

/// Changes the event that starts each recorded run.
fn edit_run_starts(folder: &Path, change: impl Fn(&mut Value)) {
    let journal = open_journal(folder);
    let mut rows = journal.prepare("SELECT id, body FROM events WHERE kind = 'run_started'").unwrap();
    let rows: Vec<(i64, String)> =
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (id, body) in rows {
        let mut fact: Value = serde_json::from_str(&body).unwrap();
        change(&mut fact["run_started"]);
        journal.execute("UPDATE events SET body = ?2 WHERE id = ?1", rusqlite::params![id, fact.to_string()]).unwrap();
    }
}

/// Imitates a clone by git: writes every file of `.orch` anew, with the same content.
fn rewrite_state_folder(folder: &Path) {
    let (from, to) = (folder.join(".orch"), folder.join(".orch.clone"));
    copy(&from, &to);
    fs::remove_dir_all(&from).unwrap();
    fs::rename(&to, &from).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            assert!(fs::copy(entry.path(), target).is_ok());
        }
    }
}

fn run_in(orch: &Orch, folder: &Path, args: &[&str]) -> RunOutput {
    RunOutput::of(&orch.command(args).current_dir(folder).output().unwrap())
}

#[test]
fn a_forged_journal_cannot_claim_that_its_runs_are_from_this_machine() {
    // Each forges what the project's record, the table, the event or the note of the location says.
    type Forge = fn(&Path, &str, &str);
    let forged: [(&str, Forge); 7] = [
        ("as it is", |_, _, _| {}),
        ("a workspace elsewhere in both", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
            open_journal(folder).execute("UPDATE runs SET workspace = ?1", [outside]).unwrap();
        }),
        ("a workspace inside in the table, one elsewhere in the event", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
        }),
        ("no row in the table", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
            open_journal(folder).execute("UPDATE runs SET run = upper(run)", []).unwrap();
        }),
        ("the right place in the note", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
            fs::write(folder.join(".orch/location"), format!("{}\n", folder.display())).unwrap();
        }),
        ("a note that puts the workspace inside", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
            let note = format!("{}\n-\n{}\n", Path::new(outside).parent().unwrap().display(), "0".repeat(64));
            fs::write(folder.join(".orch/location"), note).unwrap();
        }),
        ("no note", |folder, outside, _| {
            edit_run_starts(folder, |start| start["workspace"] = json!(outside));
            fs::remove_file(folder.join(".orch/location")).unwrap();
        }),
    ];
    for (what, forge) in forged {
        let (server, orch, id) = project_with_run();
        let victim = tempfile::tempdir().unwrap();
        fs::create_dir(victim.path().join("sub")).unwrap();
        fs::write(victim.path().join("sub/new.txt"), "written by the run").unwrap();
        forge(orch.path(), &victim.path().display().to_string(), &id);
        rewrite_state_folder(orch.path());
        let asked = server.requests().len();
        for args in [
            &["runs", "revert", &id, "--dry-run"][..],
            &["runs", "revert", &id],
            &["runs", "revert", &id, "--force"],
            &["pipeline", "resume", &id],
            &["pipeline", "resume", &id, "--discard-changed"],
        ] {
            let ran = orch.run(args).exits(2);
            let unknown = what == "no row in the table" && ran.stderr.contains("there is no run");
            assert!(unknown || ran.stderr.contains("came from elsewhere"), "{what}: {ran:?}");
        }
        assert!(victim.path().join("sub/new.txt").exists() && orch.exists("workspace/sub/new.txt"), "{what}");
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 1, "{what}");
        assert_eq!(server.requests().len(), asked, "{what}");
        // orch does not reuse the results of the foreign run either: it asks for each again.
        let (ran, _) = run(&orch, &["--reuse", "--workspace", "again"]);
        assert_eq!((ran.code, server.requests().len()), (0, asked + 1), "{what}: {ran:?}");
        // This run was made here, so orch reuses its results, although it is in the same journal.
        let (ran, report) = run(&orch, &["--reuse", "--workspace", "again"]);
        assert_eq!((ran.code, server.requests().len()), (0, asked + 1), "{what}: {ran:?}");
        orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
    }
}

#[test]
fn a_plan_reuses_no_results_of_a_foreign_journal() {
    let (_server, orch, _) = project_with_run();
    let plan = ["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--reuse"];
    let words = orch.run(&plan).exits(0).stdout;
    rewrite_state_folder(orch.path());
    assert_ne!(orch.run(&plan).exits(0).stdout, words);
}

#[test]
fn every_command_refuses_a_journal_with_views_or_triggers() {
    for (name, sql) in [
        ("foreign_runs", "DROP TABLE foreign_runs; CREATE VIEW foreign_runs AS SELECT 'x' AS run WHERE 0;"),
        ("forget", "CREATE TRIGGER forget AFTER INSERT ON foreign_runs BEGIN DELETE FROM foreign_runs; END;"),
        ("more", "CREATE TABLE more (x);"),
        ("runs_by_start", "DROP INDEX runs_by_start;"),
        ("runs", "ALTER TABLE runs ADD COLUMN note TEXT;"),
    ] {
        let (_server, orch, id) = project_with_run();
        open_journal(orch.path()).execute_batch(sql).unwrap();
        let told = format!("orch creates no table, index, view or trigger like its `{name}`");
        for args in [
            &["runs", "list"][..],
            &["runs", "show", &id],
            &["runs", "revert", &id],
            &["pipeline", "resume", &id],
            &["pipeline", "run", "pipelines/main.yaml", "--task", "x"],
            &["pipeline", "plan", "pipelines/main.yaml", "--task", "x", "--reuse"],
            &["runs", "gc", "--keep", "0"],
        ] {
            orch.run(args).exits(2).says(&told).says("move the `.orch` folder away");
        }
        let ran = orch.run(&["doctor"]).exits(2);
        assert!(ran.stdout.contains(&told) && ran.stdout.contains("move the `.orch` folder away"), "{ran:?}");
        // Following the advice literally helps.
        fs::rename(orch.path().join(".orch"), orch.path().join("away")).unwrap();
        orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--clean", "--workspace", "w"]).exits(0);
    }
}

#[test]
fn a_foreign_run_uses_no_other_project_and_no_other_agreement() {
    let (server, trusted, _) = project_with_run();
    let settings = trusted.read("orch.yaml");
    trusted.write(
        "orch.yaml",
        &format!("{settings}tracker: {{ webhook: {{ url: \"{}/told\", secret: {{ env: TOLD }} }} }}\n", server.url()),
    );
    trusted.trust();
    let there = trusted.path().canonicalize().unwrap();
    for file in [there.join("pipelines/main.yaml").display().to_string(), "pipelines/main.yaml".to_owned()] {
        let (_server, orch, id) = project_with_run();
        edit_run_starts(orch.path(), |start| {
            start["root"] = json!(there);
            start["file"] = json!(file);
            start["workspace"] = json!(there.join("workspace"));
        });
        rewrite_state_folder(orch.path());
        let asked = server.requests().len();
        // The command uses the configuration of the user who trusts the other project.
        let resume = |more: &[&str]| {
            let args = [&["pipeline", "resume", &id, "--from", "one"], more].concat();
            RunOutput::of(
                &trusted.command(&args).current_dir(orch.path()).env("TOLD", "0123456789abcdef").output().unwrap(),
            )
        };
        resume(&[]).exits(2);
        let ran = resume(&["--workspace", "mine", "--discard-changed"]);
        if Path::new(&file).is_absolute() {
            assert!(ran.code == 2 && ran.stderr.contains("is not in this project"), "{ran:?}");
        } else {
            assert!(ran.code == 0 && orch.exists("mine/sub/new.txt"), "{ran:?}");
        }
        assert_eq!(server.requests().len(), asked, "the other project's server heard nothing");
    }
}

#[test]
fn a_foreign_write_ahead_log_makes_all_runs_foreign() {
    let (_server, orch, id) = project_with_run();
    // The log is complete and fits a database with the same pages, so SQLite reads it.
    let other = tempfile::tempdir().unwrap();
    copy(&orch.path().join(".orch"), &other.path().join(".orch"));
    let forged = open_journal(other.path());
    forged.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE runs SET pipeline = 'forged';").unwrap();
    let log = other.path().join(".orch/journal.db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    fs::copy(&log, orch.path().join(".orch/journal.db-wal")).unwrap();
    assert!(orch.run(&["runs", "list"]).exits(0).stdout.contains("forged"), "the log was taken in");
    orch.run(&["runs", "revert", &id]).exits(2).says("came from elsewhere");
}

#[test]
fn the_write_ahead_log_of_a_killed_process_makes_no_run_foreign() {
    let (_server, orch, id) = project_with_run();
    // As after a kill, the log and its index stay.
    let reader = open_journal(orch.path());
    reader.query_row("SELECT count(*) FROM events", [], |_| Ok(())).unwrap();
    let (ran, report) = run(&orch, &["--clean"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(fs::metadata(orch.path().join(".orch/journal.db-wal")).unwrap().len() > 0);
    orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
    drop(reader);
    orch.run(&["pipeline", "resume", &id, "--discard-changed"]);
    orch.run(&["runs", "revert", &id]).exits(0);
}

#[test]
fn own_runs_are_resumed_and_reverted_after_the_project_was_moved() {
    let (server, outer, _) = project_with_run();
    let (one, two) = (outer.path().join("one"), outer.path().join("two"));
    for name in ["orch.yaml", "pipelines", "prompts"] {
        fs::create_dir_all(&one).unwrap();
        if outer.path().join(name).is_dir() {
            copy(&outer.path().join(name), &one.join(name));
        } else {
            fs::copy(outer.path().join(name), one.join(name)).unwrap();
        }
    }
    let outside = tempfile::tempdir().unwrap();
    let named = outside.path().display().to_string();
    let start = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];
    let id = |folder: &Path| -> String {
        let listed = run_in(&outer, folder, &["runs", "list", "--output", "json"]).exits(0).stdout;
        serde_json::from_str::<Value>(&listed).unwrap()[0]["run"].as_str().unwrap().to_owned()
    };
    run_in(&outer, &one, &start).exits(0);
    let inner_run = id(&one);
    run_in(&outer, &one, &[&start[..], &["--workspace", &named]].concat()).exits(0);
    let outer_run = id(&one);
    let asked = server.requests().len();
    fs::rename(&one, &two).unwrap();
    run_in(&outer, &two, &["pipeline", "resume", &inner_run]).exits(0);
    run_in(&outer, &two, &[&start[..], &["--reuse", "--clean"]].concat()).exits(0);
    assert_eq!(server.requests().len(), asked, "results are taken over");
    run_in(&outer, &two, &["runs", "revert", &outer_run]).exits(0);
    assert!(!outside.path().join("sub").exists() && two.join("workspace/sub/new.txt").exists());
    // Another project with its own journal does not know the run.
    fs::create_dir(&one).unwrap();
    for name in ["orch.yaml", "pipelines", "prompts"] {
        let (from, to) = (two.join(name), one.join(name));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
    run_in(&outer, &one, &start).exits(0);
    let third = id(&one);
    run_in(&outer, &two, &["runs", "revert", &third]).exits(2).says("there is no run");
    run_in(&outer, &one, &["runs", "revert", &third]).exits(0);
    assert!(two.join("workspace/sub/new.txt").exists());
}

#[test]
fn the_location_note_of_another_own_journal_is_not_accepted() {
    let (_server, one, _) = project_with_run();
    let (_other, two, id) = project_with_run();
    fs::copy(one.path().join(".orch/location"), two.path().join(".orch/location")).unwrap();
    two.run(&["runs", "revert", &id]).exits(2).says("came from elsewhere");
}

#[test]
fn without_a_folder_for_the_key_every_run_counts_as_foreign() {
    let (_server, orch, id) = project_with_run();
    let bare = |args: &[&str]| {
        let mut command = orch.command(args);
        command.env_remove("XDG_CONFIG_HOME").env_remove("HOME");
        RunOutput::of(&command.output().unwrap())
    };
    let why = "neither XDG_CONFIG_HOME nor HOME is set";
    bare(&["runs", "revert", &id]).exits(2).says(why).says("--workspace");
    let ran =
        bare(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--reuse", "--clean"]).exits(0).says(why);
    assert_eq!(ran.stderr.matches(why).count(), 1, "{ran:?}");
    bare(&["runs", "show", &id]).exits(0);
    // A relative path could be a folder of the project.
    let ran = RunOutput::of(
        &orch.command(&["runs", "revert", &id]).env("XDG_CONFIG_HOME", "config").env_remove("HOME").output().unwrap(),
    );
    assert!(ran.code == 2 && ran.stderr.contains(why) && !orch.exists("config"), "{ran:?}");
    // With the key, orch recognizes the run again.
    orch.run(&["runs", "revert", &id, "--force"]).exits(0);
    let key = orch.configuration().join("orch/journal.key");
    fs::write(&key, "short").unwrap();
    orch.run(&["runs", "revert", &id]).exits(2).says("journal.key").says("remove it");
    fs::remove_file(&key).unwrap();
    orch.run(&["runs", "revert", &id]).exits(2).says("came from elsewhere");
}

#[test]
fn an_answer_resumes_no_foreign_run_and_says_how() {
    let server = answering_server(|_, _| json!({ "a": 1 }));
    let orch = project(&server, "  - { id: sure, approve: \"Go on?\" }\n  - { id: two, run: [touch, ran] }\n");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    rewrite_state_folder(orch.path());
    let ran = orch.run(&["runs", "approve", id, "--resume"]).exits(2).says("answer without --resume");
    assert!(!ran.stderr.contains("is approved"), "{ran:?}");
    orch.run(&["runs", "approve", id]).exits(0);
    orch.run(&["pipeline", "resume", id, "--workspace", "workspace"]).exits(0);
    assert!(orch.exists("workspace/ran"));
}

#[test]
fn an_import_with_too_many_values_is_refused_before_it_is_parsed() {
    let (_server, orch, id) = project_with_run();
    orch.run(&["runs", "export", &id, "--to", "run.json"]).exits(0);
    let export = orch.read("run.json");
    let many = format!("[{}0]", "0,".repeat(5_000_000));
    orch.write("many.json", &export.replacen("\"do it\"", &many, 1));
    let ran = orch.run(&["runs", "import", "many.json", "--state", "other"]).exits(2);
    assert!(ran.stderr.contains("more than 5000000 values") && !orch.exists("other"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn pipes_in_place_of_files_and_rollback_journals_are_refused() {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db-journal", "location", ".gitignore"] {
        let (_server, orch, id) = project_with_run();
        let path = orch.path().join(".orch").join(name);
        drop(fs::remove_file(&path));
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let told = format!("`{name}` is not a regular file");
        for args in [
            &["runs", "list"][..],
            &["runs", "revert", &id],
            &["pipeline", "run", "pipelines/main.yaml", "--task", "x"],
        ] {
            orch.run(args).exits(2).says(&told).says("move the `.orch` folder away");
        }
        assert!(orch.run(&["doctor"]).exits(2).stdout.contains(&told));
    }
    let (_server, orch, id) = project_with_run();
    let path = orch.path().join(".orch/journal.db-journal");
    fs::write(&path, "").unwrap();
    orch.run(&["runs", "show", &id]).exits(0);
    // The header of a hot journal, as far as SQLite reads it.
    fs::write(&path, [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7].repeat(64)).unwrap();
    for args in [&["runs", "show", &id][..], &["pipeline", "resume", &id], &["runs", "revert", &id]] {
        orch.run(args).exits(2).says("`journal.db-journal` lies beside it").says("move the `.orch` folder away");
    }
    assert!(orch.run(&["doctor"]).exits(2).stdout.contains("lies beside it"));
}

#[cfg(unix)]
#[test]
fn a_journal_that_is_too_large_is_not_copied_and_a_signal_leaves_no_copy() {
    let (_server, orch, _) = project_with_run();
    let temporary = tempfile::tempdir().unwrap();
    let log = orch.path().join(".orch/journal.db-wal");
    let doctor = || {
        let mut command = orch.command(&["doctor"]);
        command
            .env("TMPDIR", temporary.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command
    };
    fs::File::create(&log).unwrap().set_len(2 << 30).unwrap();
    let ran = RunOutput::of(&doctor().output().unwrap()).exits(2);
    assert!(ran.stdout.contains("orch must copy it"), "{ran:?}");
    // The log has almost the maximum size, so that the signal arrives while orch copies it.
    fs::File::create(&log).unwrap().set_len(900 << 20).unwrap();
    let mut child = doctor().spawn().unwrap();
    let copies = || fs::read_dir(temporary.path()).unwrap().count();
    while copies() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.code() == Some(130) || ended.success() || ended.code() == Some(2), "{ended}");
    assert_eq!(copies(), 0);
}
