//! The dialect of Google's Gemini API.

mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::assembler::{Assembler, ReplySink, has_lost_list, has_several_first, is_first, list_in, text_in};
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::stop_reasons;
use super::stream::EventKind;
use super::usage::{GEMINI, UsageFields};
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;

/// A provider that speaks the Gemini API.
pub(super) struct Gemini {
    endpoint: Endpoint,
}

impl Gemini {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The address and the body of a request.
    fn address_and_body(&self, request: &ChatRequest, limits: &RequestLimits) -> Result<(String, Value), Failure> {
        let base = client::base_url(&self.endpoint, &request.model.model)?;
        let base = base.strip_suffix("/v1beta").unwrap_or(&base);
        let model = client::model_path(request.model.model.trim_start_matches("models/"), b"/@")?;
        let url = format!("{base}/v1beta/models/{model}:streamGenerateContent?alt=sse");
        Ok((url, request::request_body(&self.endpoint, request, limits)?))
    }
}

impl Provider for Gemini {
    fn dialect(&self) -> &'static str {
        "gemini"
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
            let constrained = body.pointer("/generationConfig/responseJsonSchema").is_some();
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url,
                key_header: ("x-goog-api-key", ""),
                headers: &[],
                body,
                limits,
            };
            http::exchange(call, GeminiReply { builder: ReplyBuilder::for_request(request, constrained) }, sink).await
        }
        .boxed()
    }
}

/// The key of the current tool call. Each call arrives in one part, so one key is enough.
const CALL_KEY: &str = "call";

/// A Gemini reply under construction.
#[derive(Default)]
pub(super) struct GeminiReply {
    builder: ReplyBuilder,
}

impl GeminiReply {
    fn read_chunk(&mut self, chunk: &Value, sink: ReplySink<'_>) {
        let text_field = |name: &str| chunk.get(name).and_then(Value::as_str).map(str::to_owned);
        self.builder.model = self.builder.model.take().or_else(|| text_field("modelVersion"));
        self.builder.id = self.builder.id.take().or_else(|| text_field("responseId"));
        if let Some(reason) = chunk.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
            self.builder.stop.record_refusal(reason);
        }
        let Some(candidate) = list_in(chunk, "candidates").find(|candidate| is_first(candidate)) else {
            return;
        };
        let mut has_content = false;
        match candidate.pointer("/content/parts") {
            None | Some(Value::Null) => {}
            Some(Value::Array(parts)) => {
                for part in parts {
                    has_content |= self.read_part(part, sink);
                }
            }
            Some(other) => self.builder.record_text_gap(other),
        }
        if let Some(message) = text_in(candidate, "finishMessage") {
            self.builder.stop_message = Some(message.to_owned());
        }
        self.builder.stop.record_reasons(stop_reasons::GEMINI, candidate, "finishReason", has_content);
    }

    /// Reads a part; returns whether it has any content.
    fn read_part(&mut self, part: &Value, sink: ReplySink<'_>) -> bool {
        self.builder.check_part_type(part);
        let signature = part.get("thoughtSignature").filter(|signature| signature.is_string());
        if let Some(call) = part.get("functionCall").filter(|call| !call.is_null()) {
            let Some(name) = text_in(call, "name") else {
                self.builder.contradictions.record_nameless_call("");
                return true;
            };
            self.builder.start_call(CALL_KEY, text_in(call, "id"), name);
            if let Some(arguments) = call.get("args") {
                self.builder.set_arguments(CALL_KEY, arguments);
            }
            self.push_signature(signature, false);
            return true;
        }
        let is_thought = part.get("thought").and_then(Value::as_bool) == Some(true);
        let Some(text) = part.get("text").and_then(Value::as_str).filter(|text| !text.is_empty()) else {
            let kinds = ["executableCode", "codeExecutionResult", "inlineData", "fileData", "functionResponse"];
            let kind = kinds.into_iter().find(|kind| part.get(*kind).is_some_and(Value::is_object));
            if let Some(kind) = kind {
                self.builder.record_other_content(kind);
            }
            self.builder.check_text_type(part.get("text"));
            // A signature may arrive in a part without text. orch then sends it back in a separate part.
            self.push_signature(signature.filter(|_| kind.is_none() && !is_thought), true);
            return kind.is_some();
        };
        match signature {
            _ if is_thought => self.builder.push_reasoning(text, sink),
            Some(_) => {
                self.builder.push_separate_text(text, sink);
                self.push_signature(signature, false);
            }
            None => self.builder.push_text(text, sink),
        }
        true
    }

    /// Appends the signature of a part. The API requires that orch sends it back with the same part: the block before
    /// it, or a separate part without text.
    fn push_signature(&mut self, signature: Option<&Value>, is_separate_part: bool) {
        if let Some(signature) = signature {
            let mut data = Map::from_iter([("thoughtSignature".to_owned(), signature.clone())]);
            if is_separate_part {
                data.insert("text".to_owned(), json!(""));
            }
            self.builder.blocks.push_opaque(Dialect::Gemini, Value::Object(data));
        }
    }
}

/// What is wrong with the candidates of a chunk.
fn problem_of_candidates(chunk: &Value) -> Option<&'static str> {
    if has_lost_list(chunk, "candidates") {
        Some("sent `candidates` that are not a list, so a part of the reply is lost")
    } else if has_several_first(chunk, "candidates") {
        Some("sent two candidates with the same index, which mixes the parts of two replies")
    } else {
        None
    }
}

/// Whether a value is a chunk of a reply.
fn is_chunk(value: &Value) -> bool {
    ["candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"]
        .iter()
        .any(|key| value.get(*key).is_some())
}

impl Assembler for GeminiReply {
    const USAGE_FIELDS: &'static UsageFields = &GEMINI;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        if !is_chunk(event) {
            return EventKind::Unrecognized;
        }
        if let Some(problem) = problem_of_candidates(event) {
            return EventKind::Inconsistent(problem);
        }
        self.read_chunk(event, sink);
        self.read_usage(event);
        // The stream has no end event: the server closes the connection.
        EventKind::Part
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        // Without `alt=sse` the API returns a list of chunks.
        let chunks = body.as_array().map_or(std::slice::from_ref(body), Vec::as_slice);
        for chunk in chunks {
            if let Some(problem) = problem_of_candidates(chunk) {
                self.builder.contradictions.record(problem);
            }
            self.read_chunk(chunk, sink);
            self.read_usage(chunk);
        }
        chunks.iter().any(is_chunk)
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn is_complete_at_done(&self) -> bool {
        // `[DONE]` is not part of the dialect, but gateways send it at the end of a stream.
        self.is_complete_at_stream_end()
    }

    fn is_complete_at_stream_end(&self) -> bool {
        self.builder.stop.last_reason_ends_content()
    }

    fn read_usage(&mut self, event: &Value) {
        self.builder.usage.merge_reports(event, "usageMetadata", &GEMINI);
    }

    fn into_reply(self) -> ChatReply {
        self.builder.into_reply(&GEMINI)
    }
}
