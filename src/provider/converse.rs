//! The dialect of Amazon Bedrock's Converse API, which has the same format for every model of Bedrock.
//!
//! orch does not use the streaming operation, whose streams have a binary format instead of server-sent events.

mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::assembler::{Assembler, ReplySink};
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::stop_reasons;
use super::stream::EventKind;
use super::usage::{CONVERSE, UsageFields};
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;

/// A provider that speaks the Converse API.
pub(super) struct Converse {
    endpoint: Endpoint,
}

impl Converse {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The address and the body of a request.
    fn address_and_body(&self, request: &ChatRequest, limits: &RequestLimits) -> Result<(String, Value), Failure> {
        let base = client::base_url(&self.endpoint, &request.model.model)?;
        // The name may be an ARN, whose slashes and colons must be encoded.
        let model = client::model_path(&request.model.model, b"")?;
        Ok((format!("{base}/model/{model}/converse"), request::request_body(&self.endpoint, request, limits)?))
    }
}

impl Provider for Converse {
    fn dialect(&self) -> &'static str {
        "converse"
    }

    fn limits(&self) -> RequestLimits {
        let limits = RequestLimits::default();
        // The first byte arrives when the reply is complete.
        RequestLimits { first_byte_timeout: limits.total_timeout, ..limits }
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
            let builder = ReplyBuilder::for_request(request, body.get("outputConfig").is_some());
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url,
                key_header: ("authorization", "Bearer "),
                headers: &[],
                body,
                limits,
            };
            http::exchange(call, ConverseReply { builder }, sink).await
        }
        .boxed()
    }
}

/// The key of the current tool call. Each call arrives in one block, so one key is enough.
const CALL_KEY: &str = "call";

/// A Converse reply under construction.
#[derive(Default)]
pub(super) struct ConverseReply {
    builder: ReplyBuilder,
}

impl ConverseReply {
    fn read_block(&mut self, block: &Value, sink: ReplySink<'_>) {
        let text_at = |pointer: &str| block.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        self.builder.check_part_type(block);
        self.builder.check_text_type(block.get("text"));
        if let Some(text) = text_at("/text") {
            self.builder.push_text(text, sink);
        } else if let Some(name) = text_at("/toolUse/name") {
            if text_at("/toolUse/type") == Some("server_tool_use") {
                self.builder.record_tool_call(name);
                return;
            }
            self.builder.start_call(CALL_KEY, text_at("/toolUse/toolUseId"), name);
            if let Some(input) = block.pointer("/toolUse/input") {
                self.builder.set_arguments(CALL_KEY, input);
            }
        } else if block.get("toolUse").is_some_and(|call| !call.is_null()) {
            self.builder.contradictions.record_nameless_call("");
        } else if let Some(reasoning) = block.get("reasoningContent") {
            match text_at("/reasoningContent/reasoningText/text") {
                Some(reasoning) => self.builder.push_reasoning(reasoning, sink),
                None => self.builder.record_hidden_reasoning(),
            }
            // The API accepts reasoning in a request only if it is signed or encrypted.
            if text_at("/reasoningContent/reasoningText/signature").is_some()
                || reasoning.get("redactedContent").is_some_and(Value::is_string)
            {
                self.builder.blocks.push_opaque(Dialect::Converse, json!({"reasoningContent": reasoning}));
            }
        } else if let Some(kind) =
            block.as_object().and_then(|block| block.keys().next()).filter(|kind| *kind != "text")
        {
            self.builder.record_other_content(kind);
        }
    }
}

impl Assembler for ConverseReply {
    const USAGE_FIELDS: &'static UsageFields = &CONVERSE;

    fn read_event(&mut self, _: &Value, _: ReplySink<'_>) -> EventKind {
        EventKind::Unrecognized
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        let Some(content) = body.pointer("/output/message/content").and_then(Value::as_array) else {
            return false;
        };
        for block in content {
            self.read_block(block, sink);
        }
        self.builder.stop.record_reasons(stop_reasons::CONVERSE, body, "stopReason", false);
        self.read_usage(body);
        true
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn read_usage(&mut self, event: &Value) {
        self.builder.usage.merge_reports(event, "usage", &CONVERSE);
    }

    fn into_reply(self) -> ChatReply {
        self.builder.into_reply(&CONVERSE)
    }
}
