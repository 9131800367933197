//! Kills runs with tools at random instants: a resume repeats no recorded request and no recorded tool call, and no
//! call that may have changed files; and a model learns what an interrupted call changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dialects::{reply_with_calls, tool_results};
use super::{RUN, facts};
use crate::kill::{
    MAX_IN_FLIGHT, assert_completed_once, kill_at, kills, latest_run, recorded_reply_count, resume_to_end,
    settled_request_count, workspace_files,
};
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// What a command of the model writes, in two steps.
const COMMAND_OUTPUT: &str = "half\nwhole\n";

/// Items whose agent writes, one after another, and then items whose agent reads, in parallel.
fn project(server: &Server) -> Orch {
    let orch = Orch::empty().with(server);
    let item_step = |id: &str, agent: &str, max_parallel: usize| {
        json!({ "id": id, "agent": agent, "prompt": format!("{id}.md"), "schema": "any", "for_each": "[1, 2, 3]",
            "max_parallel": max_parallel, "message": "item {{ item }}", "output": format!("{id}_results") })
    };
    let pipeline = json!({
        "name": "test",
        "inputs": { "task": { "type": "string" } },
        "agents": {
            "writer": { "model": "auto", "tools": ["read", "list", "write", "shell"] },
            "reader": { "model": "auto", "tools": ["read", "search"] },
        },
        "steps": [item_step("writing", "writer", 1), item_step("reading", "reader", MAX_IN_FLIGHT)],
    });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.write("prompts/writing.md", "You write.\n").write("prompts/reading.md", "You read.\n");
    orch.write("workspace/base.txt", "base\n");
    orch
}

/// The item of a conversation.
fn item_of(request: &ReceivedRequest) -> String {
    let (_, first) = request.messages().swap_remove(0);
    first.split_whitespace().nth(1).unwrap().to_owned()
}

/// The reply of the model. A writing conversation has two calls that write, one per turn, and then two that read.
fn reply(request: &ReceivedRequest) -> Reply {
    let item = item_of(request);
    let is_writer = request.system().contains("You write");
    let command = format!("echo half > {item}-shell.txt; sleep 0.01; echo whole >> {item}-shell.txt");
    let read = |path: &str| ("read", json!({ "path": path }));
    let calls = match (is_writer, tool_results(request).len()) {
        (true, 0) => vec![("write", json!({ "path": format!("{item}-write.txt"), "content": item }))],
        (true, 1) => vec![("shell", json!({ "command": command }))],
        (true, 2) => vec![read("base.txt"), ("list", json!({}))],
        (false, 0) => vec![read("base.txt"), ("search", json!({ "regex": "base" }))],
        (_, count) => return Reply::text_for(&request.path, &json!({ "results": count }).to_string()),
    };
    reply_with_calls(request, tool_results(request).len() + 1, &calls).delay(Duration::from_millis(3))
}

/// The recorded tool calls by their keys: how often they started, and how often an output was recorded.
fn tool_call_counts(orch: &Orch) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for fact in facts(orch) {
        let (started, ended) = (&fact["call_started"], &fact["call_ended"]);
        if started["call"]["tool_call"].is_number() {
            counts.entry(started["call"].to_string()).or_default().0 += 1;
        }
        if ended["call"]["tool_call"].is_number() && !ended["output"].is_null() {
            counts.entry(ended["call"].to_string()).or_default().1 += 1;
        }
    }
    counts
}

/// The keys of the tool calls that have a recorded output, and of those that may change files.
fn unrepeatable_calls(orch: &Orch) -> BTreeSet<String> {
    let is_write = |kind: &Value| kind["tool"] == "write" || kind["tool"] == "shell";
    let keys = facts(orch).into_iter().filter_map(|fact| {
        let (started, ended) = (&fact["call_started"], &fact["call_ended"]);
        let is_recorded = ended["call"]["tool_call"].is_number() && !ended["output"].is_null();
        let is_unrepeatable = is_recorded || is_write(&started["kind"]);
        is_unrepeatable.then(|| if is_recorded { ended["call"].to_string() } else { started["call"].to_string() })
    });
    keys.collect()
}

/// Asserts that the results of the calls that write are true. Returns how many calls were interrupted.
fn assert_true_results(orch: &Orch, server: &Server) -> usize {
    let mut interrupted = 0;
    let answered = server.requests().into_iter().filter(|request| tool_results(request).len() == 4);
    for request in answered {
        let (item, results) = (item_of(&request), tool_results(&request));
        for (result, file, whole) in [
            (&results[0], format!("{item}-write.txt"), item.as_str()),
            (&results[1], format!("{item}-shell.txt"), COMMAND_OUTPUT),
        ] {
            let path = format!("workspace/{file}");
            let content = orch.exists(&path).then(|| orch.read(&path));
            if !result.contains("interrupted: ") {
                assert_eq!(content.as_deref(), Some(whole), "{file}: {result}");
                continue;
            }
            interrupted += 1;
            match content {
                Some(content) => {
                    assert!(result.contains(&format!("these files changed: {file}")), "{content}: {result}");
                    assert!(whole.starts_with(&content), "the command ran at most once: {content}");
                }
                // The kill came before the command changed the file, or even before orch had recorded the files.
                None => assert!(
                    ["; no file changed", "the record of the files before is missing; files may have changed"]
                        .iter()
                        .any(|text| result.contains(text)),
                    "{file}: {result}"
                ),
            }
        }
    }
    interrupted
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_run_with_tools_survives_a_kill_at_any_instant() {
    if !reaches_full() {
        return;
    }
    let args = [&RUN[..], &["--quiet"]].concat();
    let server = Server::start(reply);
    let whole = project(&server);
    let began = Instant::now();
    kill_at(&whole, &args, Duration::from_mins(1));
    let (took, expected, all) = (began.elapsed(), workspace_files(&whole), server.requests().len());
    assert_eq!((latest_run(&whole).unwrap().1.as_str(), all), ("completed", 3 * 4 + 3 * 2));
    assert_eq!(assert_true_results(&whole, &server), 0);
    let mut seed = 5_u32;
    let (mut hit, mut twice, mut interrupted) = (0, 0, 0);
    for _ in 0..kills() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let server = Server::start(reply);
        let orch = project(&server);
        kill_at(&orch, &args, took.mul_f64(f64::from(seed >> 8) / f64::from(1 << 24)));
        let Some((run, status)) = latest_run(&orch) else {
            assert!(server.requests().len() <= 1, "the kill came before anything was recorded");
            continue;
        };
        hit += u32::from(status != "completed");
        let (recorded, before) = (recorded_reply_count(&orch, &run), settled_request_count(&server));
        let (unrepeatable, counts_before) = (unrepeatable_calls(&orch), tool_call_counts(&orch));
        resume_to_end(&orch, &run);
        assert_completed_once(&orch, &run);
        assert_eq!(server.requests().len() - before, all - recorded, "run {run}: only unrecorded replies");
        let lost = before - recorded;
        assert!(lost <= MAX_IN_FLIGHT, "at most what was in flight is lost: {before} asked, {recorded} recorded");
        twice += lost;
        for (call, (starts, outputs)) in tool_call_counts(&orch) {
            assert!(outputs <= 1, "run {run}: {call} has {outputs} outputs");
            let starts_before = counts_before.get(&call).map_or(0, |(starts, _)| *starts);
            assert!(!unrepeatable.contains(&call) || starts == starts_before, "run {run}: {call} ran again");
        }
        let results = assert_true_results(&orch, &server);
        interrupted += results;
        if results == 0 {
            assert_eq!(workspace_files(&orch).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        }
    }
    // The duration of a run varies on a busy machine, so that some kills come too late.
    assert!(hit > 0, "no kill hit a run");
    println!(
        "tools: {hit} of {} kills hit a run; {twice} replies in flight were requested again; {interrupted} calls that \
         may change files were interrupted",
        kills()
    );
}
