//! The dialect of Anthropic's Messages API.

mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::draft::Draft;
use super::http::{self, Assembler, HttpCall, ReplySink};
use super::stop_reasons;
use super::stream::StreamItem;
use super::usage::ANTHROPIC;
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;
use crate::model::usage::ReportedUsage;

/// A provider that speaks the Messages API.
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
        limits: &'a RequestLimits,
        sink: ReplySink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            let base = client::base_url(&self.endpoint, &request.model.model);
            let base = base.strip_suffix("/v1").unwrap_or(&base);
            let body = request::request_body(&self.endpoint, request, limits)?;
            let draft = Draft::new(body.get("output_config").is_some());
            let assembler = AnthropicReply { draft, ..AnthropicReply::default() };
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url: format!("{base}/v1/messages"),
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
    draft: Draft,
    /// The reasoning block that is arriving: its text and its signature.
    thinking: Option<(String, String)>,
    /// Whether the block that is arriving is a call of a tool of ours.
    is_call_open: bool,
}

/// The key of a tool call: the server numbers blocks, and only one is open at a time.
const OPEN_CALL: &str = "open";

impl AnthropicReply {
    /// Reads the id, the model, the usage and the stop reason of a message.
    fn read_head(&mut self, message: &Value) {
        let text = |field: &str| message.get(field).and_then(Value::as_str).map(str::to_owned);
        self.draft.id = text("id");
        self.draft.model = text("model");
        self.read_usage(message);
        self.record_stop(message);
    }

    /// Records the stop reason of a message or of a `message_delta`.
    fn record_stop(&mut self, object: &Value) {
        let reason = object.get("stop_reason");
        self.draft.stop.record_chunk(stop_reasons::ANTHROPIC, reason, false);
    }

    /// Reads a content block or a delta of one.
    fn read_block(&mut self, block: Option<&Value>, sink: ReplySink<'_>) {
        let text = |field: &str| block.and_then(|block| block.get(field)?.as_str()).filter(|text| !text.is_empty());
        let kind = text("type").unwrap_or_default();
        if kind == "thinking" {
            self.finish_block();
            self.thinking = Some((String::new(), String::new()));
        }
        if let Some((thinking, signature)) = &mut self.thinking {
            thinking.push_str(text("thinking").unwrap_or_default());
            signature.push_str(text("signature").unwrap_or_default());
        }
        if let Some(thinking) = text("thinking") {
            self.draft.push_reasoning(thinking, sink);
        }
        if let Some(text) = text("text") {
            self.draft.push_text(text, sink);
        }
        match (kind, text("name")) {
            ("tool_use", Some(name)) => {
                self.is_call_open = true;
                self.draft.start_call(OPEN_CALL, text("id"), name);
                let input = block.and_then(|block| block.get("input"));
                if let Some(input) = input.filter(|input| input.as_object().is_some_and(|input| !input.is_empty())) {
                    self.draft.set_arguments(OPEN_CALL, input);
                }
            }
            ("server_tool_use" | "mcp_tool_use", Some(name)) => self.draft.record_tool_call(name),
            ("input_json_delta", _) if self.is_call_open => {
                self.draft.push_arguments(OPEN_CALL, text("partial_json").unwrap_or_default());
            }
            _ => {}
        }
        let is_other_content = match kind {
            "redacted_thinking" => {
                self.draft.record_hidden_reasoning();
                if let Some(block) = block.filter(|block| block.get("data").is_some_and(Value::is_string)) {
                    self.draft.push_opaque(Dialect::Anthropic, block.clone());
                }
                true
            }
            "" | "text" | "thinking" => false,
            kind if kind.ends_with("tool_use") || kind.ends_with("_delta") => false,
            kind => {
                self.draft.record_other_content(kind);
                true
            }
        };
        let has_content =
            is_other_content || ["thinking", "text", "name", "partial_json"].iter().any(|field| text(field).is_some());
        self.draft.stop.record_chunk(stop_reasons::ANTHROPIC, None, has_content);
    }

    /// Ends the block that is arriving. Reasoning goes back to the API only with its signature.
    fn finish_block(&mut self) {
        self.is_call_open = false;
        if let Some((thinking, signature)) = self.thinking.take().filter(|(_, signature)| !signature.is_empty()) {
            let block = json!({"type": "thinking", "thinking": thinking, "signature": signature});
            self.draft.push_opaque(Dialect::Anthropic, block);
        }
    }
}

impl Assembler for AnthropicReply {
    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> StreamItem {
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => {
                if let Some(message) = event.get("message") {
                    self.read_head(message);
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
            Some("message_stop") => return StreamItem::End,
            Some("content_block_stop") => self.finish_block(),
            // A `ping` only keeps the connection alive; event types that orch does not know are foreign.
            Some("ping") => return StreamItem::Ignored,
            _ => return StreamItem::Foreign,
        }
        StreamItem::Part
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        let Some(content) = body.get("content").and_then(Value::as_array) else {
            return false;
        };
        for block in content {
            self.read_block(Some(block), sink);
            self.finish_block();
        }
        self.read_head(body);
        true
    }

    fn draft(&self) -> &Draft {
        &self.draft
    }

    fn is_complete_at_done(&self) -> bool {
        // The dialect has its own end event, `message_stop`.
        false
    }

    fn is_complete_at_stream_end(&self) -> bool {
        false
    }

    fn is_complete_unstreamed(&self) -> bool {
        // A complete message always has a stop reason.
        self.draft.stop.last_reason_ends_content()
    }

    fn read_usage(&mut self, event: &Value) {
        self.draft.usage.merge_report(event.get("usage"), &ANTHROPIC);
    }

    fn has_final_usage(&self) -> bool {
        self.draft.usage.is_up_to_date(&ANTHROPIC)
    }

    fn usage(&self) -> ReportedUsage {
        self.draft.usage.partial_usage(&ANTHROPIC)
    }

    fn into_reply(mut self) -> ChatReply {
        self.finish_block();
        self.draft.into_reply(&ANTHROPIC)
    }
}
