//! Interrupted runs with MCP servers: a resume never repeats a call that may have changed something, and uses the tools
//! that the servers list by then.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, project, text, tool};
use crate::kill::latest_run;
use crate::support::{Orch, Server};
use crate::tool_loop::{RUN, answer, calls, facts_of, last_results, wait_until};

/// A server with the tool `send`, which does not answer while the flag is set.
fn stalling_server(is_stalling: &Arc<AtomicBool>) -> McpServer {
    let is_stalling = Arc::clone(is_stalling);
    let call = move |_: &Value| if is_stalling.load(Ordering::SeqCst) { CallAnswer::Nothing } else { text("sent") };
    McpServer::start(Protocol::Old, || json!([tool("send", "Sends a text.")]), call)
}

/// A project whose model calls this tool.
fn sending_project(server: &McpServer, access: &str) -> (Server, Orch) {
    let turns = vec![calls([("mail__send", json!({ "text": "a" }))]), answer(&json!("fine"))];
    project(turns, &json!({ "tools": ["mail.send"] }), &json!({}), &json!({ "mail": server.settings(access) }))
}

fn start(orch: &Orch) -> Child {
    orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a run, and kills orch while the server has not answered the call.
fn kill_during_call(server: &McpServer, orch: &Orch) {
    let mut child = start(orch);
    wait_until("the call", || server.calls().len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_call_that_may_change_something_is_not_repeated_after_a_kill() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let server = stalling_server(&is_stalling);
    let (model, orch) = sending_project(&server, "write");
    kill_during_call(&server, &orch);
    is_stalling.store(false, Ordering::SeqCst);
    let note = "a call of `mail.send` of step `work` was interrupted: it is not known whether it took effect";
    orch.run(&["pipeline", "resume"]).exits(0).says(note);
    let results = last_results(&model);
    let expected = "Error:\ninterrupted: orch was killed during this call, so its output is lost, and orch did not \
                    repeat the call; it is not known whether the call took effect";
    assert_eq!((results, server.calls().len()), (vec![expected.to_owned()], 1));
    assert_eq!(model.requests().len(), 2, "the first request is not repeated");
}

#[test]
fn a_call_that_only_reads_is_made_again_after_a_kill() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let server = stalling_server(&is_stalling);
    let (model, orch) = sending_project(&server, "read");
    kill_during_call(&server, &orch);
    is_stalling.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((last_results(&model), server.calls().len()), (vec!["sent".to_owned()], 2));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_point_around_a_call_leads_to_one_call() {
    for point in ["call::performed", "call::recorded"] {
        let mut passes = 0;
        loop {
            let server = stalling_server(&Arc::new(AtomicBool::new(false)));
            let (model, orch) = sending_project(&server, "write");
            let chosen = format!("{point}={passes}*off->return");
            let status = orch.command(&RUN).env("FAILPOINTS", &chosen).output().unwrap().status;
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "{chosen}: {status}");
            orch.run(&["pipeline", "resume"]).exits(0);
            assert_eq!(server.calls().len(), 1, "{chosen}");
            let results = last_results(&model);
            assert!(results == ["sent"] || results[0].contains("orch was killed"), "{chosen}: {results:?}");
            passes += 1;
        }
        assert_eq!(passes, 3, "{point}: two requests and a call");
    }
}

#[test]
fn a_completed_step_is_reused_without_its_server() {
    let server = stalling_server(&Arc::new(AtomicBool::new(false)));
    let (model, orch) = sending_project(&server, "write");
    let mut pipeline: Value = serde_json::from_str(&orch.read("pipelines/main.yaml")).unwrap();
    pipeline["steps"].as_array_mut().unwrap().push(json!({ "id": "ask", "approve": "Go on?", "output": "verdict" }));
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.run(&RUN).exits(3);
    assert_eq!(server.calls().len(), 1);
    drop(server);
    let (id, _) = latest_run(&orch).unwrap();
    let predicted = orch.run(&["pipeline", "resume", &id, "--dry-run", "--output", "json"]).exits(0).stdout;
    let predicted: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!((&predicted[0]["step"], &predicted[0]["action"]), (&json!("work"), &json!("reuse")));
    orch.run(&["runs", "approve", &id, "ask", "--resume"]).exits(0);
    assert_eq!((model.requests().len(), facts_of(&orch, "step_reused").len()), (2, 1));
}

/// A project whose model calls the tool `find`, which needs an approval. The server has another tool and another
/// description of its tools while the flag of each is set.
fn changing_project() -> (McpServer, [Arc<AtomicBool>; 2], Server, Orch) {
    let flags = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let [has_more, is_changed] = flags.each_ref().map(Arc::clone);
    let tools = move || {
        let description = if is_changed.load(Ordering::SeqCst) { "Finds words." } else { "Finds a text." };
        let other = has_more.load(Ordering::SeqCst).then(|| tool("other", "Does something else."));
        [Some(tool("find", description)), other].into_iter().flatten().collect::<Value>()
    };
    let server = McpServer::start(Protocol::Old, tools, |_| text("found"));
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"], "approve_tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    orch.run(&RUN).exits(3);
    (server, flags, model, orch)
}

/// Approves the call of the latest run, and resumes the run. Returns the exit code.
fn approve(orch: &Orch) -> i32 {
    let (id, _) = latest_run(orch).unwrap();
    orch.run(&["runs", "approve", &id, "--resume"]).code
}

#[test]
fn a_step_begins_again_if_a_definition_of_its_tools_changed() {
    let (server, [_, is_changed], model, orch) = changing_project();
    is_changed.store(true, Ordering::SeqCst);
    assert_eq!(approve(&orch), 3, "the model calls the tool again, and the call needs an approval");
    let starts = facts_of(&orch, "step_started");
    let attempts: Vec<&Value> = starts.iter().map(|start| &start["attempt"]).collect();
    assert_eq!((attempts, &starts[1]["reason"]), (vec![&json!(1), &json!(2)], &json!("tools changed")));
    assert_eq!(approve(&orch), 0);
    assert_eq!((facts_of(&orch, "tools_listed").len(), server.calls().len()), (2, 1));
    let described = model.requests().last().unwrap().body["tools"][0]["function"]["description"].clone();
    assert_eq!(described, "Finds words.");
}

#[test]
fn a_conversation_continues_if_only_other_tools_changed() {
    let (server, [has_more, _], model, orch) = changing_project();
    has_more.store(true, Ordering::SeqCst);
    assert_eq!(approve(&orch), 0);
    assert!(facts_of(&orch, "step_started").iter().all(|start| start["attempt"] == 1), "the attempt continues");
    assert_eq!((facts_of(&orch, "tools_listed").len(), server.calls().len()), (2, 1));
    assert_eq!(model.requests().len(), 2, "the first request is not repeated");
}
