//! MCP servers that orch starts and that change files of the workspace.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::scripted::project;
use crate::kill::latest_run;
use crate::support::wait::output_of;
use crate::support::{Orch, RunOutput, Server};
use crate::tool_loop::{RUN, answer, calls, facts_of, last_results, wait_until};

/// A project whose model calls the tool of a server that appends a line to `made.txt`.
fn writing_project() -> (Server, Orch) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/writer.py");
    let server = json!({ "command": ["python3", script], "sandbox": { "enabled": false } });
    let turns = vec![calls([("files__append", json!({ "text": "one" }))]), answer(&json!("fine"))];
    let (model, orch) = project(turns, &json!({ "tools": ["files.append"] }), &json!({}), &json!({ "files": server }));
    orch.write("workspace/theirs.txt", "before\n");
    (model, orch)
}

/// The ends of the tool calls.
fn ended_calls(orch: &Orch) -> Vec<Value> {
    facts_of(orch, "call_ended").into_iter().filter(|call| call["call"]["tool_call"].is_number()).collect()
}

/// Asserts that the run knows the change of `made.txt`, and can revert it.
fn assert_change_is_known(orch: &Orch) {
    let diff = orch.run(&["runs", "diff"]).exits(0).stdout;
    assert!(diff.contains("+one") && !diff.contains("before"), "{diff}");
    let (id, _) = latest_run(orch).unwrap();
    orch.run(&["runs", "revert", &id]).exits(0);
    assert!(!orch.exists("workspace/made.txt"));
    assert_eq!(orch.read("workspace/theirs.txt"), "before\n");
}

#[test]
fn the_changes_of_a_call_are_recorded() {
    let (model, orch) = writing_project();
    orch.run(&RUN).exits(0);
    assert_eq!((orch.read("workspace/made.txt").as_str(), last_results(&model)), ("one\n", vec!["written".to_owned()]));
    let ended = ended_calls(&orch);
    let output = &ended[0]["output"]["mcp_tool"];
    assert_eq!((ended.len(), &output["kind"]), (1, &json!("workspace_write")));
    assert_eq!(output["result"]["changed_files"][0]["path"], "made.txt");
    assert_eq!(ended[0]["agent_activity"]["changed"], json!(["made.txt"]));
    assert_change_is_known(&orch);
}

#[test]
fn a_call_during_which_orch_is_killed_is_not_repeated_and_its_changes_are_known() {
    let (model, orch) = writing_project();
    orch.write("workspace/hang", "");
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the change", || orch.exists("workspace/made.txt") && orch.read("workspace/made.txt") == "one\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = orch.run(&["pipeline", "resume"]).exits(0);
    assert!(
        resumed.stderr.contains("a tool call of step `work` was interrupted after it changed 1 file"),
        "{resumed:?}"
    );
    let results = last_results(&model);
    let expected = "these files changed: made.txt; it is not known what else the call changed";
    assert!(results[0].contains("orch was killed during this call") && results[0].ends_with(expected), "{results:?}");
    assert_eq!((orch.read("workspace/made.txt").as_str(), model.requests().len()), ("one\n", 2));
    assert_eq!(ended_calls(&orch)[0]["failure"]["class"], "crashed");
    assert_change_is_known(&orch);
}

#[test]
fn the_server_has_ended_when_an_interrupted_run_ends() {
    let (_model, orch) = writing_project();
    orch.write("workspace/hang", "");
    let child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the change", || orch.exists("workspace/made.txt") && orch.read("workspace/made.txt") == "one\n");
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    RunOutput::of(&output_of(child)).exits(130);
    let ended = ended_calls(&orch);
    assert_eq!(
        (&ended[0]["failure"]["class"], &ended[0]["agent_activity"]["changed"]),
        (&json!("cancelled"), &json!(["made.txt"]))
    );
    let folder = orch.path().join("workspace").canonicalize().unwrap();
    let runs_there = |process: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(process.unwrap().path().join("cwd")).is_ok_and(|cwd| cwd == folder)
    };
    assert!(!std::fs::read_dir("/proc").unwrap().any(runs_there), "no process is left in the workspace");
    orch.run(&["pipeline", "resume"]).exits(0);
}
