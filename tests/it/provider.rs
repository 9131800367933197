//! The HTTP providers against a scripted server: requests of every dialect, lists of models, and helpers.

mod azure;
mod calls;
mod content_types;
mod contradictions;
mod converse;
mod failures;
mod foreign_replies;
mod inconsistent;
mod replies;
pub(crate) mod requests;
mod response_items;
mod responses;
pub(crate) mod tools;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orch::model::ModelRef;
use orch::model::chat::{ChatReply, ChatRequest, Message, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::model::usage::Usage;
use orch::network::Network;
use orch::provider::{Auth, Dialect, Endpoint, KeyAuth, RequestLimits, StreamEvent, create_provider, served_models};
use serde_json::json;

use crate::support::ClosedPort;
use crate::support::server::{Reply, Server};

pub(crate) const KEY: &str = "sk-very-secret-0123456789";
pub(crate) const DIALECTS: [Dialect; 5] = Dialect::ALL;

/// The key in the variable `LAB_KEY`, in this header or the dialect's own.
pub(crate) fn key_auth(key: &str, header: Option<&str>) -> Arc<dyn Auth> {
    Arc::new(KeyAuth { key: Some(key.into()), variable: Some("LAB_KEY".into()), header: header.map(ToOwned::to_owned) })
}

pub(crate) fn endpoint(dialect: Dialect, base_url: String) -> Endpoint {
    Endpoint { auth: key_auth(KEY, None), ..Endpoint::new("lab", dialect, base_url) }
}

pub(crate) fn endpoint_of(dialect: Dialect, server: &Server) -> Endpoint {
    let url = match dialect {
        Dialect::OpenAi | Dialect::Responses => server.openai_url(),
        Dialect::Anthropic | Dialect::Gemini | Dialect::Converse => server.url(),
    };
    endpoint(dialect, url)
}

/// An endpoint at an address of which this server receives the requests, as its proxy.
pub(crate) fn through_proxy(proxy: &Server, dialect: Dialect, base_url: &str) -> Endpoint {
    let url = proxy.url();
    let network = Network::from_variables(|name| (name == "HTTP_PROXY").then(|| url.clone()));
    Endpoint { network: Arc::new(network), ..endpoint(dialect, base_url.to_owned()) }
}

pub(crate) fn request() -> ChatRequest {
    let messages = vec![Message::user("first"), Message::assistant("second"), Message::user("third")];
    ChatRequest {
        system: "You are terse.".into(),
        temperature: Some(0.5),
        ..ChatRequest::new(ModelRef::new("lab", "some-model"), messages, 256)
    }
}

pub(crate) fn with_schema() -> ChatRequest {
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
        (Dialect::Responses, Usage { input: 11, cache_read: 4, cache_write: 0, output: 7, reasoning: 2 }),
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
async fn the_responses_dialect_sends_its_request_format() {
    let server = Server::saying("{}");
    let reply = ask(endpoint_of(Dialect::Responses, &server), &with_schema(), &short_limits()).await.unwrap();
    assert!(reply.constrained);
    let sent = server.requests().remove(0);
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/responses"));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let key = sent.body["prompt_cache_key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("orch-") && key.len() < 64, "{key}");
    let item =
        |text: &str| json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
    assert_eq!(
        sent.body,
        json!({
            "model": "some-model",
            "instructions": "You are terse.",
            "input": [
                item("first"),
                {"type": "message", "role": "assistant", "content": "second"},
                item("third")
            ],
            "stream": true,
            "store": false,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": key,
            "max_output_tokens": 256,
            "temperature": 0.5,
            "text": {"format": {"type": "json_schema", "name": "verdict", "schema": with_schema().schema, "strict": true}}
        })
    );
    assert_eq!((sent.system().as_str(), sent.last().as_str()), ("You are terse.", "third"));
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
    let text = |text| json!([{"type": "text", "text": text}]);
    let marked = |text| json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]);
    assert_eq!(
        sent.body,
        json!({
            "model": "some-model",
            "max_tokens": 256,
            "system": marked("You are terse."),
            "messages": [
                {"role": "user", "content": text("first")},
                {"role": "assistant", "content": text("second")},
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
        let endpoint =
            Endpoint { structured_output: false, auth: Arc::new(KeyAuth::default()), ..endpoint_of(dialect, &server) };
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
async fn a_reply_counts_as_constrained_only_if_the_request_has_a_schema() {
    for (dialect, model, options) in [
        (Dialect::Anthropic, "claude-opus-4-6", json!({"reasoning": "low"})),
        (Dialect::Responses, "qwen3", json!({"provider_options": {"text": {"verbosity": "low"}}})),
    ] {
        let server = Server::saying("{}");
        let options = Box::new(serde_json::from_value(options).unwrap());
        let request = ChatRequest { model: ModelRef::new("lab", model), options, ..request() };
        let reply = ask(endpoint_of(dialect, &server), &request, &short_limits()).await.unwrap();
        assert!(!reply.constrained, "{dialect}");
        let body = server.requests().remove(0).body;
        assert!(body.get("output_config").or(body.get("text")).is_some(), "{body}");
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
    for (dialect, suffix) in [
        (Dialect::Anthropic, "/v1/"),
        (Dialect::Gemini, "/v1beta"),
        (Dialect::OpenAi, "/v1/"),
        (Dialect::Responses, "/v1/"),
    ] {
        let server = Server::saying("x");
        ask(endpoint(dialect, format!("{}{suffix}", server.url())), &request(), &short_limits()).await.unwrap();
        let path = server.requests().remove(0).path;
        assert_eq!(path.matches("/v1").count(), 1, "{path}");
        assert!(!path.contains("//"), "{path}");
    }
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
    let closed = ClosedPort::reserve();
    let gone = endpoint(Dialect::OpenAi, closed.url());
    let failure = served_models(&gone, Duration::from_mins(1)).await.unwrap_err();
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
