//! The HTTP providers against a scripted server: every dialect and every kind of failure.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use orch::model::chat::{ChatReply, ChatRequest, Message, ModelRef, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::model::usage::Usage;
use orch::provider::{Dialect, Endpoint, RequestLimits, StreamEvent, create_provider, served_models};
use serde_json::{Value, json};

use crate::support::cpu_time;
use crate::support::server::{Reply, Server};

pub(crate) const KEY: &str = "sk-very-secret-0123456789";
pub(crate) const DIALECTS: [Dialect; 3] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini];

pub(crate) fn endpoint(dialect: Dialect, base_url: String) -> Endpoint {
    Endpoint {
        name: "lab".into(),
        dialect,
        base_url,
        api_key: Some(KEY.into()),
        key_variable: Some("LAB_KEY".into()),
        headers: Vec::new(),
        structured_output: true,
        key_header: None,
        query: Vec::new(),
        network: std::sync::Arc::default(),
    }
}

pub(crate) fn endpoint_of(dialect: Dialect, server: &Server) -> Endpoint {
    let url = if dialect == Dialect::OpenAi { server.openai_url() } else { server.url() };
    endpoint(dialect, url)
}

pub(crate) fn request() -> ChatRequest {
    ChatRequest {
        model: ModelRef::new("lab", "some-model"),
        system: "You are terse.".into(),
        messages: vec![Message::user("first"), Message::assistant("second"), Message::user("third")],
        max_output_tokens: 256,
        temperature: Some(0.5),
        schema: None,
        schema_name: None,
    }
}

fn with_schema() -> ChatRequest {
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        "additionalProperties": false});
    ChatRequest { schema: Some(schema.into()), schema_name: Some("verdict".into()), ..request() }
}

pub(crate) fn short_limits() -> RequestLimits {
    RequestLimits {
        connect_timeout: Duration::from_secs(2),
        first_byte_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(20),
        max_reply_bytes: 1024 * 1024,
        ..RequestLimits::default()
    }
}

pub(crate) async fn ask(
    endpoint: Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<ChatReply, Failure> {
    create_provider(endpoint).chat(request, limits, &|_| {}).await
}

async fn ask_with_events(endpoint: Endpoint) -> (ChatReply, Vec<StreamEvent>) {
    let signals = Mutex::new(Vec::new());
    let reply = create_provider(endpoint)
        .chat(&request(), &short_limits(), &|signal| signals.lock().unwrap().push(signal))
        .await
        .unwrap();
    (reply, signals.into_inner().unwrap())
}

/// Fails one dialect with one reply; asserts that the failure does not contain the key, and that there was one request.
pub(crate) async fn failure_of(dialect: Dialect, reply: Reply, limits: &RequestLimits) -> Failure {
    let server = Server::always(reply);
    let failure = ask(endpoint_of(dialect, &server), &request(), limits).await.unwrap_err();
    assert!(!format!("{failure:?}").contains(KEY), "{failure:?}");
    assert!(!failure.message.ends_with('.') && !failure.message.contains('\n'), "{failure:?}");
    assert_eq!(server.requests().len(), 1, "nothing is retried");
    failure
}

#[tokio::test]
async fn every_dialect_streams_text_usage_and_names() {
    let text = "Grüße, {\"ok\": true} — 日本語 and more.";
    for (dialect, usage) in [
        (Dialect::Anthropic, Usage { input: 11, cache_read: 4, cache_write: 2, output: 7, reasoning: 0 }),
        (Dialect::OpenAi, Usage { input: 11, cache_read: 4, cache_write: 0, output: 7, reasoning: 2 }),
        (Dialect::Gemini, Usage { input: 11, cache_read: 4, cache_write: 0, output: 10, reasoning: 3 }),
    ] {
        // The pieces have one byte each, so that no character and no event arrives complete.
        let server = Server::start(move |r| Reply::text_for(&r.path, text).pieces(1, Duration::ZERO));
        let (reply, signals) = ask_with_events(endpoint_of(dialect, &server)).await;
        assert_eq!(reply.text(), text, "{dialect}");
        assert_eq!(reply.stop, StopReason::End);
        assert_eq!(reply.usage, usage.into(), "{dialect}");
        assert_eq!(reply.model.as_deref(), Some("scripted"));
        assert!(reply.id.is_some());
        assert!(!reply.constrained);
        let joined: String = signals
            .iter()
            .map(|signal| match signal {
                StreamEvent::Text(text) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(joined, text);
        assert!(signals.len() > 2);
    }
}

#[tokio::test]
async fn the_openai_dialect_sends_its_request_format() {
    let server = Server::saying("{}");
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &with_schema(), &short_limits()).await.unwrap();
    assert!(reply.constrained);
    let sent = server.requests().remove(0);
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(sent.header("accept-encoding"), Some("gzip"));
    assert_eq!(
        sent.body,
        json!({
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "You are terse."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "second"},
                {"role": "user", "content": "third"}
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": 256,
            "temperature": 0.5,
            "response_format": {"type": "json_schema", "json_schema": {
                "name": "verdict", "schema": with_schema().schema, "strict": true}}
        })
    );
    assert_eq!(sent.system(), "You are terse.");
    assert_eq!(sent.last(), "third");
}

#[tokio::test]
async fn the_anthropic_dialect_sends_its_request_format() {
    let server = Server::saying("{}");
    let reply = ask(endpoint_of(Dialect::Anthropic, &server), &with_schema(), &short_limits()).await.unwrap();
    assert!(reply.constrained);
    let sent = server.requests().remove(0);
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!(sent.header("x-api-key"), Some(KEY));
    assert_eq!(sent.header("authorization"), None);
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    let marked = |text| json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]);
    assert_eq!(
        sent.body,
        json!({
            "model": "some-model",
            "max_tokens": 256,
            "system": marked("You are terse."),
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "second"},
                {"role": "user", "content": marked("third")}
            ],
            "stream": true,
            "temperature": 0.5,
            "output_config": {"format": {"type": "json_schema", "schema": with_schema().schema}}
        })
    );
    assert_eq!((sent.system().as_str(), sent.last().as_str()), ("You are terse.", "third"));
}

#[tokio::test]
async fn the_gemini_dialect_sends_its_request_format() {
    let server = Server::saying("{}");
    let reply = ask(endpoint_of(Dialect::Gemini, &server), &with_schema(), &short_limits()).await.unwrap();
    assert!(reply.constrained);
    let sent = server.requests().remove(0);
    assert_eq!(sent.path, "/v1beta/models/some-model:streamGenerateContent?alt=sse");
    assert_eq!(sent.header("x-goog-api-key"), Some(KEY));
    assert_eq!(
        sent.body,
        json!({
            "systemInstruction": {"parts": [{"text": "You are terse."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "first"}]},
                {"role": "model", "parts": [{"text": "second"}]},
                {"role": "user", "parts": [{"text": "third"}]}
            ],
            "generationConfig": {"maxOutputTokens": 256, "temperature": 0.5,
                "responseMimeType": "application/json", "responseJsonSchema": with_schema().schema}
        })
    );
    assert_eq!((sent.system().as_str(), sent.last().as_str()), ("You are terse.", "third"));
}

#[tokio::test]
async fn no_temperature_is_sent_to_a_model_with_a_fixed_one() {
    for (dialect, model, sent) in [
        (Dialect::Anthropic, "claude-sonnet-4-6", true),
        (Dialect::Anthropic, "claude-opus-4-7", false),
        (Dialect::Anthropic, "claude-sonnet-5-5", false),
        (Dialect::Gemini, "gemini-3.5-flash", true),
        (Dialect::Gemini, "gemini-3.8-flash", false),
        (Dialect::Gemini, "models/gemini-4-argon", false),
    ] {
        let server = Server::saying("{}");
        let request = ChatRequest { model: ModelRef::new("lab", model), ..request() };
        ask(endpoint_of(dialect, &server), &request, &short_limits()).await.unwrap();
        assert_eq!(server.requests().remove(0).body.to_string().contains("\"temperature\""), sent, "{model}");
    }
}

#[tokio::test]
async fn no_schema_is_sent_without_native_structured_output() {
    for dialect in DIALECTS {
        let server = Server::saying("{}");
        let endpoint = Endpoint { structured_output: false, api_key: None, ..endpoint_of(dialect, &server) };
        let reply = ask(endpoint, &with_schema(), &short_limits()).await.unwrap();
        assert!(!reply.constrained);
        let sent = server.requests().remove(0);
        assert!(!sent.body.to_string().contains("additionalProperties"), "{}", sent.body);
        for name in ["authorization", "x-api-key", "x-goog-api-key"] {
            assert_eq!(sent.header(name), None);
        }
    }
}

#[tokio::test]
async fn headers_of_the_user_override_those_of_orch() {
    let server = Server::saying("x");
    let headers = vec![("Authorization".into(), "Basic abc".into()), ("X-Title".into(), "orch".into())];
    let endpoint = Endpoint { headers, ..endpoint_of(Dialect::OpenAi, &server) };
    ask(endpoint, &request(), &short_limits()).await.unwrap();
    let sent = server.requests().remove(0);
    assert_eq!(sent.header("authorization"), Some("Basic abc"));
    assert_eq!(sent.header("x-title"), Some("orch"));
    assert_eq!(sent.headers.iter().filter(|(name, _)| name == "authorization").count(), 1);
}

#[tokio::test]
async fn base_urls_may_end_with_the_version() {
    for (dialect, suffix) in [(Dialect::Anthropic, "/v1/"), (Dialect::Gemini, "/v1beta"), (Dialect::OpenAi, "/v1/")] {
        let server = Server::saying("x");
        ask(endpoint(dialect, format!("{}{suffix}", server.url())), &request(), &short_limits()).await.unwrap();
        let path = server.requests().remove(0).path;
        assert_eq!(path.matches("/v1").count(), 1, "{path}");
        assert!(!path.contains("//"), "{path}");
    }
}

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
        (Dialect::Gemini, "MAX_TOKENS", StopReason::Length),
        (Dialect::Gemini, "SAFETY", StopReason::Refusal),
        (Dialect::Gemini, "IMAGE_SAFETY", StopReason::Refusal),
        (Dialect::Gemini, "stop", StopReason::End),
    ] {
        let reply = match dialect {
            Dialect::OpenAi => Reply::openai_stopped("part", reason),
            Dialect::Anthropic => Reply::anthropic_stopped("part", reason),
            Dialect::Gemini => Reply::gemini_stopped("part", reason),
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
    for (dialect, reply, text, input) in
        [(Dialect::OpenAi, openai, "I can't", None), (Dialect::Gemini, gemini, "", Some(9))]
    {
        let server = Server::always(reply);
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((reply.stop, &*reply.text()), (StopReason::Refusal, text));
        assert_eq!(reply.usage.input, input);
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

#[tokio::test]
async fn each_http_status_has_its_class_message_and_hint() {
    let error = |kind: &str| json!({"error": {"message": "it says why.", "type": kind}}).to_string();
    for (status, kind, class, message, hint) in [
        (401, "x", FailureClass::Auth, "lab refuses the key (401): it says why", Some("check the key in LAB_KEY")),
        (403, "x", FailureClass::Auth, "lab refuses the key (403): it says why", Some("check the key in LAB_KEY")),
        (
            404,
            "x",
            FailureClass::BadRequest,
            "lab does not know the model some-model (404): it says why",
            Some("http://127.0.0.1"),
        ),
        (408, "x", FailureClass::Timeout, "lab gave up waiting (408): it says why", None),
        (429, "x", FailureClass::RateLimited, "lab says that there were too many requests (429): it says why", None),
        (
            429,
            "insufficient_quota",
            FailureClass::BadRequest,
            "lab says that the account has no credit left (429): it says why",
            Some("add credit to the account at lab"),
        ),
        (
            402,
            "x",
            FailureClass::BadRequest,
            "lab says that the account has no credit left (402): it says why",
            Some("add credit"),
        ),
        (400, "x", FailureClass::BadRequest, "lab refuses the request (400): it says why", None),
        (413, "request_too_large", FailureClass::BadRequest, "lab refuses the request (413): it says why", None),
        (422, "x", FailureClass::BadRequest, "lab refuses the request (422): it says why", None),
        (500, "x", FailureClass::ProviderUnavailable, "lab is unavailable (500): it says why", None),
        (503, "x", FailureClass::ProviderUnavailable, "lab is unavailable (503): it says why", None),
        (529, "overloaded_error", FailureClass::ProviderUnavailable, "lab is unavailable (529): it says why", None),
    ] {
        for dialect in DIALECTS {
            let failure = failure_of(dialect, Reply::status(status, error(kind)), &short_limits()).await;
            assert_eq!((failure.class, failure.message.as_str()), (class, message));
            assert_eq!(failure.status, Some(status));
            assert_eq!(failure.retry_after_ms, None);
            match hint {
                Some(hint) => {
                    assert!(failure.hint.as_deref().unwrap().contains(hint), "{failure:?}");
                }
                None => assert_eq!(failure.hint, None, "{failure:?}"),
            }
        }
    }
}

#[tokio::test]
async fn error_bodies_of_every_shape_are_read() {
    let long = "x".repeat(5000);
    for (body, said) in [
        (r#"{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}"#.to_owned(), ": too long"),
        (r#"[{"error":{"code":400,"message":"bad field","status":"INVALID_ARGUMENT"}}]"#.to_owned(), ": bad field"),
        (r#"{"error":"model is missing"}"#.to_owned(), ": model is missing"),
        (r#"{"message":"plain","type":"BadRequestError"}"#.to_owned(), ": plain"),
        (r#"{"detail":"from a framework"}"#.to_owned(), ": from a framework"),
        ("no JSON\nat all".to_owned(), ": no JSON at all"),
        (String::new(), "(400)"),
        (long, "xxx…"),
    ] {
        let failure = failure_of(Dialect::OpenAi, Reply::status(400, body), &short_limits()).await;
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert!(failure.message.ends_with(said), "{}", failure.message);
        assert!(failure.message.chars().count() < 350);
    }
}

#[tokio::test]
async fn a_wrong_gemini_key_is_recognized_by_its_message() {
    let body = json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT"}});
    let failure = failure_of(Dialect::Gemini, Reply::status(400, body.to_string()), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::Auth);
}

#[tokio::test]
async fn waits_that_the_provider_requests_are_read() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(30);
    let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (headers, least, most) in [
        (vec![("retry-after", "7")], 7000, 7000),
        (vec![("retry-after", "1.5")], 1500, 1500),
        (vec![("Retry-After", "7"), ("retry-after-ms", "250")], 250, 250),
        (vec![("retry-after", date.as_str())], 25_000, 30_000),
        (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 0, 0),
        (vec![("retry-after", "99999999999999")], 86_400_000, 86_400_000),
    ] {
        let mut reply = Reply::status(429, "{}");
        for (name, value) in &headers {
            reply = reply.header(name, value);
        }
        let wait = failure_of(Dialect::Anthropic, reply, &short_limits()).await.retry_after_ms.unwrap();
        assert!((least..=most).contains(&wait), "{headers:?}: {wait}");
    }
    for nonsense in ["soon", "-1", "NaN"] {
        let reply = Reply::status(503, "{}").header("retry-after", nonsense);
        assert_eq!(failure_of(Dialect::OpenAi, reply, &short_limits()).await.retry_after_ms, None);
    }
}

#[tokio::test]
async fn errors_in_the_middle_of_a_stream_have_their_classes() {
    let anthropic = |kind: &str| {
        Reply::named_events(&[
            json!({"type": "message_start", "message": {}}),
            json!({"type": "error", "error": {"type": kind, "message": "sorry"}}),
        ])
    };
    let openai =
        |error: Value| Reply::events(&[json!({"choices": [{"delta": {"content": "x"}}]}), json!({"error": error})]);
    for (dialect, reply, class) in [
        (Dialect::Anthropic, anthropic("overloaded_error"), FailureClass::ProviderUnavailable),
        (Dialect::Anthropic, anthropic("rate_limit_error"), FailureClass::RateLimited),
        (Dialect::Anthropic, anthropic("api_error"), FailureClass::ProviderUnavailable),
        (Dialect::Anthropic, anthropic("invalid_request_error"), FailureClass::BadRequest),
        (Dialect::OpenAi, openai(json!({"message": "sorry", "code": 502})), FailureClass::ProviderUnavailable),
        (Dialect::OpenAi, openai(json!({"message": "sorry", "code": 429})), FailureClass::RateLimited),
        (
            Dialect::OpenAi,
            openai(json!({"message": "sorry", "type": "server_error"})),
            FailureClass::ProviderUnavailable,
        ),
        (Dialect::OpenAi, openai(json!("sorry")), FailureClass::ProviderUnavailable),
        (Dialect::OpenAi, Reply::status(200, r#"{"error":{"message":"sorry"}}"#), FailureClass::ProviderUnavailable),
        (
            Dialect::Gemini,
            openai(json!({"message": "sorry", "code": 503, "status": "UNAVAILABLE"})),
            FailureClass::ProviderUnavailable,
        ),
        (
            Dialect::Gemini,
            openai(json!({"message": "sorry", "code": 429, "status": "RESOURCE_EXHAUSTED"})),
            FailureClass::RateLimited,
        ),
    ] {
        let failure = failure_of(dialect, reply, &short_limits()).await;
        assert_eq!(failure.class, class, "{dialect} {failure:?}");
        assert!(failure.message.ends_with(": sorry"), "{}", failure.message);
    }
}

#[tokio::test]
async fn the_failure_of_a_truncated_reply_says_how_much_arrived() {
    for dialect in DIALECTS {
        let server =
            Server::start(|r| Reply::text_for(&r.path, "a reply that is long enough to be cut").cut_after(150));
        let failure = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, "lab broke off after 150 bytes, before the reply was complete");
    }
    // The end of the connection without a final event also truncates the reply.
    let clean = Reply::events(&[json!({"choices": [{"delta": {"content": "half a"}}]})]);
    let length = clean.len();
    let failure = failure_of(Dialect::OpenAi, clean, &short_limits()).await;
    assert_eq!(failure.message, format!("lab broke off after {length} bytes, before the reply was complete"));
    let failure = failure_of(Dialect::OpenAi, Reply::raw_events(""), &short_limits()).await;
    assert_eq!(failure.message, "lab broke off after 0 bytes, before the reply was complete");
    let half = Reply::raw_events("data: {\"choices\":[{\"delta\":{\"conte");
    assert!(failure_of(Dialect::OpenAi, half, &short_limits()).await.message.contains("broke off after 34 bytes"));
    let cut = Reply::openai_json("whole").cut_after(20);
    assert!(failure_of(Dialect::OpenAi, cut, &short_limits()).await.message.contains("after 20 bytes"));
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_final_event_loses_nothing() {
    let reply = Reply::openai_text("whole");
    // The blank line after `[DONE]` is missing.
    let cut = reply.len() - 2;
    let server = Server::always(reply.clone().cut_after(cut));
    let answer = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*answer.text(), answer.usage.input), ("whole", Some(11)));
    // Before the final event the reply is truncated, although the stop reason has arrived.
    let failure = failure_of(Dialect::OpenAi, reply.cut_after(cut - 2), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    assert!(failure.message.contains("broke off after"), "{failure:?}");
}

#[tokio::test]
async fn each_kind_of_timeout_has_its_own_message() {
    let brief = Duration::from_millis(150);
    let slow = || Reply::openai_text("hello there").delay(Duration::from_secs(3));
    let first = RequestLimits { first_byte_timeout: brief, ..short_limits() };
    let failure = failure_of(Dialect::OpenAi, slow(), &first).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab sent nothing within 150 ms"));
    let failure = failure_of(Dialect::OpenAi, Reply::openai_text("x").stall_after(0), &first).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab sent nothing within 150 ms"));
    let idle = RequestLimits { idle_timeout: brief, ..short_limits() };
    let failure = failure_of(Dialect::OpenAi, Reply::openai_text("x").stall_after(40), &idle).await;
    assert_eq!(failure.message, "lab went silent for 150 ms after 40 bytes");
    assert_eq!(failure.class, FailureClass::Timeout);
    let total = RequestLimits { total_timeout: Duration::from_millis(300), ..short_limits() };
    let drip = Reply::openai_text(&"word ".repeat(200)).pieces(10, Duration::from_millis(20));
    // The whole reply would take a minute.
    let started = Instant::now();
    let failure = failure_of(Dialect::OpenAi, drip, &total).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab did not finish within 300 ms"));
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// A server whose queue of new connections is full: it neither accepts nor rejects a connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_to_a_host_that_does_not_answer_times_out() {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    let limits = RequestLimits { connect_timeout: Duration::from_millis(200), ..short_limits() };
    // The kernel alone would try for two minutes.
    let started = Instant::now();
    let failure =
        ask(endpoint(Dialect::OpenAi, format!("http://{address}/v1")), &request(), &limits).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout, "{failure:?}");
    assert_eq!(failure.message, format!("can't connect to http://{address}/v1 within 200 ms"));
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn a_reply_that_is_too_large_fails() {
    let limits = RequestLimits { max_reply_bytes: 10_000, ..short_limits() };
    for reply in [
        Reply::openai_text(&"word ".repeat(5000)),
        Reply::openai_json(&"word ".repeat(5000)),
        Reply::raw_events(": ping\n\n".repeat(5000)),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &limits).await;
        assert_eq!(failure.class, FailureClass::OutputTooLarge);
        assert_eq!(failure.message, "lab sent more than the allowed 10000 bytes");
    }
    // One line of many megabytes takes no longer than many lines.
    let endless = Reply::raw_events(format!("data: {}", "x".repeat(40_000_000)));
    let started = cpu_time();
    let failure = failure_of(Dialect::OpenAi, endless, &RequestLimits::default()).await;
    assert_eq!(failure.class, FailureClass::OutputTooLarge);
    // Quadratic time would take minutes of this thread's processor time, however busy the machine is.
    assert!(cpu_time().saturating_sub(started) < Duration::from_secs(30));
}

#[tokio::test]
async fn responses_that_are_no_replies_have_their_classes() {
    let page = format!("<html>\n<h1>It works!</h1>{}</html>", "x".repeat(999));
    for (reply, class, message) in [
        (Reply::html(&page), FailureClass::BadRequest, "lab answered with a web page: <html> <h1>It works!</h1>x"),
        (
            Reply::typed("", "hello"),
            FailureClass::ProviderUnavailable,
            "lab answered with something without a content type: hello",
        ),
        (Reply::typed("image/png", "PNG"), FailureClass::ProviderUnavailable, "lab answered with image/png: PNG"),
        (Reply::status(200, "{\"a\":"), FailureClass::ProviderUnavailable, "lab sent broken JSON: {\"a\":"),
        (
            Reply::status(200, "{\"a\":1}"),
            FailureClass::ProviderUnavailable,
            "lab answered with JSON that is not a reply: {\"a\":1}",
        ),
        (
            Reply::raw_events("data: {nope\n\n"),
            FailureClass::ProviderUnavailable,
            "lab sent an event that is not JSON: {nope",
        ),
        (
            Reply::raw_events(&b"data: \xff\xfe\n\n"[..]),
            FailureClass::ProviderUnavailable,
            "lab sent an event that is not JSON: \u{fffd}\u{fffd}",
        ),
        (Reply::typed("text/html", "x").header("x", "y"), FailureClass::BadRequest, "lab answered with a web page: x"),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.message.starts_with(message), "{}", failure.message);
        assert!(failure.message.chars().count() < 250);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::saying("never");
    let reply = Reply::status(307, "").header("location", &format!("{}/v1/chat/completions?t=1", target.url()));
    let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
    assert_eq!(failure.class, FailureClass::BadRequest);
    assert_eq!(failure.message, format!("lab redirects to {}/v1/chat/completions (307)", target.url()));
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn unreachable_hosts_have_their_messages() {
    let gone = Server::saying("x").url();
    for dialect in DIALECTS {
        let failure = ask(endpoint(dialect, gone.clone()), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, format!("can't reach {gone}: connection refused"));
        assert_eq!(failure.hint.as_deref(), Some("start lab, or correct its base URL"));
    }
    let base = "http://no-such-host.invalid/v1".to_owned();
    let failure = ask(endpoint(Dialect::OpenAi, base), &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    assert!(failure.message.starts_with("can't reach http://no-such-host.invalid/v1: "), "{failure:?}");
    assert!(failure.hint.is_some());
    // This server does not speak TLS.
    let server = Server::saying("x");
    let base = server.url().replace("http://", "https://");
    let failure = ask(endpoint(Dialect::Anthropic, base), &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure:?}");
    assert!(failure.message.starts_with("can't reach https://127.0.0.1"), "{failure:?}");
}

#[tokio::test]
async fn invalid_addresses_have_their_messages() {
    for base in ["", "lab", "ftp://lab/v1", "127.0.0.1:80/v1"] {
        let failure = ask(endpoint(Dialect::OpenAi, base.into()), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest, "{base}: {failure:?}");
        assert!(failure.hint.as_deref().unwrap().contains("base URL of lab"));
    }
}

#[tokio::test]
async fn no_failure_contains_a_key() {
    let header = "token-in-a-header-987";
    let echo = json!({"error": {"message": format!("wrong key {KEY} and {header}, {KEY}"), "type": "x"}}).to_string();
    // The limit of a few hundred characters cuts the text inside the key.
    let late = json!({"error": {"message": format!("{}{KEY}", "x".repeat(290))}}).to_string();
    for reply in [
        Reply::status(401, echo.clone()),
        Reply::status(500, echo.clone()),
        Reply::status(200, echo.clone()),
        Reply::status(400, late),
        Reply::status(502, format!("plain {KEY} {header}")),
        Reply::html(&format!("<p>{KEY} {header}")),
        Reply::raw_events(format!("data: {echo}\n\n")),
        Reply::raw_events(format!("data: nope {KEY} {header}\n\n")),
        Reply::status(302, "").header("location", &format!("http://user:{KEY}@host/{KEY}?key={header}")),
    ] {
        for dialect in DIALECTS {
            let server = Server::always(reply.clone());
            let headers = vec![("x-token".to_owned(), header.to_owned())];
            let base = endpoint_of(dialect, &server).base_url.replace("http://", &format!("http://user:{KEY}@"));
            let endpoint = Endpoint { headers, base_url: base, ..endpoint_of(dialect, &server) };
            let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
            let shown = format!("{failure:?} {failure}");
            assert!(!shown.contains("very-secret") && !shown.contains(header), "{shown}");
        }
    }
    let endpoint =
        Endpoint { api_key: Some("sk-line\nbreak".into()), ..endpoint(Dialect::OpenAi, "http://127.0.0.1:1".into()) };
    let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(failure.hint.as_deref().unwrap().contains("LAB_KEY"));
    assert!(!format!("{failure:?}").contains("sk-line"));
}

#[tokio::test]
async fn the_list_of_models_of_a_server_is_read() {
    let server = Server::always(Reply::status(200, r#"{"object":"list","data":[{"id":"b"},{"id":"org/a"},{}]}"#));
    let models = served_models(&endpoint_of(Dialect::OpenAi, &server), Duration::from_secs(5)).await.unwrap();
    assert_eq!(models, ["b", "org/a"]);
    let sent = server.requests().remove(0);
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("GET", "/v1/models"));
    for (reply, class) in [
        (Reply::status(200, "[]"), FailureClass::ProviderUnavailable),
        (Reply::html("<p>"), FailureClass::ProviderUnavailable),
        (Reply::status(401, "{}"), FailureClass::Auth),
        (Reply::status(200, "{}").delay(Duration::from_secs(2)), FailureClass::Timeout),
    ] {
        let server = Server::always(reply);
        let failure =
            served_models(&endpoint_of(Dialect::OpenAi, &server), Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure:?}");
    }
    let gone = Server::saying("x").openai_url();
    let failure = served_models(&endpoint(Dialect::OpenAi, gone), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
}

#[tokio::test]
async fn the_size_of_a_compressed_reply_counts_decompressed() {
    // The decompressed body is `data: {"choices":[{"delta":{"content":"hello"},"finish_reason":"stop"}]}` and `data:
    // [DONE]`.
    let body: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x1d, 0xcc, 0x41, 0x0a, 0x80, 0x20, 0x10, 0x46,
        0xe1, 0xbd, 0xa7, 0x88, 0x7f, 0xdd, 0x09, 0x5c, 0xd7, 0xb6, 0x0e, 0x20, 0x12, 0x83, 0x4e, 0x28, 0x88, 0x13,
        0x39, 0x3b, 0xf1, 0xee, 0x49, 0xdb, 0xf7, 0xc1, 0x8b, 0xa4, 0x64, 0x97, 0x8e, 0x90, 0x24, 0x07, 0x6e, 0xb0,
        0xae, 0x23, 0x72, 0x51, 0x82, 0x9d, 0x51, 0xaa, 0x72, 0x55, 0x58, 0x24, 0x2e, 0x45, 0x30, 0x56, 0xdc, 0xb9,
        0xe6, 0x96, 0xae, 0x97, 0xa9, 0x49, 0x9d, 0xd0, 0x54, 0x1e, 0x0c, 0x3f, 0x8c, 0x89, 0xff, 0xc9, 0x6d, 0xe7,
        0xb1, 0x7b, 0x63, 0x3e, 0xb2, 0xf1, 0x8d, 0xf1, 0x58, 0x00, 0x00, 0x00,
    ];
    let server = Server::always(Reply::raw_events(body).header("content-encoding", "gzip"));
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("hello", StopReason::End));
    let limits = RequestLimits { max_reply_bytes: 80, ..short_limits() };
    let failure = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &limits).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::OutputTooLarge, "{failure:?}");
    let broken = Reply::raw_events("data: {}\n\n").header("content-encoding", "gzip");
    assert_eq!(failure_of(Dialect::OpenAi, broken, &short_limits()).await.class, FailureClass::ProviderUnavailable);
}

#[tokio::test]
async fn a_deployment_of_classic_azure_receives_its_request_format() {
    let server = Server::saying("{}");
    let azure = Endpoint {
        base_url: format!("{}/openai/deployments/{{model}}", server.url()),
        key_header: Some("api-key".into()),
        query: vec![("api-version".into(), "2024-10-21".into())],
        ..endpoint_of(Dialect::OpenAi, &server)
    };
    let deployment = ChatRequest { model: ModelRef::new("azure", "my gpt"), ..request() };
    ask(azure, &deployment, &short_limits()).await.unwrap();
    let sent = server.requests().remove(0);
    assert_eq!(sent.path, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21");
    assert_eq!((sent.header("api-key"), sent.header("authorization")), (Some(KEY), None));
    // The query that Gemini itself needs is kept.
    let gemini = Endpoint { query: vec![("a".into(), "b&c".into())], ..endpoint_of(Dialect::Gemini, &server) };
    ask(gemini, &request(), &short_limits()).await.unwrap();
    assert!(server.requests()[1].path.ends_with("?alt=sse&a=b%26c"), "{:?}", server.requests()[1].path);
}
