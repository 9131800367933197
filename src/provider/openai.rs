//! The dialect of `OpenAI`'s Chat Completions API, which most servers speak.

mod calls;
mod reasoning;
mod request;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use self::calls::{CallPieces, has_name};
use self::reasoning::{REASONING_FIELD, ReasoningDetails};
use super::assembler::{Assembler, ReplySink, has_lost_list, has_several_first, is_blank, is_first, list_in, text_in};
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::stop_reasons;
use super::stream::EventKind;
use super::usage::{OPENAI, UsageFields};
use super::{Dialect, Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest, StopReason};
use crate::model::failure::Failure;

/// A provider that speaks the Chat Completions API.
pub(super) struct OpenAi {
    endpoint: Endpoint,
}

impl OpenAi {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The address and the body of a request.
    fn address_and_body(&self, request: &ChatRequest, limits: &RequestLimits) -> Result<(String, Value), Failure> {
        let base = client::base_url(&self.endpoint, &request.model.model)?;
        Ok((format!("{base}/chat/completions"), request::request_body(&self.endpoint, request, limits)?))
    }
}

impl Provider for OpenAi {
    fn dialect(&self) -> &'static str {
        "openai"
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
            let builder = ReplyBuilder::for_request(request, body.get("response_format").is_some());
            let assembler = OpenAiReply { builder, ..OpenAiReply::default() };
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url,
                key_header: ("authorization", "Bearer "),
                headers: &[],
                body,
                limits,
            };
            http::exchange(call, assembler, sink).await
        }
        .boxed()
    }
}

/// The result for an event with the message so far, if the pieces before it are not its beginning.
const SNAPSHOT_MISMATCH: EventKind = EventKind::Inconsistent("sent a message that differs from the pieces before it");

/// The problem of an event or a body whose `choices` are no list.
const CHOICES_LOST: &str = "sent `choices` that are not a list, so a part of the reply is lost";
/// The problem of an event or a body with two choices that count as the first one.
const CHOICES_MIXED: &str = "sent two choices with the same index, which mixes the parts of two replies";
/// The problem of a message whose `tool_calls` are no list.
const CALLS_LOST: &str = "sent `tool_calls` that are not a list, so the calls are lost";

/// What is wrong with the choices of an event or a body.
fn problem_of_choices(value: &Value) -> Option<&'static str> {
    if has_lost_list(value, "choices") {
        Some(CHOICES_LOST)
    } else {
        has_several_first(value, "choices").then_some(CHOICES_MIXED)
    }
}

/// A Chat Completions reply under construction.
#[derive(Default)]
pub(super) struct OpenAiReply {
    builder: ReplyBuilder,
    reasoning_details: ReasoningDetails,
    calls: CallPieces,
}

impl OpenAiReply {
    /// Reads a response or a chunk; `message_field` is `message` or `delta`.
    fn read_chunk(&mut self, value: &Value, message_field: &str, sink: ReplySink<'_>) {
        let builder = &mut self.builder;
        for (name, target) in [("model", &mut builder.model), ("id", &mut builder.id)] {
            if target.is_none() {
                *target = text_in(value, name).map(str::to_owned);
            }
        }
        for choice in list_in(value, "choices").filter(|choice| is_first(choice)) {
            let message = choice.get(message_field).filter(|message| !message.is_null());
            // The older API for completions has its text in this field. Some servers send it besides the message.
            if message.is_none() && text_in(choice, "text").is_some() {
                self.builder.record_named_text_gap("`choices[].text`");
            }
            let is_whole = message_field == "message";
            let has_content = message.is_some_and(|message| self.read_message(message, is_whole, sink));
            self.builder.stop.record_reasons(stop_reasons::OPENAI, choice, "finish_reason", has_content);
        }
        self.read_usage(value);
    }

    /// Reads an event with the message so far. The message must begin with all pieces before it. Some servers repeat it
    /// without its text or its calls.
    fn read_snapshot(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let mut snapshot = Self::default();
        snapshot.read_chunk(event, "message", &|_| {});
        let (text, earlier_text) = (snapshot.builder.text(), self.builder.text());
        let following_text = if text.is_empty() { Some("") } else { text.strip_prefix(&earlier_text) };
        let has_new_calls = snapshot.builder.has_calls() && !self.builder.has_calls();
        let agrees_on_calls =
            has_new_calls || !snapshot.builder.has_calls() || self.builder.has_same_calls(&snapshot.builder);
        let Some(following_text) = following_text.filter(|_| agrees_on_calls && !snapshot.builder.has_text_gap())
        else {
            return SNAPSHOT_MISMATCH;
        };
        self.builder.contradictions.merge(&snapshot.builder.contradictions);
        self.builder.push_text(following_text, sink);
        self.builder.has_refusal |= snapshot.builder.has_refusal;
        if !snapshot.reasoning_details.is_empty() {
            self.reasoning_details = snapshot.reasoning_details;
        }
        let has_content = has_new_calls || !following_text.is_empty();
        for choice in list_in(event, "choices").filter(|choice| is_first(choice)) {
            if let Some(message) = choice.get("message").filter(|_| has_new_calls) {
                self.read_tool_calls(message, true);
            }
            self.builder.stop.record_reasons(stop_reasons::OPENAI, choice, "finish_reason", has_content);
        }
        self.read_usage(event);
        EventKind::Part
    }

    /// Reads a whole message or a delta of one; returns whether it has any content.
    fn read_message(&mut self, message: &Value, is_whole: bool, sink: ReplySink<'_>) -> bool {
        self.builder.check_part_type(message);
        let length_before = self.builder.text_len();
        let reasoning = text_in(message, "reasoning_content").or_else(|| text_in(message, "reasoning"));
        match reasoning {
            Some(reasoning) => self.builder.push_reasoning(reasoning, sink),
            None => list_in(message, REASONING_FIELD).for_each(|detail| self.read_reasoning(detail, sink)),
        }
        list_in(message, REASONING_FIELD).for_each(|detail| self.reasoning_details.push(detail));
        let has_reasoning = reasoning.is_some() || list_in(message, REASONING_FIELD).next().is_some();
        if let Some(refusal) = text_in(message, "refusal") {
            self.builder.has_refusal = true;
            self.builder.push_text(refusal, sink);
        }
        match message.get("content") {
            Some(Value::String(text)) => self.builder.push_text(text, sink),
            // Some servers send the parts of a message as a list.
            Some(Value::Array(parts)) => {
                for part in parts {
                    self.read_part(part, sink);
                }
            }
            other => self.builder.check_text_type(other),
        }
        let media = ["images", "audio"].map(|field| (field, message.get(field)));
        let is_present = |value: &Value| value.is_object() || is_filled_list(value);
        for (kind, _) in media.iter().filter(|(_, value)| value.is_some_and(is_present)) {
            self.builder.record_other_content(kind);
        }
        let has_tool_calls = self.read_tool_calls(message, is_whole);
        let has_parts = message.get("content").is_some_and(is_filled_list);
        has_reasoning || has_parts || self.builder.text_len() > length_before || has_tool_calls
    }

    /// Reads one element of a content list. Mistral writes reasoning as an element that contains a list of texts.
    fn read_part(&mut self, part: &Value, sink: ReplySink<'_>) {
        if let Some(text) = part.as_str().or_else(|| part.get("text").and_then(Value::as_str)) {
            return self.builder.push_text(text, sink);
        }
        self.builder.check_part_type(part);
        self.builder.check_text_type(part.get("text"));
        match part.get("type").and_then(Value::as_str) {
            Some("thinking") if part.get("thinking").is_some_and(Value::is_array) => {
                list_in(part, "thinking").for_each(|thought| self.read_reasoning(thought, sink));
            }
            Some("thinking") => self.read_reasoning(part, sink),
            // A part of a text whose text is in a field that no API has.
            Some("text" | "output_text") | None if text_in(part, "content").is_some() => {
                self.builder.record_text_gap(part);
            }
            Some("text" | "output_text") | None => {}
            Some(kind) => self.builder.record_other_content(kind),
        }
    }

    /// Reads a piece of reasoning from an object: text, a summary (`OpenRouter`), or data that orch can't read.
    fn read_reasoning(&mut self, detail: &Value, sink: ReplySink<'_>) {
        let texts = ["text", "summary", "thinking"].iter().filter_map(|field| detail.get(*field)?.as_str());
        match texts.into_iter().find(|text| !text.is_empty()) {
            Some(text) => self.builder.push_reasoning(text, sink),
            None if detail.get("data").is_some() => self.builder.record_hidden_reasoning(),
            None => {}
        }
    }

    /// Reads tool calls, or pieces of them; returns whether there are any. In a whole message, each call must have a name.
    fn read_tool_calls(&mut self, message: &Value, is_whole: bool) -> bool {
        if has_lost_list(message, "tool_calls") {
            self.builder.contradictions.record(CALLS_LOST);
        }
        let mut has_calls = false;
        let function_call = message.get("function_call").filter(|call| !is_blank(call));
        for call in list_in(message, "tool_calls").chain(function_call) {
            if !call.is_object() || is_whole && !has_name(call) {
                self.builder.contradictions.record_nameless_call("");
            } else {
                has_calls |= self.calls.read(call, &mut self.builder);
            }
        }
        has_calls
    }
}

fn is_filled_list(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty())
}

impl Assembler for OpenAiReply {
    const USAGE_FIELDS: &'static UsageFields = &OPENAI;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        if let Some(problem) = problem_of_choices(event) {
            return EventKind::Inconsistent(problem);
        }
        let is_chunk =
            event.get("choices").is_some_and(Value::is_array) || event.get("usage").is_some_and(Value::is_object);
        if !is_chunk {
            return EventKind::Unrecognized;
        }
        // Some servers send the whole message in one event, or the message so far in each event.
        let first = list_in(event, "choices").find(|choice| is_first(choice));
        let has_object = |field: &str| first.and_then(|choice| choice.get(field)).is_some_and(Value::is_object);
        match (has_object("message") && !has_object("delta"), self.builder.is_empty()) {
            (true, false) => return self.read_snapshot(event, sink),
            (true, true) => self.read_chunk(event, "message", sink),
            (false, _) => self.read_chunk(event, "delta", sink),
        }
        EventKind::Part
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        if let Some(problem) = problem_of_choices(body) {
            self.builder.contradictions.record(problem);
        }
        self.read_chunk(body, "message", sink);
        body.get("choices").is_some_and(Value::is_array)
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn is_complete_at_done(&self) -> bool {
        true
    }

    fn is_complete_at_stream_end(&self) -> bool {
        self.builder.stop.first_reason_ends_content()
    }

    fn is_complete_unstreamed(&self) -> bool {
        true
    }

    fn read_usage(&mut self, event: &Value) {
        let usage = &mut self.builder.usage;
        usage.merge_reports(event, "timings", &OPENAI);
        usage.merge_report(Some(event), &OPENAI);
        let containers = event.get("x_groq").into_iter().chain(list_in(event, "choices")).chain([event]);
        containers.for_each(|container| usage.merge_reports(container, "usage", &OPENAI));
    }

    fn into_reply(mut self) -> ChatReply {
        if let Some(data) = self.reasoning_details.into_data() {
            self.builder.blocks.prepend_opaque(Dialect::OpenAi, data);
        }
        let has_refusal = self.builder.has_refusal;
        let reply = self.builder.into_reply(&OPENAI);
        if has_refusal { ChatReply { stop: StopReason::Refusal, ..reply } } else { reply }
    }
}
