//! Steps whose call of a tool is interrupted: a resume never repeats a call that may have changed something.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::calls::calling_project;
use super::scripted::{CallAnswer, McpServer, Protocol, text, tool};
use crate::kill::latest_run;
use crate::support::Orch;
use crate::tool_loop::{facts_of, wait_until};

const RUN: [&str; 3] = ["pipeline", "run", "pipelines/main.yaml"];

/// A server whose tool `find` does not answer while the flag is set.
fn stalling_server(is_stalling: &Arc<AtomicBool>) -> McpServer {
    let is_stalling = Arc::clone(is_stalling);
    let call = move |_: &Value| if is_stalling.load(Ordering::SeqCst) { CallAnswer::Nothing } else { text("found") };
    McpServer::start(Protocol::Old, || json!([tool("find", "Finds a text.")]), call)
}

/// Starts a run, and kills orch while the server has not answered the call. The server answers from then on.
fn killed_project(access: &str) -> (McpServer, Orch) {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let server = stalling_server(&is_stalling);
    let orch = calling_project(&json!({}), &[], &json!({ "docs": server.settings(access) }));
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the call", || server.calls().len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    is_stalling.store(false, Ordering::SeqCst);
    (server, orch)
}

#[test]
fn a_call_that_only_reads_is_made_again_after_a_kill() {
    let (server, orch) = killed_project("read");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((server.calls().len(), orch.json("workspace/found.json")), (2, json!("found")));
}

#[test]
fn a_call_that_may_change_something_is_repeated_only_with_from() {
    let (server, orch) = killed_project("write");
    for _ in 0..2 {
        let resumed = orch.run(&["pipeline", "resume"]).exits(1).says("(crashed)");
        let expected = "orch did not repeat the call; it is not known whether the call took effect";
        assert!(resumed.stderr.contains(expected), "{resumed:?}");
        assert!(resumed.stderr.contains("--from find` calls the tool again"), "{resumed:?}");
        assert_eq!(server.calls().len(), 1);
    }
    orch.run(&["pipeline", "resume", "--from", "find"]).exits(0);
    assert_eq!((server.calls().len(), orch.json("workspace/found.json")), (2, json!("found")));
}

#[test]
fn other_arguments_and_settings_do_not_repeat_a_call_with_an_unknown_effect() {
    let (server, orch) = killed_project("write");
    let changes: [&dyn Fn(&Orch); 2] = [
        &|orch: &Orch| {
            orch.edit("pipelines/main.yaml", "about {{ topic }}", "all about {{ topic }}");
        },
        &|orch: &Orch| {
            let mut settings: Value = serde_json::from_str(&orch.read("orch.yaml")).unwrap();
            settings["mcp"]["docs"]["headers"] = json!({ "X-Team": "blue" });
            orch.write("orch.yaml", &settings.to_string()).trust();
        },
    ];
    for change in changes {
        change(&orch);
        let resumed = orch.run(&["pipeline", "resume"]).exits(1).says("it is not known whether the call took effect");
        assert!(resumed.stderr.contains("docs.find {\"text\":\"about birds\"}"), "{resumed:?}");
        assert_eq!(server.calls().len(), 1);
    }
    orch.run(&["pipeline", "resume", "--from", "find"]).exits(0);
    let received: Vec<Value> = server.calls().iter().map(|call| call["arguments"]["text"].clone()).collect();
    assert_eq!(received, ["about birds", "all about birds"]);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_point_around_a_call_leads_to_at_most_one_call() {
    for point in ["call::performed", "call::recorded"] {
        let server = stalling_server(&Arc::new(AtomicBool::new(false)));
        let orch = calling_project(&json!({}), &[], &json!({ "docs": server.settings("write") }));
        let status = orch.command(&RUN).env("FAILPOINTS", format!("{point}=return")).output().unwrap().status;
        assert_eq!(status.code(), None, "{point}: {status}");
        // Only after the call was recorded is its result known.
        let expected_code = i32::from(point == "call::performed");
        orch.run(&["pipeline", "resume"]).exits(expected_code);
        assert_eq!(server.calls().len(), 1, "{point}");
    }
}

#[test]
fn the_changes_of_an_interrupted_call_are_known() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/writer.py");
    let server = json!({ "command": ["python3", script], "sandbox": { "enabled": false } });
    let step = json!({ "call": "files.append", "args": { "text": "one" } });
    let orch = calling_project(&step, &[], &json!({ "files": server }));
    orch.write("workspace/hang", "");
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the change", || orch.exists("workspace/made.txt") && orch.read("workspace/made.txt") == "one\n");
    child.kill().unwrap();
    child.wait().unwrap();
    orch.run(&["pipeline", "resume"]).exits(1).says("these files changed: made.txt");
    assert_eq!(orch.read("workspace/made.txt"), "one\n");
    let (id, _) = latest_run(&orch).unwrap();
    std::fs::remove_file(orch.path().join("workspace/hang")).unwrap();
    orch.run(&["pipeline", "resume", &id, "--from", "find"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "one\none\n");
    assert!(orch.run(&["runs", "diff", &id]).exits(0).stdout.contains("+one"));
    assert_eq!(facts_of(&orch, "step_completed").len(), 1);
}
