//! Recordings of runs with MCP servers: a replay needs none of them.

use serde_json::{Value, json};

use super::scripted::{McpServer, project};
use crate::support::{Orch, RunOutput};
use crate::tool_loop::{RUN, answer, calls};

/// Records a run whose model calls a tool of a server. The servers have stopped when this returns.
fn record_run() -> Orch {
    let server = McpServer::echo();
    let turns = vec![
        calls([("docs__find", json!({ "text": "a" })), ("docs__find", json!({ "text": "b" }))]),
        answer(&json!({ "done": true })),
    ];
    let agent = json!({ "tools": ["docs.find"] });
    let (_model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    orch.write("second/other.txt", "");
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(0);
    orch
}

fn replay(orch: &Orch) -> (RunOutput, Value) {
    let args = ["--replay", "recordings", "--workspace", "second", "--output", "json"];
    let ran = orch.run(&[&RUN[..], &args].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

#[test]
fn a_replay_repeats_the_conversation_without_a_server() {
    let orch = record_run();
    let (ran, report) = replay(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!({ "done": true })), "{ran:?}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("found a") && shown.contains("found b"), "{shown}");
    let recorded = orch.read("recordings/mcp-tools.docs.json");
    assert!(recorded.contains("\"Finds a text.\""), "{recorded}");
    let calls = orch.files().into_iter().filter(|name| name.starts_with("recordings/work.mcp."));
    assert_eq!(calls.count(), 2);
}

#[test]
fn a_replay_without_the_tools_of_a_server_says_so() {
    let orch = record_run();
    std::fs::remove_file(orch.path().join("recordings/mcp-tools.docs.json")).unwrap();
    let (ran, report) = replay(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("no_recording")), "{ran:?}");
    let expected = "there is no recording of the tools of the MCP server `docs`";
    assert!(error["message"].as_str().unwrap().starts_with(expected), "{error}");
}

#[test]
fn a_replay_has_no_result_for_another_call() {
    let orch = record_run();
    for name in orch.files().into_iter().filter(|name| name.starts_with("recordings/work.mcp.")) {
        std::fs::remove_file(orch.path().join(name)).unwrap();
    }
    let (ran, report) = replay(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("no_recording")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().contains("the call of `docs.find` with {\"text\":\"a\"}"), "{error}");
}
