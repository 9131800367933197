//! Files that steps made and that somebody took away before the run went on.

use serde_json::{Value, json};

use crate::control::{answering, asked, project, run};
use crate::support::{Orch, Reply, Server};

/// What `resume --dry-run` says, without its columns' spaces.
fn told(orch: &Orch, more: &[&str]) -> (Vec<String>, String) {
    let ran = orch.run(&[&["pipeline", "resume", "--dry-run"], more].concat()).exits(0);
    let lines = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (lines, ran.stderr)
}

fn resumes(orch: &Orch) -> Vec<Value> {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter_map(|event| event["fact"].get("run_resumed").cloned()).collect()
}

const FILES: &str =
    "[{'path': 'src/a.py', 'content': 'a'}, {'path': 'src/b.py', 'content': 'b'}, {'path': 'had', 'content': 'new'}]";

/// Files are written, a command looks at them, then a model fails until `good` is there.
fn stopped(server: &Server, between: &str) -> Orch {
    let steps = format!(
        "  - {{ id: files, write: \"{FILES}\" }}\n{between}  - {{ id: tests, run: \"ls src; cat had\", output: seen }}\n  - {{ id: one, agent: a, schema: any, prompt: one.md, output: x }}\n"
    );
    let orch = project(server, &steps);
    orch.write("workspace/had", "old");
    orch
}

/// A server that refuses its first question.
fn moody() -> Server {
    let first = std::sync::atomic::AtomicBool::new(true);
    Server::start(move |_| {
        let refuse = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if refuse { Reply::status(400, "{}") } else { Reply::openai_text("1") }
    })
}

fn seen(orch: &Orch) -> Value {
    orch.json("workspace/seen.json")["stdout"].clone()
}

#[test]
fn a_file_of_a_kept_write_that_was_deleted_is_told_and_never_passed_over() {
    let server = moody();
    let orch = stopped(&server, "");
    run(&orch, &[]).0.exits(1);
    assert_eq!(seen(&orch), json!("a.py\nb.py\nnew"));
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    let (lines, notes) = told(&orch, &[]);
    assert_eq!(lines, ["reuse files", "reuse tests", "run one failed: bad_request"]);
    let words = "src/a.py`, which step files wrote, was deleted since this run wrote it";
    assert!(
        notes.contains(words) && notes.contains("--accept-changed") && notes.contains("--discard-changed"),
        "{notes}"
    );
    orch.run(&["pipeline", "resume"]).exits(2).says(words).says("--discard-changed");
    assert_eq!(server.requests().len(), 1);
    // What was recorded is there again, and nothing ran twice.
    let (lines, notes) = told(&orch, &["--discard-changed"]);
    assert!(lines.len() == 3 && notes.contains("would restore the files"), "{lines:?} {notes}");
    assert!(!orch.exists("workspace/src/a.py"), "a rehearsal writes nothing");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/src/a.py"), server.requests().len()), ("a".to_owned(), 2));
    assert_eq!(seen(&orch), json!("a.py\nb.py\nnew"));
}

#[test]
fn going_on_without_a_file_runs_the_steps_again_that_saw_it_and_asks_no_second_time() {
    let server = moody();
    let orch = stopped(&server, "");
    let (_, report) = run(&orch, &[]);
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    std::fs::write(orch.path().join("workspace/src/b.py"), "edited").unwrap();
    let (lines, _) = told(&orch, &["--accept-changed"]);
    assert_eq!(lines[..2], ["reuse files", "run tests workspace changed"]);
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(0);
    assert_eq!(seen(&orch), json!("b.py\nnew"));
    assert_eq!(orch.read("workspace/src/b.py"), "edited", "that is a person's work");
    assert_eq!(resumes(&orch)[0]["missing_files"][0]["path"], "src/a.py");
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!((seen(&orch), server.requests().len()), (json!("b.py\nnew"), 2));
    // Going on once more keeps everything.
    let id = report["run"].as_str().unwrap();
    let ran = orch.run(&["pipeline", "resume", id, "--dry-run"]).exits(0);
    assert!(ran.stdout.lines().all(|line| line.starts_with("reuse")), "{ran:?}");
}

#[test]
fn a_file_that_was_put_back_to_what_it_was_before_the_run_is_told() {
    let server = moody();
    let orch = stopped(&server, "");
    let (_, report) = run(&orch, &[]);
    orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!(orch.read("workspace/had"), "old");
    let ran = orch.run(&["pipeline", "resume"]).exits(2).says("b.py`, which step files wrote, was deleted");
    assert!(ran.stderr.contains("had`, which step files wrote, was reverted to its earlier contents"), "{ran:?}");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/had"), orch.read("workspace/src/b.py")), ("new".to_owned(), "b".to_owned()));
}

#[test]
fn a_workspace_that_is_gone_altogether_is_written_again_when_that_is_said() {
    let server = moody();
    let orch = stopped(&server, "");
    run(&orch, &[]).0.exits(1);
    std::fs::remove_dir_all(orch.path().join("workspace")).unwrap();
    assert!(told(&orch, &[]).1.contains("src/a.py`, which step files wrote, was deleted"));
    orch.run(&["pipeline", "resume"]).exits(2).says("was deleted since this run wrote it");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!((orch.read("workspace/src/b.py"), seen(&orch)), ("b".to_owned(), json!("a.py\nb.py\nnew")));
}

#[test]
fn what_the_run_itself_removed_or_put_back_is_nobodys_concern() {
    let server = moody();
    let orch = stopped(&server, "  - { id: tidy, run: \"rm src/a.py && printf old > had\" }\n");
    orch.edit("pipelines/main.yaml", "agents:", "finally:\n  - { id: last, run: \"rm -f src/b.py\" }\nagents:");
    run(&orch, &[]).0.exits(1);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn files_of_steps_that_run_again_are_nobodys_concern() {
    let server = moody();
    let orch = stopped(&server, "");
    run(&orch, &[]).0.exits(1);
    std::fs::remove_file(orch.path().join("workspace/src/a.py")).unwrap();
    orch.edit("pipelines/main.yaml", "'content': 'b'", "'content': 'c'");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((orch.read("workspace/src/a.py"), orch.read("workspace/src/b.py")), ("a".to_owned(), "c".to_owned()));
}

#[test]
fn an_edit_of_a_file_whose_step_runs_again_is_told_and_goes_on_record() {
    let server = answering(|step, message| json!({ "said": format!("{step} {message}") }));
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, message: first, output: x }\n  - { id: files, write: \"[{'path': 'src/a', 'content': x.said}]\", inputs: [x] }\n",
    );
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap();
    orch.write("workspace/src/a", "by hand\n");
    let notes = |more: &[&str]| orch.run(&[&["pipeline", "resume", id], more].concat()).exits(0).stderr;
    // As long as the step stands the file is a person's.
    assert!(!notes(&[]).contains("was edited"));
    assert_eq!(orch.read("workspace/src/a"), "by hand\n");
    orch.edit("pipelines/main.yaml", "message: first", "message: second");
    let words = "src/a`, which step files wrote, was edited since, and the step may run again";
    assert!(notes(&["--dry-run"]).contains(words));
    assert!(notes(&[]).contains(words));
    assert_eq!(orch.read("workspace/src/a"), "one second");
    assert!(orch.run(&["runs", "diff", id, "--each"]).exits(0).stdout.contains("-by hand"));
}

#[cfg(unix)]
#[test]
fn a_program_that_was_under_way_at_a_kill_may_have_taken_files_away_itself() {
    let server = answering(|_, _| json!(1));
    let slow = "test -e again && exit 0; touch again; rm src/a.py; touch gone; sleep 60";
    let orch = stopped(&server, &format!("  - {{ id: tidy, run: \"{slow}\" }}\n"));
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"]);
    while !orch.exists("workspace/gone") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    orch.run(&["pipeline", "resume"]).exits(0).says("step tidy was running and may have done it");
    orch.run(&["pipeline", "resume", resumes_of(&orch).as_str()]).exits(0);
    assert_eq!(seen(&orch), json!("b.py\nnew"));
}

#[cfg(unix)]
#[test]
fn a_command_that_removes_the_whole_workspace_is_not_taken_for_a_person() {
    let server = moody();
    let orch = stopped(&server, "  - { id: wipe, run: \"cd .. && rm -rf workspace\" }\n");
    orch.edit("pipelines/main.yaml", "  - { id: tests, run: \"ls src; cat had\", output: seen }\n", "");
    run(&orch, &[]).0.exits(1);
    assert!(!orch.exists("workspace"));
    orch.run(&["pipeline", "resume"]).exits(0);
    assert!(!orch.exists("workspace/src/a.py") && orch.exists("workspace/x.json"));
}

#[cfg(unix)]
fn resumes_of(orch: &Orch) -> String {
    let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
    serde_json::from_str::<Value>(&listed.stdout).unwrap()[0]["run"].as_str().unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn files_of_an_agent_program_that_were_deleted_are_written_again_when_that_is_said() {
    let server = Server::start(|request| match asked(request).as_str() {
        "two" => Reply::openai_text("1"),
        _ => Reply::status(400, "{}"),
    });
    let orch = project(
        &server,
        "  - { id: edit, agent: p, schema: any, prompt: one.md, output: edited }\n  - { id: last, agent: a, schema: any, prompt: three.md, output: x }\n",
    );
    orch.write("program.sh", "cat > /dev/null\necho mine > made.txt\necho 1\n");
    let program = orch.path().join("program.sh").display().to_string();
    orch.edit(
        "pipelines/main.yaml",
        "  a: { model: auto }",
        &format!("  a: {{ model: auto }}\n  p: {{ command: [sh, \"{program}\"], tools: [edit] }}"),
    );
    run(&orch, &[]).0.exits(1);
    std::fs::remove_file(orch.path().join("workspace/made.txt")).unwrap();
    orch.run(&["pipeline", "resume"]).exits(2).says("made.txt`, which step edit wrote, was deleted");
    orch.edit("pipelines/main.yaml", "prompt: three.md", "prompt: two.md");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "mine\n");
}
