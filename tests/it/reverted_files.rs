//! Files that steps created, and that somebody deleted or reverted before the run was resumed.

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, prompt_name, run};
use crate::support::{Orch, Reply, Server};

/// The lines of `resume --dry-run` with single spaces between the columns, and its notes.
fn dry_run(orch: &Orch, more: &[&str]) -> (Vec<String>, String) {
    let ran = orch.run(&[&["pipeline", "resume", "--dry-run"], more].concat()).exits(0);
    let lines = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (lines, ran.stderr)
}

fn resume_facts(orch: &Orch) -> Vec<Value> {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter_map(|event| event["fact"].get("run_resumed").cloned()).collect()
}

const FILES: &str =
    "[{'path': 'src/a.py', 'content': 'a'}, {'path': 'src/b.py', 'content': 'b'}, {'path': 'had', 'content': 'new'}]";

/// A step writes files, a command reads them, and then a model fails until the file `good` exists.
fn project_with_failed_run(server: &Server, between: &str) -> Orch {
    let steps = format!(
        "  - {{ id: files, write: \"{FILES}\" }}\n{between}  - {{ id: tests, run: \"ls src; cat had\", output: seen }}\n  - {{ id: one, agent: a, schema: any, prompt: one.md, output: x }}\n"
    );
    let orch = project(server, &steps);
    orch.write("workspace/had", "old");
    orch
}

/// A server that rejects its first request.
fn server_with_one_failure() -> Server {
    let first = std::sync::atomic::AtomicBool::new(true);
    Server::start(move |_| {
        let refuse = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if refuse { Reply::status(400, "{}") } else { Reply::openai_text("1") }
    })
}

fn seen_files(orch: &Orch) -> Value {
    orch.json("workspace/seen.json")["stdout"].clone()
}

#[test]
fn a_deleted_file_of_a_kept_write_is_reported_and_must_be_decided() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    run(&orch, &[]).0.exits(1);
    assert_eq!(seen_files(&orch), json!("a.py\nb.py\nnew"));
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    let (lines, notes) = dry_run(&orch, &[]);
    assert_eq!(lines, ["reuse files", "reuse tests", "run one failed: bad_request"]);
    let words = "src/a.py`, which step `files` wrote, was deleted since this run wrote it";
    assert!(
        notes.contains(words) && notes.contains("--accept-changed") && notes.contains("--discard-changed"),
        "{notes}"
    );
    orch.run(&["pipeline", "resume"]).exits(2).says(words).says("--discard-changed");
    assert_eq!(server.requests().len(), 1);
    // orch restores the recorded file, and runs no step twice.
    let (lines, notes) = dry_run(&orch, &["--discard-changed"]);
    assert!(lines.len() == 3 && notes.contains("would restore the files"), "{lines:?} {notes}");
    assert!(!orch.exists("workspace/src/a.py"), "a rehearsal writes nothing");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/src/a.py"), server.requests().len()), ("a".to_owned(), 2));
    assert_eq!(seen_files(&orch), json!("a.py\nb.py\nnew"));
}

#[test]
fn accepting_a_missing_file_repeats_the_steps_that_saw_it_and_asks_only_once() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    let (_, report) = run(&orch, &[]);
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    std::fs::write(orch.path().join("workspace/src/b.py"), "edited").unwrap();
    let (lines, _) = dry_run(&orch, &["--accept-changed"]);
    assert_eq!(lines[..2], ["reuse files", "run tests workspace changed"]);
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(0);
    assert_eq!(seen_files(&orch), json!("b.py\nnew"));
    assert_eq!(orch.read("workspace/src/b.py"), "edited", "that is a person's work");
    assert_eq!(resume_facts(&orch)[0]["missing_files"][0]["path"], "src/a.py");
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!((seen_files(&orch), server.requests().len()), (json!("b.py\nnew"), 2));
    // Another resume keeps everything.
    let id = report["run"].as_str().unwrap();
    let ran = orch.run(&["pipeline", "resume", id, "--dry-run"]).exits(0);
    assert!(ran.stdout.lines().all(|line| line.starts_with("reuse")), "{ran:?}");
}

#[test]
fn a_file_that_was_reverted_to_its_content_before_the_run_is_reported() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    let (_, report) = run(&orch, &[]);
    orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!(orch.read("workspace/had"), "old");
    let ran = orch.run(&["pipeline", "resume"]).exits(2).says("b.py`, which step `files` wrote, was deleted");
    assert!(ran.stderr.contains("had`, which step `files` wrote, was reverted to its earlier contents"), "{ran:?}");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/had"), orch.read("workspace/src/b.py")), ("new".to_owned(), "b".to_owned()));
}

#[test]
fn an_entry_in_the_place_of_a_file_is_reported_and_must_be_decided() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    run(&orch, &[]).0.exits(1);
    let path = orch.path().join("workspace/src/a.py");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let words = "src/a.py`, which step `files` wrote, was changed (it is a folder, not a file) since this run wrote it";
    let (lines, notes) = dry_run(&orch, &[]);
    assert!(lines[0] == "reuse files" && notes.contains(words), "{lines:?} {notes}");
    orch.run(&["pipeline", "resume"]).exits(2).says(words).says("--accept-changed");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(2).says("remove the conflicting files");
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(0);
    assert!(path.is_dir());
}

#[test]
fn a_deleted_workspace_is_restored_with_discard_changed() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    run(&orch, &[]).0.exits(1);
    std::fs::remove_dir_all(orch.path().join("workspace")).unwrap();
    assert!(dry_run(&orch, &[]).1.contains("src/a.py`, which step `files` wrote, was deleted"));
    orch.run(&["pipeline", "resume"]).exits(2).says("was deleted since this run wrote it");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/src/b.py"), seen_files(&orch)), ("b".to_owned(), json!("a.py\nb.py\nnew")));
}

#[test]
fn files_that_the_run_itself_removed_or_reverted_are_not_reported() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "  - { id: tidy, run: \"rm src/a.py && printf old > had\" }\n");
    orch.edit("pipelines/main.yaml", "agents:", "finally:\n  - { id: last, run: \"rm -f src/b.py\" }\nagents:");
    run(&orch, &[]).0.exits(1);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn entries_that_the_run_itself_put_in_the_place_of_files_are_not_reported() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "  - { id: swap, run: \"rm src/a.py && mkdir src/a.py\" }\n");
    run(&orch, &[]).0.exits(1);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert!(orch.path().join("workspace/src/a.py").is_dir());
}

#[test]
fn an_artifact_file_that_the_run_itself_deleted_is_written_again() {
    let server = server_with_one_failure();
    let orch = project(
        &server,
        "  - { id: list, run: echo 1, output: list, schema: text }\n  - { id: tidy, run: rm list.md }\n  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n",
    );
    run(&orch, &[]).0.exits(1);
    assert!(!orch.exists("workspace/list.md"));
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/list.md"), "1\n");
}

#[test]
fn missing_files_of_steps_that_run_again_are_not_reported() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "");
    run(&orch, &[]).0.exits(1);
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    orch.edit("pipelines/main.yaml", "'content': 'b'", "'content': 'c'");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((orch.read("workspace/src/a.py"), orch.read("workspace/src/b.py")), ("a".to_owned(), "c".to_owned()));
}

#[test]
fn an_edit_of_a_file_whose_step_runs_again_is_reported_and_recorded() {
    let server = answering_server(|step, message| json!({ "said": format!("{step} {message}") }));
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, message: first, output: x }\n  - { id: files, write: \"[{'path': 'src/a', 'content': x.said}]\", inputs: [x] }\n",
    );
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap();
    orch.write("workspace/src/a", "by hand\n");
    let notes = |more: &[&str]| orch.run(&[&["pipeline", "resume", id], more].concat()).exits(0).stderr;
    // While the result of the step is kept, the user's edit stays.
    assert!(!notes(&[]).contains("was changed"));
    assert_eq!(orch.read("workspace/src/a"), "by hand\n");
    orch.edit("pipelines/main.yaml", "message: first", "message: second");
    let words = "src/a`, which step `files` wrote, was changed since, and the step may run again";
    assert!(notes(&["--dry-run"]).contains(words));
    assert!(notes(&[]).contains(words));
    assert_eq!(orch.read("workspace/src/a"), "one second");
    assert!(orch.run(&["runs", "diff", id, "--each"]).exits(0).stdout.contains("-by hand"));
}

#[cfg(unix)]
#[test]
fn files_that_a_killed_command_removed_must_be_decided() {
    let server = answering_server(|_, _| json!(1));
    let slow = "test -e again && exit 0; touch again; rm src/a.py; touch gone; sleep 60";
    let orch = project_with_failed_run(&server, &format!("  - {{ id: tidy, run: \"{slow}\" }}\n"));
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"]);
    while !orch.exists("workspace/gone") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let words = "src/a.py`, which step `files` wrote, was deleted since this run wrote it";
    orch.run(&["pipeline", "resume"]).exits(2).says(words).says("--accept-changed");
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(0);
    orch.run(&["pipeline", "resume", latest_run_id(&orch).as_str()]).exits(0);
    assert_eq!(seen_files(&orch), json!("b.py\nnew"));
}

/// Adds the agent `p`, which is a shell script.
#[cfg(unix)]
fn add_program_agent(orch: &Orch, script: &str) {
    orch.write("program.sh", script);
    let program = orch.path().join("program.sh").display().to_string();
    orch.edit(
        "pipelines/main.yaml",
        "  a: { model: auto }",
        &format!("  a: {{ model: auto }}\n  p: {{ command: [sh, \"{program}\"], tools: [edit] }}"),
    );
    orch.disable_unsupported_sandboxes();
}

#[cfg(unix)]
#[test]
fn files_that_a_killed_turn_removed_are_not_reported() {
    let server = answering_server(|_, _| json!(1));
    let orch =
        project_with_failed_run(&server, "  - { id: edit, agent: p, schema: any, prompt: one.md, output: edited }\n");
    let hangs_once =
        "cat > /dev/null\nif [ -e again ]; then echo 1; exit; fi\ntouch again; rm src/a.py; touch gone; sleep 60\n";
    add_program_agent(&orch, hangs_once);
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"]);
    while !orch.exists("workspace/gone") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The resume compares the workspace with its state before the turn.
    orch.run(&["pipeline", "resume"]).exits(0).says("a turn of step `edit` was interrupted");
    assert_eq!(seen_files(&orch), json!("b.py\nnew"));
}

#[cfg(unix)]
#[test]
fn a_command_that_removes_the_whole_workspace_is_not_reported_as_a_user() {
    let server = server_with_one_failure();
    let orch = project_with_failed_run(&server, "  - { id: wipe, run: \"cd .. && rm -rf workspace\" }\n");
    orch.edit("pipelines/main.yaml", "  - { id: tests, run: \"ls src; cat had\", output: seen }\n", "");
    run(&orch, &[]).0.exits(1);
    assert!(!orch.exists("workspace"));
    orch.run(&["pipeline", "resume"]).exits(0);
    assert!(!orch.exists("workspace/src/a.py") && orch.exists("workspace/x.json"));
}

#[cfg(unix)]
fn latest_run_id(orch: &Orch) -> String {
    let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
    serde_json::from_str::<Value>(&listed.stdout).unwrap()[0]["run"].as_str().unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn deleted_files_of_an_agent_program_are_restored_with_discard_changed() {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "two" => Reply::openai_text("1"),
        _ => Reply::status(400, "{}"),
    });
    let orch = project(
        &server,
        "  - { id: edit, agent: p, schema: any, prompt: one.md, output: edited }\n  - { id: last, agent: a, schema: any, prompt: three.md, output: x }\n",
    );
    add_program_agent(&orch, "cat > /dev/null\necho mine > made.txt\necho 1\n");
    run(&orch, &[]).0.exits(1);
    std::fs::remove_file(orch.path().join("workspace/made.txt")).unwrap();
    orch.run(&["pipeline", "resume"]).exits(2).says("made.txt`, which step `edit` wrote, was deleted");
    orch.edit("pipelines/main.yaml", "prompt: three.md", "prompt: two.md");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "mine\n");
}

/// Asserts that the changes of both attempts of a step count: of the first one, which changed `first.txt` and created
/// `both.txt`, and of the second one, which created `second.txt` and changed `both.txt`.
#[cfg(unix)]
#[track_caller]
pub(crate) fn assert_both_attempts_count(orch: &Orch, step: &str) {
    let (id, _) = crate::kill::latest_run(orch).unwrap();
    let contents = || {
        ["first", "second", "both"].map(|name| {
            let path = format!("workspace/{name}.txt");
            orch.exists(&path).then(|| orch.read(&path))
        })
    };
    let written = ["one\n", "two\n", "whole\n"].map(|text| Some(text.to_owned()));
    let original = [Some("old\n".to_owned()), None, None];
    assert_eq!(contents(), written);
    let diff = orch.run(&["runs", "diff", &id]).exits(0).stdout;
    for part in ["-old\n+one\n", "+++ b/second.txt\n@@ -0,0 +1 @@\n+two\n", "+++ b/both.txt\n@@ -0,0 +1 @@\n+whole\n"] {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    orch.run(&["runs", "revert", &id, "--dry-run"]).exits(0);
    orch.run(&["runs", "revert", &id]).exits(0);
    assert_eq!(contents(), original);
    let asked = orch.run(&["pipeline", "resume", &id]).exits(2);
    let changes =
        [("first", "was reverted to its earlier contents"), ("second", "was deleted"), ("both", "was deleted")];
    for (name, change) in changes {
        let words = format!("{name}.txt`, which step `{step}` wrote, {change}");
        assert!(asked.stderr.contains(&words), "{words}: {asked:?}");
    }
    orch.run(&["pipeline", "resume", &id, "--discard-changed"]).exits(0);
    assert_eq!(contents(), written);
    orch.run(&["runs", "revert", &id]).exits(0);
    orch.run(&["pipeline", "resume", &id, "--accept-changed"]).exits(0);
    assert_eq!(contents(), original);
    orch.run(&["pipeline", "resume", &id]).exits(0);
}

/// A project whose CLI agent fails in its first attempt, after it wrote files.
#[cfg(unix)]
fn project_with_failing_program(server: &Server, step_keys: &str) -> Orch {
    let orch = project(
        server,
        &format!("  - {{ id: edit, agent: p, schema: any, prompt: one.md, output: edited{step_keys} }}\n"),
    );
    orch.write("workspace/first.txt", "old\n");
    orch.write(
        "program.sh",
        "cat > /dev/null\nif [ -e both.txt ]; then echo two > second.txt; echo whole > both.txt; echo 1; exit; fi\necho one > first.txt; echo half > both.txt; exit 3\n",
    );
    let program = orch.path().join("program.sh").display().to_string();
    orch.edit(
        "pipelines/main.yaml",
        "  a: { model: auto }",
        &format!("  p: {{ command: [sh, \"{program}\"], tools: [edit] }}"),
    );
    orch.disable_unsupported_sandboxes();
    orch
}

#[cfg(unix)]
#[test]
fn the_changes_of_a_failed_turn_and_of_the_next_one_count() {
    let server = answering_server(|_, _| json!(1));
    let orch = project_with_failing_program(&server, "");
    run(&orch, &[]).0.exits(1);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_both_attempts_count(&orch, "edit");
}

#[cfg(unix)]
#[test]
fn the_changes_of_a_turn_and_of_its_retry_count() {
    let server = answering_server(|_, _| json!(1));
    let retry = ", retry: { max: 2, on: [agent_error], backoff: 1ms }";
    let orch = project_with_failing_program(&server, retry);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["steps"][0]["attempts"]), (0, &json!(2)), "{ran:?}");
    assert_both_attempts_count(&orch, "edit");
}

#[test]
fn the_files_of_an_earlier_execution_of_a_write_step_count() {
    let server = answering_server(|_, message| {
        let message = message.trim();
        let second = json!({ "path": "both.txt", "content": format!("{message}\n") });
        if message == "again" { json!([second]) } else { json!([{ "path": "first.txt", "content": "one\n" }, second]) }
    });
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, message: once, output: x }\n  - { id: files, write: x, inputs: [x] }\n",
    );
    orch.write("workspace/first.txt", "old\n");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    orch.edit("pipelines/main.yaml", "message: once", "message: again");
    orch.run(&["pipeline", "resume", id]).exits(0);
    let contents = || (orch.read("workspace/first.txt"), orch.exists("workspace/both.txt"));
    assert_eq!((contents(), orch.read("workspace/both.txt")), (("one\n".to_owned(), true), "again\n".to_owned()));
    let diff = orch.run(&["runs", "diff", id]).exits(0).stdout;
    assert!(diff.contains("-old\n+one\n") && diff.contains("+again\n") && !diff.contains("+once\n"), "{diff}");
    orch.run(&["runs", "revert", id]).exits(0);
    assert_eq!(contents(), ("old\n".to_owned(), false));
    let asked = orch.run(&["pipeline", "resume", id]).exits(2).says("both.txt`, which step `files` wrote, was deleted");
    assert!(asked.stderr.contains("first.txt`, which step `files` wrote, was reverted"), "{asked:?}");
    orch.run(&["pipeline", "resume", id, "--discard-changed"]).exits(0);
    assert_eq!((contents(), orch.read("workspace/both.txt")), (("one\n".to_owned(), true), "again\n".to_owned()));
}
