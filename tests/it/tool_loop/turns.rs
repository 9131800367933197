//! The turns of a conversation: what the requests contain, which calls run, and in which order.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::dialects::{DIALECTS, offered_tools, openai_calls, reply_with_calls, tool_results};
use super::{
    allow_pages, answer, calls, facts, facts_of, last_results, run, scripted_server, tool_project, use_dialect,
};
use crate::support::{Reply, Server};

#[test]
fn a_model_reads_and_changes_files_and_each_call_is_recorded() {
    let turns = vec![
        calls([("read", json!({ "path": "a.txt" })), ("list", json!({}))]),
        calls([("edit", json!({ "path": "a.txt", "old": "one", "new": "two" }))]),
        answer(&json!({ "done": true })),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read", "list", "edit"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    let (ran, report) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((orch.read("workspace/a.txt"), &report["result"]), ("two\n".to_owned(), &json!({ "done": true })));
    let step = &report["steps"][0];
    assert_eq!((&step["calls"], &step["tool_calls"], &step["attempts"]), (&json!(3), &json!(3), &json!(1)));
    let keys: Vec<Value> = facts_of(&orch, "call_ended")
        .iter()
        .map(|call| json!([call["call"]["ordinal"], call["call"]["tool_call"], call["output"]["tool"]["tool"]]))
        .collect();
    let mut expected = vec![
        json!([1, null, null]),
        json!([1, 1, "read"]),
        json!([1, 2, "list"]),
        json!([2, null, null]),
        json!([2, 1, "edit"]),
        json!([3, null, null]),
    ];
    // Calls that only read run in parallel, so their ends may have any order.
    if keys[1] == expected[2] {
        expected.swap(1, 2);
    }
    assert_eq!(keys, expected);
    // orch records the result before the model sees it.
    let position = |wanted: &dyn Fn(&Value) -> bool| facts(&orch).iter().position(wanted).unwrap();
    let edit_ended = position(&|fact| fact["call_ended"]["output"]["tool"]["tool"] == "edit");
    let third_request = position(&|fact| fact["call_started"]["call"]["ordinal"] == 3);
    assert!(edit_ended < third_request);
}

#[test]
fn the_conversation_is_shown_with_its_calls_and_results() {
    let turns = vec![calls([("read", json!({ "path": "a.txt" }))]), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", "hello\n");
    let ran = orch.run(&super::RUN).exits(0);
    assert!(ran.stderr.contains("work: read a.txt"), "{}", ran.stderr);
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    let reply = "[calls read] {\"path\":\"a.txt\"}";
    for part in ["call work@1#1 (lab/test)", reply, "call work@1#1.1 (read a.txt)", "hello"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    for part in ["#1.1 read a.txt", "read a.txt: ", " bytes", ", 1 tool call"] {
        assert!(events.contains(part), "{part}: {events}");
    }
}

#[test]
fn requests_grow_by_appending_and_offer_the_tools_in_every_dialect() {
    for dialect in DIALECTS {
        let turns = vec![
            calls([("read", json!({ "path": "a.txt" })), ("read", json!({ "path": "missing.txt" }))]),
            calls([("write", json!({ "path": "b.txt", "content": "b" }))]),
            answer(&json!({ "done": true })),
        ];
        let server = scripted_server(turns);
        let orch = tool_project(&server, &json!({ "tools": ["read", "write"] }), &json!({}));
        use_dialect(&orch, &server, dialect);
        orch.write("workspace/a.txt", "alpha\n");
        let (ran, _) = run(&orch);
        assert_eq!(ran.code, 0, "{dialect}: {ran:?}");
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{dialect}");
        for request in &requests {
            assert_eq!(offered_tools(request), ["read", "write"], "{dialect}");
        }
        let messages = |index: usize| {
            let body = &requests[index].body;
            let list = ["messages", "contents", "input"].iter().find_map(|field| body[*field].as_array());
            without_cache_marks(list.unwrap())
        };
        for index in 1..3 {
            let (before, after) = (messages(index - 1), messages(index));
            assert!(after.len() > before.len() && after[..before.len()] == before[..], "{dialect} {index}");
        }
        let results = tool_results(&requests[2]);
        assert_eq!(results.len(), 3, "{dialect}: {results:?}");
        assert!(results[0].contains("alpha") && results[1].contains("missing.txt"), "{dialect}: {results:?}");
        assert_eq!(orch.read("workspace/b.txt"), "b", "{dialect}");
    }
}

/// Messages without the marks up to which a provider caches them, which move with each request.
fn without_cache_marks(messages: &[Value]) -> Vec<Value> {
    fn remove(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("cache_control");
                members.values_mut().for_each(remove);
            }
            Value::Array(items) => items.iter_mut().for_each(remove),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut messages = messages.to_vec();
    messages.iter_mut().for_each(remove);
    messages
}

#[test]
fn calls_that_only_read_run_in_parallel() {
    // Each page is sent only when all three were requested.
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let pages = Server::start(move |_| {
        let (count, changed) = &*arrived;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let (_count, waited) = changed.wait_timeout_while(count, Duration::from_mins(1), |count| *count < 3).unwrap();
        if waited.timed_out() { Reply::status(500, "alone") } else { Reply::typed("text/plain", "together") }
    });
    let page = |name: &str| ("fetch", json!({ "url": format!("{}/{name}", pages.url()) }));
    let turns = vec![calls([page("a"), page("b"), page("c")]), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let grant = format!("fetch(127.0.0.1:{})", pages.port());
    let orch = tool_project(&server, &json!({ "tools": [grant] }), &json!({}));
    allow_pages(&orch, &pages);
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(&server);
    assert!(results.len() == 3 && results.iter().all(|result| result.contains("together")), "{results:?}");
}

#[test]
fn calls_run_in_order_if_one_of_them_writes() {
    let write = |content: &str| ("write", json!({ "path": "a.txt", "content": content }));
    let read = || ("read", json!({ "path": "a.txt" }));
    let turns = vec![calls([write("1"), read(), write("2"), read()]), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read", "write"] }), &json!({}));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(&server);
    assert!(results[1].contains('1') && !results[1].contains('2') && results[3].contains("\t2"), "{results:?}");
    assert_eq!(orch.read("workspace/a.txt"), "2");
}

#[test]
fn a_mistake_in_a_call_is_a_result_with_the_exact_errors() {
    let turns = vec![
        calls([
            ("bash", json!({ "command": "ls" })),
            ("write", json!({ "path": "x" })),
            ("read", json!({ "path": 7, "from": "first", "extra": true })),
        ]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(&server);
    assert!(results[0].contains("there is no tool `bash`") && results[0].contains("the tools are `read`"));
    assert!(results[1].contains("there is no tool `write`"), "a tool without a grant: {results:?}");
    assert!(results[2].contains("/from: expected integer") && results[2].contains("`extra`"), "{results:?}");
    assert!(!results[2].contains("/path"), "orch converts 7 to a text: {results:?}");
    assert!(!orch.exists("workspace/x"));
    assert!(facts_of(&orch, "call_ended").iter().all(|call| call["output"].is_null()), "nothing was performed");
}

#[test]
fn a_reply_that_was_cut_off_has_none_of_its_calls_run() {
    let server = Server::start(|request| {
        let cut_off = [("write", json!({ "path": "cut.txt", "content": "half" }))];
        let texts = request.messages();
        if texts.iter().any(|(_, text)| text.contains("None of its tool calls ran")) {
            Reply::openai_text("\"short\"")
        } else {
            openai_calls(request, 1, &cut_off, "length")
        }
    });
    let orch = tool_project(&server, &json!({ "tools": ["write"] }), &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("short")), "{ran:?}");
    assert!(!orch.exists("workspace/cut.txt"));
    let parsed = facts_of(&orch, "reply_parsed");
    assert_eq!(parsed[0]["failure"]["class"], "max_tokens_reached");
}

#[test]
fn a_turn_that_the_provider_paused_continues_with_the_same_messages() {
    let server = Server::start(|request| {
        let is_continued = request.messages().iter().any(|(role, _)| role == "assistant");
        match (is_continued, tool_results(request).len()) {
            (false, _) => Reply::anthropic_stopped("I look.", "pause_turn"),
            (true, 0) => reply_with_calls(request, 1, &[("list", json!({}))]),
            (true, _) => Reply::anthropic_text("\"fine\""),
        }
    });
    let orch = tool_project(&server, &json!({ "tools": ["list"] }), &json!({}));
    use_dialect(&orch, &server, "anthropic");
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let requests = server.requests();
    assert_eq!((requests.len(), requests[1].messages().len()), (3, 2));
    assert_eq!(requests[1].messages()[1], ("assistant".to_owned(), "I look.".to_owned()));
}

#[test]
fn a_call_that_the_provider_could_not_read_is_requested_again() {
    let server = Server::start(|request| {
        if request.last().contains("could not be read: Malformed function call: print(") {
            return Reply::gemini_text("\"fine\"");
        }
        let message = "Malformed function call: print(list())";
        Reply::events(&[json!({
            "candidates": [{"index": 0, "content": {"role": "model", "parts": []},
                "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": message}],
            "modelVersion": "scripted", "responseId": "r1",
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        })])
    });
    let orch = tool_project(&server, &json!({ "tools": ["list"] }), &json!({}));
    use_dialect(&orch, &server, "gemini");
    let (ran, _) = run(&orch);
    assert_eq!((ran.code, server.requests().len()), (0, 2), "{ran:?}");
}

#[test]
fn a_server_may_write_the_integers_of_calls_as_floats() {
    for dialect in DIALECTS {
        let read = calls([("read", json!({ "path": "a.txt", "from": 2.0, "lines": 1.0 }))]);
        let server = scripted_server(vec![read, answer(&json!("fine"))]);
        let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
        use_dialect(&orch, &server, dialect);
        orch.write("workspace/a.txt", "alpha\nbeta\ngamma\n");
        let (ran, _) = run(&orch);
        assert_eq!(ran.code, 0, "{dialect}: {ran:?}");
        let results = last_results(&server);
        let has = |word: &str| results[0].contains(word);
        assert!(has("beta") && !has("alpha") && !has("gamma"), "{dialect}: {results:?}");
    }
}

#[test]
fn an_invalid_answer_is_corrected_without_calls() {
    let server = Server::start(|request| {
        let is_corrected = request.messages().iter().any(|(_, text)| text.contains("Your answer held no JSON"));
        match (tool_results(request).len(), is_corrected) {
            (0, _) => openai_calls(request, 1, &[("list", json!({}))], "stop"),
            (_, false) => Reply::openai_text("I have finished."),
            (_, true) => Reply::openai_text("{\"n\": 1}"),
        }
    });
    let orch = tool_project(&server, &json!({ "tools": ["list"] }), &json!({ "schema": "n" }));
    orch.write("schemas/n.schema.json", r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#);
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!({ "n": 1 })), "{ran:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    let choices: Vec<&Value> = requests.iter().map(|request| &request.body["tool_choice"]).collect();
    let are_off: Vec<bool> = choices.iter().map(|choice| **choice == json!("none")).collect();
    assert_eq!(are_off, [false, false, true], "{choices:?}");
    assert!(requests.iter().all(|request| offered_tools(request) == ["list"]), "the tools stay listed");
}

#[test]
fn the_model_may_call_tools_again_to_meet_a_condition() {
    let server = Server::start(|request| {
        let is_refused =
            request.messages().iter().any(|(_, text)| text.contains("count again\n\nFirst call the tools"));
        match (tool_results(request).len(), is_refused) {
            (0, false) => Reply::openai_text("{\"n\": 1}"),
            (0, true) => openai_calls(request, 1, &[("list", json!({}))], "tool_calls"),
            _ => Reply::openai_text("{\"n\": 2}"),
        }
    });
    let accept = json!({ "schema": "n", "accept": [{ "that": "result.n == 2", "else": "count again" }] });
    let orch = tool_project(&server, &json!({ "tools": ["list"] }), &accept);
    orch.write("schemas/n.schema.json", r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#);
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!({ "n": 2 })), "{ran:?}");
    assert_eq!(server.requests().len(), 3);
}
