//! Interrupted runs whose steps begin again because their requests changed: no call that may have changed something is
//! repeated, and the model of a new conversation learns which calls were made.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::calls::calling_project;
use super::scripted::{CallAnswer, McpServer, Protocol, project, text, tool};
use crate::support::{Orch, Reply, Server};
use crate::tool_loop::{RUN, ScriptedTurn, answer, calls, facts_of, scripted_reply, tool_project, wait_until};

/// The beginning of what a model learns about the calls of an earlier conversation.
const NOTE: &str = "An earlier conversation about this task ended before the task was done.";

/// A server with a tool whose description differs while `is_changed` is set. It does not answer a call with the text
/// `hang` while `is_stalling` is set.
struct Shop {
    server: McpServer,
    is_changed: Arc<AtomicBool>,
    is_stalling: Arc<AtomicBool>,
}

impl Shop {
    fn start() -> Self {
        let (is_changed, is_stalling) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let (changed, stalling) = (Arc::clone(&is_changed), Arc::clone(&is_stalling));
        let tools = move || {
            let description = if changed.load(Ordering::SeqCst) { "Pays a bill." } else { "Pays." };
            json!([tool("find", description)])
        };
        let call = move |params: &Value| {
            let paid = params["arguments"]["text"].as_str().unwrap();
            match paid {
                "hang" if stalling.load(Ordering::SeqCst) => CallAnswer::Nothing,
                "broken" => {
                    let content = json!([{ "type": "text", "text": "no money" }]);
                    CallAnswer::Result(json!({ "content": content, "isError": true }))
                }
                _ => text(&format!("receipt for {paid}")),
            }
        };
        Self { server: McpServer::start(Protocol::Old, tools, call), is_changed, is_stalling }
    }

    /// Starts a run, and kills orch during the call with this number. The server then answers.
    fn kill_during_call(&self, orch: &Orch, number: usize, run: &[&str]) {
        let mut child = orch.command(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the call", || self.server.calls().len() == number);
        child.kill().unwrap();
        child.wait().unwrap();
        self.is_stalling.store(false, Ordering::SeqCst);
    }
}

/// A model that follows a script, and answers at once if it knows of the calls of an earlier conversation.
fn model(turns: Vec<ScriptedTurn>) -> Server {
    Server::start(move |request| {
        let knows_calls = request.body.to_string().contains(NOTE);
        if knows_calls { Reply::text_for(&request.path, "\"fine\"") } else { scripted_reply(&turns, request) }
    })
}

#[test]
fn a_step_does_not_repeat_a_call_whose_tool_has_another_definition() {
    let shop = Shop::start();
    let step = json!({ "args": { "text": "hang" } });
    let orch = calling_project(&step, &[], &json!({ "docs": shop.server.settings("write") }));
    shop.kill_during_call(&orch, 1, &["pipeline", "run", "pipelines/main.yaml"]);
    shop.is_changed.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        orch.run(&["pipeline", "resume"]).exits(1).says("it is not known whether the call took effect");
        assert_eq!(shop.server.calls().len(), 1);
    }
    orch.run(&["pipeline", "resume", "--from", "find"]).exits(0);
    assert_eq!(shop.server.calls().len(), 2);
}

#[test]
fn a_model_whose_conversation_begins_again_learns_which_calls_were_made() {
    for (change, reason) in [("definition", "tools changed"), ("prompt", "prompt"), ("agent", "changed")] {
        let shop = Shop::start();
        let turns = vec![
            calls([("docs__find", json!({ "text": "rent" }))]),
            calls([("docs__find", json!({ "text": "hang" }))]),
            answer(&json!("unreached")),
        ];
        let model = model(turns);
        let orch = tool_project(&model, &json!({ "tools": ["docs.find"] }), &json!({}));
        let settings = orch.read("orch.yaml");
        let servers = json!({ "docs": shop.server.settings("write") });
        orch.write("orch.yaml", &format!("{settings}mcp: {servers}\n")).trust();
        shop.kill_during_call(&orch, 2, &RUN);
        match change {
            "definition" => shop.is_changed.store(true, Ordering::SeqCst),
            "prompt" => {
                orch.write("prompts/work.md", "You work hard.\n");
            }
            _ => {
                orch.edit("pipelines/main.yaml", r#""model":"auto""#, r#""model":"auto","temperature":0.5"#);
            }
        }
        orch.run(&["pipeline", "resume"]).exits(0);
        assert_eq!(shop.server.calls().len(), 2, "{change}: no call is repeated");
        let request = model.requests().last().unwrap().body.to_string();
        for expected in [NOTE, "receipt for rent", "orch was killed during this call"] {
            assert!(request.contains(expected), "{change}: {request}");
        }
        let starts = facts_of(&orch, "step_started");
        let stated = starts.last().unwrap()["reason"].as_str().unwrap();
        assert!(stated.contains(reason), "{change}: {stated}");
        assert_eq!(orch.json("workspace/result.json"), json!("fine"));
    }
}

#[test]
fn the_note_about_earlier_calls_stays_the_same_if_the_new_conversation_is_interrupted() {
    let shop = Shop::start();
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&is_stalling);
    let turns = vec![calls([("docs__find", json!({ "text": "hang" }))]), answer(&json!("unreached"))];
    let model = Server::start(move |request| {
        if !request.body.to_string().contains(NOTE) {
            return scripted_reply(&turns, request);
        }
        let reply = Reply::text_for(&request.path, "\"fine\"");
        if stalls.load(Ordering::SeqCst) { reply.stall_after(0) } else { reply }
    });
    let orch = tool_project(&model, &json!({ "tools": ["docs.find"] }), &json!({}));
    let settings = orch.read("orch.yaml");
    let servers = json!({ "docs": shop.server.settings("write") });
    orch.write("orch.yaml", &format!("{settings}mcp: {servers}\n")).trust();
    shop.kill_during_call(&orch, 1, &RUN);
    orch.write("prompts/work.md", "You work hard.\n");
    let mut child = orch.command(&["pipeline", "resume"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the new conversation", || model.requests().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    is_stalling.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    let requests = model.requests();
    assert_eq!((requests.len(), shop.server.calls().len()), (3, 1));
    assert_eq!(requests[1].body, requests[2].body);
    let attempts: Vec<Value> = facts_of(&orch, "step_started").iter().map(|start| start["attempt"].clone()).collect();
    assert_eq!(attempts.last(), Some(&json!(2)), "{attempts:?}");
}

#[test]
fn a_model_learns_which_files_an_earlier_conversation_wrote() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&is_stalling);
    let turns = vec![calls([("write", json!({ "path": "a.txt", "content": "one" }))]), answer(&json!("unreached"))];
    let model = Server::start(move |request| {
        if request.body.to_string().contains(NOTE) {
            return Reply::text_for(&request.path, "\"fine\"");
        }
        let reply = scripted_reply(&turns, request);
        let has_called = request.body.to_string().contains("a.txt");
        if has_called && stalls.load(Ordering::SeqCst) { reply.stall_after(0) } else { reply }
    });
    let orch = tool_project(&model, &json!({ "tools": ["write"] }), &json!({}));
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the second request", || model.requests().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    is_stalling.store(false, Ordering::SeqCst);
    orch.write("prompts/work.md", "You work hard.\n");
    orch.run(&["pipeline", "resume"]).exits(0);
    let request = model.requests().last().unwrap().body.to_string();
    assert!(request.contains(NOTE) && request.contains("a.txt"), "{request}");
    assert_eq!((model.requests().len(), orch.read("workspace/a.txt")), (3, "one".to_owned()));
}

#[test]
fn a_completed_step_is_reused_after_another_step_recorded_changed_tools() {
    let shop = Shop::start();
    let turns = vec![calls([("docs__find", json!({ "text": "rent" }))]), answer(&json!("fine"))];
    let servers = json!({ "docs": shop.server.settings("write") });
    let (model, orch) = project(turns, &json!({ "tools": ["docs.find"] }), &json!({}), &servers);
    let mut pipeline: Value = serde_json::from_str(&orch.read("pipelines/main.yaml")).unwrap();
    let failing = json!({ "id": "more", "call": "docs.find", "args": { "text": "broken" }, "output": "more" });
    pipeline["steps"].as_array_mut().unwrap().push(failing);
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.run(&RUN).exits(1);
    shop.is_changed.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        orch.run(&["pipeline", "resume"]).exits(1).says("no money");
    }
    assert_eq!((facts_of(&orch, "tools_listed").len(), model.requests().len()), (2, 2), "the first step is reused");
    assert_eq!(shop.server.calls().iter().filter(|call| call["arguments"]["text"] == "rent").count(), 1);
}
