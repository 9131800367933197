//! Anthropic's Messages dialect.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::http::{self, Assembler, Call, Sink};
use super::{Endpoint, Limits, Provider, Signal, schema};
use crate::model::chat::{ChatReply, ChatRequest, Role, StopReason};
use crate::model::failure::Failure;
use crate::model::usage::Usage;

/// A server of the Messages API.
pub(super) struct Anthropic {
    endpoint: Endpoint,
}

impl Anthropic {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Provider for Anthropic {
    fn dialect(&self) -> &'static str {
        "anthropic"
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a Limits,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        let base = self.endpoint.base_url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let body = body(&self.endpoint, request);
        let parts = Parts { constrained: body.get("output_config").is_some(), ..Parts::default() };
        let call = Call {
            endpoint: &self.endpoint,
            model: &request.model.model,
            url: format!("{base}/v1/messages"),
            key_header: ("x-api-key", ""),
            headers: &[("anthropic-version", "2023-06-01")],
            body,
            limits,
        };
        http::exchange(call, parts, sink).boxed()
    }
}

fn body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    // Two marks: the system prompt is shared by the calls of a step, and the conversation
    // up to its last message by the re-asks that follow.
    let marked = |text: &str| json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]);
    let last_user = request.messages.iter().rposition(|message| message.role == Role::User);
    let messages: Vec<Value> = request
        .messages
        .iter()
        .enumerate()
        .map(|(at, message)| {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let content = if Some(at) == last_user { marked(&message.content) } else { json!(message.content) };
            json!({"role": role, "content": content})
        })
        .collect();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model.model));
    body.insert("max_tokens".into(), json!(request.max_output_tokens));
    if !request.system.is_empty() {
        body.insert("system".into(), marked(&request.system));
    }
    body.insert("messages".into(), Value::Array(messages));
    body.insert("stream".into(), json!(true));
    // Newer models refuse a request with any temperature, be it what they would take anyway.
    let own = crate::catalog::claude_has_own_temperature(&request.model.model);
    if let Some(temperature) = request.temperature.filter(|_| !own) {
        body.insert("temperature".into(), json!(temperature));
    }
    let schema = request.schema.as_deref().filter(|_| endpoint.structured);
    if let Some(schema) = schema.and_then(schema::anthropic) {
        let format = json!({"type": "json_schema", "schema": schema});
        body.insert("output_config".into(), json!({"format": format}));
    }
    Value::Object(body)
}

/// A reply under construction.
#[derive(Default)]
struct Parts {
    text: String,
    stop: Option<StopReason>,
    counts: Counts,
    model: Option<String>,
    id: Option<String>,
    constrained: bool,
}

/// The counts as the API splits them: the three inputs do not overlap.
#[derive(Default)]
struct Counts {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
}

impl Parts {
    /// Reads what a message says about itself.
    fn head(&mut self, message: &Value) {
        let text = |field: &str| message.get(field).and_then(Value::as_str).map(str::to_owned);
        self.id = text("id");
        self.model = text("model");
        self.count(message);
        self.stopped(message);
    }

    /// Later counts replace earlier ones: they are totals.
    fn count(&mut self, holder: &Value) {
        let Some(usage) = holder.get("usage") else { return };
        let counts = &mut self.counts;
        for (field, slot) in [
            ("input_tokens", &mut counts.input),
            ("cache_read_input_tokens", &mut counts.cache_read),
            ("cache_creation_input_tokens", &mut counts.cache_write),
            ("output_tokens", &mut counts.output),
        ] {
            if let Some(count) = usage.get(field).and_then(Value::as_u64) {
                *slot = count;
            }
        }
    }

    fn stopped(&mut self, holder: &Value) {
        if let Some(reason) = holder.get("stop_reason").and_then(Value::as_str) {
            self.stop = Some(match reason {
                "end_turn" | "stop_sequence" => StopReason::End,
                "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
                "refusal" => StopReason::Refusal,
                _ => StopReason::Unknown,
            });
        }
    }

    /// Reads a block or a part of one.
    fn say(&mut self, part: Option<&Value>, sink: Sink<'_>) {
        let text = |field: &str| part.and_then(|part| part.get(field)?.as_str()).filter(|text| !text.is_empty());
        if let Some(thinking) = text("thinking") {
            sink(Signal::Reasoning(thinking.to_owned()));
        }
        if let Some(text) = text("text") {
            self.text.push_str(text);
            sink(Signal::Text(text.to_owned()));
        }
    }
}

impl Assembler for Parts {
    fn event(&mut self, event: &Value, sink: Sink<'_>) -> bool {
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                if let Some(message) = event.get("message") {
                    self.head(message);
                }
            }
            "content_block_start" => self.say(event.get("content_block"), sink),
            "content_block_delta" => self.say(event.get("delta"), sink),
            "message_delta" => {
                if let Some(delta) = event.get("delta") {
                    self.stopped(delta);
                }
                self.count(event);
            }
            "message_stop" => return true,
            // `ping`, `content_block_stop`, and what is still to be invented.
            _ => {}
        }
        false
    }

    fn whole(&mut self, body: &Value, sink: Sink<'_>) -> bool {
        let Some(content) = body.get("content").and_then(Value::as_array) else {
            return false;
        };
        self.head(body);
        for block in content {
            self.say(Some(block), sink);
        }
        true
    }

    fn complete(&self) -> bool {
        self.stop.is_some()
    }

    fn usage(&self) -> Usage {
        let Counts { input, cache_read, cache_write, output } = self.counts;
        Usage {
            input: input.saturating_add(cache_read).saturating_add(cache_write),
            cache_read,
            cache_write,
            output,
            reasoning: 0,
        }
    }

    fn reply(self) -> ChatReply {
        let usage = self.usage();
        ChatReply {
            text: self.text,
            stop: self.stop.unwrap_or(StopReason::Unknown),
            usage,
            model: self.model,
            id: self.id,
            constrained: self.constrained,
            work: None,
        }
    }
}
