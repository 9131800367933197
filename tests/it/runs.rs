//! `orch runs`: the commands about recorded runs.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::default_pipeline::good_reply;
use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Reply, RunOutput, Server};

const AGENT: &str = "agent: a, schema: any";

/// A project whose pipeline writes `src/a.py` twice and `new/b.txt` once; the task is part of the contents.
fn project_with_writes(server: &Server) -> Orch {
    let orch = project(
        server,
        &format!(
            "  - {{ id: one, {AGENT}, prompt: one.md, output: x, message: \"{{{{ task }}}}\" }}\n  - {{ id: first, write: x, inputs: [x] }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y, message: \"{{{{ task }}}}\" }}\n  - {{ id: second, write: y, inputs: [y] }}\n"
        ),
    );
    orch.write("workspace/src/a.py", "a = 0\nkept\n");
    orch
}

fn files_server() -> Server {
    answering_server(|step, task| {
        let task = task.trim();
        match step {
            "one" => json!([{ "path": "src/a.py", "content": "a = 1\nkept\n" }]),
            _ => json!([
                { "path": "src/a.py", "content": format!("a = 2 # {task}\nkept\n") },
                { "path": "new/b.txt", "content": "b\n" },
            ]),
        }
    })
}

fn id(report: &Value) -> String {
    report["run"].as_str().unwrap().to_owned()
}

fn parse_stdout(ran: &RunOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn the_writes_of_a_run_are_shown_as_one_diff_that_git_can_reverse() {
    let server = files_server();
    let orch = project_with_writes(&server);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let diff = orch.run(&["runs", "diff", &id(&report)]).exits(0).stdout;
    assert!(diff.contains("-a = 0\n+a = 2 # do it\n kept\n") && !diff.contains("a = 1"), "{diff}");
    let each = orch.run(&["runs", "diff", &id(&report), "--each"]).exits(0).stdout;
    assert!(each.contains("# first\n") && each.contains("+a = 1\n") && each.contains("-a = 1\n"), "{each}");
    let shown = parse_stdout(&orch.run(&["runs", "diff", &id(&report), "--output", "json"]).exits(0));
    assert_eq!(shown["files"][1], json!({ "path": "new/b.txt", "change": "created" }));
    orch.write("patch", &diff);
    let workspace = orch.path().join("workspace");
    let git = Command::new("git").args(["apply", "--reverse", "../patch"]).current_dir(workspace).output();
    assert!(git.as_ref().is_ok_and(|done| done.status.success()), "{git:?}");
    assert_eq!(orch.read("workspace/src/a.py"), "a = 0\nkept\n");
}

#[test]
fn a_revert_restores_files_and_keeps_later_edits() {
    let server = files_server();
    let orch = project_with_writes(&server);
    let (_, report) = run(&orch, &[]);
    let run = id(&report);
    let before = orch.files();
    let dry = parse_stdout(&orch.run(&["runs", "revert", &run, "--dry-run", "--output", "json"]).exits(0));
    assert_eq!(
        dry["files"].as_array().unwrap().iter().filter(|file| file["outcome"] == "reverted").count(),
        2,
        "{dry}"
    );
    assert_eq!(orch.files(), before);

    orch.write("workspace/src/a.py", "mine\n");
    let left = orch.run(&["runs", "revert", &run, "--dry-run"]).exits(1);
    assert!(left.stdout.contains("skipped      src/a.py: it was edited since orch wrote it"), "{left:?}");
    let left = orch.run(&["runs", "revert", &run]).exits(1).says("--force");
    assert!(left.stdout.contains("reverted  new/b.txt"), "{left:?}");
    assert!(!orch.exists("workspace/new") && orch.read("workspace/src/a.py") == "mine\n");

    orch.run(&["runs", "revert", &run, "--force"]).exits(0);
    assert_eq!(orch.read("workspace/src/a.py"), "a = 0\nkept\n");
    // This is the content after the first of its two writes, as after an interruption.
    orch.write("workspace/src/a.py", "a = 1\nkept\n");
    orch.run(&["runs", "revert", &run]).exits(0);
    assert_eq!(orch.read("workspace/src/a.py"), "a = 0\nkept\n");
    let again = orch.run(&["runs", "revert", &run]).exits(0);
    assert!(again.stdout.contains("unchanged src/a.py"), "{again:?}");
}

#[test]
fn two_runs_are_compared_by_steps_and_artifacts() {
    let server = files_server();
    let orch = project_with_writes(&server);
    let (_, one) = run(&orch, &[]);
    let ran =
        orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "other words", "--output", "json"]).exits(0);
    let other = parse_stdout(&ran);
    let shown = orch.run(&["runs", "diff", &id(&one), &id(&other)]).exits(0).stdout;
    assert!(shown.contains("--- a/y.json\n+++ b/y.json\n") && shown.contains("a = 2 # other words"), "{shown}");
    assert!(!shown.contains("x.json"), "{shown}");
    let shown = parse_stdout(&orch.run(&["runs", "diff", &id(&one), &id(&other), "--output", "json"]).exits(0));
    let same: Vec<bool> =
        shown["steps"].as_array().unwrap().iter().map(|step| step["same"].as_bool().unwrap()).collect();
    assert_eq!((shown["steps"][0]["name"].as_str(), same[0], same[2]), (Some("one"), true, false), "{shown:#}");
}

#[test]
fn events_and_artifacts_are_printed_as_recorded() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    let lines = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["fact"]["run_started"]["pipeline"], "default");
    assert!((1..).zip(&events).all(|(seq, event)| event["seq"] == seq), "{lines}");
    let text = orch.run(&["runs", "events"]).exits(0).stdout;
    assert_eq!(text.lines().count(), events.len());
    assert!(text.contains("step_completed     plan") && text.contains("run_ended"), "{text}");

    let id = events[0]["run"].as_str().unwrap().to_owned();
    let before = orch.read("workspace/plan.json");
    orch.write("workspace/plan.json", "edited");
    assert_eq!(orch.run(&["runs", "artifact", &id, "plan"]).exits(0).stdout, before);
    let shown = parse_stdout(&orch.run(&["runs", "artifact", &id, "plan", "--output", "json"]).exits(0));
    assert_eq!((&shown["step"], &shown["path"]), (&json!("plan"), &json!("plan.json")));
    orch.run(&["runs", "artifact", &id, "pln"]).exits(2).says("the run has `code`, `plan`, `review`");
}

#[test]
fn lines_in_a_pipe_are_complete() {
    let orch = Orch::empty();
    let words = ["word"; 60].join(" ");
    let step = format!("  - {{ id: x, run: \"echo {words} {{{{ task }}}}; exit 7\" }}\n");
    let inputs = "inputs: { task: { type: string } }";
    orch.write("pipelines/main.yaml", &format!("name: main\n{inputs}\nsteps:\n{step}"));
    orch.run(&["run", "main", "--task", &words]).exits(1);
    let shown = orch.run(&["runs", "show"]).exits(0).stdout;
    assert_eq!(shown.lines().next(), Some(format!("task: {words}").as_str()));
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    assert!(events.contains(&format!("exit code 7:\\n{words} {words}")), "{events}");
    // Findings show whole source lines.
    orch.write("pipelines/main.yaml", &format!("name: main\nsteps:\n  - {{ id: x, rn: \"true\" }} # {words}\n"));
    orch.run(&["validate"]).exits(2).says(&format!("# {words}"));
}

#[test]
fn the_artifact_of_one_item_is_named_by_its_step() {
    let server = answering_server(|_, message| json!({ "did": message.trim() }));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: work, {AGENT}, prompt: code.md, for_each: \"[1, 2]\", message: \"{{{{ item }}}}\", output: done }}\n"
        ),
    );
    let (_, report) = run(&orch, &[]);
    let run = id(&report);
    let whole = orch.run(&["runs", "artifact", &run, "done"]).exits(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), json!([{ "did": "1" }, { "did": "2" }]));
    let item = orch.run(&["runs", "artifact", &run, "done", "--step", "work[1]"]).exits(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&item).unwrap(), json!({ "did": "2" }));
}

#[test]
fn a_run_in_progress_can_be_followed_but_not_reverted_or_deleted() {
    let server = Server::start(|request| good_reply(request).delay(Duration::from_secs(3)));
    let orch = Orch::new().with(&server);
    let mut running = orch.start(&["pipeline", "run", "pipelines/default.yaml", "--task", "x", "-q"]);
    let began = Instant::now();
    let run = loop {
        let list = parse_stdout(&orch.run(&["runs", "list", "--status", "running", "--output", "json"]));
        if let Some(run) = list[0]["run"].as_str() {
            break run.to_owned();
        }
        assert!(began.elapsed() < Duration::from_mins(2));
        std::thread::sleep(Duration::from_millis(20));
    };
    for command in ["revert", "delete"] {
        orch.run(&["runs", command, &run]).exits(2).says("is in use by process");
    }
    let events = orch.run(&["runs", "events", &run, "--follow", "--output", "json"]).exits(0).stdout;
    assert!(events.lines().last().unwrap().contains("run_ended"), "{events}");
    assert_eq!(running.wait().unwrap().code(), Some(0));
}

#[test]
fn runs_are_listed_by_status_and_pipeline() {
    let server = Server::start(|request| {
        if request.last().contains("refuse me") { Reply::status(400, "{}") } else { good_reply(request) }
    });
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    orch.run(&["pipeline", "run", "pipelines/default.yaml", "--task", "refuse me"]).exits(1);
    let count = |more: &[&str]| {
        parse_stdout(&orch.run(&[&["runs", "list", "--output", "json"], more].concat()).exits(0))
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--status", "failed"]), 1);
    assert_eq!(count(&["--status", "interrupted"]), 0);
    assert_eq!(count(&["--pipeline", "default", "--status", "completed"]), 1);
    assert_eq!(count(&["--pipeline", "other"]), 0);
}

/// The number of blob files of a project.
fn blob_count(orch: &Orch) -> usize {
    let Ok(folders) = std::fs::read_dir(orch.path().join(".orch/blobs")) else { return 0 };
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

/// A project whose plan is large enough for a blob, and is the same in every run.
fn project_with_blob(server: &Server) -> Orch {
    project(
        server,
        &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan, message: \"{{{{ task }}}}\" }}\n"),
    )
}

#[test]
fn deleting_a_run_keeps_the_blobs_of_other_runs() {
    // orch repairs this reply, so the artifact is no part of it and has a blob of its own, which two runs can share.
    let reply = format!(r#"{{ "text": "{}", "of": "do it", }}"#, "x".repeat(100_000));
    let server = Server::always(Reply::openai_text(&reply));
    let orch = project_with_blob(&server);
    let (_, one) = run(&orch, &["--workspace", "w1"]);
    let count = blob_count(&orch);
    assert!(count > 0);
    let (_, two) = run(&orch, &["--workspace", "w2"]);
    let shared = blob_count(&orch);
    assert!(shared < 2 * count, "the artifact is the same: {shared} of {count}");
    orch.run(&["runs", "delete", &id(&one)]).exits(0).says("deleted 1 run with");
    orch.run(&["runs", "show", &id(&one)]).exits(2);
    let value = parse_stdout(&orch.run(&["runs", "artifact", &id(&two), "plan"]).exits(0));
    assert_eq!(value["of"], "do it");
    // The files stay, and orch still recognizes that it wrote them.
    assert!(orch.exists("w1/plan.json"));
    run(&orch, &["--workspace", "w1"]).0.exits(0);
    let runs = parse_stdout(&orch.run(&["runs", "list", "--output", "json"]));
    let names: Vec<&str> = runs.as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap()).collect();
    orch.run(&[&["runs", "delete"], &names[..]].concat()).exits(0);
    assert_eq!(blob_count(&orch), 0);
}

#[test]
fn gc_keeps_the_latest_and_recent_runs_and_removes_unused_blobs() {
    let server = answering_server(|_, message| json!({ "text": "x".repeat(100_000), "of": message.trim() }));
    let orch = project_with_blob(&server);
    for _ in 0..3 {
        run(&orch, &[]).0.exits(0);
    }
    orch.write(".orch/blobs/zz/zzzz", "left by a process that died");
    let homes = |run: &str| format!(".orch/agents/{run}/claude/session.jsonl");
    let all = parse_stdout(&orch.run(&["runs", "list", "--output", "json"]));
    let ids: Vec<String> = (0..3).map(|at| homes(all[at]["id"].as_str().unwrap())).collect();
    let lost = homes("01a20e5e-7207-7590-ac55-252ba6d692a5");
    for file in ids.iter().chain([&lost]) {
        orch.write(file, "{}");
    }
    let rows = || parse_stdout(&orch.run(&["runs", "list", "--output", "json"])).as_array().unwrap().len();
    let dry = parse_stdout(&orch.run(&["runs", "gc", "--keep", "1", "--dry-run", "--output", "json"]).exits(0));
    assert_eq!((dry["runs"].as_array().unwrap().len(), dry["blobs"].as_u64(), rows()), (2, Some(1), 3), "{dry}");
    orch.run(&["runs", "gc"]).exits(0).says("deleted 0 runs and 1 blob");
    orch.run(&["runs", "gc", "--keep", "1", "--older-than", "1d"]).exits(0).says("deleted 0 runs");
    assert_eq!(rows(), 3);
    orch.run(&["runs", "gc", "--keep", "1", "--vacuum"]).exits(0).says("deleted 2 runs");
    assert_eq!(rows(), 1);
    assert!(orch.exists(&ids[0]) && !orch.exists(&ids[1]) && !orch.exists(&ids[2]) && !orch.exists(&lost));
    orch.run(&["runs", "gc", "--older-than", "1y"]).exits(2).says("is not a duration such as `30d`");
}

#[test]
fn an_exported_run_is_imported_unchanged_into_another_journal() {
    let server = answering_server(|_, message| json!({ "text": "x".repeat(100_000), "of": message.trim() }));
    let orch = project_with_blob(&server);
    let (_, report) = run(&orch, &[]);
    let run = id(&report);
    orch.run(&["runs", "export", &run, "--to", "run.json"]).exits(0);
    orch.run(&["runs", "export", &run, "--to", "run.json"]).exits(2).says("select a file that does not exist yet");
    orch.run(&["runs", "import", "run.json"]).exits(2).says("the journal already contains it");
    orch.run(&["runs", "import", "run.json", "--state", "other"]).exits(0);
    let again = orch.run(&["runs", "export", &run, "--state", "other"]).exits(0).stdout;
    assert_eq!(again, orch.read("run.json"));
    let show = |state: &str| orch.run(&["runs", "show", &run, "--output", "json", "--state", state]).exits(0).stdout;
    assert_eq!(show("other"), show(".orch"));
    // The imported run does not make the files of this workspace orch's own.
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--state", "other"];
    orch.run(&args).exits(2).says("was not written by orch");
    let torn = orch.read("run.json").replacen("\"seq\": 2", "\"seq\": 3", 1);
    orch.write("torn.json", &torn);
    orch.run(&["runs", "import", "torn.json", "--state", "third"]).exits(2).says("some events are missing");
}

#[test]
fn a_hint_names_the_given_state_folder() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: x\nsteps:\n  - { id: bad, run: [\"false\"] }\n");
    let digest = "ab".repeat(32);
    let run = ["pipeline", "run", "pipelines/main.yaml", "--state", "other", "--trust", &digest];
    let ran = orch.run(&run).exits(1);
    let resume = ran.stderr.split('`').find(|text| text.starts_with("orch pipeline resume")).unwrap().to_owned();
    assert!(resume.ends_with(&format!(" --state other --trust {digest}")), "{ran:?}");
    let ran = orch.run(&["runs", "show", "ab12", "--state", "other"]).exits(2);
    assert!(ran.stderr.contains("`orch runs list --state other`"), "{ran:?}");
    orch.edit("pipelines/main.yaml", "false", "true");
    let words: Vec<&str> = resume.split(' ').skip(1).collect();
    orch.run(&words).exits(0);
}

#[test]
fn replies_of_a_step_are_shown_separately_from_its_standard_error() {
    let orch = Orch::empty();
    let list = "[{ id: one, run: [sh, -c, 'printf said; echo why >&2'] }, { id: two, run: [echo, other] }]";
    orch.write("pipelines/main.yaml", &format!("name: x\nsteps: {list}\n"));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(0);
    let shown = orch.run(&["runs", "show", "--replies", "--step", "one"]).exits(0).stdout;
    assert!(shown.contains("exit code 0\nsaid\nstandard error:\nwhy\n") && !shown.contains("\nother\n"), "{shown}");
    let calls = orch.run(&["runs", "show", "--replies", "--step", "two", "--output", "json"]).exits(0).stdout;
    let calls: serde_json::Value = serde_json::from_str(&calls).unwrap();
    assert_eq!(calls["calls"].as_array().map(Vec::len), Some(1), "{calls:#}");
    let ran = orch.run(&["runs", "show", "--replies", "--step", "on"]).exits(2);
    assert!(
        ran.stderr.contains("the run has no reply from a step `on`") && ran.stderr.contains("`one`, `two`"),
        "{ran:?}"
    );
}

#[test]
fn a_command_that_needs_a_run_says_how_to_find_one() {
    let orch = Orch::new();
    for command in ["revert", "delete"] {
        orch.run(&["runs", command]).exits(2).says("`orch runs list` shows the runs");
    }
}
