//! The dialect of Anthropic's Messages API.

mod blocks;
mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use self::blocks::ContentBlocks;
use super::assembler::{Assembler, ReplySink};
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::stop_reasons;
use super::stream::EventKind;
use super::usage::{ANTHROPIC, UsageFields};
use super::{Endpoint, Provider, RequestLimits, client};
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

/// The result for a second message in one stream.
const RESTARTED: EventKind = EventKind::Inconsistent("started a second message after content of the first one");

/// A Messages reply under construction.
#[derive(Default)]
pub(super) struct AnthropicReply {
    builder: ReplyBuilder,
    blocks: ContentBlocks,
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
        self.builder.stop.record_reasons(stop_reasons::ANTHROPIC, object, "stop_reason", false);
    }
}

impl Assembler for AnthropicReply {
    const USAGE_FIELDS: &'static UsageFields = &ANTHROPIC;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let part = |field: &str| event.get(field).unwrap_or(&Value::Null);
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") if !(self.blocks.is_empty() && self.builder.is_empty()) => return RESTARTED,
            Some("message_start") => {
                if let Some(message) = event.get("message") {
                    self.read_metadata(message);
                }
            }
            Some("content_block_start") => {
                return self.blocks.start(event, part("content_block"), &mut self.builder, sink);
            }
            Some("content_block_delta") => {
                return self.blocks.read_delta(event, part("delta"), &mut self.builder, sink);
            }
            Some("message_delta") => {
                if let Some(delta) = event.get("delta") {
                    self.record_stop(delta);
                }
                self.read_usage(event);
            }
            Some("message_stop") => return EventKind::End,
            Some("content_block_stop") => self.blocks.finish(event, &mut self.builder),
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
            self.blocks.start(&Value::Null, block, &mut self.builder, sink);
        }
        self.blocks.finish_all(&mut self.builder);
        self.read_metadata(body);
        true
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn read_usage(&mut self, event: &Value) {
        self.builder.usage.merge_reports(event, "usage", &ANTHROPIC);
    }

    fn into_reply(mut self) -> ChatReply {
        self.blocks.finish_all(&mut self.builder);
        self.builder.into_reply(&ANTHROPIC)
    }
}
