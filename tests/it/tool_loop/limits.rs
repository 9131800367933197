//! The limits of a conversation: its turns, repeated calls, and the context window; and its cost per turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::dialects::{openai_calls, reply_with_calls, tool_results};
use super::{answer, calls, facts, facts_of, last_results, run, scripted_server, tool_project};
use crate::support::{Orch, ReceivedRequest, Reply, Server};

#[test]
fn the_last_turn_must_be_an_answer_and_a_larger_limit_continues_the_conversation() {
    let read = |from: usize| calls([("read", json!({ "path": "a.txt", "from": from }))]);
    let server = scripted_server(vec![read(1), read(2), answer(&json!("fine"))]);
    let orch = tool_project(&server, &json!({ "tools": ["read"], "max_turns": 2 }), &json!({}));
    orch.write("workspace/a.txt", "one\ntwo\n");
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("max_turns_reached")), "{ran:?}");
    assert!(error["hint"].as_str().unwrap().contains("raise `max_turns` of agent `a`"), "{error}");
    assert_eq!((server.requests().len(), &report["steps"][0]["tool_calls"]), (2, &json!(1)), "{report:#}");
    orch.edit("pipelines/main.yaml", "\"max_turns\":2", "\"max_turns\":3");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 3, "the resume sends only the third request");
    let results = last_results(&server);
    assert!(results.len() == 2 && results[0].contains("one") && results[1].contains("two"), "{results:?}");
}

#[test]
fn a_model_that_repeats_a_call_without_effect_is_warned_and_then_stopped() {
    let server = Server::start(|request| {
        let turn = tool_results(request).len() + 1;
        reply_with_calls(request, turn, &[("read", json!({ "path": "a.txt" }))])
    });
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("repeated_tool_call")), "{ran:?}");
    let results = last_results(&server);
    assert_eq!(results.len(), 4, "{results:?}");
    let warning = "you have made this call 4 times";
    let is_warned: Vec<bool> = results.iter().map(|result| result.contains(warning)).collect();
    assert_eq!(is_warned, [false, false, false, true], "{results:?}");
}

/// The number of tool calls that orch performed.
fn performed_count(orch: &Orch) -> usize {
    facts_of(orch, "call_ended").iter().filter(|call| call["call"]["tool_call"].is_number()).count()
}

#[test]
fn a_call_that_a_reply_repeats_without_effect_is_stopped_too() {
    let read = ("read", json!({ "path": "a.txt" }));
    let write = ("write", json!({ "path": "b.txt", "content": "x" }));
    // The first call of `write` has another result than those that follow.
    for (call, count) in [(read, 5), (write, 6)] {
        let server = scripted_server(vec![calls(vec![call; 20]), answer(&json!("fine"))]);
        let orch = tool_project(&server, &json!({ "tools": ["read", "write"] }), &json!({}));
        orch.write("workspace/a.txt", "one\n");
        let (ran, report) = run(&orch);
        assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("repeated_tool_call")), "{ran:?}");
        assert_eq!(performed_count(&orch), count);
    }
}

#[test]
fn only_a_certain_number_of_the_calls_of_a_reply_is_performed() {
    let reads = (1..=130).map(|from| ("read", json!({ "path": "a.txt", "from": from })));
    let server = scripted_server(vec![calls(reads), answer(&json!("fine"))]);
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", &"line\n".repeat(200));
    let (ran, _) = run(&orch);
    assert_eq!((ran.code, performed_count(&orch)), (0, 128), "{ran:?}");
    let results = last_results(&server);
    let refused = "not performed: orch performs at most 128 calls of a reply; make this call in the next turn";
    let is_refused: Vec<bool> = results.iter().map(|result| result.contains(refused)).collect();
    assert_eq!(is_refused, [vec![false; 128], vec![true; 2]].concat(), "{results:?}");
}

/// The context window of the model `small`, in tokens.
const CONTEXT_WINDOW: usize = 10_000;
const MAX_OUTPUT_TOKENS: usize = 1000;
/// The number of calls of the model before it answers.
const LONG_CALLS: usize = 30;

/// A project whose model reads many long files. The model has a small context window.
fn project_with_small_window(server: &Server, agent: &Value) -> Orch {
    let mut keys = json!({ "model": "small", "tools": ["read"], "max_output_tokens": MAX_OUTPUT_TOKENS });
    keys.as_object_mut().unwrap().extend(agent.as_object().unwrap().clone());
    let orch = tool_project(server, &keys, &json!({ "retry": { "max": 1 } }));
    let settings = format!("models:\n  small: {{ model: lab/test, context_window: {CONTEXT_WINDOW} }}\n");
    orch.write("orch.yaml", &(orch.read("orch.yaml") + &settings));
    for number in 1..=LONG_CALLS {
        orch.write(&format!("workspace/{number}.txt"), &format!("this is file {number}\n").repeat(100));
    }
    orch
}

/// Reads one file per turn, then answers if `works` is true, else fails.
fn read_files(request: &ReceivedRequest, works: &AtomicBool) -> Reply {
    match tool_results(request).len() {
        LONG_CALLS if works.load(Ordering::SeqCst) => Reply::text_for(&request.path, "\"fine\""),
        LONG_CALLS => Reply::status(500, "{}"),
        count => {
            let path = format!("{}.txt", count + 1);
            reply_with_calls(request, count + 1, &[("read", json!({ "path": path }))])
        }
    }
}

#[test]
fn old_results_are_left_out_before_the_context_window_is_full() {
    let works = Arc::new(AtomicBool::new(false));
    let server_works = Arc::clone(&works);
    let server = Server::start(move |request| read_files(request, &server_works));
    let orch = project_with_small_window(&server, &json!({}));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 1, "{ran:?}");
    works.store(true, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    let requests = server.requests();
    assert_eq!(requests.len(), LONG_CALLS + 2);
    let [.., failed, repeated] = requests.as_slice() else { panic!("two requests at least") };
    assert_eq!(failed.body, repeated.body, "a resume leaves out the same results");
    // Each start of a request has the results that the conversation leaves out from then on.
    let starts: Vec<Value> = facts_of(&orch, "call_started");
    let starts = starts.into_iter().filter(|call| call["call"]["tool_call"].is_null()).take(LONG_CALLS + 1);
    let mut elided: Vec<usize> = Vec::new();
    let mut compactions = 0;
    for (start, request) in starts.zip(&requests) {
        let new = start["elided_results"].as_array().cloned().unwrap_or_default();
        compactions += usize::from(!new.is_empty());
        elided.extend(new.iter().map(|result| usize::try_from(result["ordinal"].as_u64().unwrap()).unwrap()));
        let results = tool_results(request);
        let numbered = (1..).zip(&results).filter(|(_, result)| result.contains("orch left out this result"));
        let shortened: Vec<usize> = numbered.map(|(number, _)| number).collect();
        assert_eq!(shortened, elided, "request {}", results.len());
        assert!(request.bytes.len() / 4 < CONTEXT_WINDOW - MAX_OUTPUT_TOKENS, "request {} is too long", results.len());
        assert!(shortened.iter().all(|number| number + 2 <= results.len()), "the last two results stay: {shortened:?}");
        assert_eq!(request.system(), requests[0].system());
        assert_eq!(request.body["messages"][1], requests[0].body["messages"][1], "the task stays");
    }
    // Many results at once, so that most requests begin as the one before them.
    assert!((1..=LONG_CALLS / 3).contains(&compactions) && elided.len() > compactions, "{compactions}: {elided:?}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("the request leaves out the results of #1.1, #2.1"), "{shown}");
}

#[test]
fn leaving_out_results_does_not_require_a_call_again() {
    let server = Server::start(|request| read_files(request, &AtomicBool::new(true)));
    let orch = project_with_small_window(&server, &json!({ "tool_choice": "required" }));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let requests = server.requests();
    assert!(requests.iter().flat_map(tool_results).any(|result| result.contains("orch left out this result")));
    let required = requests.iter().filter(|request| request.body["tool_choice"] == "required");
    assert_eq!((required.count(), &requests[0].body["tool_choice"]), (1, &json!("required")));
}

#[test]
fn with_compaction_off_the_step_fails_before_the_context_window_is_full() {
    let server = Server::start(|request| read_files(request, &AtomicBool::new(true)));
    let orch = project_with_small_window(&server, &json!({ "compaction": "fail" }));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("max_tokens_reached")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().contains("its context window has space for 9000"), "{error}");
    assert!(server.requests().len() < LONG_CALLS, "no request was too long");
}

#[test]
fn the_cost_of_a_turn_does_not_grow() {
    const TURNS: usize = 100;
    let server = Server::start(|request| {
        let turn = tool_results(request).len() + 1;
        if turn > TURNS {
            return Reply::text_for(&request.path, "\"fine\"");
        }
        openai_calls(request, turn, &[("read", json!({ "path": "a.txt", "from": turn, "lines": 1 }))], "tool_calls")
    });
    let orch = tool_project(&server, &json!({ "tools": ["read"], "max_turns": TURNS + 1 }), &json!({}));
    orch.write("workspace/a.txt", &"the same line\n".repeat(TURNS));
    let (ran, report) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((&report["steps"][0]["calls"], &report["steps"][0]["tool_calls"]), (&json!(101), &json!(100)));
    let requests = server.requests();
    let mut added = Vec::new();
    for pair in requests.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        let messages = |request: &ReceivedRequest| request.body["messages"].as_array().unwrap().clone();
        let (before_messages, after_messages) = (messages(before), messages(after));
        assert_eq!(after_messages[..before_messages.len()], before_messages[..], "a request only grows at its end");
        added.push(after.bytes.len() - before.bytes.len());
    }
    let (least, most) = (added.iter().min().unwrap(), added.iter().max().unwrap());
    assert!(most - least < 40, "each turn adds as many bytes: {least} to {most}");
    // The facts of a turn are as large at the end as at the beginning.
    let size_of_turn = |ordinal: usize| {
        let is_of_turn = |fact: &Value| {
            let calls = [&fact["call_started"], &fact["call_ended"]];
            calls.iter().any(|call| call["call"]["ordinal"] == json!(ordinal))
        };
        let sizes = facts(&orch).into_iter().filter(is_of_turn).map(|fact| fact.to_string().len());
        let sizes: Vec<usize> = sizes.collect();
        (sizes.len(), sizes.iter().sum::<usize>())
    };
    let ((first_count, first_size), (last_count, last_size)) = (size_of_turn(2), size_of_turn(TURNS));
    assert_eq!((first_count, last_count), (4, 4), "the start and the end of a request and of a tool call");
    assert!(last_size < first_size + 100, "{first_size} bytes became {last_size}");
}
