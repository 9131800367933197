//! Replies of every dialect: stop reasons, reasoning, streams and replies that are not streamed.

use orch::model::chat::StopReason;
use orch::provider::{Dialect, StreamEvent};
use serde_json::{Value, json};

use super::{ask, ask_with_events, endpoint_of, request, short_limits};
use crate::support::server::{Reply, Server};

#[tokio::test]
async fn every_dialect_maps_its_stop_reasons() {
    for (dialect, reason, stop) in [
        (Dialect::OpenAi, "length", StopReason::Length),
        (Dialect::OpenAi, "content_filter", StopReason::Refusal),
        (Dialect::OpenAi, "tool_calls", StopReason::ToolUse),
        (Dialect::OpenAi, "MAX_TOKENS", StopReason::Length),
        (Dialect::Anthropic, "tool_use", StopReason::ToolUse),
        (Dialect::Anthropic, "stop_sequence", StopReason::End),
        (Dialect::Anthropic, "max_tokens", StopReason::Length),
        (Dialect::Anthropic, "model_context_window_exceeded", StopReason::Length),
        (Dialect::Anthropic, "refusal", StopReason::Refusal),
        (Dialect::Responses, "max_output_tokens", StopReason::Length),
        (Dialect::Responses, "content_filter", StopReason::Refusal),
        (Dialect::Gemini, "MAX_TOKENS", StopReason::Length),
        (Dialect::Gemini, "SAFETY", StopReason::Refusal),
        (Dialect::Gemini, "IMAGE_SAFETY", StopReason::Refusal),
        (Dialect::Gemini, "stop", StopReason::End),
        (Dialect::Converse, "stop_sequence", StopReason::End),
        (Dialect::Converse, "max_tokens", StopReason::Length),
        (Dialect::Converse, "guardrail_intervened", StopReason::Refusal),
        (Dialect::Converse, "tool_use", StopReason::ToolUse),
    ] {
        let reply = match dialect {
            Dialect::OpenAi => Reply::openai_stopped("part", reason),
            Dialect::Responses => Reply::responses_stopped("part", reason),
            Dialect::Anthropic => Reply::anthropic_stopped("part", reason),
            Dialect::Gemini => Reply::gemini_stopped("part", reason),
            Dialect::Converse => Reply::converse_stopped("part", reason),
        };
        let server = Server::always(reply);
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((reply.stop, &*reply.text()), (stop, "part"), "{dialect} {reason}");
    }
}

#[tokio::test]
async fn refusals_and_blocked_prompts_have_their_classes() {
    let delta = |delta: Value, end: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": end}]});
    let openai = Reply::events(&[delta(json!({"refusal": "I can't"}), Value::Null), delta(json!({}), json!("stop"))]);
    let gemini = Reply::events(&[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9}})]);
    let converse = Reply::converse_stopped("no", "guardrail_intervened");
    for (dialect, reply, text, reason) in [
        (Dialect::OpenAi, openai, "I can't", None),
        (Dialect::Gemini, gemini, "", Some("PROHIBITED_CONTENT")),
        (Dialect::Converse, converse, "no", Some("guardrail_intervened")),
    ] {
        let server = Server::always(reply);
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((reply.stop, &*reply.text()), (StopReason::Refusal, text));
        assert_eq!(reply.details.refusal.as_deref(), reason, "{dialect}");
        assert!(dialect != Dialect::Gemini || reply.usage.input == Some(9));
    }
}

#[tokio::test]
async fn reasoning_is_streamed_but_not_part_of_the_text() {
    let openai = |field: &str| {
        Reply::events(&[
            json!({"choices": [{"index": 0, "delta": {field: "hmm", "content": null}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}),
        ])
    };
    let anthropic = Reply::named_events(&[
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 1}}}),
        json!({"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hmm"}}),
        json!({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}}),
        json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "yes"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ]);
    let gemini = Reply::events(&[
        json!({"candidates": [{"content": {"parts": [{"text": "hmm", "thought": true}, {"text": "yes"}]},
        "finishReason": "STOP"}]}),
    ]);
    for (dialect, reply) in [
        (Dialect::OpenAi, openai("reasoning_content")),
        (Dialect::OpenAi, openai("reasoning")),
        (Dialect::Anthropic, anthropic),
        (Dialect::Gemini, gemini),
    ] {
        let server = Server::always(reply);
        let (reply, signals) = ask_with_events(endpoint_of(dialect, &server)).await;
        assert_eq!(reply.text(), "yes");
        assert_eq!(signals, [StreamEvent::Reasoning("hmm".into()), StreamEvent::Text("yes".into())], "{dialect}");
    }
}

#[tokio::test]
async fn unstreamed_replies_are_understood() {
    let anthropic = json!({"id": "m", "model": "scripted", "type": "message", "stop_reason": "end_turn",
        "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "hello"}],
        "usage": {"input_tokens": 11, "output_tokens": 1}});
    let gemini = json!([{"candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 1}}]);
    for (dialect, reply) in [
        (Dialect::OpenAi, Reply::openai_json("hello")),
        (Dialect::Responses, Reply::responses_json("hello")),
        (Dialect::Anthropic, Reply::status(200, anthropic.to_string())),
        (Dialect::Gemini, Reply::status(200, gemini.to_string())),
        (Dialect::Gemini, Reply::typed("", gemini.to_string())),
    ] {
        let server = Server::always(reply);
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("hello", StopReason::End), "{dialect}");
        assert_eq!((reply.usage.input, reply.usage.output), (Some(11), Some(1)));
    }
}

#[tokio::test]
async fn a_text_of_another_json_type_is_named() {
    let parts = json!([{"type": "text", "text": {"ok": true}}]);
    let openai = |content: &Value| {
        let message = json!({"role": "assistant", "content": content});
        json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    };
    let response = json!({"object": "response", "status": "completed", "output": [
        {"type": "message", "content": [{"type": "output_text", "text": {"ok": true}}]}]});
    let delta = json!({"type": "response.output_text.delta", "delta": {"ok": true}});
    let end = json!({"type": "response.completed", "response": {"status": "completed"}});
    let gemini = json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
    let converse = json!({"output": {"message": {"content": [{"text": {"ok": true}}]}}, "stopReason": "end_turn"});
    let json_reply = |body: &Value| Reply::status(200, body.to_string());
    let object = "an object in the place of the text";
    for (dialect, reply, instead) in [
        (Dialect::OpenAi, json_reply(&openai(&json!({"ok": true}))), object),
        (Dialect::OpenAi, json_reply(&openai(&json!(4))), "a number in the place of the text"),
        (Dialect::OpenAi, json_reply(&openai(&parts)), object),
        (Dialect::Responses, json_reply(&response), object),
        (Dialect::Responses, Reply::named_events(&[delta, end]), object),
        (Dialect::Anthropic, json_reply(&json!({"content": parts, "stop_reason": "end_turn"})), object),
        (Dialect::Gemini, Reply::events(&[gemini]), object),
        (Dialect::Converse, json_reply(&converse), object),
    ] {
        let server = Server::always(reply);
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.details.instead.as_deref()), ("", Some(instead)), "{dialect}");
    }
    let server = Server::always(json_reply(&openai(&json!(["It ", "works"]))));
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!(reply.text(), "It works");
}

#[tokio::test]
async fn streams_with_comments_odd_line_ends_or_no_content_type_are_understood() {
    let event = json!({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]});
    for body in [
        format!(": waiting\r\n\r\ndata: {event}\r\n\r\ndata: [DONE]\r\n\r\n"),
        format!("data:{event}\n\n"),
        // The stream ends without a blank line and without a line end.
        format!("data: {event}"),
        format!("\u{feff}data: {event}\n\n"),
    ] {
        let kind = if body.starts_with('\u{feff}') { "text/event-stream" } else { "" };
        let server = Server::always(Reply::typed(kind, body.clone()));
        let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!(reply.text(), "hi", "{body}");
    }
}

#[tokio::test]
async fn a_done_event_without_a_finish_reason_ends_the_reply() {
    let server =
        Server::always(Reply::raw_events("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n"));
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("hi", StopReason::Unknown));
}
