//! The dialect of Amazon Bedrock's Converse API, which gives every model of Bedrock one format.
//!
//! orch uses the operation without a stream: the stream of Bedrock is binary, not made of server-sent events.

mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::draft::Draft;
use super::http::{self, Assembler, HttpCall, ReplySink};
use super::stop_reasons;
use super::stream::StreamItem;
use super::usage::CONVERSE;
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;
use crate::model::usage::ReportedUsage;

/// A provider that speaks the Converse API.
pub(super) struct Converse {
    endpoint: Endpoint,
}

impl Converse {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
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

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: ReplySink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            let base = client::base_url(&self.endpoint, &request.model.model);
            // The name may be an ARN, whose slashes and colons belong to the name.
            let model = client::percent_encode(&request.model.model, b"");
            let body = request::request_body(&self.endpoint, request, limits)?;
            let draft = Draft::new(body.get("outputConfig").is_some());
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url: format!("{base}/model/{model}/converse"),
                key_header: ("authorization", "Bearer "),
                headers: &[],
                body,
                limits,
            };
            http::exchange(call, ConverseReply { draft }, sink).await
        }
        .boxed()
    }
}

/// The key of a tool call, which always arrives whole.
const OPEN_CALL: &str = "open";

/// A Converse reply under construction.
#[derive(Default)]
pub(super) struct ConverseReply {
    draft: Draft,
}

impl ConverseReply {
    fn read_block(&mut self, block: &Value, sink: ReplySink<'_>) {
        let text = |pointer: &str| block.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(text) = text("/text") {
            self.draft.push_text(text, sink);
        } else if let Some(name) = text("/toolUse/name") {
            if text("/toolUse/type") == Some("server_tool_use") {
                self.draft.record_tool_call(name);
                return;
            }
            self.draft.start_call(OPEN_CALL, text("/toolUse/toolUseId"), name);
            if let Some(input) = block.pointer("/toolUse/input") {
                self.draft.set_arguments(OPEN_CALL, input);
            }
        } else if let Some(reasoning) = block.get("reasoningContent") {
            match text("/reasoningContent/reasoningText/text") {
                Some(reasoning) => self.draft.push_reasoning(reasoning, sink),
                None => self.draft.record_hidden_reasoning(),
            }
            // Reasoning without a signature can't go back.
            if text("/reasoningContent/reasoningText/signature").is_some()
                || reasoning.get("redactedContent").is_some_and(Value::is_string)
            {
                self.draft.push_opaque(Dialect::Converse, json!({"reasoningContent": reasoning}));
            }
        } else if let Some(kind) =
            block.as_object().and_then(|block| block.keys().next()).filter(|kind| *kind != "text")
        {
            self.draft.record_other_content(kind);
        }
    }
}

impl Assembler for ConverseReply {
    fn read_event(&mut self, _: &Value, _: ReplySink<'_>) -> StreamItem {
        StreamItem::Foreign
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        let Some(content) = body.pointer("/output/message/content").and_then(Value::as_array) else {
            return false;
        };
        for block in content {
            self.read_block(block, sink);
        }
        self.draft.stop.record_chunk(stop_reasons::CONVERSE, body.get("stopReason"), false);
        self.read_usage(body);
        true
    }

    fn draft(&self) -> &Draft {
        &self.draft
    }

    fn is_complete_at_done(&self) -> bool {
        false
    }

    fn is_complete_at_stream_end(&self) -> bool {
        false
    }

    fn is_complete_unstreamed(&self) -> bool {
        // A complete reply always has a stop reason.
        self.draft.stop.last_reason_ends_content()
    }

    fn read_usage(&mut self, event: &Value) {
        self.draft.usage.merge_report(event.get("usage"), &CONVERSE);
    }

    fn has_final_usage(&self) -> bool {
        self.draft.usage.is_up_to_date(&CONVERSE)
    }

    fn usage(&self) -> ReportedUsage {
        self.draft.usage.partial_usage(&CONVERSE)
    }

    fn into_reply(self) -> ChatReply {
        self.draft.into_reply(&CONVERSE)
    }
}
