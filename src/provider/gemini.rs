//! Google's Gemini dialect.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::http::{self, Assembler, Call, Sink};
use super::{Endpoint, Limits, Provider, Signal, client, schema};
use crate::model::chat::{ChatReply, ChatRequest, Role, StopReason};
use crate::model::failure::Failure;
use crate::model::usage::Usage;

/// A server of the Gemini API.
pub(super) struct Gemini {
    endpoint: Endpoint,
}

impl Gemini {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Provider for Gemini {
    fn dialect(&self) -> &'static str {
        "gemini"
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a Limits,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        let base = self.endpoint.base_url.trim_end_matches('/');
        let base = base.strip_suffix("/v1beta").unwrap_or(base);
        let model = client::path_segment(request.model.model.trim_start_matches("models/"));
        let body = body(&self.endpoint, request);
        let constrained = body.pointer("/generationConfig/responseJsonSchema").is_some();
        let call = Call {
            endpoint: &self.endpoint,
            model: &request.model.model,
            url: format!("{base}/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            key_header: ("x-goog-api-key", ""),
            headers: &[],
            body,
            limits,
        };
        http::exchange(call, Parts { constrained, ..Parts::default() }, sink).boxed()
    }
}

fn body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let contents: Vec<Value> = request
        .messages
        .iter()
        .map(|message| {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "model",
            };
            json!({"role": role, "parts": [{"text": message.content}]})
        })
        .collect();
    let mut config = Map::new();
    config.insert("maxOutputTokens".into(), json!(request.max_output_tokens));
    let own = crate::catalog::gemini_has_own_temperature(&request.model.model);
    if let Some(temperature) = request.temperature.filter(|_| !own) {
        config.insert("temperature".into(), json!(temperature));
    }
    if let Some(schema) = request.schema.as_deref().filter(|_| endpoint.structured) {
        config.insert("responseMimeType".into(), json!("application/json"));
        config.insert("responseJsonSchema".into(), schema::gemini(schema));
    }
    let mut body = Map::new();
    if !request.system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": [{"text": request.system}]}));
    }
    body.insert("contents".into(), Value::Array(contents));
    body.insert("generationConfig".into(), Value::Object(config));
    Value::Object(body)
}

/// A reply under construction.
#[derive(Default)]
struct Parts {
    text: String,
    stop: Option<StopReason>,
    usage: Usage,
    model: Option<String>,
    id: Option<String>,
    constrained: bool,
}

impl Parts {
    fn read(&mut self, chunk: &Value, sink: Sink<'_>) {
        for (field, slot) in [("modelVersion", &mut self.model), ("responseId", &mut self.id)] {
            if let Some(text) = chunk.get(field).and_then(Value::as_str) {
                *slot = Some(text.to_owned());
            }
        }
        if let Some(usage) = chunk.get("usageMetadata") {
            self.usage = read_usage(usage);
        }
        if chunk.pointer("/promptFeedback/blockReason").is_some_and(Value::is_string) {
            self.stop = Some(StopReason::Refusal);
        }
        let Some(candidate) = chunk.pointer("/candidates/0") else {
            return;
        };
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            let Some(text) = part.get("text").and_then(Value::as_str).filter(|text| !text.is_empty()) else {
                continue;
            };
            if part.get("thought").and_then(Value::as_bool) == Some(true) {
                sink(Signal::Reasoning(text.to_owned()));
            } else {
                self.text.push_str(text);
                sink(Signal::Text(text.to_owned()));
            }
        }
        if let Some(reason) = candidate.get("finishReason").and_then(Value::as_str) {
            self.stop = Some(match reason {
                "STOP" => StopReason::End,
                "MAX_TOKENS" => StopReason::Length,
                "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => {
                    StopReason::Refusal
                }
                _ => StopReason::Unknown,
            });
        }
    }
}

impl Assembler for Parts {
    fn event(&mut self, event: &Value, sink: Sink<'_>) -> bool {
        self.read(event, sink);
        // The stream has no last word of its own: the connection ends.
        false
    }

    fn whole(&mut self, body: &Value, sink: Sink<'_>) -> bool {
        let known = |chunk: &Value| {
            ["candidates", "promptFeedback", "usageMetadata"].iter().any(|key| chunk.get(*key).is_some())
        };
        // Without `alt=sse` the API answers with a list of chunks.
        let chunks = body.as_array().map_or(std::slice::from_ref(body), Vec::as_slice);
        for chunk in chunks {
            self.read(chunk, sink);
        }
        chunks.iter().any(known)
    }

    fn complete(&self) -> bool {
        self.stop.is_some()
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn reply(self) -> ChatReply {
        ChatReply {
            text: self.text,
            stop: self.stop.unwrap_or(StopReason::Unknown),
            usage: self.usage,
            model: self.model,
            id: self.id,
            constrained: self.constrained,
            work: None,
        }
    }
}

fn read_usage(usage: &Value) -> Usage {
    let count = |field: &str| usage.get(field).and_then(Value::as_u64).unwrap_or(0);
    let reasoning = count("thoughtsTokenCount");
    Usage {
        input: count("promptTokenCount"),
        cache_read: count("cachedContentTokenCount"),
        cache_write: 0,
        output: count("candidatesTokenCount").saturating_add(reasoning),
        reasoning,
    }
}
