//! The Chat Completions dialect.

use std::time::Duration;

use orch::model::{Class, Message, StopReason, Usage};
use orch::provider::{Http, Signal, Structured, models};
use serde_json::json;

use super::{KEY, USAGE, ask, endpoint, failure, limits, reasoning_of, reply, request, schema, text_of};
use crate::support::reply::{Reply, event, openai};
use crate::support::server::Server;

#[tokio::test]
async fn a_stream_becomes_a_reply() {
    let server = Server::script([openai::text("blue, grün")]);
    let (reply, signals) = ask(endpoint("openai", &server), &request("openai/gpt-4o"), &limits()).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), reply.stop, reply.usage), ("blue, grün", StopReason::End, USAGE));
    assert_eq!((reply.model.as_deref(), reply.id.as_deref()), (Some("served-model"), Some("chatcmpl-1")));
    assert!(!reply.constrained);
    assert_eq!(signals.first(), Some(&Signal::FirstByte));
    assert_eq!(text_of(&signals), "blue, grün");
    assert!(signals.contains(&Signal::Usage(USAGE)));
}

#[tokio::test]
async fn openai_itself_gets_its_own_body() {
    let server = Server::script([openai::text("{}")]);
    let mut request = request("openai/gpt-5.2");
    request.temperature = Some(0.5);
    request.schema = Some(schema());
    request.schema_name = Some("colour".to_owned());
    request.messages.push(Message::assistant("red"));
    request.messages.push(Message::user("another"));
    assert!(reply(endpoint("openai", &server), &request).await.constrained);
    let sent = server.request();
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(
        sent.body,
        json!({
            "model": "gpt-5.2",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Name a colour."},
                {"role": "assistant", "content": "red"},
                {"role": "user", "content": "another"},
            ],
            "max_completion_tokens": 50,
            "stream": true,
            "stream_options": {"include_usage": true},
            "response_format": {"type": "json_schema", "json_schema": {"name": "colour", "strict": true, "schema": {
                "type": "object",
                "properties": {"colour": {"type": "string"}},
                "required": ["colour"],
                "additionalProperties": false,
            }}},
        })
    );
}

#[tokio::test]
async fn other_servers_get_the_common_body() {
    let server = Server::script([openai::text("{}")]);
    let mut endpoint = endpoint("llamacpp", &server);
    endpoint.api_key = None;
    let mut request = request("llamacpp/qwen3");
    request.system.clear();
    request.temperature = Some(0.5);
    request.schema = Some(schema());
    assert!(reply(endpoint, &request).await.constrained);
    let sent = server.request();
    assert_eq!(sent.header("authorization"), None);
    assert_eq!(
        sent.body,
        json!({
            "model": "qwen3",
            "messages": [{"role": "user", "content": "Name a colour."}],
            "max_tokens": 50,
            "temperature": 0.5,
            "stream": true,
            "stream_options": {"include_usage": true},
            "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": true, "schema": {
                "type": "object",
                "properties": {"colour": {"type": "string", "maxLength": 20}},
                "required": ["colour"],
            }}},
        })
    );
}

#[tokio::test]
async fn structure_can_be_switched_off() {
    let server = Server::script([openai::text("{}")]);
    let mut endpoint = endpoint("ollama", &server);
    endpoint.structured = Structured::Off;
    let mut request = request("ollama/qwen3");
    request.schema = Some(schema());
    assert!(!reply(endpoint, &request).await.constrained);
    assert_eq!(server.request().body.get("response_format"), None);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let server = Server::script([openai::whole("blue")]);
    let reply = reply(endpoint("vllm", &server), &request("vllm/m")).await;
    assert_eq!((reply.text.as_str(), reply.stop, reply.usage), ("blue", StopReason::End, USAGE));
}

#[tokio::test]
async fn a_stream_without_its_content_type_is_understood() {
    let mut streamed = openai::text("blue");
    streamed.headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    let server = Server::script([streamed]);
    assert_eq!(reply(endpoint("vllm", &server), &request("vllm/m")).await.text, "blue");
}

#[tokio::test]
async fn reasoning_is_no_text() {
    for key in ["reasoning_content", "reasoning"] {
        let deltas = [json!({key: "let me"}), json!({key: " see", "content": ""}), json!({"content": "blue"})];
        let server = Server::script([openai::deltas(&deltas, "stop")]);
        let (reply, signals) = ask(endpoint("vllm", &server), &request("vllm/m"), &limits()).await;
        let reply = reply.unwrap();
        assert_eq!((reply.text.as_str(), reasoning_of(&signals).as_str()), ("blue", "let me see"), "{key}");
        assert_eq!(reply.usage, Usage::default(), "usage that is missing is zero");
    }
}

#[tokio::test]
async fn reasons_to_stop_are_told_apart() {
    for (reason, stop) in [
        ("stop", StopReason::End),
        ("length", StopReason::Length),
        ("content_filter", StopReason::Refusal),
        ("tool_calls", StopReason::Unknown),
    ] {
        let server = Server::script([openai::stopped("blue", reason)]);
        assert_eq!(reply(endpoint("openai", &server), &request("openai/gpt-4o")).await.stop, stop, "{reason}");
    }
    let server = Server::script([openai::deltas(&[json!({"refusal": "I "}), json!({"refusal": "won't"})], "stop")]);
    let refused = reply(endpoint("openai", &server), &request("openai/gpt-4o")).await;
    assert_eq!((refused.text.as_str(), refused.stop), ("I won't", StopReason::Refusal));
}

#[tokio::test]
async fn keep_alives_and_odd_line_ends_are_skipped() {
    let pieces = [
        ": keep-alive\r\n\r\n".to_owned(),
        "data: {\"choices\":[{\"delta\":{\"content\":\"bl".to_owned(),
        "ue\"},\"finish_reason\":\"stop\"}]}\r\n\r\n: more\n\nunknown\ndata:[DONE]\n\n".to_owned(),
    ];
    let server = Server::script([Reply::stream(pieces)]);
    assert_eq!(reply(endpoint("vllm", &server), &request("vllm/m")).await.text, "blue");
}

#[tokio::test]
async fn an_error_in_the_stream_is_a_failure() {
    let error = event(&json!({"error": {"message": "The server is busy.", "type": "server_error", "code": 503}}));
    let mut streamed = openai::text("blue").parts;
    streamed.truncate(1);
    let mut broken = Reply::stream([error]);
    broken.parts.splice(0..0, streamed);
    let server = Server::script([broken]);
    let failure = failure(endpoint("openai", &server), &request("openai/gpt-4o")).await;
    assert_eq!(failure.class, Class::ProviderUnavailable);
    assert_eq!(failure.message, "openai is unavailable: The server is busy");
}

#[tokio::test]
async fn the_list_of_models_is_read() {
    let list = Reply::json(200, &json!({"object": "list", "data": [{"id": "qwen3"}, {"id": "smollm2"}]}));
    let server = Server::script([list]);
    let found = models(&endpoint("ollama", &server), &Http::new(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(found, ["qwen3", "smollm2"]);
    assert_eq!(server.request().path, "/v1/models");
}
