//! Replies to requests with tools: the quirks of servers, and which calls the reply has.

use orch::model::chat::{ChatReply, ChatRequest, Message, Role, StopReason};
use orch::model::failure::FailureClass;
use orch::model::{Content, ContentBlock, ToolChoice};
use orch::provider::Dialect;
use serde_json::{Value, json};

use super::tools::{call, sent_body, with_tools};
use super::{DIALECTS, ask, endpoint_of, short_limits};
use crate::support::server::{Reply, Server};

/// The reply to a request with tools.
async fn read(dialect: Dialect, reply: Reply) -> ChatReply {
    let server = Server::always(reply);
    ask(endpoint_of(dialect, &server), &with_tools(ToolChoice::Auto), &short_limits()).await.unwrap()
}

/// A reply of each dialect that is not streamed, with text, a call and a stop reason.
fn reply_with_call(dialect: Dialect, text: &str, name: &str, reason: &str) -> Reply {
    let arguments = json!({"path": "a"});
    let body = match dialect {
        Dialect::OpenAi => {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            json!({"choices": [{"message": {"content": text, "tool_calls": [{"id": "c1", "function": function}]},
                "finish_reason": reason}]})
        }
        Dialect::Responses => {
            let message = json!({"type": "message", "content": [{"type": "output_text", "text": text}]});
            let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": name,
                "arguments": arguments.to_string()});
            let status = if reason == "completed" { reason } else { "incomplete" };
            json!({"object": "response", "status": status, "incomplete_details": {"reason": reason},
                "output": [message, call]})
        }
        Dialect::Anthropic => json!({"type": "message", "stop_reason": reason, "content": [
            {"type": "text", "text": text}, {"type": "tool_use", "id": "c1", "name": name, "input": arguments}]}),
        Dialect::Gemini => {
            let call = json!({"id": "c1", "name": name, "args": arguments});
            let parts = json!([{"text": text}, {"functionCall": call, "thoughtSignature": "s"}]);
            json!({"candidates": [{"finishReason": reason, "content": {"parts": parts}}]})
        }
        Dialect::Converse => json!({"stopReason": reason, "output": {"message": {"content": [
            {"text": text}, {"toolUse": {"toolUseId": "c1", "name": name, "input": arguments}}]}}}),
    };
    Reply::status(200, body.to_string())
}

#[tokio::test]
async fn the_calls_decide_and_not_the_stop_reason() {
    for (dialect, reasons) in [
        (Dialect::OpenAi, ["stop", "tool_calls"]),
        (Dialect::Responses, ["completed", "completed"]),
        (Dialect::Anthropic, ["end_turn", "tool_use"]),
        (Dialect::Gemini, ["STOP", "stop"]),
        (Dialect::Converse, ["end_turn", "tool_use"]),
    ] {
        for reason in reasons {
            for (text, name) in [("", "read"), ("I read it.", "read"), ("", "functions.read"), ("", "delete")] {
                let reply = read(dialect, reply_with_call(dialect, text, name, reason)).await;
                assert_eq!((reply.stop, &*reply.text()), (StopReason::ToolUse, text), "{dialect} {reason}");
                assert!(reply.details.is_empty(), "{dialect} {reason}: {reply:?}");
                let expected = call("c1", name.trim_start_matches("functions."), json!({"path": "a"}));
                assert!(reply.content.blocks().contains(&expected), "{dialect} {reason}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_incomplete_reply_has_no_calls() {
    for (dialect, reason, stop) in [
        (Dialect::OpenAi, "length", StopReason::Length),
        (Dialect::OpenAi, "content_filter", StopReason::Refusal),
        (Dialect::OpenAi, "sleepy", StopReason::Unknown),
        (Dialect::Responses, "max_output_tokens", StopReason::Length),
        (Dialect::Responses, "content_filter", StopReason::Refusal),
        (Dialect::Anthropic, "max_tokens", StopReason::Length),
        (Dialect::Anthropic, "model_context_window_exceeded", StopReason::Length),
        (Dialect::Anthropic, "refusal", StopReason::Refusal),
        (Dialect::Anthropic, "pause_turn", StopReason::Unknown),
        (Dialect::Gemini, "MAX_TOKENS", StopReason::Length),
        (Dialect::Gemini, "MALFORMED_FUNCTION_CALL", StopReason::Unknown),
        (Dialect::Converse, "max_tokens", StopReason::Length),
        (Dialect::Converse, "malformed_tool_use", StopReason::Unknown),
    ] {
        let reply = read(dialect, reply_with_call(dialect, "I read it.", "read", reason)).await;
        assert_eq!(reply.stop, stop, "{dialect} {reason}");
        // Without the call, its signature would belong to the text.
        assert_eq!(reply.content, Content::from_text("I read it."), "{dialect} {reason}");
        assert_eq!(reply.details.omitted_calls, ["read"], "{dialect} {reason}");
        assert!(!reply.details.paused, "the call has no result: {reason}");
    }
}

#[tokio::test]
async fn a_refusal_has_no_calls() {
    let function = json!({"name": "read", "arguments": "{}"});
    let message = json!({"refusal": "I can't", "tool_calls": [{"id": "c1", "function": function}]});
    let chat = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let item = json!({"type": "message", "content": [{"type": "refusal", "refusal": "I can't"}]});
    let function_call = json!({"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"});
    let response = json!({"object": "response", "status": "completed", "output": [item, function_call]});
    for (dialect, body) in [(Dialect::OpenAi, chat), (Dialect::Responses, response)] {
        let reply = read(dialect, Reply::status(200, body.to_string())).await;
        assert_eq!((reply.stop, &reply.content), (StopReason::Refusal, &Content::from_text("I can't")), "{dialect}");
        assert_eq!(reply.details.omitted_calls, ["read"]);
    }
}

#[tokio::test]
async fn a_stop_reason_for_calls_without_calls_is_unknown() {
    for (dialect, reply, reason) in [
        (Dialect::OpenAi, Reply::openai_stopped("part", "tool_calls"), "tool_calls"),
        (Dialect::Anthropic, Reply::anthropic_stopped("part", "tool_use"), "tool_use"),
        (Dialect::Converse, Reply::converse_stopped("part", "tool_use"), "tool_use"),
    ] {
        let reply = read(dialect, reply).await;
        assert_eq!((reply.stop, &*reply.text()), (StopReason::Unknown, "part"), "{dialect}");
        assert_eq!(reply.details.unknown_stop.as_deref(), Some(reason), "{dialect}");
    }
}

#[tokio::test]
async fn a_reply_without_calls_is_an_answer() {
    for dialect in DIALECTS {
        let server = Server::saying("hello");
        let request = with_tools(ToolChoice::Auto);
        let reply = ask(endpoint_of(dialect, &server), &request, &short_limits()).await.unwrap();
        assert_eq!((reply.stop, &*reply.text()), (StopReason::End, "hello"), "{dialect}");
        assert!(reply.details.is_empty(), "{dialect}: {reply:?}");
    }
}

#[tokio::test]
async fn missing_and_repeated_ids_are_replaced_by_ids_that_follow_from_the_conversation() {
    let function = |path: &str| json!({"function": {"name": "read", "arguments": json!({"path": path}).to_string()}});
    let mut calls = [function("a"), function("b"), function("c")];
    calls[1]["id"] = json!("x");
    calls[2]["id"] = json!("x");
    let body = json!({"choices": [{"message": {"content": "", "tool_calls": calls}, "finish_reason": "stop"}]});
    let earlier_call = vec![call("call_1", "read", json!({}))];
    let earlier_call = Message { role: Role::Assistant, content: Content::from(earlier_call) };
    let result =
        ContentBlock::ToolResult { id: "call_1".into(), name: "read".into(), content: "A".into(), is_error: false };
    let result = Message { role: Role::User, content: Content::from(vec![result]) };
    let read_call = |id: &str, path: &str| call(id, "read", json!({"path": path}));
    let earlier_turn = vec![earlier_call, result];
    for (earlier, ids) in [(vec![], ["call_1", "x", "call_3"]), (earlier_turn, ["call_2", "x", "call_4"])] {
        let server = Server::always(Reply::status(200, body.to_string()));
        let messages = [Message::user("Compare.")].into_iter().chain(earlier).collect();
        let request = ChatRequest { messages, ..with_tools(ToolChoice::Auto) };
        let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request, &short_limits()).await.unwrap();
        let expected = [read_call(ids[0], "a"), read_call(ids[1], "b"), read_call(ids[2], "c")];
        assert_eq!(reply.content.blocks(), expected);
    }
}

#[tokio::test]
async fn a_call_that_gemini_could_not_read_is_described() {
    let candidate = |message: Value| {
        json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}, "finishMessage": message}],
            "usageMetadata": {"promptTokenCount": 9}})
    };
    let said = "Malformed function call: print(default_api.read(path='a'))";
    for (body, description) in [
        (candidate(json!(said)), said),
        (candidate(Value::Null), "MALFORMED_FUNCTION_CALL"),
        (json!({"candidates": [{"finishReason": "UNEXPECTED_TOOL_CALL"}]}), "UNEXPECTED_TOOL_CALL"),
    ] {
        let reply = read(Dialect::Gemini, Reply::events(&[body])).await;
        assert_eq!((reply.stop, &*reply.text()), (StopReason::Unknown, ""));
        assert_eq!(reply.details.malformed_call.as_deref(), Some(description));
    }
}

#[tokio::test]
async fn the_signature_of_gemini_goes_back_with_its_call() {
    let part = |path: &str| json!({"functionCall": {"id": path, "name": "read", "args": {"path": path}}});
    let mut parts = [json!({"text": "I read both."}), part("a"), part("b")];
    parts[1]["thoughtSignature"] = json!("s");
    let body = json!({"candidates": [{"finishReason": "STOP", "content": {"parts": parts}}]});
    let reply = read(Dialect::Gemini, Reply::events(&[body])).await;
    let messages = vec![Message::user("Compare."), Message { role: Role::Assistant, content: reply.content }];
    let body = sent_body(Dialect::Gemini, &ChatRequest { messages, ..with_tools(ToolChoice::Auto) }).await;
    assert_eq!(body["contents"][1]["parts"], json!(parts));
}

#[tokio::test]
async fn a_paused_turn_of_anthropic_has_everything_that_goes_back() {
    let search = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "s1", "content": []});
    let input = |piece: &str| json!({"type": "input_json_delta", "partial_json": piece});
    let events = |reason: &str| {
        Reply::named_events(&[
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 1}}}),
            json!({"type": "content_block_start", "content_block": {"type": "text", "text": "I look."}}),
            json!({"type": "content_block_stop"}),
            json!({"type": "content_block_start", "content_block": search}),
            json!({"type": "content_block_delta", "delta": input("{\"query\": ")}),
            json!({"type": "content_block_delta", "delta": input("\"x\"}")}),
            json!({"type": "content_block_stop"}),
            json!({"type": "content_block_start", "content_block": found}),
            json!({"type": "content_block_stop"}),
            json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ])
    };
    let opaque = |data: Value| ContentBlock::Opaque { dialect: "anthropic".into(), data };
    let mut whole_search = search.clone();
    whole_search["input"] = json!({"query": "x"});
    let paused = read(Dialect::Anthropic, events("pause_turn")).await;
    let expected = [ContentBlock::text("I look."), opaque(whole_search.clone()), opaque(found.clone())];
    assert_eq!(paused.content.blocks(), expected);
    assert!(paused.details.paused && paused.stop == StopReason::Unknown, "{paused:?}");
    let messages = vec![Message::user("Search."), Message { role: Role::Assistant, content: paused.content }];
    let body = sent_body(Dialect::Anthropic, &ChatRequest { messages, ..with_tools(ToolChoice::Auto) }).await;
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "I look."}, whole_search, found]));
    let ended = read(Dialect::Anthropic, events("end_turn")).await;
    assert_eq!((ended.content, ended.stop), (Content::from_text("I look."), StopReason::End));
}

#[tokio::test]
async fn a_reply_with_too_many_calls_fails() {
    let openai_call = |index: usize| json!({"index": index, "id": format!("c{index}"), "function": {"name": "read", "arguments": "{}"}});
    let response_call = |index: usize| json!({"type": "function_call", "call_id": format!("c{index}"), "name": "read", "arguments": "{}"});
    for (count, is_accepted) in [(1000, true), (1001, false), (3000, false)] {
        let openai: Vec<Value> = (0..count).map(openai_call).collect();
        let response: Vec<Value> = (0..count).map(response_call).collect();
        let delta = |calls: &[Value], reason: &Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": reason}]});
        let mut chunks: Vec<Value> = openai.chunks(7).map(|calls| delta(calls, &Value::Null)).collect();
        chunks.push(delta(&[], &json!("tool_calls")));
        let message = json!({"choices": [{"message": {"tool_calls": openai}, "finish_reason": "tool_calls"}]});
        let response = json!({"object": "response", "status": "completed", "output": response});
        for (dialect, reply) in [
            (Dialect::OpenAi, Reply::events(&chunks)),
            (Dialect::OpenAi, Reply::status(200, message.to_string())),
            (Dialect::Responses, Reply::status(200, response.to_string())),
        ] {
            let server = Server::always(reply);
            let request = with_tools(ToolChoice::Auto);
            match ask(endpoint_of(dialect, &server), &request, &short_limits()).await {
                Ok(reply) => assert!(is_accepted && reply.content.blocks().len() == count, "{dialect} {count}"),
                Err(failure) => {
                    assert!(!is_accepted && failure.interrupted, "{dialect} {count}: {failure:?}");
                    assert_eq!(failure.class, FailureClass::OutputTooLarge, "{dialect} {count}");
                    assert_eq!(failure.message, "lab sent a reply with more than the allowed 1000 parts");
                }
            }
        }
    }
}
