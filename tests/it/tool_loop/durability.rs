//! Interrupted conversations: a resume continues where they ended, and repeats nothing that may have changed files.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::dialects::{reply_with_calls, tool_results};
use super::{
    RUN, allow_pages, answer, calls, facts_of, last_results, run, scripted_reply, scripted_server, tool_project,
    wait_until,
};
use crate::support::sandbox::reaches_full;
use crate::support::wait::output_of;
use crate::support::{Orch, Reply, RunOutput, Server};

const HANGING_COMMAND: &str = "echo half > made.txt; sleep 300";

/// A project whose model first calls `shell` with a command that changes a file and hangs.
fn project_with_hanging_command() -> (Server, Orch) {
    let server =
        scripted_server(vec![calls([("shell", json!({ "command": HANGING_COMMAND }))]), answer(&json!("fine"))]);
    let orch = tool_project(&server, &json!({ "tools": ["shell"] }), &json!({}));
    orch.write("workspace/theirs.txt", "before\n");
    (server, orch)
}

fn start(orch: &Orch) -> Child {
    orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The recorded tool calls: what they returned, or the class of their failure, and the files that they changed.
fn tool_calls(orch: &Orch) -> Vec<(Value, Value)> {
    let calls = facts_of(orch, "call_ended").into_iter().filter(|call| call["call"]["tool_call"].is_number());
    let end = |call: &Value| match &call["failure"]["class"] {
        Value::Null => call["output"]["tool"]["result"].clone(),
        class => class.clone(),
    };
    calls.map(|call| (end(&call), call["agent_activity"]["changed"].clone())).collect()
}

#[test]
fn a_command_during_which_orch_is_killed_is_not_repeated_and_the_model_learns_what_it_changed() {
    if !reaches_full() {
        return;
    }
    let (server, orch) = project_with_hanging_command();
    let child = start(&orch);
    wait_until("the change", || orch.exists("workspace/made.txt") && orch.read("workspace/made.txt") == "half\n");
    kill(child);
    let resumed = orch.run(&["pipeline", "resume"]).exits(0);
    assert!(
        resumed.stderr.contains("a tool call of step `work` was interrupted after it changed 1 file"),
        "{resumed:?}"
    );
    assert_eq!(server.requests().len(), 2, "the first request is not repeated");
    let results = last_results(&server);
    let expected = "interrupted: orch was killed during this call, so its output is lost, and orch did not repeat the \
                    call; these files changed: made.txt";
    assert!(results.len() == 1 && results[0].contains(expected), "{results:?}");
    assert_eq!(tool_calls(&orch), [(json!("crashed"), json!(["made.txt"]))]);
    let starts = facts_of(&orch, "call_started");
    assert_eq!(starts.iter().filter(|call| call["kind"]["tool"] == "shell").count(), 1);
    // The run knows the change.
    let diff = orch.run(&["runs", "diff"]).exits(0).stdout;
    assert!(diff.contains("+half") && !diff.contains("before"), "{diff}");
    let (id, _) = crate::kill::latest_run(&orch).unwrap();
    orch.run(&["runs", "revert", &id]).exits(0);
    assert!(!orch.exists("workspace/made.txt"));
    assert_eq!(orch.read("workspace/theirs.txt"), "before\n");
}

#[test]
fn the_damage_by_an_interrupted_command_fails_the_step() {
    if !reaches_full() {
        return;
    }
    for signal in ["-INT", "-KILL"] {
        let damages = "mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; echo '[core]' > config";
        let command = format!("{damages}; {HANGING_COMMAND}");
        let turns = vec![calls([("shell", json!({ "command": command }))]), answer(&json!("fine"))];
        let server = scripted_server(turns);
        let orch = tool_project(&server, &json!({ "tools": ["shell"] }), &json!({}));
        let child = start(&orch);
        wait_until("the change", || orch.exists("workspace/made.txt"));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let mut ran = RunOutput::of(&output_of(child));
        if signal == "-KILL" {
            ran = orch.run(&["pipeline", "resume"]);
        }
        ran.exits(1).says("path_refused").says("workspace/HEAD`, so git takes");
        assert_eq!(server.requests().len(), 1, "the model learns nothing");
        let (end, changed) = tool_calls(&orch).remove(0);
        assert_eq!((end, changed), (json!("path_refused"), json!(["HEAD", "config", "made.txt"])), "{signal}");
    }
}

/// The files in which orch keeps the state before the calls in flight.
fn call_starts(orch: &Orch) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries(orch.path().join(".orch/agents")).flat_map(|run| entries(run.join("turns"))).collect()
}

#[test]
fn without_the_state_before_an_interrupted_command_its_changes_are_unknown() {
    if !reaches_full() {
        return;
    }
    for damaged_content in [None, Some("{")] {
        let (server, orch) = project_with_hanging_command();
        let child = start(&orch);
        wait_until("the change", || orch.exists("workspace/made.txt"));
        kill(child);
        let starts = call_starts(&orch);
        assert_eq!(starts.len(), 1, "{starts:?}");
        match damaged_content {
            Some(content) => std::fs::write(&starts[0], content).unwrap(),
            None => std::fs::remove_file(&starts[0]).unwrap(),
        }
        orch.run(&["runs", "diff"]).exits(0).says("work: the changes of a tool call are not recorded");
        let unknown = "orch could not compare everything: the record of the files before is missing; files may have \
                       changed";
        let interrupted = format!("a tool call of step `work` was interrupted; {unknown}");
        let resumed = orch.run(&["pipeline", "resume"]).exits(0).says(&interrupted);
        let is_damaged = resumed.stderr.contains("the file changes of this turn are not recorded");
        assert_eq!(is_damaged, damaged_content.is_some(), "{resumed:?}");
        let results = last_results(&server);
        assert!(results[0].contains(&format!("did not repeat the call; {unknown}")), "{results:?}");
        // No view of the run counts the unknown changes as none.
        let views = [&["runs", "show"][..], &["runs", "show", "--replies"], &["runs", "events"]];
        for args in views {
            let shown = orch.run(args).exits(0).stdout;
            assert!(shown.contains("files may have changed"), "{args:?}: {shown}");
        }
        orch.run(&["runs", "diff"]).exits(0).says(unknown).says("changed no files, as far as orch knows");
        let report: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).stdout).unwrap();
        assert_eq!(report["steps"][0]["partial_changes"], json!(["the record of the files before is missing"]));
        let diff: Value = serde_json::from_str(&orch.run(&["runs", "diff", "--output", "json"]).stdout).unwrap();
        let incomplete = json!([{ "step": "work", "reason": unknown }]);
        assert_eq!((&diff["files"], &diff["incomplete"]), (&json!([]), &incomplete));
        let (id, _) = crate::kill::latest_run(&orch).unwrap();
        let reverted = orch.run(&["runs", "revert", &id]).exits(1);
        reverted.says(&format!("work: {unknown}; the revert leaves them as they are"));
    }
}

#[test]
fn a_command_that_ctrl_c_interrupts_is_not_repeated() {
    if !reaches_full() {
        return;
    }
    let (server, orch) = project_with_hanging_command();
    let child = start(&orch);
    wait_until("the change", || orch.exists("workspace/made.txt"));
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    RunOutput::of(&output_of(child)).exits(130);
    assert_eq!(tool_calls(&orch), [(json!("cancelled"), json!(["made.txt"]))]);
    orch.run(&["pipeline", "resume"]).exits(0);
    let results = last_results(&server);
    assert!(results[0].contains("the user stopped orch") && results[0].contains("made.txt"), "{results:?}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains(&format!("), failed\n{}", results[0])) && shown.contains("(shell "), "{shown}");
    assert_eq!((server.requests().len(), tool_calls(&orch).len()), (2, 1));
}

#[test]
fn a_call_that_only_reads_runs_again_if_orch_was_killed_during_it() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&is_stalling);
    let pages = Server::start(move |_| {
        let page = Reply::typed("text/plain", "the page");
        if stalls.load(Ordering::SeqCst) { page.stall_after(0) } else { page }
    });
    let turns = vec![
        calls([("read", json!({ "path": "a.txt" })), ("fetch", json!({ "url": pages.url() }))]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    let grant = format!("fetch(127.0.0.1:{})", pages.port());
    let orch = tool_project(&server, &json!({ "tools": ["read", grant] }), &json!({}));
    allow_pages(&orch, &pages);
    orch.write("workspace/a.txt", "one\n");
    let child = start(&orch);
    wait_until("the result of the other call", || pages.requests().len() == 1 && tool_calls(&orch).len() == 1);
    kill(child);
    is_stalling.store(false, Ordering::SeqCst);
    // The recorded result of `read` stays the same, although the file changes.
    orch.write("workspace/a.txt", "two\n");
    orch.run(&["pipeline", "resume"]).exits(0);
    let results = last_results(&server);
    assert!(results[0].contains("one") && results[1].contains("the page"), "{results:?}");
    assert_eq!((server.requests().len(), pages.requests().len(), tool_calls(&orch).len()), (2, 2, 2));
}

/// A server whose model writes a file, and then does not answer until `works` is true.
fn server_that_fails_at_first(works: &Arc<AtomicBool>) -> Server {
    let works = Arc::clone(works);
    let turns = vec![calls([("write", json!({ "path": "a.txt", "content": "one" }))]), answer(&json!("fine"))];
    Server::start(move |request| {
        let fails = tool_results(request).len() == 1 && !works.load(Ordering::SeqCst);
        if fails { Reply::status(503, "{}") } else { scripted_reply(&turns, request) }
    })
}

#[test]
fn a_failed_request_is_repeated_without_the_turns_before_it() {
    let works = Arc::new(AtomicBool::new(false));
    let server = server_that_fails_at_first(&works);
    let retry = json!({ "retry": { "max": 2, "backoff": "1ms" } });
    let orch = tool_project(&server, &json!({ "tools": ["write"] }), &retry);
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("provider_unavailable")), "{ran:?}");
    assert_eq!(server.requests().len(), 3, "the first turn, and two tries of the second one");
    works.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((server.requests().len(), tool_calls(&orch).len()), (4, 1), "a resume continues the conversation");
    assert_eq!(last_results(&server).len(), 1);
}

#[test]
fn each_turn_fits_the_budget_and_a_larger_budget_continues_the_conversation() {
    let turns = vec![
        calls([("read", json!({ "path": "long.txt" })), ("write", json!({ "path": "b.txt", "content": "b" }))]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    // The first request fits the budget. The file makes the second one too long.
    let agent = json!({ "tools": ["read", "write"], "max_output_tokens": 1000, "budget": { "tokens": 8000 } });
    let orch = tool_project(&server, &agent, &json!({}));
    orch.write("workspace/long.txt", &"a line of text\n".repeat(2000));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    assert_eq!((server.requests().len(), tool_calls(&orch).len()), (1, 2));
    orch.edit("pipelines/main.yaml", "8000", "80000");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((server.requests().len(), tool_calls(&orch).len()), (2, 2), "no call is repeated");
}

#[test]
fn a_run_that_was_killed_between_turns_repeats_only_the_request_in_flight() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&is_stalling);
    let server = Server::start(move |request| {
        let turn = tool_results(request).len() + 1;
        if turn == 4 {
            let reply = Reply::text_for(&request.path, "\"fine\"");
            return if stalls.load(Ordering::SeqCst) { reply.stall_after(0) } else { reply };
        }
        let content = format!("{turn}");
        reply_with_calls(request, turn, &[("write", json!({ "path": "a.txt", "content": content }))])
    });
    let orch = tool_project(&server, &json!({ "tools": ["write"] }), &json!({}));
    let child = start(&orch);
    wait_until("the last request", || server.requests().len() == 4);
    kill(child);
    is_stalling.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    let requests = server.requests();
    assert_eq!((requests.len(), tool_calls(&orch).len()), (5, 3));
    assert_eq!(requests[3].body, requests[4].body, "the conversation is the same");
    assert_eq!(orch.read("workspace/a.txt"), "3");
}
