//! Gemini's dialect.

use orch::model::{Class, Message, StopReason};
use serde_json::json;

use super::{KEY, USAGE, ask, endpoint, failure, limits, reasoning_of, reply, request, schema};
use crate::support::reply::{Reply, event, gemini};
use crate::support::server::Server;

#[tokio::test]
async fn a_stream_becomes_a_reply() {
    let server = Server::script([gemini::text("blue")]);
    let (reply, signals) = ask(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash"), &limits()).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), reply.stop, reply.usage), ("blue", StopReason::End, USAGE));
    assert_eq!((reply.model.as_deref(), reply.id.as_deref()), (Some("served-model"), Some("r1")));
    assert_eq!(reasoning_of(&signals), "hm");
}

#[tokio::test]
async fn the_body_has_structure() {
    let server = Server::script([gemini::text("{}")]);
    let mut request = request("gemini/gemini-2.5-flash");
    request.temperature = Some(0.5);
    request.schema = Some(schema());
    request.messages.push(Message::assistant("red"));
    request.messages.push(Message::user("another"));
    assert!(reply(endpoint("gemini", &server), &request).await.constrained);
    let sent = server.request();
    assert_eq!(sent.path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(sent.header("x-goog-api-key"), Some(KEY));
    assert_eq!(
        sent.body,
        json!({
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Name a colour."}]},
                {"role": "model", "parts": [{"text": "red"}]},
                {"role": "user", "parts": [{"text": "another"}]},
            ],
            "generationConfig": {
                "maxOutputTokens": 50,
                "temperature": 0.5,
                "responseMimeType": "application/json",
                "responseJsonSchema": {
                    "type": "object",
                    "properties": {"colour": {"type": "string"}},
                    "required": ["colour"],
                },
            },
        })
    );
}

#[tokio::test]
async fn one_array_is_understood_as_a_stream() {
    let candidate = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]});
    let server = Server::script([Reply::json(200, &json!([candidate("bl"), candidate("ue")]))]);
    assert_eq!(reply(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash")).await.text, "blue");
}

#[tokio::test]
async fn reasons_to_stop_are_told_apart() {
    for (reason, stop) in [
        ("MAX_TOKENS", StopReason::Length),
        ("SAFETY", StopReason::Refusal),
        ("PROHIBITED_CONTENT", StopReason::Refusal),
        ("OTHER", StopReason::Unknown),
    ] {
        let server = Server::script([gemini::stopped("blue", reason)]);
        let reply = reply(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash")).await;
        assert_eq!(reply.stop, stop, "{reason}");
    }
    let server = Server::script([Reply::stream([event(&json!({"promptFeedback": {"blockReason": "SAFETY"}}))])]);
    let blocked = reply(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash")).await;
    assert_eq!((blocked.text.as_str(), blocked.stop), ("the prompt was blocked (SAFETY)", StopReason::Refusal));
}

#[tokio::test]
async fn errors_carry_their_wait_and_their_reason() {
    let wait = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]);
    let server = Server::script([gemini::error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", &wait)]);
    let limited = failure(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash")).await;
    assert_eq!((limited.class, limited.retry_after_ms), (Class::RateLimited, Some(34_000)));

    let reason = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let server = Server::script([gemini::error(400, "INVALID_ARGUMENT", "API key not valid.", &reason)]);
    let wrong = failure(endpoint("gemini", &server), &request("gemini/gemini-2.5-flash")).await;
    assert_eq!((wrong.class, wrong.status), (Class::Auth, Some(400)));
    assert_eq!(wrong.hint.as_deref(), Some("check GEMINI_API_KEY: the key that was sent comes from it"));
}
