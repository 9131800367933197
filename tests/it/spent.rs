//! What counts against a budget although nothing came of it: replies that broke off, and processes
//! that were killed.
#![cfg(unix)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::{answering, project, run};
use crate::support::{Orch, Reply, Server};

const STEP: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n";
const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];

/// One step whose request is estimated at a little more than 100 tokens, with a budget.
fn limited(server: &Server, tokens: u32) -> Orch {
    let orch = project(server, STEP);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    orch.edit("pipelines/main.yaml", "name: test", &format!("name: test\nbudget: {{ tokens: {tokens} }}"));
    orch
}

/// A server whose first answer is this one; the later ones are good.
fn at_first(reply: Reply) -> Server {
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
fn a_reply_that_broke_off_counts_as_much_as_it_may_have_taken() {
    let cut = || at_first(Reply::openai_text("a long story that never ends").cut_after(300));
    let (server, more) = (cut(), cut());
    let ran = run(&limited(&server, 200), &[]).0.exits(4);
    assert_eq!(server.requests().len(), 1, "{ran:?}");
    run(&limited(&more, 400), &[]).0.exits(0);
    assert_eq!(more.requests().len(), 2);
}

#[test]
fn a_request_that_was_refused_counts_nothing() {
    for refusal in [
        Reply::status(529, "{\"error\":{\"message\":\"overloaded\"}}"),
        Reply::events(&[json!({ "error": { "message": "overloaded", "code": 503 } })]),
    ] {
        let server = at_first(refusal);
        let (ran, report) = run(&limited(&server, 130), &[]);
        assert_eq!((ran.code, server.requests().len()), (0, 2), "{ran:?}");
        assert_eq!(report["usage"]["input"], 11, "{report:#}");
    }
}

#[test]
fn what_a_provider_told_before_it_broke_off_is_counted_and_shown() {
    let server = Server::start(|_| Reply::anthropic_text("a long story that never ends").cut_after(400));
    let orch = limited(&server, 120);
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
fn zeros_of_a_reply_that_broke_off_are_not_believed() {
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 0, "output_tokens": 0}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half"}}),
    ];
    let server = Server::always(Reply::events(&events));
    let orch = limited(&server, 5000);
    orch.edit("orch.yaml", "dialect: openai", "dialect: anthropic");
    orch.edit("pipelines/main.yaml", "prompt: one.md", "retry: { max: 1 }, prompt: one.md");
    let (_, report) = run(&orch, &[]);
    let estimated = &report["usage"]["estimated"];
    assert!(estimated["input"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(estimated["output"], json!(100), "{report:#}");
}

#[test]
fn replies_that_were_cut_at_their_length_or_refused_are_counted() {
    for reason in ["length", "content_filter"] {
        let server = Server::always(Reply::openai_stopped("one two three", reason));
        let orch = limited(&server, 5000);
        orch.edit("pipelines/main.yaml", "prompt: one.md", "re_ask: 0, prompt: one.md");
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(11), &json!(3)), "{report:#}");
    }
}

#[test]
fn a_request_that_was_under_way_when_its_process_was_killed_counts() {
    let server = at_first(Reply::openai_text("1").delay(Duration::from_secs(30)));
    let orch = limited(&server, 200);
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
fn a_reply_that_was_read_before_a_kill_counts_once() {
    let server = at_first(Reply::openai_stopped("one two three", "sleepy"));
    let orch = limited(&server, 200);
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
fn a_request_that_asks_again_counts_whole_when_its_process_was_killed() {
    // The reply that does not fit is long, so that asking again takes much more than asking at first.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::openai_text(&"no ".repeat(600)),
        1 | 2 => Reply::openai_text("1").delay(Duration::from_secs(30)),
        _ => Reply::openai_text("1"),
    });
    let orch = limited(&server, 100_000);
    let mut child = orch.start(&RUN);
    wait_for(&server, 2);
    kill(&mut child);
    let calls = events(&orch, "call_started");
    let [first, again] = [0, 1].map(|index: usize| calls[index]["max_usage"]["input"].as_u64().unwrap());
    assert!(first < 200 && again > first + 800, "{first} {again}");
    let told = events(&orch, "call_ended")[0]["reply"]["usage"].clone();
    let told = told["input"].as_u64().unwrap() + told["output"].as_u64().unwrap();
    // What was told, and one request that asked again: a second one does not fit.
    let limit = |times: u64| format!("tokens={}", told + times * (again + 100));
    orch.run(&["pipeline", "resume", "--budget", &limit(1)]).exits(4).says(&format!("{} are used", told + again + 100));
    assert_eq!(server.requests().len(), 2);
    // It fits, and is killed too: both count.
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
fn a_request_that_was_given_up_at_a_second_ctrl_c_counts() {
    let server = at_first(Reply::openai_text("1").delay(Duration::from_secs(30)));
    let orch = limited(&server, 200);
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
fn the_time_of_a_killed_process_counts_up_to_the_kill_and_not_beyond() {
    let server = answering(|_, _| json!(1));
    for budget in ["name: test\nbudget: { seconds: 6 }", "name: test"] {
        let own = if budget == "name: test" { ", budget: { seconds: 6 }" } else { "" };
        let orch = project(&server, &format!("  - {{ id: slow, run: sleep 60{own} }}\n"));
        orch.edit("pipelines/main.yaml", "name: test", budget);
        let mut child = orch.start(&RUN);
        std::thread::sleep(Duration::from_millis(5_300));
        kill(&mut child);
        // Nobody owns it now.
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
