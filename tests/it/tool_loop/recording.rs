//! Recordings of conversations with tools: a replay needs no server and runs no tool, and repeats the changes of files.

use serde_json::{Value, json};

use super::{RUN, answer, calls, scripted_server, tool_project};
use crate::kill::latest_run;
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, RunOutput, Server};

/// Records a run whose model reads, edits and writes files. The server has stopped when this returns.
fn record_run() -> Orch {
    let turns = vec![
        calls([("read", json!({ "path": "a.txt" })), ("read", json!({ "path": "missing.txt" }))]),
        calls([
            ("edit", json!({ "path": "a.txt", "old": "one", "new": "two" })),
            ("write", json!({ "path": "made/b.txt", "content": "b\n" })),
        ]),
        answer(&json!({ "done": true })),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read", "edit", "write"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n").write("second/a.txt", "one\n");
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(0);
    orch
}

/// Replays the recordings in another workspace.
fn replay(orch: &Orch, workspace: &str) -> (RunOutput, Value) {
    let args = ["--replay", "recordings", "--workspace", workspace, "--output", "json"];
    let ran = orch.run(&[&RUN[..], &args].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

#[test]
fn a_replay_repeats_the_conversation_and_the_changes_without_a_server() {
    let orch = record_run();
    let (ran, report) = replay(&orch, "second");
    assert_eq!((ran.code, &report["result"]), (0, &json!({ "done": true })), "{ran:?}");
    assert_eq!((orch.read("second/a.txt"), orch.read("second/made/b.txt")), ("two\n".to_owned(), "b\n".to_owned()));
    assert_eq!(report["steps"][0]["tool_calls"], 4);
    // The replay has recorded the same results, and its changes can be reverted.
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("missing.txt") && shown.contains("call work@1#2.1 (edit a.txt)"), "{shown}");
    orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!((orch.read("second/a.txt").as_str(), orch.exists("second/made/b.txt")), ("one\n", false));
}

#[test]
fn a_recording_is_readable_and_has_the_calls_their_results_and_the_changes() {
    let orch = record_run();
    let recordings: Vec<String> =
        orch.files().into_iter().filter(|name| name.starts_with("recordings/")).map(|name| orch.read(&name)).collect();
    let texts = recordings.concat();
    for part in ["\"tool\": \"edit\"", "missing.txt", "made/b.txt", "\"name\": \"write\""] {
        assert!(texts.contains(part), "{part}: {texts}");
    }
}

#[test]
fn a_replay_stops_if_the_recorded_changes_do_not_fit_the_files() {
    let orch = record_run();
    orch.write("second/a.txt", "another text\n");
    let (ran, report) = replay(&orch, "second");
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("no_recording")), "{ran:?}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`a.txt` has another content than in the recorded run, from line 1 on"), "{error}");
    assert_eq!(orch.read("second/a.txt"), "another text\n");
    // A file that the recorded run created is in the way.
    orch.write("third/a.txt", "one\n").write("third/made/b.txt", "mine\n");
    let (ran, report) = replay(&orch, "third");
    let message = report["steps"][0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("`made/b.txt` exists here, but did not exist yet in the recorded run"), "{message}");
    let (advice, record) = ("start a new run with `--replay`", "only if the files are meant to differ");
    assert!(ran.stderr.find(advice).unwrap() < ran.stderr.find(record).unwrap(), "{}", ran.stderr);
    // The advice works.
    orch.write("fourth/a.txt", "one\n");
    assert_eq!(replay(&orch, "fourth").0.code, 0);
}

#[test]
fn a_replay_of_a_command_does_not_run_it() {
    if !reaches_full() {
        return;
    }
    let command = json!({ "command": "date +%s%N > stamp.txt; cat stamp.txt" });
    let server = scripted_server(vec![calls([("shell", command)]), answer(&json!("fine"))]);
    let orch = tool_project(&server, &json!({ "tools": ["shell"] }), &json!({}));
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(0);
    drop(server);
    let (ran, _) = replay(&orch, "second");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.read("second/stamp.txt"), orch.read("workspace/stamp.txt"));
}

#[test]
fn a_test_case_of_an_agent_with_tools_runs_offline() {
    let turns = vec![
        calls([("edit", json!({ "path": "a.txt", "old": "one", "new": "two" }))]),
        answer(&json!({ "done": true })),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["edit"] }), &json!({}));
    let case = json!({
        "pipeline": "../main.yaml",
        "inputs": { "task": "do it" },
        "workspace": "start",
        "expect": { "steps": { "work": "completed" }, "assert": ["result.done"], "files": ["a.txt"] },
    });
    orch.write("pipelines/tests/edits.yaml", &case.to_string()).write("pipelines/tests/start/a.txt", "one\n");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    assert_eq!(server.requests().len(), 2);
    drop(server);
    let ran = orch.run(&["pipeline", "test"]).exits(0);
    assert!(ran.stdout.contains("1 passed, 0 failed"), "{ran:?}");
    assert_eq!(orch.read("pipelines/tests/start/a.txt"), "one\n");
}

/// A project whose model writes two files, each of which needs an approval, and the test case of this project without
/// its recordings.
fn project_with_questions(answers: &Value, expected: &Value) -> (Server, Orch) {
    let write = |path: &str| ("write", json!({ "path": path, "content": "made\n" }));
    let server = scripted_server(vec![calls([write("a.txt"), write("b.txt")]), answer(&json!({ "done": true }))]);
    let orch = tool_project(&server, &json!({ "tools": ["write"], "approve_tools": ["write"] }), &json!({}));
    let case = json!({
        "pipeline": "../main.yaml", "inputs": { "task": "do it" }, "answers": answers, "expect": expected,
    });
    orch.write("pipelines/tests/asks.yaml", &case.to_string());
    (server, orch)
}

#[test]
fn a_test_case_answers_the_questions_about_tool_calls() {
    for (answers, files, denied) in [
        (json!({ "work": { "approved": true } }), json!(["a.txt", "b.txt"]), 0),
        (json!({ "work": [{ "approved": false, "note": "too risky" }, { "approved": true }] }), json!(["b.txt"]), 1),
        (json!({ "work": { "approved": false, "note": "too risky" } }), json!([]), 2),
    ] {
        let (server, orch) = project_with_questions(&answers, &json!({ "assert": ["result.done"], "files": files }));
        orch.run(&["pipeline", "validate"]).exits(0);
        orch.run(&["pipeline", "test", "--update"]).exits(0);
        let results = super::last_results(&server);
        let denials = results.iter().filter(|result| result.contains("denied: too risky"));
        assert_eq!((results.len(), denials.count()), (2, denied), "{answers}: {results:?}");
        drop(server);
        let ran = orch.run(&["pipeline", "test"]).exits(0);
        assert!(ran.stdout.contains("1 passed, 0 failed"), "{answers}: {ran:?}");
    }
}

#[test]
fn a_test_case_that_leaves_a_question_open_shows_it() {
    let (_server, orch) = project_with_questions(&json!({ "work": [{ "approved": true }] }), &json!({}));
    let ran = orch.run(&["pipeline", "test", "--update"]).exits(1);
    for part in [
        "the run waits for an answer, expected `completed`",
        "step `work` waits for an answer",
        "b.txt",
        "add `work: {",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn a_replay_continues_after_the_answer_to_a_question_about_a_tool_call() {
    for (decision, content) in [("approve", "two\n"), ("reject", "one\n")] {
        let read = || ("read", json!({ "path": "a.txt" }));
        let turns = vec![
            calls([read()]),
            calls([("write", json!({ "path": "a.txt", "content": "two\n" }))]),
            // The same call as before, in another session of the run: each has a recording of its own.
            calls([read()]),
            answer(&json!({ "done": true })),
        ];
        let server = scripted_server(turns);
        let orch =
            tool_project(&server, &json!({ "tools": ["read", "write"], "approve_tools": ["write"] }), &json!({}));
        orch.write("workspace/a.txt", "one\n").write("second/a.txt", "one\n");
        let decide = |more: &[&str]| {
            let (run, _) = latest_run(&orch).unwrap();
            orch.run(&[&["runs", decision, &run, "--note", "as agreed"], more].concat()).exits(0);
        };
        orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(3);
        decide(&[]);
        orch.run(&["pipeline", "resume", "--record", "recordings"]).exits(0);
        assert_eq!((server.requests().len(), orch.read("workspace/a.txt")), (4, content.to_owned()));
        drop(server);
        let (ran, report) = replay(&orch, "second");
        assert_eq!((ran.code, &report["status"]), (3, &json!("waiting")), "{decision}: {ran:?}");
        decide(&["--resume"]);
        assert_eq!(orch.read("second/a.txt"), content, "{decision}");
        assert_eq!(orch.json("second/result.json"), json!({ "done": true }), "{decision}");
    }
}
