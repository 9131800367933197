//! Providers over real HTTP: every dialect, every fault.

mod anthropic;
mod faults;
mod gemini;
mod openai;
mod secrets;

use std::sync::Mutex;
use std::time::Duration;

use orch::model::{ChatReply, ChatRequest, Failure, Message, ModelRef, Usage};
use orch::provider::{Endpoint, Http, Limits, Signal, builtin};
use serde_json::{Value, json};

use crate::support::server::Server;

/// Not a real key, but one to look for in messages.
pub const KEY: &str = "sk-test-0123456789abcdef";

/// What every constructor of a normal reply counts.
pub const USAGE: Usage = Usage { input: 100, cache_read: 64, cache_write: 0, output: 20, reasoning: 5 };

/// A built-in provider that talks to a test server.
pub fn endpoint(name: &str, server: &Server) -> Endpoint {
    let base = if matches!(name, "anthropic" | "gemini") { server.url() } else { server.v1() };
    builtin(name).unwrap().endpoint(Some(&base), Some(KEY.into()))
}

pub fn request(model: &str) -> ChatRequest {
    ChatRequest {
        model: ModelRef::parse(model).unwrap(),
        system: "Be brief.".to_owned(),
        messages: vec![Message::user("Name a colour.")],
        max_output_tokens: 50,
        temperature: None,
        schema: None,
        schema_name: None,
    }
}

pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"colour": {"type": "string", "maxLength": 20}},
        "required": ["colour"],
    })
}

/// Limits that no fault of a test exceeds.
pub fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits { connect: 5 * second, first_byte: 10 * second, idle: 10 * second, total: 20 * second, ..Limits::default() }
}

/// Asks once and collects what was signalled.
pub async fn ask(
    endpoint: Endpoint,
    request: &ChatRequest,
    limits: &Limits,
) -> (Result<ChatReply, Failure>, Vec<Signal>) {
    let signals = Mutex::new(Vec::new());
    let provider = endpoint.provider(&Http::new());
    let reply = provider.chat(request, limits, &|signal| signals.lock().unwrap().push(signal)).await;
    (reply, signals.into_inner().unwrap())
}

/// Asks once for a reply.
pub async fn reply(endpoint: Endpoint, request: &ChatRequest) -> ChatReply {
    ask(endpoint, request, &limits()).await.0.unwrap()
}

/// Asks once for a failure.
pub async fn failure(endpoint: Endpoint, request: &ChatRequest) -> Failure {
    ask(endpoint, request, &limits()).await.0.unwrap_err()
}

/// All text that was signalled.
pub fn text_of(signals: &[Signal]) -> String {
    signals.iter().filter_map(|signal| if let Signal::Text(text) = signal { Some(text.as_str()) } else { None }).collect()
}

/// All reasoning that was signalled.
pub fn reasoning_of(signals: &[Signal]) -> String {
    let piece = |signal| if let &Signal::Reasoning(ref text) = signal { Some(text.as_str()) } else { None };
    signals.iter().filter_map(piece).collect()
}
