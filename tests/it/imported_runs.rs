//! Imported and foreign runs: orch writes only in folders that the user names.

use std::fs;

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Server};

const STEPS: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: put, write: made, inputs: [made] }\n";

/// A run that wrote `sub/new.txt`, its export, and its id.
fn project_with_export() -> (Server, Orch, String) {
    let server = answering_server(|_, _| json!([{ "path": "sub/new.txt", "content": "written by the run" }]));
    let orch = project(&server, STEPS);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    orch.run(&["runs", "export", &id, "--to", "run.json"]).exits(0);
    (server, orch, id)
}

/// A project with the export, to import the run into.
fn project_to_import_into(server: &Server, export: &str) -> Orch {
    let orch = project(server, STEPS);
    orch.write("run.json", export);
    orch
}

#[test]
fn an_imported_run_is_reverted_and_resumed_only_in_a_workspace_that_the_user_names() {
    let (server, from, id) = project_with_export();
    let there = from.path().join("workspace/sub/new.txt");
    let orch = project_to_import_into(&server, &from.read("run.json"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    let asked = server.requests().len();
    for args in [
        &["runs", "revert", &id][..],
        &["runs", "revert", &id, "--force"],
        &["runs", "revert", &id, "--dry-run"],
        &["pipeline", "resume", &id],
        &["pipeline", "resume", &id, "--discard-changed"],
    ] {
        orch.run(args).exits(2).says("came from elsewhere").says("--workspace");
    }
    assert!(there.exists() && server.requests().len() == asked);
    // Only the folder that the user names changes.
    orch.write("mine/sub/new.txt", "written by the run").write("mine/kept.txt", "kept");
    orch.run(&["runs", "revert", &id, "--workspace", "mine"]).exits(0);
    assert!(!orch.exists("mine/sub") && orch.exists("mine/kept.txt") && there.exists());
    orch.run(&["pipeline", "resume", &id, "--workspace", "again", "--discard-changed"]);
    assert!(!orch.exists("workspace") && there.exists());
}

#[test]
fn an_imported_run_records_only_into_a_folder_that_the_user_names_and_the_next_command_names_it_again() {
    let server = answering_server(|_, _| json!("made"));
    let steps =
        "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: ask, approve: \"ok?\" }\n";
    let from = project(&server, steps);
    let (ran, report) = run(&from, &["--record", "recordings"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    from.run(&["runs", "export", id, "--to", "run.json"]).exits(0);
    let orch = project(&server, steps);
    orch.write("run.json", &from.read("run.json"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    let ran = orch.run(&["pipeline", "resume", id, "--workspace", "mine"]).exits(3);
    assert!(ran.stderr.contains("this resume records nothing unless you name a folder with --record"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("`orch pipeline resume {id} --workspace mine`")), "{ran:?}");
    assert!(!orch.exists("recordings"));
    let ran = orch.run(&["pipeline", "resume", id, "--workspace", "again", "--record", "recordings"]).exits(3);
    assert!(ran.stderr.contains(&format!("resume {id} --workspace again --record recordings`")), "{ran:?}");
    let resume = format!("`orch pipeline resume {id} --workspace DIR`");
    let shown = orch.run(&["runs", "show", id]).exits(0).stdout;
    assert!(shown.contains(&resume), "{shown}");
    orch.run(&["runs", "approve", id]).exits(0).says(&format!("continue with {resume}"));
}

#[test]
fn an_imported_run_continues_in_the_workspace_that_its_first_resume_used() {
    let server = answering_server(|_, _| json!("made"));
    let steps =
        "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: ask, approve: \"ok?\" }\n";
    let from = project(&server, steps);
    let (ran, report) = run(&from, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    from.run(&["runs", "export", id, "--to", "run.json"]).exits(0);
    let made = from.read("workspace/made.json");
    let orch = project(&server, steps);
    orch.write("run.json", &from.read("run.json"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    let resume_in = |workspace: &str, options: &[&str]| {
        orch.run(&[&["pipeline", "resume", id, "--workspace", workspace], options].concat())
    };
    // A file of the user is in the place of the artifact, also if it has the same bytes.
    orch.write("user/made.json", &made).write("edited/made.json", "\"mine\"\n");
    resume_in("user", &[]).exits(2).says("user/made.json");
    resume_in("edited", &[]).exits(2).says("was changed since this run wrote it");

    for (workspace, options) in [("mine", &[][..]), ("edited", &["--discard-changed"])] {
        resume_in(workspace, options).exits(3);
        assert_eq!(orch.read(&format!("{workspace}/made.json")), made);
        resume_in(workspace, &[]).exits(3);
        // The protection of the user's changes stays.
        orch.write(&format!("{workspace}/made.json"), "\"changed\"\n");
        resume_in(workspace, &[]).exits(2).says("was changed since this run wrote it");
        orch.write(&format!("{workspace}/made.json"), &made);
    }
    resume_in("user", &[]).exits(2).says("user/made.json");
    assert_eq!(orch.read("user/made.json"), made);
    orch.run(&["runs", "approve", id]).exits(0);
    resume_in("mine", &[]).exits(0);
    assert_eq!(server.requests().len(), 1);
    // The record still came from elsewhere.
    orch.run(&["runs", "revert", id]).exits(2).says("came from elsewhere");

    // A run of this machine may continue in another workspace, too.
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let own = report["run"].as_str().unwrap();
    for _ in 0..2 {
        orch.run(&["pipeline", "resume", own, "--workspace", "other"]).exits(3);
    }
}

#[test]
fn an_export_with_paths_outside_of_the_workspace_is_not_imported() {
    let (server, from, _) = project_with_export();
    let export = from.read("run.json");
    assert!(export.contains("sub/new.txt"));
    for path in [
        "../new.txt",
        "sub/../../new.txt",
        "/etc/cron.d/new",
        ".git/hooks/pre-commit",
        ".orch/journal.db",
        ".orch.lock",
        "C:/new.txt",
        "..\\\\new.txt",
        "con",
        "",
    ] {
        let orch = project_to_import_into(&server, &export.replace("sub/new.txt", path));
        orch.run(&["runs", "import", "run.json"]).exits(2).says("can't import").says("nothing was imported");
        assert!(!orch.exists(".orch"), "{path}");
    }
    // The export is also rejected for the path of an artifact.
    for path in ["../made.json", "/tmp/made.json", ".git/config"] {
        let mut record: Value = serde_json::from_str(&export).unwrap();
        let changed = with_paths(&mut record, path);
        assert!(changed > 0);
        let orch = project_to_import_into(&server, &record.to_string());
        orch.run(&["runs", "import", "run.json"]).exits(2).says("can't import");
    }
}

/// The first event of this kind in an export.
fn first_fact<'a>(record: &'a mut Value, kind: &str) -> &'a mut Value {
    let events = record["events"].as_array_mut().unwrap();
    events.iter_mut().find_map(|event| event["fact"].get_mut(kind)).unwrap()
}

/// An export with the record of a program that created these files with the content `made`.
fn export_with_created_files(export: &str, paths: &[&str]) -> String {
    let mut record: Value = serde_json::from_str(export).unwrap();
    let made = json!({ "content": { "text": "made" }, "mode": "4755" });
    let files: Vec<Value> = paths.iter().map(|path| json!({ "path": path, "after": made })).collect();
    let activity = json!({ "changed": paths, "files": { "files": files } });
    first_fact(&mut record, "call_ended")["agent_activity"] = activity;
    record.to_string()
}

#[cfg(unix)]
#[test]
fn the_files_of_a_program_may_have_any_name_in_an_export() {
    let (server, from, id) = project_with_export();
    let names = ["logs/01:05:22.log", "CON", "a\\b", "git~1", "a\nb", ".orch-foo/x", "q/.git"];
    let skipped = [".git/hooks/pre-commit", ".orch/journal.db"];
    let all: Vec<&str> = names.iter().chain(&skipped).copied().collect();
    let orch = project_to_import_into(&server, &export_with_created_files(&from.read("run.json"), &all));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    for name in &all {
        orch.write(&format!("mine/{name}"), "made");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        fs::set_permissions(orch.path().join("mine").join(name), mode).unwrap();
    }
    orch.write("mine/sub/new.txt", "written by the run");
    let ran = orch.run(&["runs", "revert", &id, "--workspace", "mine"]).exits(1);
    assert!(names.iter().all(|name| !orch.exists(&format!("mine/{name}"))), "{ran:?}");
    assert!(skipped.iter().all(|name| orch.exists(&format!("mine/{name}"))), "{ran:?}");
    assert!(ran.stdout.contains("skipped   .orch/journal.db: it is kept for orch's own files"), "{ran:?}");
    assert!(ran.stdout.contains("reverted  a\\nb\n"), "{ran:?}");
    for path in ["../x", "a/../../x", "/etc/x", "", "a//b"] {
        let orch = project_to_import_into(&server, &export_with_created_files(&from.read("run.json"), &[path]));
        orch.run(&["runs", "import", "run.json"]).exits(2).says("can't import").says("nothing was imported");
    }
}

/// Gives every artifact of a record another path; returns how many there are.
fn with_paths(value: &mut Value, path: &str) -> usize {
    match value {
        Value::Object(object) => {
            let own = object.get("path").is_some_and(|found| found == "made.json");
            if own {
                object.insert("path".to_owned(), json!(path));
            }
            object.values_mut().map(|value| with_paths(value, path)).sum::<usize>() + usize::from(own)
        }
        Value::Array(list) => list.iter_mut().map(|value| with_paths(value, path)).sum(),
        _ => 0,
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_named_workspace_is_not_followed() {
    let (server, from, id) = project_with_export();
    let orch = project_to_import_into(&server, &from.read("run.json"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("new.txt"), "written by the run").unwrap();
    fs::create_dir(orch.path().join("mine")).unwrap();
    std::os::unix::fs::symlink(victim.path(), orch.path().join("mine/sub")).unwrap();
    let ran = orch.run(&["runs", "revert", &id, "--workspace", "mine", "--force"]).exits(1);
    assert!(ran.stdout.contains("symbolic link"), "{ran:?}");
    assert!(victim.path().join("new.txt").exists());
}

#[test]
fn results_of_an_imported_run_are_not_reused() {
    let (server, from, _) = project_with_export();
    let orch = project_to_import_into(&server, &from.read("run.json"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    let asked = server.requests().len();
    let (ran, _) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, server.requests().len()), (0, asked + 1), "{ran:?}");
    // orch reuses the results of a run that was made in this journal.
    let (ran, _) = run(&orch, &["--reuse", "--clean"]);
    assert_eq!((ran.code, server.requests().len()), (0, asked + 1), "{ran:?}");
}

#[test]
fn a_foreign_journal_cannot_name_a_workspace_outside_of_the_project() {
    let (_server, orch, id) = project_with_export();
    let outside = tempfile::tempdir().unwrap();
    let outer = outside.path().display().to_string();
    let (ran, report) = run(&orch, &["--workspace", &outer]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let second = report["run"].as_str().unwrap().to_owned();
    // Imitates a clone: the note of the location names another folder.
    orch.write(".orch/location", "/another/place\n");
    orch.run(&["runs", "revert", &second]).exits(2).says("came from elsewhere");
    assert!(outside.path().join("sub/new.txt").exists());
    orch.run(&["runs", "revert", &second, "--workspace", &outer]).exits(0);
    assert!(!outside.path().join("sub").exists());
    orch.run(&["runs", "show", &id]).exits(0);
}

#[cfg(unix)]
#[test]
fn a_recorded_workspace_behind_a_link_out_of_the_project_is_left_alone() {
    let (_server, orch, _) = project_with_export();
    let (_, report) = run(&orch, &["--workspace", "inner/workspace"]);
    let id = report["run"].as_str().unwrap();
    // Imitates a cloned project whose journal claims that orch wrote this file of the user's.
    let victim = tempfile::tempdir().unwrap();
    fs::rename(orch.path().join("inner/workspace"), victim.path().join("workspace")).unwrap();
    fs::remove_dir(orch.path().join("inner")).unwrap();
    std::os::unix::fs::symlink(victim.path(), orch.path().join("inner")).unwrap();
    for args in [&["runs", "revert", id, "--force"][..], &["pipeline", "resume", id, "--discard-changed"]] {
        orch.run(args).exits(2).says("link that leads out of the project").says("--workspace");
    }
    assert!(victim.path().join("workspace/sub/new.txt").exists());
}
