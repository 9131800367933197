//! Budget accounting of requests without a usable result: replies that broke off, and processes that were killed.
#![cfg(unix)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Reply, Server};

const STEP: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n";
const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];

/// One step whose request has an estimate of a little more than 100 tokens, with a budget.
fn project_with_budget(server: &Server, tokens: u32) -> Orch {
    let orch = project(server, STEP);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    orch.edit("pipelines/main.yaml", "name: test", &format!("name: test\nbudget: {{ tokens: {tokens} }}"));
    orch
}

/// A server that answers with this reply first, and with valid ones later.
fn server_with_first_reply(reply: Reply) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply.clone(),
        _ => Reply::openai_text("1"),
    })
}

fn kill(child: &mut std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait_for(server: &Server, requests: usize) {
    let began = Instant::now();
    while server.requests().len() < requests {
        assert!(began.elapsed() < Duration::from_mins(2), "the request never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn events(orch: &Orch, kind: &str) -> Vec<Value> {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter_map(|event| event["fact"].get(kind).cloned()).collect()
}

#[test]
fn a_reply_that_broke_off_counts_with_its_upper_bound() {
    let cut = || server_with_first_reply(Reply::openai_text("a long story that never ends").cut_after(300));
    let (server, more) = (cut(), cut());
    let ran = run(&project_with_budget(&server, 200), &[]).0.exits(4);
    assert_eq!(server.requests().len(), 1, "{ran:?}");
    run(&project_with_budget(&more, 400), &[]).0.exits(0);
    assert_eq!(more.requests().len(), 2);
}

#[test]
fn a_rejected_request_counts_nothing() {
    for refusal in [
        Reply::status(529, "{\"error\":{\"message\":\"overloaded\"}}"),
        Reply::events(&[json!({ "error": { "message": "overloaded", "code": 503 } })]),
    ] {
        let server = server_with_first_reply(refusal);
        let (ran, report) = run(&project_with_budget(&server, 130), &[]);
        assert_eq!((ran.code, server.requests().len()), (0, 2), "{ran:?}");
        assert_eq!(report["usage"]["input"], 11, "{report:#}");
    }
}

#[test]
fn usage_that_was_reported_before_a_reply_broke_off_is_counted_and_shown() {
    let server = Server::start(|_| Reply::anthropic_text("a long story that never ends").cut_after(400));
    let orch = project_with_budget(&server, 120);
    orch.edit("orch.yaml", "dialect: openai", "dialect: anthropic");
    orch.edit("pipelines/main.yaml", "prompt: one.md", "retry: { max: 1 }, prompt: one.md");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(report["steps"][0]["error"]["class"], "provider_unavailable", "{report:#}");
    assert!(report["steps"][0]["error"].get("usage").is_none(), "it is of the call: {report:#}");
    let usage = &report["usage"];
    assert_eq!(
        (&usage["input"], &usage["output"], &usage["estimated"]["output"]),
        (&json!(11), &json!(100), &json!(99))
    );
    assert!(ran.stderr.contains("11 in (4 cached), ~100 out; cost unknown"), "{}", ran.stderr);
    let call = &events(&orch, "call_ended")[0];
    assert_eq!((&call["estimated"]["input"], &call["estimated"]["output"]), (&json!(0), &json!(99)), "{call:#}");
}

#[test]
fn zeros_in_the_usage_of_a_reply_that_broke_off_are_ignored() {
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 0, "output_tokens": 0}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half"}}),
    ];
    let server = Server::always(Reply::events(&events));
    let orch = project_with_budget(&server, 5000);
    orch.edit("orch.yaml", "dialect: openai", "dialect: anthropic");
    orch.edit("pipelines/main.yaml", "prompt: one.md", "retry: { max: 1 }, prompt: one.md");
    let (_, report) = run(&orch, &[]);
    let estimated = &report["usage"]["estimated"];
    assert!(estimated["input"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(estimated["output"], json!(100), "{report:#}");
}

#[test]
fn truncated_and_refused_replies_are_counted() {
    for reason in ["length", "content_filter"] {
        let server = Server::always(Reply::openai_stopped("one two three", reason));
        let orch = project_with_budget(&server, 5000);
        orch.edit("pipelines/main.yaml", "prompt: one.md", "re_ask: 0, prompt: one.md");
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(11), &json!(3)), "{report:#}");
    }
}

#[test]
fn a_request_in_flight_counts_after_its_process_was_killed() {
    let server = server_with_first_reply(Reply::openai_text("1").delay(Duration::from_secs(30)));
    let orch = project_with_budget(&server, 200);
    let mut child = orch.start(&RUN);
    wait_for(&server, 1);
    kill(&mut child);
    orch.run(&["pipeline", "resume"]).exits(4).says("the budget of the run is 200 tokens");
    assert_eq!(server.requests().len(), 1);
    let used = || {
        let shown = orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        (shown["usage"]["output"].clone(), shown["usage"]["estimated"]["output"].clone(), shown["cost_usd"].clone())
    };
    assert_eq!(used(), (json!(100), json!(100), Value::Null));
    orch.run(&["pipeline", "resume", "--budget", "tokens=400"]).exits(0);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(used(), (json!(101), json!(100), Value::Null), "once, and the reply");
}

#[test]
fn a_request_that_waits_for_its_permit_counts_nothing_after_a_kill() {
    let server = server_with_first_reply(Reply::openai_text("1").delay(Duration::from_secs(30)));
    let steps = "  - id: both\n    parallel:\n      - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n      - { id: two, agent: a, schema: any, prompt: two.md, output: y }\n";
    let orch = project(&server, steps);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    orch.write("orch.yaml", &orch.read("orch.yaml").replace("dialect: openai", "dialect: openai, max_concurrency: 1"));
    let mut child = orch.start(&RUN);
    wait_for(&server, 1);
    let began = Instant::now();
    while events(&orch, "step_started").len() < 2 {
        assert!(began.elapsed() < Duration::from_mins(2), "the second step never started");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(&mut child);
    assert_eq!(events(&orch, "call_started").len(), 1, "the second request still waits for its permit");
    orch.run(&["pipeline", "resume"]).exits(0);
    let shown = orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["usage"]["estimated"]["output"], json!(100), "only the request in flight: {shown:#}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_reply_that_was_recorded_before_a_kill_counts_once() {
    let server = server_with_first_reply(Reply::openai_stopped("one two three", "sleepy"));
    let orch = project_with_budget(&server, 200);
    orch.edit("pipelines/main.yaml", "prompt: one.md", "retry: { backoff: 20s }, prompt: one.md");
    let mut child = orch.start(&RUN);
    wait_for(&server, 1);
    let began = Instant::now();
    while events(&orch, "reply_parsed").is_empty() {
        assert!(began.elapsed() < Duration::from_mins(2), "the reply is not on record");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(&mut child);
    orch.edit("pipelines/main.yaml", "retry: { backoff: 20s }, ", "");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_re_ask_in_flight_counts_completely_after_its_process_was_killed() {
    // The invalid reply is long, so that a re-ask uses many more tokens than the first request.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::openai_text(&"no ".repeat(600)),
        1 | 2 => Reply::openai_text("1").delay(Duration::from_secs(30)),
        _ => Reply::openai_text("1"),
    });
    let orch = project_with_budget(&server, 100_000);
    let mut child = orch.start(&RUN);
    wait_for(&server, 2);
    kill(&mut child);
    let calls = events(&orch, "call_started");
    let [first, again] = [0, 1].map(|index: usize| calls[index]["max_usage"]["input"].as_u64().unwrap());
    assert!(first < 200 && again > first + 800, "{first} {again}");
    let told = events(&orch, "call_ended")[0]["reply"]["usage"].clone();
    let told = told["input"].as_u64().unwrap() + told["output"].as_u64().unwrap();
    // The reported usage and one re-ask fit into the budget; a second re-ask does not.
    let limit = |times: u64| format!("tokens={}", told + times * (again + 100));
    orch.run(&["pipeline", "resume", "--budget", &limit(1)]).exits(4).says(&format!("{} are used", told + again + 100));
    assert_eq!(server.requests().len(), 2);
    // It fits, and is killed, too: both re-asks count.
    let resume = ["pipeline", "resume", "--quiet", "--budget", &limit(2)];
    let mut child = orch.start(&resume);
    wait_for(&server, 3);
    kill(&mut child);
    let used = told + 2 * (again + 100);
    orch.run(&["pipeline", "resume"]).exits(4).says(&format!("{used} are used"));
    orch.run(&["pipeline", "resume", "--budget", &limit(3)]).exits(0);
    assert_eq!(server.requests().len(), 4, "the first reply was never asked for again");
}

#[test]
fn a_request_that_a_second_ctrl_c_interrupted_counts() {
    let server = server_with_first_reply(Reply::openai_text("1").delay(Duration::from_secs(30)));
    let orch = project_with_budget(&server, 200);
    let child = orch.start(&RUN);
    wait_for(&server, 1);
    for _ in 0..2 {
        let done = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(done.success());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(events(&orch, "call_ended")[0]["failure"]["class"], "cancelled");
    orch.run(&["pipeline", "resume"]).exits(4);
    orch.run(&["pipeline", "resume", "--budget", "tokens=400"]).exits(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_time_of_a_killed_process_counts_only_until_the_kill() {
    let server = answering_server(|_, _| json!(1));
    for budget in ["name: test\nbudget: { seconds: 6 }", "name: test"] {
        let own = if budget == "name: test" { ", budget: { seconds: 6 }" } else { "" };
        let orch = project(&server, &format!("  - {{ id: slow, run: sleep 60{own} }}\n"));
        orch.edit("pipelines/main.yaml", "name: test", budget);
        let mut child = orch.start(&RUN);
        std::thread::sleep(Duration::from_millis(5_300));
        kill(&mut child);
        // No process owns the run now.
        std::thread::sleep(Duration::from_secs(2));
        orch.run(&["pipeline", "resume", "--from", "nowhere"]).exits(2);
        let began = Instant::now();
        orch.run(&["pipeline", "resume"]).exits(4).says("6 s, and that time is used up");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "all of the time was given again: {took:?}");
        let seen = &events(&orch, "run_resumed")[0]["previous_owner_last_heartbeat"];
        assert!(seen.is_string(), "{seen}");
        assert!(events(&orch, "call_ended")[0]["ended"].is_string(), "it was begun again, so the pause did not count");
    }
}
