//! The events of the Responses API: what servers leave out, what must agree, and what goes back to the server.

use orch::model::ContentBlock;
use orch::model::chat::{ChatReply, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::provider::{Dialect, StreamEvent};
use serde_json::{Value, json};

use super::{ask, ask_with_events, endpoint_of, failure_of, request, short_limits, through_proxy};
use crate::support::server::{Reply, Server};

async fn read(events: &[Value]) -> Result<ChatReply, Failure> {
    let server = Server::always(Reply::named_events(events));
    ask(endpoint_of(Dialect::Responses, &server), &request(), &short_limits()).await
}

fn delta(text: &str) -> Value {
    json!({"type": "response.output_text.delta", "delta": text})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
}

fn done(item: Value) -> Value {
    json!({"type": "response.output_item.done", "item": item})
}

fn completed(output: Value) -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": output,
        "usage": {"input_tokens": 9, "output_tokens": 3}}})
}

fn reasoning(id: &str) -> Value {
    json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": format!("secret of {id}")})
}

fn opaque(data: Value) -> ContentBlock {
    ContentBlock::Opaque { dialect: "responses".into(), data }
}

fn call(id: &str, arguments: Value) -> ContentBlock {
    ContentBlock::ToolCall { id: id.into(), name: "read".into(), arguments }
}

#[tokio::test]
async fn a_text_is_read_once_from_whichever_events_contain_it() {
    let text_done = |text: &str| json!({"type": "response.output_text.done", "text": text});
    let part_done = json!({"type": "response.content_part.done", "part": {"type": "output_text", "text": "whole"}});
    for events in [
        vec![delta("who"), delta("le"), completed(json!([]))],
        vec![delta("who"), delta("le"), text_done("whole"), part_done, done(message("whole")), completed(json!([]))],
        vec![text_done("whole"), completed(json!([]))],
        vec![done(message("whole")), completed(Value::Null)],
        vec![completed(json!([message("whole")]))],
        vec![delta("whole"), completed(json!([message("whole")]))],
        vec![delta("who"), done(message("whole")), completed(json!([message("whole")]))],
        vec![delta("who"), completed(json!([message("whole")]))],
        vec![delta("whole"), completed(json!([json!({"type": "message", "id": "msg_1", "content": []})]))],
        vec![done(reasoning("rs_1")), completed(json!([reasoning("rs_1"), message("whole")]))],
    ] {
        let reply = read(&events).await.unwrap_or_else(|failure| panic!("{events:?}: {failure:?}"));
        assert_eq!((&*reply.text(), reply.stop), ("whole", StopReason::End), "{events:?}");
        assert_eq!((reply.usage.input, reply.usage.output), (Some(9), Some(3)), "{events:?}");
    }
}

#[tokio::test]
async fn a_text_that_differs_from_its_pieces_is_a_failure() {
    for end in [
        json!({"type": "response.output_text.done", "text": "hole"}),
        done(message("hole")),
        completed(json!([message("hole")])),
        completed(json!([message("who")])),
        completed(json!([message("who"), message("hole")])),
    ] {
        let failure = failure_of(
            Dialect::Responses,
            Reply::named_events(&[delta("whole"), end, completed(json!([]))]),
            &short_limits(),
        )
        .await;
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, "lab sent a text that differs from the pieces before it");
        assert!(failure.interrupted, "the model generated something");
    }
}

#[tokio::test]
async fn several_messages_are_one_text_and_their_ends_may_come_last() {
    let events = [
        delta("one "),
        delta("two"),
        done(message("one ")),
        done(message("two")),
        completed(json!([message("one "), message("two")])),
    ];
    assert_eq!(read(&events).await.unwrap().text(), "one two");
}

#[tokio::test]
async fn reasoning_goes_before_the_message_even_if_it_ends_after_it() {
    let added = |item: Value| json!({"type": "response.output_item.added", "item": item});
    let events = [
        added(json!({"type": "reasoning", "id": "rs_1", "summary": []})),
        json!({"type": "response.reasoning_text.delta", "item_id": "rs_1", "delta": "hmm"}),
        added(json!({"type": "message", "id": "msg_1", "content": []})),
        delta("whole"),
        done(reasoning("rs_1")),
        done(message("whole")),
        completed(json!([])),
    ];
    let reply = read(&events).await.unwrap();
    assert_eq!(reply.content.blocks(), [opaque(reasoning("rs_1")), ContentBlock::text("whole")]);
}

#[tokio::test]
async fn only_reasoning_that_the_server_can_read_goes_back() {
    let plain = json!({"type": "reasoning", "id": "rs_2", "summary": [], "content":
        [{"type": "reasoning_text", "text": "hmm"}], "encrypted_content": ""});
    let summary = json!({"type": "reasoning", "id": "rs_3", "summary": [{"type": "summary_text", "text": "so"}]});
    let events =
        [done(reasoning("rs_1")), done(plain.clone()), done(summary), done(message("x")), completed(json!([]))];
    let server = Server::always(Reply::named_events(&events));
    let (reply, signals) = ask_with_events(endpoint_of(Dialect::Responses, &server)).await;
    assert_eq!(reply.content.blocks(), [opaque(reasoning("rs_1")), opaque(plain), ContentBlock::text("x")]);
    let reasoning = |text: &str| StreamEvent::Reasoning(text.into());
    assert_eq!(signals, [reasoning("hmm"), reasoning("so"), StreamEvent::Text("x".into())]);
}

#[tokio::test]
async fn function_calls_are_read_from_pieces_and_from_complete_items() {
    let item = |id: &str, arguments: &str| json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "read", "arguments": arguments});
    let added = |index: u64, id: &str| json!({"type": "response.output_item.added", "output_index": index, "item": item(id, "")});
    let piece = |index: u64, text: &str| json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": text});
    let arguments_done = |id: &str, text: &str| json!({"type": "response.function_call_arguments.done", "item_id": format!("fc_{id}"), "arguments": text});
    let (first, second) = (r#"{"path":"a"}"#, r#"{"path":"b"}"#);
    for events in [
        // Two calls whose pieces alternate.
        vec![added(0, "c1"), added(1, "c2"), piece(0, "{\"path\":"), piece(1, second), piece(0, "\"a\"}")],
        vec![added(0, "c1"), arguments_done("c1", first), added(1, "c2"), arguments_done("c2", second)],
        vec![done(item("c1", first)), done(item("c2", second))],
        // Every call at position 0, as some servers send it.
        vec![added(0, "c1"), piece(0, first), added(0, "c2"), piece(0, second), done(item("c1", first))],
    ] {
        for output in [json!([]), json!([item("c1", first), item("c2", second)])] {
            let events = [events.clone(), vec![completed(output)]].concat();
            let reply = read(&events).await.unwrap();
            let calls = [call("c1", json!({"path": "a"})), call("c2", json!({"path": "b"}))];
            assert_eq!(reply.content.blocks(), calls, "{events:?}");
            assert_eq!(reply.stop, StopReason::ToolUse);
        }
    }
    // A call beside a text, and one that a limit cut off.
    let reply = read(&[delta("Look."), done(item("c1", first)), completed(json!([]))]).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("Look.", StopReason::ToolUse));
    let incomplete = json!({"type": "response.incomplete", "response":
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}});
    assert_eq!(read(&[added(0, "c1"), piece(0, "{\"pa"), incomplete]).await.unwrap().stop, StopReason::Length);
}

#[tokio::test]
async fn a_refusal_is_a_stop_reason_with_its_text() {
    let item = json!({"type": "message", "id": "m", "content": [{"type": "refusal", "refusal": "I can't"}]});
    for events in [
        vec![
            json!({"type": "response.refusal.delta", "delta": "I "}),
            json!({"type": "response.refusal.delta", "delta": "can't"}),
            json!({"type": "response.refusal.done", "refusal": "I can't"}),
            done(item.clone()),
            completed(json!([])),
        ],
        vec![completed(json!([item]))],
    ] {
        let reply = read(&events).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("I can't", StopReason::Refusal), "{events:?}");
    }
}

#[tokio::test]
async fn the_phase_of_a_message_is_kept_before_it() {
    let item = json!({"type": "message", "id": "m", "phase": "commentary", "content":
        [{"type": "output_text", "text": "First."}]});
    let added = json!({"type": "response.output_item.added", "item": {"type": "message", "id": "m", "content": []}});
    for events in
        [vec![added, delta("First."), done(item.clone()), completed(json!([]))], vec![completed(json!([item]))]]
    {
        let phase = opaque(json!({"type": "message", "phase": "commentary"}));
        assert_eq!(read(&events).await.unwrap().content.blocks(), [phase, ContentBlock::text("First.")]);
    }
}

#[tokio::test]
async fn failed_responses_are_failures() {
    let failed = |error: Value| {
        json!({"type": "response.failed", "response": {"status": "failed", "error": error,
            "usage": {"input_tokens": 9, "output_tokens": 3}}})
    };
    let error = |code: &str| json!({"code": code, "message": "sorry"});
    for (event, class, message) in [
        (failed(error("server_error")), FailureClass::ProviderUnavailable, "lab is unavailable: sorry"),
        (
            failed(error("rate_limit_exceeded")),
            FailureClass::RateLimited,
            "lab says that there were too many requests: sorry",
        ),
        (failed(error("invalid_prompt")), FailureClass::BadRequest, "lab refuses the request: sorry"),
        (
            failed(error("image_content_policy_violation")),
            FailureClass::Refusal,
            "lab refuses the content of the request: sorry",
        ),
        (failed(Value::Null), FailureClass::ProviderUnavailable, "lab aborted the reply: its stop reason is `failed`"),
    ] {
        let events = [json!({"type": "response.created", "response": {"id": "r", "error": null}}), event.clone()];
        let failure = failure_of(Dialect::Responses, Reply::named_events(&events), &short_limits()).await;
        assert_eq!((failure.class, failure.message.as_str()), (class, message), "{event}");
        let usage = failure.reported_usage().unwrap();
        assert_eq!((usage.input, usage.output, failure.interrupted), (Some(9), Some(3), true), "{event}");
    }
    let event = json!({"type": "error", "code": "rate_limit_exceeded", "message": "sorry", "param": null});
    let failure = failure_of(Dialect::Responses, Reply::events(&[delta("x"), event]), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::RateLimited, "{failure:?}");
}

#[tokio::test]
async fn a_whole_response_must_have_ended() {
    let body = |status: Value, details: Value| json!({"object": "response", "status": status, "incomplete_details": details, "output": [message("half")]});
    for status in [json!("in_progress"), json!("queued"), Value::Null] {
        let reply = Reply::status(200, body(status, Value::Null).to_string());
        let failure = failure_of(Dialect::Responses, reply, &short_limits()).await;
        assert_eq!(failure.message, "lab sent a reply without a stop reason, so it may not be complete");
    }
    let limited = body(json!("incomplete"), json!({"reason": "max_output_tokens"}));
    let server = Server::always(Reply::status(200, limited.to_string()));
    let reply = ask(endpoint_of(Dialect::Responses, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("half", StopReason::Length));
    let failed =
        json!({"object": "response", "status": "failed", "error": {"code": "server_error", "message": "sorry"}});
    let failure = failure_of(Dialect::Responses, Reply::status(200, failed.to_string()), &short_limits()).await;
    assert_eq!(failure.message, "lab is unavailable: sorry");
}

#[tokio::test]
async fn a_completed_response_that_used_every_token_may_have_been_cut_off() {
    let limit = u64::from(request().max_output_tokens);
    let call = json!({"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"});
    for (output_tokens, stop, stop_of_call) in [
        (json!(limit - 1), StopReason::End, StopReason::ToolUse),
        (json!(limit), StopReason::Length, StopReason::Length),
        (json!(limit + 1), StopReason::Length, StopReason::Length),
        (Value::Null, StopReason::End, StopReason::ToolUse),
    ] {
        let ended = |output: Value| {
            json!({"status": "completed", "output": output,
            "usage": {"input_tokens": 9, "output_tokens": output_tokens}})
        };
        let event = |output: Value| json!({"type": "response.completed", "response": ended(output)});
        let reply = read(&[delta("half"), event(json!([message("half")]))]).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("half", stop), "{output_tokens}");
        assert_eq!(read(&[event(json!([call]))]).await.unwrap().stop, stop_of_call, "{output_tokens}");
        let server = Server::always(Reply::status(200, ended(json!([message("half")])).to_string()));
        let reply = ask(endpoint_of(Dialect::Responses, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("half", stop), "{output_tokens}");
    }
}

#[tokio::test]
async fn openai_itself_reports_every_response_that_its_limit_cut_off() {
    let usage = json!({"input_tokens": 9, "output_tokens": request().max_output_tokens});
    let response = json!({"status": "completed", "output": [message("whole")], "usage": usage});
    let server = Server::always(Reply::status(200, response.to_string()));
    let endpoint = through_proxy(&server, Dialect::Responses, "http://api.openai.com/v1");
    let reply = ask(endpoint, &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("whole", StopReason::End));
    assert_eq!(server.requests()[0].path, "http://api.openai.com/v1/responses");
}

#[tokio::test]
async fn the_status_of_a_response_counts_more_than_the_name_of_its_event() {
    for (details, stop) in [
        (json!({"reason": "max_output_tokens"}), StopReason::Length),
        (json!({"reason": "sleepy"}), StopReason::Unknown),
        (Value::Null, StopReason::Unknown),
    ] {
        let response = json!({"status": "incomplete", "incomplete_details": details});
        let reply = read(&[delta("half"), json!({"type": "response.completed", "response": response})]).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("half", stop), "{details}");
    }
}

#[tokio::test]
async fn an_unknown_status_does_not_complete_a_response() {
    for status in [json!("weird"), json!("in_progress"), json!("queued"), json!(5), json!({})] {
        let response = json!({"status": status, "output": [message("half")]});
        let reply = read(&[delta("half"), json!({"type": "response.completed", "response": response})]).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("half", StopReason::Unknown), "{status}");
        let shown = status.as_str().map_or_else(|| status.to_string(), str::to_owned);
        assert_eq!(reply.details.unknown_stop, Some(shown));
    }
}

#[tokio::test]
async fn an_incomplete_item_makes_a_completed_response_incomplete() {
    for status in [json!("incomplete"), json!("in_progress"), json!("weird"), json!(5)] {
        let mut item = message("half");
        item["status"] = status.clone();
        let call =
            json!({"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}", "status": status});
        for events in [
            vec![delta("half"), done(item.clone()), completed(json!([]))],
            vec![delta("half"), completed(json!([item.clone()]))],
            vec![completed(json!([item]))],
            vec![done(call.clone()), completed(json!([call]))],
            vec![completed(json!([call]))],
        ] {
            let reply = read(&events).await.unwrap();
            assert_eq!(reply.details.unknown_stop.as_deref(), Some("incomplete"), "{events:?}");
            assert_eq!(reply.stop, StopReason::Unknown, "{events:?}");
        }
    }
    for status in [json!("completed"), json!(""), Value::Null] {
        let mut item = message("whole");
        item["status"] = status;
        assert_eq!(read(&[completed(json!([item]))]).await.unwrap().stop, StopReason::End);
    }
}

#[tokio::test]
async fn a_response_without_text_names_its_content() {
    for (item, instead) in [
        (reasoning("rs_1"), "reasoning (not shown)"),
        (json!({"type": "web_search_call", "id": "ws_1"}), "a call of the tool `web_search`"),
        (json!({"type": "compaction", "id": "c_1"}), "content of the kind `compaction`"),
    ] {
        let reply = read(&[done(item.clone()), completed(json!([]))]).await.unwrap();
        assert_eq!(reply.details.instead.as_deref(), Some(instead), "{item}");
    }
}

#[tokio::test]
async fn a_missing_api_is_named_with_the_dialect_that_works() {
    let reply = Reply::status(404, r#"{"error":{"message":"Not Found"}}"#);
    let hint = failure_of(Dialect::Responses, reply, &short_limits()).await.hint.unwrap();
    assert!(hint.ends_with("a server without the Responses API needs `dialect: openai`"), "{hint}");
    let only =
        r#"{"error":{"message":"This model is only supported in v1/responses and not in v1/chat/completions."}}"#;
    let hint = failure_of(Dialect::OpenAi, Reply::status(404, only), &short_limits()).await.hint.unwrap();
    assert_eq!(hint, "set `dialect: responses` under `providers.lab` of orch.yaml");
}
