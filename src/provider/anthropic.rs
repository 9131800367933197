//! The dialect of Anthropic's Messages API.

mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::assembler::{Assembler, ReplySink};
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::stop_reasons;
use super::stream::EventKind;
use super::usage::{ANTHROPIC, UsageFields};
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;

/// A provider that speaks the Messages API.
pub(super) struct Anthropic {
    endpoint: Endpoint,
}

impl Anthropic {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The address and the body of a request.
    fn address_and_body(&self, request: &ChatRequest, limits: &RequestLimits) -> Result<(String, Value), Failure> {
        let base = client::base_url(&self.endpoint, &request.model.model)?;
        let base = base.strip_suffix("/v1").unwrap_or(&base);
        Ok((format!("{base}/v1/messages"), request::request_body(&self.endpoint, request, limits)?))
    }
}

impl Provider for Anthropic {
    fn dialect(&self) -> &'static str {
        "anthropic"
    }

    fn check_request(&self, request: &ChatRequest) -> Result<(), Failure> {
        self.address_and_body(request, &self.limits()).map(|_| ())
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: ReplySink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            let (url, body) = self.address_and_body(request, limits)?;
            let builder = ReplyBuilder::for_request(request, body.pointer("/output_config/format").is_some());
            let assembler = AnthropicReply { builder, ..AnthropicReply::default() };
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url,
                key_header: ("x-api-key", ""),
                headers: &[("anthropic-version", "2023-06-01")],
                body,
                limits,
            };
            http::exchange(call, assembler, sink).await
        }
        .boxed()
    }
}

/// A Messages reply under construction.
#[derive(Default)]
pub(super) struct AnthropicReply {
    builder: ReplyBuilder,
    /// The text and the signature of the current block, if it is reasoning.
    thinking: Option<(String, String)>,
    /// Whether the current block is a call of a tool that the client runs.
    is_call_open: bool,
    /// The current block, if it belongs to a tool that the provider itself runs, and the text of its input so far.
    server_tool: Option<(Value, String)>,
}

/// The key of the current tool call. The server completes each block before the next one, so one key is enough.
const CALL_KEY: &str = "call";

/// Whether a block of this kind belongs to a tool that the provider itself runs: its call or its result.
fn is_server_tool(kind: &str) -> bool {
    matches!(kind, "server_tool_use" | "mcp_tool_use") || kind.ends_with("_tool_result")
}

impl AnthropicReply {
    /// Reads the id, the model, the usage and the stop reason of a message.
    fn read_metadata(&mut self, message: &Value) {
        let text_field = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        self.builder.id = text_field("id");
        self.builder.model = text_field("model");
        self.read_usage(message);
        self.record_stop(message);
    }

    /// Records the stop reason of a message or of a `message_delta`.
    fn record_stop(&mut self, object: &Value) {
        let reason = object.get("stop_reason");
        self.builder.stop.record_chunk(stop_reasons::ANTHROPIC, reason, false);
    }

    /// Reads a content block or a delta of one.
    fn read_block(&mut self, block: Option<&Value>, sink: ReplySink<'_>) {
        let text_field = |name: &str| block.and_then(|block| block.get(name)?.as_str()).filter(|text| !text.is_empty());
        let kind = text_field("type").unwrap_or_default();
        if kind == "thinking" {
            self.finish_block();
            self.thinking = Some((String::new(), String::new()));
        }
        if let Some(block) = block.filter(|_| is_server_tool(kind)) {
            self.finish_block();
            self.server_tool = Some((block.clone(), String::new()));
        }
        if let Some((thinking, signature)) = &mut self.thinking {
            thinking.push_str(text_field("thinking").unwrap_or_default());
            signature.push_str(text_field("signature").unwrap_or_default());
        }
        if let Some(thinking) = text_field("thinking") {
            self.builder.push_reasoning(thinking, sink);
        }
        self.builder.check_text_type(block.and_then(|block| block.get("text")));
        self.builder.check_arguments_piece(block.and_then(|block| block.get("partial_json")));
        if let Some(text) = text_field("text") {
            self.builder.push_text(text, sink);
        }
        match (kind, text_field("name")) {
            ("tool_use", Some(name)) => {
                self.is_call_open = true;
                self.builder.start_call(CALL_KEY, text_field("id"), name);
                let input = block.and_then(|block| block.get("input"));
                // In a stream, the input is empty at first. Some servers send it as a text.
                let is_filled = |input: &&Value| {
                    input.as_object().is_some_and(|input| !input.is_empty())
                        || input.as_str().is_some_and(|input| !input.is_empty())
                };
                if let Some(input) = input.filter(is_filled) {
                    self.builder.set_arguments(CALL_KEY, input);
                }
            }
            ("server_tool_use" | "mcp_tool_use", Some(name)) => self.builder.record_tool_call(name),
            ("input_json_delta", _) if self.is_call_open => {
                self.builder.push_arguments(CALL_KEY, text_field("partial_json").unwrap_or_default());
            }
            ("input_json_delta", _) => {
                if let Some((_, input)) = &mut self.server_tool {
                    input.push_str(text_field("partial_json").unwrap_or_default());
                }
            }
            _ => {}
        }
        let is_other_content = match kind {
            "redacted_thinking" => {
                self.builder.record_hidden_reasoning();
                if let Some(block) = block.filter(|block| block.get("data").is_some_and(Value::is_string)) {
                    self.builder.blocks.push_opaque(Dialect::Anthropic, block.clone());
                }
                true
            }
            "" | "text" | "thinking" => false,
            kind if kind.ends_with("tool_use") || kind.ends_with("_delta") => false,
            kind => {
                self.builder.record_other_content(kind);
                true
            }
        };
        let has_content = is_other_content
            || ["thinking", "text", "name", "partial_json"].iter().any(|name| text_field(name).is_some());
        self.builder.stop.record_chunk(stop_reasons::ANTHROPIC, None, has_content);
    }

    /// Ends the current block. orch sends reasoning back to the API only if it has a signature.
    fn finish_block(&mut self) {
        self.is_call_open = false;
        if let Some((mut block, input)) = self.server_tool.take() {
            if let (Some(block), Ok(input)) = (block.as_object_mut(), serde_json::from_str(&input)) {
                block.insert("input".to_owned(), input);
            }
            self.builder.blocks.push_server_tool(Dialect::Anthropic, block);
        }
        if let Some((thinking, signature)) = self.thinking.take().filter(|(_, signature)| !signature.is_empty()) {
            let block = json!({"type": "thinking", "thinking": thinking, "signature": signature});
            self.builder.blocks.push_opaque(Dialect::Anthropic, block);
        }
    }
}

impl Assembler for AnthropicReply {
    const USAGE_FIELDS: &'static UsageFields = &ANTHROPIC;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => {
                if let Some(message) = event.get("message") {
                    self.read_metadata(message);
                }
            }
            Some("content_block_start") => self.read_block(event.get("content_block"), sink),
            Some("content_block_delta") => self.read_block(event.get("delta"), sink),
            Some("message_delta") => {
                if let Some(delta) = event.get("delta") {
                    self.record_stop(delta);
                }
                self.read_usage(event);
            }
            Some("message_stop") => return EventKind::End,
            Some("content_block_stop") => self.finish_block(),
            Some("ping") => return EventKind::KeepAlive,
            _ => return EventKind::Unrecognized,
        }
        EventKind::Part
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        let Some(content) = body.get("content").and_then(Value::as_array) else {
            return false;
        };
        for block in content {
            self.read_block(Some(block), sink);
            self.finish_block();
        }
        self.read_metadata(body);
        true
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn read_usage(&mut self, event: &Value) {
        self.builder.usage.merge_report(event.get("usage"), &ANTHROPIC);
    }

    fn into_reply(mut self) -> ChatReply {
        self.finish_block();
        self.builder.into_reply(&ANTHROPIC)
    }
}
