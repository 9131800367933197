//! Cached steps: a resume keeps results if the files change in ways that change no answer. And edits: orch recognizes
//! whether the user changed an artifact.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, prompt_name, run};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

fn id(report: &Value) -> String {
    report["run"].as_str().unwrap().to_owned()
}

/// The lines of `resume --dry-run`, with single spaces between the columns.
fn dry_run_lines(orch: &Orch, run: &str) -> Vec<String> {
    let ran = orch.run(&["pipeline", "resume", run, "--dry-run"]).exits(0);
    ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A project with one step that has these fallback models.
fn project_with_fallback(server: &Server, fallback: &str) -> Orch {
    project(server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, fallback: {fallback}, output: x }}\n"))
}

fn requested_models(server: &Server) -> Vec<String> {
    server.requests().iter().map(|request| request.body["model"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_change_of_the_fallbacks_after_the_answering_model_keeps_the_result() {
    let server = answering_server(|_, _| json!(1));
    let orch = project_with_fallback(&server, "[lab/second]");
    let (_, report) = run(&orch, &[]);
    let mut before = "[lab/second]";
    for fallback in ["[lab/second, lab/third]", "[lab/third, lab/second]", "[]", "[lab/third]"] {
        orch.edit("pipelines/main.yaml", before, fallback);
        before = fallback;
        assert_eq!(dry_run_lines(&orch, &id(&report)), ["reuse one"]);
        orch.run(&["pipeline", "resume", &id(&report)]).exits(0);
    }
    let (ran, _) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, requested_models(&server)), (0, vec!["test".to_owned()]), "{ran:?}");
    // Another first model changes the request.
    orch.edit("orch.yaml", "model: lab/test", "model: lab/first");
    orch.run(&["pipeline", "resume", &id(&report), "--model", "lab/first"]).exits(0);
    assert_eq!(requested_models(&server), ["test", "first"]);
}

#[test]
fn the_answer_of_a_fallback_is_kept_while_the_models_before_it_are_the_same() {
    let server = Server::start(|request| match request.body["model"].as_str().unwrap() {
        "second" => Reply::openai_text("2"),
        _ => Reply::status(400, "{\"error\":{\"message\":\"not today\"}}"),
    });
    let orch = project_with_fallback(&server, "[lab/second]");
    let (_, report) = run(&orch, &[]);
    assert_eq!(requested_models(&server), ["test", "second"]);
    orch.edit("pipelines/main.yaml", "[lab/second]", "[lab/second, lab/third]");
    orch.run(&["pipeline", "resume", &id(&report)]).exits(0);
    assert_eq!(requested_models(&server).len(), 2);
    orch.edit("pipelines/main.yaml", "[lab/second, lab/third]", "[lab/third, lab/second]");
    orch.run(&["pipeline", "resume", &id(&report)]).exits(0);
    assert_eq!(requested_models(&server)[2..], ["test", "third", "second"], "another one is asked before it now");
}

/// A pipeline whose last step fails, after two sessions wrote different versions of an artifact.
fn project_with_two_versions() -> (Server, Orch, String, String) {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "review" => Reply::status(400, "{}"),
        _ => Reply::openai_text(&json!({ "said": request.system() }).to_string()),
    });
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [plan], output: review }}\n"
    );
    let orch = project(&server, &steps);
    let (_, report) = run(&orch, &[]);
    let first = orch.read("workspace/plan.json");
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe brief.");
    orch.run(&["pipeline", "resume", &id(&report)]).exits(1);
    assert_ne!(orch.read("workspace/plan.json"), first);
    (server, orch, id(&report), first)
}

#[test]
fn an_older_version_that_the_user_restores_counts_as_an_edit() {
    let (server, orch, run, first) = project_with_two_versions();
    let second = orch.read("workspace/plan.json");
    orch.write("workspace/plan.json", &first);
    orch.run(&["pipeline", "resume", &run]).exits(2).says("plan.json` was changed since this run wrote it");
    assert_eq!(orch.read("workspace/plan.json"), first, "nothing was written over it");
    orch.run(&["pipeline", "resume", &run, "--accept-changed"]).exits(1);
    assert!(!server.requests().last().unwrap().last().contains("brief"), "the step after it sees what was put back");
    assert_eq!(orch.read("workspace/plan.json"), first);
    orch.write("workspace/plan.json", &second);
    orch.run(&["pipeline", "resume", &run]).exits(2).says("plan.json` was changed");
    orch.run(&["pipeline", "resume", &run, "--discard-changed"]).exits(1);
    assert_eq!(orch.read("workspace/plan.json"), first);
}

#[cfg(unix)]
#[test]
fn an_older_version_after_a_power_loss_is_overwritten_without_asking() {
    let slow = AtomicBool::new(false);
    let server = Server::start(move |request| match prompt_name(request).as_str() {
        "review" if slow.swap(true, Ordering::SeqCst) => Reply::openai_text("1").delay(Duration::from_secs(30)),
        "review" => Reply::status(400, "{}"),
        _ => Reply::openai_text(&json!({ "said": request.system() }).to_string()),
    });
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [plan], output: review }}\n"
    );
    let orch = project(&server, &steps);
    let (_, report) = run(&orch, &[]);
    let first = orch.read("workspace/plan.json");
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe brief.");
    let mut child = orch.start(&["pipeline", "resume", &id(&report), "--quiet"]);
    while server.requests().len() < 4 {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let second = orch.read("workspace/plan.json");
    assert_ne!(first, second);
    // Imitates a power loss before the new file was on the disk.
    orch.write("workspace/plan.json", &first);
    let quick = answering_server(|_, _| json!(1));
    let orch = orch.with(&quick);
    orch.run(&["pipeline", "resume", &id(&report)]).exits(0);
    assert_eq!((orch.read("workspace/plan.json"), quick.requests().len()), (second, 1));
}

#[test]
fn an_edited_artifact_that_no_step_writes_any_more_is_reported_and_kept() {
    let (_server, orch, run, _) = project_with_two_versions();
    orch.write("workspace/plan.json", "\"mine\"");
    let text = orch.read("pipelines/main.yaml");
    let (head, _) = text.split_once("steps:\n").unwrap();
    orch.write(
        "pipelines/main.yaml",
        &format!("{head}steps:\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"),
    );
    orch.run(&["pipeline", "resume", &run]).exits(0).says("no step writes it any more");
    assert_eq!(orch.read("workspace/plan.json"), "\"mine\"");
}

#[test]
fn a_dry_run_accounts_for_optional_inputs_that_are_still_missing() {
    let bad = std::sync::Arc::new(AtomicBool::new(true));
    let flag = bad.clone();
    let server = Server::start(move |request| match prompt_name(request).as_str() {
        "code" if flag.load(Ordering::SeqCst) => Reply::status(400, "{}"),
        _ => Reply::openai_text("1"),
    });
    let steps = format!(
        "  - {{ id: code, {AGENT}, prompt: code.md, output: code }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [\"code?\"], output: review }}\n"
    );
    let orch = project(&server, &steps);
    let (_, report) = run(&orch, &["--continue-on-error"]);
    bad.store(false, Ordering::SeqCst);
    assert_eq!(
        dry_run_lines(&orch, &id(&report)),
        ["run code failed: bad_request", "maybe_run review input code may change"]
    );
    orch.run(&["pipeline", "resume", &id(&report)]).exits(0);
    assert_eq!(server.requests().len(), 4, "it did run again");
}

#[test]
fn a_resume_records_its_requests() {
    let bad = std::sync::Arc::new(AtomicBool::new(true));
    let flag = bad.clone();
    let server = Server::start(move |request| match prompt_name(request).as_str() {
        "two" if flag.load(Ordering::SeqCst) => Reply::status(400, "{}"),
        step => Reply::openai_text(&json!(step).to_string()),
    });
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
    );
    let orch = project(&server, &steps);
    run(&orch, &["--record", "recorded"]).0.exits(1);
    bad.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume", "--record", "recorded"]).exits(0);
    let asked = server.requests().len();
    let (ran, report) = run(&orch, &["--replay", "recorded", "--workspace", "again"]);
    assert_eq!((ran.code, server.requests().len(), &report["result"]), (0, asked, &json!("two")), "{ran:?}");
}

#[test]
fn the_times_of_a_step_are_those_of_the_latest_session() {
    let bad = std::sync::Arc::new(AtomicBool::new(true));
    let flag = bad.clone();
    let server =
        Server::start(
            move |_| {
                if flag.load(Ordering::SeqCst) { Reply::status(400, "{}") } else { Reply::openai_text("1") }
            },
        );
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let (_, before) = run(&orch, &[]);
    bad.store(false, Ordering::SeqCst);
    let ran = orch.run(&["pipeline", "resume", "--output", "json"]).exits(0);
    let after: Value = serde_json::from_str(&ran.stdout).unwrap();
    let time =
        |report: &Value, name: &str| -> jiff::Timestamp { report["steps"][0][name].as_str().unwrap().parse().unwrap() };
    assert!(time(&after, "started_at") > time(&before, "ended_at"), "{before:#}\n{after:#}");
    assert!(time(&after, "started_at") <= time(&after, "ended_at"));
}

#[test]
fn a_requested_wait_that_is_too_long_is_reported() {
    let server =
        Server::always(Reply::status(429, "{\"error\":{\"message\":\"slow down\"}}").header("retry-after", "3600"));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let (ran, _) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (1, 1));
    assert!(ran.stderr.contains("it asks to wait 3600 s, longer than the 300 s that a step waits"), "{}", ran.stderr);
    assert!(ran.stderr.contains("resume the run after that time"), "{}", ran.stderr);
}

#[test]
fn an_answer_is_not_recorded_while_orch_yaml_is_invalid() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: ask, approve: \"go on?\" }\n");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}secrets: [MY_WORD\n"));
    let note = "the word is xyzzy-plugh-0123456789";
    let approve = ["runs", "approve", &id(&report), "--note", note];
    let out = orch.command(&approve).env("MY_WORD", "xyzzy-plugh-0123456789").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("orch.yaml"), "{text}");
    orch.run(&["pipeline", "resume", "--model", "lab/test"]).exits(2);
    orch.write("orch.yaml", &format!("{settings}secrets: [MY_WORD]\n"));
    orch.run(&["pipeline", "resume"]).exits(3);
    let out = orch.command(&approve).env("MY_WORD", "xyzzy-plugh-0123456789").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    for name in ["journal.db", "journal.db-wal"] {
        let bytes = std::fs::read(orch.path().join(".orch").join(name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("xyzzy"), "{name} has the word");
    }
    orch.run(&["pipeline", "resume"]).exits(0);
}
