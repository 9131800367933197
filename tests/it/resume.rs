//! Interrupted and failed runs, and which requests a resume repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::default_pipeline::{good_reply, review, step_of};
use crate::step_kinds::{answering_server, project};
use crate::support::{Orch, Reply, Server, wait};

fn requests_by_step(server: &Server) -> [usize; 3] {
    let requests = server.requests();
    ["plan", "code", "review"].map(|name| requests.iter().filter(|request| step_of(request) == name).count())
}

/// A server that rejects the coder's requests while the flag is set.
fn server_with_failing_coder() -> (Server, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let flag = bad.clone();
    let server = Server::start(move |request| {
        if step_of(request) == "code" && flag.load(Ordering::SeqCst) {
            return Reply::status(400, "{\"error\":{\"message\":\"not today\"}}");
        }
        good_reply(request)
    });
    (server, bad)
}

#[test]
fn resume_skips_steps_that_succeeded() {
    let (server, bad) = server_with_failing_coder();
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(1).says("orch pipeline resume");
    bad.store(false, Ordering::SeqCst);
    let ran = orch.run(&["pipeline", "resume", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&report["steps"][0]["reused"], &report["steps"][1]["reused"]), (&json!(true), &json!(false)));
    assert_eq!(report["steps"][1]["attempts"], 2);
    assert_eq!(report["result"], review());
    assert_eq!(requests_by_step(&server), [1, 2, 1]);
}

#[test]
fn a_changed_prompt_runs_its_step_again_and_no_other() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    let run = orch.run(&["runs", "list", "--output", "json"]);
    let runs: Value = serde_json::from_str(&run.stdout).unwrap();
    let id = runs[0]["run"].as_str().unwrap().to_owned();
    orch.edit("prompts/coder.md", "You are a senior", "You are a junior");
    orch.run(&["pipeline", "resume", &id]).exits(0);
    // The code is the same as before, so the review is kept.
    assert_eq!(requests_by_step(&server), [1, 2, 1]);
}

#[test]
fn a_changed_schema_reads_the_recorded_reply_again_without_asking() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    // The schema is not sent, so it is no part of the request.
    orch.edit("orch.yaml", "dialect: openai,", "dialect: openai, structured_output: off,");
    orch.edit(
        "pipelines/default.yaml",
        "    output: review",
        "    output: review\n    message: \"{{ task }}\"\n    schema: any",
    );
    orch.pipeline(&[]).exits(0);
    orch.edit("pipelines/default.yaml", "    schema: any", "    schema: any\n    extract: strict");
    let id = latest(&orch);
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(requests_by_step(&server), [1, 1, 1]);
}

#[test]
fn a_renamed_step_costs_nothing() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    let id = latest(&orch);
    orch.edit("pipelines/default.yaml", "- id: code", "- id: implement");
    orch.edit("pipelines/default.yaml", "    output: review", "    timeout: 9m\n    output: review");
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(requests_by_step(&server), [1, 1, 1]);
}

fn latest(orch: &Orch) -> String {
    let ran = orch.run(&["runs", "list", "--output", "json"]);
    let runs: Value = serde_json::from_str(&ran.stdout).unwrap();
    runs[0]["run"].as_str().unwrap().to_owned()
}

/// A server that answers at once, except for one step, whose replies it delays.
fn server_with_slow_step(which: &'static str, delay: Duration) -> Server {
    Server::start(
        move |request| if step_of(request) == which { good_reply(request).delay(delay) } else { good_reply(request) },
    )
}

fn wait_for(server: &Server, requests: usize) {
    let began = Instant::now();
    while server.requests().len() < requests {
        assert!(began.elapsed() < Duration::from_mins(2), "the request never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let done = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[cfg(unix)]
#[test]
fn a_killed_run_is_marked_interrupted_and_resumes_where_it_was() {
    let server = server_with_slow_step("code", Duration::from_secs(30));
    let orch = Orch::new().with(&server);
    let mut child = orch.start(&["pipeline", "run", "pipelines/default.yaml", "--task", "x"]);
    wait_for(&server, 2);
    // A second process can't take the run while the first one lives.
    let id = latest(&orch);
    let cancel = format!("stop it with `orch runs cancel {id}`");
    orch.run(&["pipeline", "resume", &id]).exits(2).says("is in use by process").says(&cancel);
    signal(&child, "-KILL");
    child.wait().unwrap();
    let listed = orch.run(&["runs", "list"]);
    assert!(listed.stdout.contains("interrupted"), "{listed:?}");
    let quick = Server::start(good_reply);
    let orch = orch.with(&quick);
    orch.edit("orch.yaml", "defaults", "# defaults");
    let ran = orch.run(&["pipeline", "resume", "--model", "lab/test"]).exits(0);
    assert!(
        ran.stderr.contains("code: attempt 1 with lab/test"),
        "an attempt that goes on is announced: {}",
        ran.stderr
    );
    assert_eq!(requests_by_step(&quick), [0, 1, 1], "the plan was paid for before");
}

#[cfg(unix)]
#[test]
fn a_run_that_ctrl_c_stopped_can_be_resumed() {
    let server = server_with_slow_step("code", Duration::from_secs(3));
    let orch = Orch::new().with(&server);
    let child = orch.start(&["pipeline", "run", "pipelines/default.yaml", "--task", "x"]);
    wait_for(&server, 2);
    signal(&child, "-INT");
    let output = wait::output_of(child);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("stopping") && text.contains("orch pipeline resume"), "{text}");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(requests_by_step(&server), [1, 1, 1], "the reply in flight was waited for and recorded");
}

/// Kept steps take no time each, and the run waits for nothing: it handles a stop nevertheless.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_run_while_steps_are_being_kept() {
    let server = answering_server(|_, _| json!(1));
    let step = |number| format!("  - {{ id: s{number}, agent: a, prompt: one.md, schema: any, output: o{number} }}\n");
    let steps: String = (0..400).map(step).collect();
    let orch = project(&server, &format!("{steps}  - {{ id: last, run: test -e ../go && sleep 60 }}\n"));
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--quiet"]).exits(1);
    orch.write("go", "");
    let mut child = orch.start(&["pipeline", "resume"]);
    let mut stderr = wait::StderrLines::of(&mut child);
    stderr.wait_for("s0: reused");
    signal(&child, "-INT");
    let text = stderr.read_to_end();
    assert_eq!(wait::until_ended(&mut child).code(), Some(130), "{text}");
    assert!(text.contains("stopping") && text.contains("orch pipeline resume"), "{text}");
    assert!(!text.contains("last: completed"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_stops_at_once() {
    let server = server_with_slow_step("code", Duration::from_secs(30));
    let orch = Orch::new().with(&server);
    let mut child = orch.start(&["pipeline", "run", "pipelines/default.yaml", "--task", "x"]);
    wait_for(&server, 2);
    let mut stderr = wait::StderrLines::of(&mut child);
    signal(&child, "-TERM");
    stderr.wait_for("press Ctrl-C again to stop now");
    let began = Instant::now();
    // orch ignores a signal that arrives right after the first one.
    signal(&child, "-INT");
    while !stderr.has_line_within("stopping now", Duration::from_millis(300)) {
        assert!(child.try_wait().unwrap().is_none(), "it took no notice of the second signal");
        assert!(began.elapsed() < Duration::from_mins(2), "it neither stops now nor ends");
        signal(&child, "-INT");
    }
    // After the first signal alone, orch waits 10 s for the reply.
    let stopping = Instant::now();
    assert_eq!(wait::until_ended(&mut child).code(), Some(130));
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
}

#[test]
fn an_edited_artifact_is_never_used_or_overwritten_without_asking() {
    let (server, bad) = server_with_failing_coder();
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(1);
    bad.store(false, Ordering::SeqCst);
    let recorded = orch.read("workspace/plan.json");
    let edited = recorded.replace("hashed passwords", "salted passwords");
    orch.write("workspace/plan.json", &edited);
    orch.run(&["pipeline", "resume"]).exits(2).says("plan.json` was changed").says("--accept-changed");
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(0);
    assert_eq!(orch.read("workspace/plan.json"), edited);
    assert!(server.requests().last().unwrap().last().contains("salted passwords"));
    // Restores the version that another run recorded.
    bad.store(true, Ordering::SeqCst);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(1);
    bad.store(false, Ordering::SeqCst);
    orch.write("workspace/plan.json", "broken");
    orch.run(&["pipeline", "resume", "--accept-changed"]).exits(2).says("can't be accepted");
    orch.run(&["pipeline", "resume", "--discard-changed"]).exits(0);
    assert_eq!(orch.read("workspace/plan.json"), recorded);
}

#[test]
fn a_deleted_artifact_file_is_reported_and_written_again_after_a_choice() {
    for choice in ["--accept-changed", "--discard-changed"] {
        let (server, bad) = server_with_failing_coder();
        let orch = Orch::new().with(&server);
        orch.pipeline(&[]).exits(1);
        bad.store(false, Ordering::SeqCst);
        std::fs::remove_file(orch.path().join("workspace/plan.json")).unwrap();
        orch.run(&["pipeline", "resume", "--dry-run"]).exits(0).says("plan.json` was deleted since this run wrote it");
        orch.run(&["pipeline", "resume"]).exits(2).says("plan.json` was deleted since this run wrote it").says(choice);
        assert!(!orch.exists("workspace/plan.json"));
        orch.run(&["pipeline", "resume", choice]).exits(0);
        assert!(orch.exists("workspace/plan.json"), "{choice}");
        assert_eq!(requests_by_step(&server)[0], 1, "{choice}");
    }
}

#[test]
fn a_resume_in_another_workspace_writes_the_artifact_files_there() {
    let (server, bad) = server_with_failing_coder();
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(1);
    bad.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume", "--workspace", "other"]).exits(0);
    assert_eq!(orch.read("other/plan.json"), orch.read("workspace/plan.json"));
    assert_eq!(requests_by_step(&server)[0], 1);
}

#[test]
fn two_runs_never_share_a_workspace_at_once() {
    let server = server_with_slow_step("plan", Duration::from_secs(3));
    let orch = Orch::new().with(&server);
    let mut first = orch.start(&["pipeline", "run", "pipelines/default.yaml", "--task", "x", "-q"]);
    wait_for(&server, 1);
    orch.pipeline(&[]).exits(2).says("is in use by process");
    assert!(wait::until_ended(&mut first).success());
}

#[test]
fn a_large_artifact_is_stored_in_and_restored_from_the_journal() {
    let big = "x".repeat(50_000) + &"é\n\"".repeat(9_000);
    let content = big.clone();
    let server = Server::start(move |request| {
        if step_of(request) == "code" {
            let value = json!({ "files": [{ "path": "a.txt", "language": "text", "content": &content[..59_000] }], "notes": ["b".repeat(400)] });
            return Reply::openai_text(&value.to_string());
        }
        if step_of(request) == "review" { Reply::status(400, "{}") } else { good_reply(request) }
    });
    let orch = Orch::new().with(&server);
    orch.edit("schemas/code.schema.json", "60000", "90000");
    orch.pipeline(&[]).exits(1);
    let quick = Server::start(good_reply);
    let orch = orch.with(&quick);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(requests_by_step(&quick), [0, 0, 1]);
    assert_eq!(orch.json("workspace/code.json")["files"][0]["content"].as_str().unwrap(), &big[..59_000]);
}

#[test]
fn recorded_replies_can_be_shown() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            Reply::openai_text("hm, let me think")
        } else {
            good_reply(request)
        }
    });
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0);
    assert!(shown.stdout.contains("call plan@1#1 (lab/test)\nhm, let me think"), "{}", shown.stdout);
    assert!(shown.stdout.contains("call plan@1#2"));
}
