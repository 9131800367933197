//! Replies that contradict themselves: two choices in one place, keys with several values, calls without a name, content
//! after the end, and refusals that arrive only in the final response.

use orch::model::ToolChoice;
use orch::model::chat::{ChatReply, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::provider::Dialect;
use serde_json::{Value, json};

use super::tools::{call, with_tools};
use super::{ask, endpoint_of, short_limits};
use crate::support::server::{Reply, Server};

/// The reply to a request with tools.
async fn read(dialect: Dialect, reply: Reply) -> Result<ChatReply, Failure> {
    let server = Server::always(reply);
    ask(endpoint_of(dialect, &server), &with_tools(ToolChoice::Auto), &short_limits()).await
}

async fn assert_refused(dialect: Dialect, reply: Reply, expected: &str) {
    let failure = read(dialect, reply).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{dialect} {expected}: {failure:?}");
    assert!(failure.message.starts_with(&format!("lab sent {expected}")), "{dialect} {expected}: {failure:?}");
    assert!(failure.interrupted, "the model generated something: {failure:?}");
}

/// A stream of these events, with the end marker of Chat Completions.
fn stream(events: &[Value]) -> Reply {
    let lines: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Reply::raw_events(format!("{lines}data: [DONE]\n\n"))
}

/// A chunk of Chat Completions with one choice.
fn chunk(delta: Value, reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

/// A body of Chat Completions with one message.
fn whole_message(message: Value, reason: &str) -> Reply {
    let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": reason}]});
    Reply::status(200, body.to_string())
}

#[tokio::test]
async fn two_choices_with_the_same_index_are_a_failure() {
    let choice = |field: &str, index: Value, text: &str| json!({"index": index, field: {"content": text}, "finish_reason": "stop"});
    let candidate =
        |index: Value| json!({"index": index, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"});
    for (first, second) in [(json!(0), json!(0)), (Value::Null, Value::Null), (json!(0), Value::Null)] {
        for field in ["message", "delta"] {
            let body = json!({"choices": [choice(field, first.clone(), "a"), choice(field, second.clone(), "b")]});
            let expected = "two choices with the same index";
            assert_refused(Dialect::OpenAi, stream(std::slice::from_ref(&body)), expected).await;
            if field == "message" {
                assert_refused(Dialect::OpenAi, Reply::status(200, body.to_string()), expected).await;
            }
        }
        let body = json!({"candidates": [candidate(first), candidate(second)]});
        let expected = "two candidates with the same index";
        assert_refused(Dialect::Gemini, Reply::events(std::slice::from_ref(&body)), expected).await;
        assert_refused(Dialect::Gemini, Reply::status(200, json!([body]).to_string()), expected).await;
    }
}

#[tokio::test]
async fn content_with_two_values_under_one_key_is_a_failure() {
    let openai = r#"{"choices": [{"index": 0, "message": {"content": "a", "content": "b"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3}}"#;
    let anthropic = r#"{"type": "message", "content": [{"type": "text", "text": "a"}], "content": [],
        "stop_reason": "end_turn"}"#;
    let gemini = r#"{"candidates": [{"content": {"parts": [{"text": "a", "text": "b"}]}, "finishReason": "STOP"}]}"#;
    let responses = r#"{"object": "response", "status": "completed", "status": "incomplete", "output": []}"#;
    let converse = r#"{"output": {"message": {"content": [{"text": "a", "text": "b"}]}}, "stopReason": "end_turn"}"#;
    for (dialect, body, key) in [
        (Dialect::OpenAi, openai, "content"),
        (Dialect::Anthropic, anthropic, "content"),
        (Dialect::Gemini, gemini, "text"),
        (Dialect::Responses, responses, "status"),
        (Dialect::Converse, converse, "text"),
    ] {
        let expected = format!("`{key}` twice in one object, with different values");
        assert_refused(dialect, Reply::status(200, body), &expected).await;
        // The same under the type of a stream, as a body and as an event.
        assert_refused(dialect, Reply::raw_events(body), &expected).await;
        let event = body.replace('\n', "");
        assert_refused(dialect, Reply::raw_events(format!("data: {event}\n\n")), &expected).await;
    }
    let failure = read(Dialect::OpenAi, Reply::status(200, openai)).await.unwrap_err();
    let usage = failure.reported_usage().unwrap();
    assert_eq!((usage.input, usage.output), (Some(9), Some(3)));
    // Equal values, and values of members that say nothing about the content, do not matter.
    let same = r#"{"id": "a", "id": "b", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"content": "a", "content": "a"}}]}"#;
    assert_eq!(read(Dialect::OpenAi, Reply::status(200, same)).await.unwrap().text(), "a");
}

#[tokio::test]
async fn of_several_counts_and_stop_reasons_under_one_key_the_safe_one_counts() {
    let openai = r#"{"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "length",
        "finish_reason": "stop"}], "usage": {"prompt_tokens": 10, "prompt_tokens": 1, "completion_tokens": 5},
        "usage": {"prompt_tokens": 2, "completion_tokens": 7}}"#;
    let anthropic = r#"{"type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn",
        "stop_reason": "max_tokens", "usage": {"input_tokens": 1, "input_tokens": 10, "output_tokens": 7}}"#;
    let gemini = r#"{"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP",
        "finishReason": "MAX_TOKENS"}], "usageMetadata": {"promptTokenCount": 10, "promptTokenCount": 1,
        "candidatesTokenCount": 7, "candidatesTokenCount": 1}}"#;
    let converse = r#"{"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "max_tokens",
        "stopReason": "end_turn", "usage": {"inputTokens": 10, "inputTokens": 1, "outputTokens": 7}}"#;
    for (dialect, body) in [
        (Dialect::OpenAi, openai),
        (Dialect::Anthropic, anthropic),
        (Dialect::Gemini, gemini),
        (Dialect::Converse, converse),
    ] {
        let reply = read(dialect, Reply::status(200, body)).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("a", StopReason::Length), "{dialect}");
        assert_eq!((reply.usage.input, reply.usage.output), (Some(10), Some(7)), "{dialect}");
    }
}

#[tokio::test]
async fn arguments_with_a_repeated_key_stay_a_text() {
    let arguments = r#"{"path":"a","path":"b"}"#;
    let openai = json!([{"id": "x", "function": {"name": "read", "arguments": arguments}}]);
    let openai = json!({"choices": [{"message": {"tool_calls": openai}, "finish_reason": "tool_calls"}]}).to_string();
    let anthropic = r#"{"type": "message", "stop_reason": "tool_use", "content": [{"type": "tool_use", "id": "x",
        "name": "read", "input": {"path": "a", "path": "b"}}]}"#;
    let gemini = r#"{"candidates": [{"finishReason": "STOP", "content": {"parts": [{"functionCall": {"id": "x",
        "name": "read", "args": {"path": "a", "path": "b"}}}]}}]}"#;
    let converse = r#"{"stopReason": "tool_use", "output": {"message": {"content": [{"toolUse": {"toolUseId": "x",
        "name": "read", "input": {"path": "a", "path": "b"}}}]}}}"#;
    for (dialect, body) in [
        (Dialect::OpenAi, openai.as_str()),
        (Dialect::Anthropic, anthropic),
        (Dialect::Gemini, gemini),
        (Dialect::Converse, converse),
    ] {
        let reply = read(dialect, Reply::status(200, body)).await.unwrap();
        assert_eq!(reply.content.blocks(), [call("x", "read", json!(arguments))], "{dialect}");
    }
}

#[tokio::test]
async fn a_call_without_a_name_beside_others_is_a_failure() {
    let expected = "a tool call without the name of its tool";
    let function = |name: Value| json!({"id": "c", "function": {"name": name, "arguments": "{}"}});
    let good = function(json!("read"));
    let names = [Value::Null, json!(""), json!(5)];
    let nameless = names.clone().map(function).into_iter().chain([json!(5), Value::Null, json!("x"), json!({})]);
    for other in nameless {
        for calls in [json!([good, other]), json!([other, good])] {
            let message = json!({"content": "Look.", "tool_calls": calls});
            assert_refused(Dialect::OpenAi, whole_message(message, "stop"), expected).await;
        }
    }
    // In a stream, a piece without a name may belong to another call.
    let piece = |index: u64, id: &str, name: Value, arguments: &str| json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]});
    let end = chunk(json!({}), json!("tool_calls"));
    let first = chunk(piece(0, "a", json!("read"), "{}"), Value::Null);
    for name in &names {
        let second = chunk(piece(1, "b", name.clone(), "{}"), Value::Null);
        assert_refused(Dialect::OpenAi, stream(&[first.clone(), second, end.clone()]), expected).await;
    }
    let named_later = [
        chunk(piece(0, "a", Value::Null, ""), Value::Null),
        chunk(piece(0, "a", json!("read"), "{}"), Value::Null),
        end.clone(),
    ];
    assert_eq!(read(Dialect::OpenAi, stream(&named_later)).await.unwrap().content.blocks().len(), 1);
    for name in &names {
        let tool_use = |name: &Value| json!({"type": "tool_use", "id": "c", "name": name, "input": {}});
        let content = json!([tool_use(name), tool_use(&json!("read"))]);
        let body = json!({"type": "message", "stop_reason": "tool_use", "content": content});
        assert_refused(Dialect::Anthropic, Reply::status(200, body.to_string()), expected).await;
        let part = |name: &Value| json!({"functionCall": {"name": name, "args": {}}});
        let parts = json!([part(&json!("read")), part(name)]);
        let body = json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
        assert_refused(Dialect::Gemini, Reply::events(&[body]), expected).await;
        let block = |name: &Value| json!({"toolUse": {"toolUseId": "c", "name": name, "input": {}}});
        let content = json!([block(name), block(&json!("read"))]);
        let body = json!({"output": {"message": {"content": content}}, "stopReason": "tool_use"});
        assert_refused(Dialect::Converse, Reply::status(200, body.to_string()), expected).await;
    }
    // A reply that a limit cut off has no calls in any case.
    let cut_off = json!({"content": "Look.", "tool_calls": [good, function(Value::Null)]});
    assert_eq!(read(Dialect::OpenAi, whole_message(cut_off, "length")).await.unwrap().stop, StopReason::Length);
}

#[tokio::test]
async fn content_after_the_stop_reason_is_a_failure() {
    let expected = "more content after the stop reason";
    let text = |text: &str| json!({"content": text});
    let tool_call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "read", "arguments": "{}"}}]});
    for later in [text("{\"v\": 2}"), tool_call] {
        let events = [
            chunk(text("{\"v\": 1}"), Value::Null),
            chunk(json!({}), json!("stop")),
            chunk(later, Value::Null),
            json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}),
        ];
        assert_refused(Dialect::OpenAi, stream(&events), expected).await;
    }
    let block = |index: u64, text: &str| {
        [
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}),
            json!({"type": "content_block_stop", "index": index}),
        ]
    };
    let stop = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}});
    let end = json!({"type": "message_stop"});
    let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}});
    let events = [&[start][..], &block(0, "a"), std::slice::from_ref(&stop), &block(1, "b"), &[end]].concat();
    assert_refused(Dialect::Anthropic, Reply::named_events(&events), expected).await;
    // A server that sends a reason in every chunk.
    let events = [chunk(text("a "), json!("stop")), chunk(text("b"), json!("stop"))];
    assert_eq!(read(Dialect::OpenAi, stream(&events)).await.unwrap().text(), "a b");
}

#[tokio::test]
async fn a_list_that_is_another_value_is_a_failure() {
    let text = |text: &str| chunk(json!({"content": text}), Value::Null);
    let end = chunk(json!({}), json!("stop"));
    let lost = json!({"choices": {"index": 0, "delta": {"content": "lost"}}});
    let events = [text("a "), lost, text("b"), end.clone()];
    assert_refused(Dialect::OpenAi, stream(&events), "`choices` that are not a list").await;
    let tool_call = json!({"id": "c", "function": {"name": "read", "arguments": "{}"}});
    let message = json!({"content": "Look.", "tool_calls": tool_call});
    assert_refused(Dialect::OpenAi, whole_message(message, "stop"), "`tool_calls` that are not a list").await;
    let candidate = |text: &str, reason: Value| json!({"content": {"parts": [{"text": text}]}, "finishReason": reason});
    let events =
        [json!({"candidates": candidate("lost", Value::Null)}), json!({"candidates": [candidate("b", json!("STOP"))]})];
    assert_refused(Dialect::Gemini, Reply::events(&events), "`candidates` that are not a list").await;
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "a"}]});
    let events = [
        json!({"type": "response.output_text.delta", "delta": "a"}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": message}}),
    ];
    assert_refused(Dialect::Responses, Reply::named_events(&events), "an `output` that is not a list").await;
    // These lose nothing.
    for nothing in [Value::Null, json!({}), json!("")] {
        let events = [text("a"), json!({"choices": nothing}), end.clone()];
        assert_eq!(read(Dialect::OpenAi, stream(&events)).await.unwrap().text(), "a", "{nothing}");
    }
}

#[tokio::test]
async fn a_refusal_that_arrives_only_at_the_end_is_a_refusal() {
    let delta = json!({"type": "response.output_text.delta", "delta": "a"});
    let completed =
        |output: Value| json!({"type": "response.completed", "response": {"status": "completed", "output": output}});
    let message = |parts: Value| json!({"type": "message", "content": parts});
    let (text, refusal) = (json!({"type": "output_text", "text": "a"}), json!({"type": "refusal", "refusal": "no"}));
    let part = |refusal: &Value| json!({"type": "response.content_part.done", "part": refusal});
    for events in [
        vec![delta.clone(), completed(json!([message(json!([text, refusal]))]))],
        vec![delta.clone(), completed(json!([message(json!([text])), message(json!([refusal]))]))],
        vec![completed(json!([message(json!([text, refusal]))]))],
        vec![delta.clone(), part(&refusal), completed(json!([]))],
    ] {
        let reply = read(Dialect::Responses, Reply::named_events(&events)).await.unwrap();
        assert_eq!(reply.stop, StopReason::Refusal, "{events:?}");
    }
    // A value in the place of a text is a gap, as in a piece.
    let events = [delta, completed(json!([message(json!([text, {"type": "output_text", "text": 4}]))]))];
    let expected = "a number in the place of a piece of the text";
    assert_refused(Dialect::Responses, Reply::named_events(&events), expected).await;
}

#[tokio::test]
async fn usage_from_before_the_end_of_a_response_counts_if_it_is_larger() {
    let usage = |input: u64, output: u64| json!({"input_tokens": input, "output_tokens": output});
    let response = |status: &str, usage: Value| json!({"status": status, "output": [], "usage": usage});
    let events = [
        json!({"type": "response.in_progress", "response": response("in_progress", usage(500, 1))}),
        json!({"type": "response.output_text.delta", "delta": "a"}),
        json!({"type": "response.completed", "response": response("completed", usage(10, 5))}),
    ];
    let reply = read(Dialect::Responses, Reply::named_events(&events)).await.unwrap();
    assert_eq!((reply.usage.input, reply.usage.output), (Some(500), Some(5)));
}
