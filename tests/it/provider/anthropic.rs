//! Anthropic's dialect.

use orch::model::{Class, Message, StopReason, Usage};
use serde_json::json;

use super::{KEY, ask, endpoint, failure, limits, reasoning_of, reply, request, schema};
use crate::support::reply::{Reply, anthropic};
use crate::support::server::Server;

#[tokio::test]
async fn a_stream_becomes_a_reply() {
    let server = Server::script([anthropic::text("blue")]);
    let (reply, signals) = ask(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5"), &limits()).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), reply.stop), ("blue", StopReason::End));
    // 30 fresh, 64 from the cache, 6 into it.
    assert_eq!(reply.usage, Usage { input: 100, cache_read: 64, cache_write: 6, output: 20, reasoning: 5 });
    assert_eq!((reply.model.as_deref(), reply.id.as_deref()), (Some("served-model"), Some("msg_1")));
    assert_eq!(reasoning_of(&signals), "hm");
}

#[tokio::test]
async fn the_body_has_cache_marks_and_structure() {
    let server = Server::script([anthropic::text("{}")]);
    let mut request = request("anthropic/claude-sonnet-5");
    request.temperature = Some(0.5);
    request.schema = Some(schema());
    request.messages.push(Message::assistant("red"));
    request.messages.push(Message::user("another"));
    assert!(reply(endpoint("anthropic", &server), &request).await.constrained);
    let sent = server.request();
    assert_eq!((sent.path.as_str(), sent.header("x-api-key")), ("/v1/messages", Some(KEY)));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    let mark = json!({"type": "ephemeral"});
    assert_eq!(
        sent.body,
        json!({
            "model": "claude-sonnet-5",
            "max_tokens": 50,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": mark}],
            "messages": [
                {"role": "user", "content": "Name a colour."},
                {"role": "assistant", "content": "red"},
                {"role": "user", "content": [{"type": "text", "text": "another", "cache_control": mark}]},
            ],
            "stream": true,
            "output_config": {"format": {"type": "json_schema", "schema": {
                "type": "object",
                "properties": {"colour": {"type": "string"}},
                "required": ["colour"],
                "additionalProperties": false,
            }}},
        })
    );
}

#[tokio::test]
async fn older_models_get_a_temperature_and_no_structure() {
    let server = Server::script([anthropic::text("{}")]);
    let mut request = request("anthropic/claude-opus-4-1");
    request.temperature = Some(1.5);
    request.schema = Some(schema());
    assert!(!reply(endpoint("anthropic", &server), &request).await.constrained);
    let body = server.request().body;
    assert_eq!((body.get("output_config"), &body["temperature"]), (None, &json!(1.0)));
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let server = Server::script([anthropic::whole("blue")]);
    let reply = reply(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5")).await;
    assert_eq!((reply.text.as_str(), reply.stop, reply.usage.input), ("blue", StopReason::End, 30));
}

#[tokio::test]
async fn reasons_to_stop_are_told_apart() {
    for (reason, stop) in [
        ("stop_sequence", StopReason::End),
        ("max_tokens", StopReason::Length),
        ("model_context_window_exceeded", StopReason::Length),
        ("pause_turn", StopReason::Unknown),
    ] {
        let server = Server::script([anthropic::stopped("blue", json!({"stop_reason": reason}))]);
        let reply = reply(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5")).await;
        assert_eq!(reply.stop, stop, "{reason}");
    }
    let end = json!({"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "not this"}});
    let server = Server::script([anthropic::stopped("", end)]);
    let refused = reply(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5")).await;
    assert_eq!((refused.text.as_str(), refused.stop), ("not this", StopReason::Refusal));
}

#[tokio::test]
async fn an_error_in_the_stream_is_a_failure() {
    for (kind, class) in [
        ("overloaded_error", Class::ProviderUnavailable),
        ("rate_limit_error", Class::RateLimited),
        ("invalid_request_error", Class::BadRequest),
    ] {
        let mut streamed = anthropic::text("blue");
        streamed.parts.truncate(5);
        let error = anthropic::event(&json!({"type": "error", "error": {"type": kind, "message": "Overloaded"}}));
        streamed.parts.extend(Reply::stream([error]).parts);
        let server = Server::script([streamed]);
        let failure = failure(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5")).await;
        assert_eq!(failure.class, class, "{kind}");
        assert!(failure.message.ends_with(": Overloaded"), "{}", failure.message);
    }
}

#[tokio::test]
async fn overload_has_a_status_of_its_own() {
    let server = Server::script([anthropic::error(529, "overloaded_error", "Overloaded")]);
    let failure = failure(endpoint("anthropic", &server), &request("anthropic/claude-sonnet-5")).await;
    assert_eq!((failure.class, failure.status), (Class::ProviderUnavailable, Some(529)));
    assert_eq!(failure.message, "anthropic is unavailable (HTTP 529: Overloaded)");
}
