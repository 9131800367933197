//! Reads the events and the body of a response.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::calls::{CallOfEvent, FunctionCalls, complete_arguments};
use super::reasoning::ReasoningItems;
use super::text::ReceivedText;
use crate::model::chat::{ChatReply, StopReason};
use crate::model::usage::parse_token_count;
use crate::provider::Dialect;
use crate::provider::assembler::{Assembler, ReplySink, index_in, is_blank, list_in, text_in};
use crate::provider::reply_builder::ReplyBuilder;
use crate::provider::stream::EventKind;
use crate::provider::usage::{OPENAI, UsageFields};

/// A Responses reply under construction.
#[derive(Default)]
pub(in crate::provider) struct ResponsesReply {
    pub(super) builder: ReplyBuilder,
    pub(super) text: ReceivedText,
    pub(super) calls: FunctionCalls,
    pub(super) reasoning: ReasoningItems,
    /// The kinds of the output items in the events so far.
    pub(super) seen_kinds: HashSet<String>,
    /// Whether a message or a function call is incomplete.
    pub(super) has_incomplete_item: bool,
    /// The maximum number of output tokens, if the server may report a reply as completed that this limit cut off.
    unreported_limit: Option<u32>,
}

/// The statuses of a response that ended before it was complete.
const INCOMPLETE_STATUSES: [&str; 3] = ["incomplete", "failed", "cancelled"];

/// The result for an event whose complete text differs from the pieces of it.
pub(super) const TEXT_MISMATCH: EventKind =
    EventKind::Inconsistent("sent a text that differs from the pieces before it");

/// The result for arguments if several calls have started.
const AMBIGUOUS_ARGUMENTS: EventKind = EventKind::Inconsistent("sent arguments without the id of their tool call");

/// The status of a response; `None` if it has none. A value that is not text becomes a status that no table lists.
fn response_status(response: &Value) -> Option<String> {
    match response.get("status")? {
        Value::Null => None,
        Value::String(status) => Some(status.clone()).filter(|status| !status.is_empty()),
        other => Some(other.to_string()),
    }
}

/// The text of a message item: its answers and refusals. Some servers write the text itself in the place of its parts.
pub(super) fn message_text(item: &Value) -> String {
    if let Some(text) = text_in(item, "content") {
        return text.to_owned();
    }
    let part_text = |part| match text_in(part, "type")? {
        "refusal" => text_in(part, "refusal"),
        "output_text" | "text" => text_in(part, "text"),
        _ => None,
    };
    list_in(item, "content").filter_map(part_text).collect()
}

/// The key of an output item of this kind: its position, or its id if the server sends no positions.
fn item_key(kind: &str, event: &Value) -> String {
    let index = index_in(event, "output_index").map(|index| index.to_string());
    let id = event.get("item").and_then(|item| text_in(item, "id")).or_else(|| text_in(event, "item_id"));
    format!("{kind} {}", index.or_else(|| id.map(str::to_owned)).unwrap_or_default())
}

impl ResponsesReply {
    /// An empty reply. `unreported_limit` is the maximum number of output tokens, if the server may report a reply as
    /// completed that this limit cut off.
    pub(super) fn new(builder: ReplyBuilder, unreported_limit: Option<u32>) -> Self {
        Self { builder, unreported_limit, ..Self::default() }
    }

    /// Reads an event of a kind, which is its `type`.
    fn read_event_of_kind(&mut self, kind: &str, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let delta = text_in(event, "delta").unwrap_or_default();
        match kind {
            "response.output_text.delta" => {
                self.builder.check_text_type(event.get("delta"));
                self.push_text(delta, sink);
            }
            "response.refusal.delta" => {
                self.builder.has_refusal = true;
                self.push_text(delta, sink);
            }
            "response.output_text.done" => {
                self.builder.check_text_type(event.get("text"));
                return self.finish_part(text_in(event, "text"), sink);
            }
            "response.refusal.done" => {
                self.builder.has_refusal = true;
                return self.finish_part(text_in(event, "refusal"), sink);
            }
            "response.content_part.added" | "response.content_part.done" => {
                // The text of the part arrives in other events, but perhaps not that it is a refusal.
                let kind = event.get("part").and_then(|part| text_in(part, "type"));
                self.builder.has_refusal |= kind == Some("refusal");
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.reasoning.push_text(delta, &mut self.builder, sink);
            }
            "response.function_call_arguments.delta" => {
                self.builder.check_arguments_piece(event.get("delta"));
                match self.calls.call_of_event(event) {
                    CallOfEvent::Call(key) => self.builder.push_arguments(&key, delta),
                    CallOfEvent::Ambiguous => return AMBIGUOUS_ARGUMENTS,
                    CallOfEvent::NotStarted => {}
                }
            }
            "response.function_call_arguments.done" => {
                self.builder.check_arguments_type(event.get("arguments"));
                match (self.calls.call_of_event(event), complete_arguments(event)) {
                    (CallOfEvent::Call(key), Some(arguments)) => self.builder.set_arguments(&key, arguments),
                    (CallOfEvent::Ambiguous, Some(_)) => return AMBIGUOUS_ARGUMENTS,
                    (_, None) | (CallOfEvent::NotStarted, Some(_)) => {}
                }
            }
            "response.output_item.added" => self.start_item(event),
            "response.output_item.done" => return self.finish_item(event, sink),
            "response.created" | "response.in_progress" => {
                self.read_metadata(event.get("response").unwrap_or(&Value::Null));
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = event.get("response").unwrap_or(&Value::Null);
                // Some servers send `response.completed` for an incomplete response.
                let status = response_status(response)
                    .filter(|status| kind == "response.completed" || INCOMPLETE_STATUSES.contains(&status.as_str()));
                let status = status.as_deref().unwrap_or(kind.strip_prefix("response.").unwrap_or(kind));
                return self.finish_response(response, status, sink);
            }
            // Other events repeat parts of an item, or report the progress of the server's own tools.
            kind if kind.starts_with("response.") => {}
            "keepalive" | "ping" => return EventKind::KeepAlive,
            _ => return EventKind::Unrecognized,
        }
        EventKind::Part
    }

    /// Reads the id and the model of a response.
    pub(super) fn read_metadata(&mut self, response: &Value) {
        self.builder.id = self.builder.id.take().or_else(|| text_in(response, "id").map(str::to_owned));
        self.builder.model = self.builder.model.take().or_else(|| text_in(response, "model").map(str::to_owned));
    }

    pub(super) fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        self.record_kind("message");
        self.text.push(text);
        self.builder.push_text(text, sink);
    }

    fn record_kind(&mut self, kind: &str) {
        if !self.seen_kinds.contains(kind) {
            self.seen_kinds.insert(kind.to_owned());
        }
    }

    /// Reads the complete text of a part of a message.
    fn finish_part(&mut self, full_text: Option<&str>, sink: ReplySink<'_>) -> EventKind {
        let full_text = full_text.unwrap_or_default();
        let Some(missing) = self.text.missing_in_part(full_text).map(str::to_owned) else { return TEXT_MISMATCH };
        self.push_text(&missing, sink);
        self.text.confirm_part(full_text.len());
        EventKind::Part
    }

    /// Reads the start of an output item.
    pub(super) fn start_item(&mut self, event: &Value) {
        let item = event.get("item").unwrap_or(&Value::Null);
        let kind = text_in(item, "type").unwrap_or_default();
        self.record_kind(kind);
        match kind {
            "function_call" => {
                self.calls.start(event, item, &mut self.builder);
            }
            // orch sends items back in the order of their starts, but some servers complete them only at the end.
            "reasoning" => {
                self.reasoning.start(&item_key(kind, event), item, &mut self.builder);
            }
            "message" => self.builder.blocks.reserve(&item_key(kind, event)),
            _ => {}
        }
    }

    /// Reads a complete output item.
    pub(super) fn finish_item(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let item = event.get("item").unwrap_or(&Value::Null);
        let kind = text_in(item, "type").unwrap_or_default();
        self.builder.check_part_type(item);
        self.record_kind(kind);
        self.check_item_status(item);
        match kind {
            "message" => return self.finish_message(&item_key(kind, event), item, sink),
            "function_call" => self.has_incomplete_item |= !self.calls.finish(event, item, &mut self.builder),
            "reasoning" => self.reasoning.finish(&item_key(kind, event), item, &mut self.builder, sink),
            // The server runs these tools itself.
            kind if kind.ends_with("_call") => {
                let name = text_in(item, "name").or_else(|| kind.strip_suffix("_call"));
                self.builder.record_tool_call(name.unwrap_or(kind));
            }
            kind => self.builder.record_other_content(kind),
        }
        EventKind::Part
    }

    /// Reads a complete message: appends the text that did not arrive in pieces.
    fn finish_message(&mut self, key: &str, item: &Value, sink: ReplySink<'_>) -> EventKind {
        self.check_parts(item);
        let full_text = message_text(item);
        let Some(missing) = self.text.missing_in_item(&full_text).map(str::to_owned) else { return TEXT_MISMATCH };
        self.push_text(&missing, sink);
        self.text.confirm_item(full_text.len());
        self.keep_phase(key, item);
        EventKind::Part
    }

    /// Records what the parts of a complete message contain besides text: a refusal, other content, or a value in the
    /// place of a text.
    pub(super) fn check_parts(&mut self, item: &Value) {
        self.builder.check_text_type(item.get("content").filter(|content| !content.is_array()));
        for part in list_in(item, "content") {
            self.builder.check_part_type(part);
            match text_in(part, "type").unwrap_or_default() {
                "refusal" => self.builder.has_refusal = true,
                "output_text" | "text" => self.builder.check_text_type(part.get("text")),
                kind => self.builder.record_other_content(kind),
            }
        }
    }

    /// Keeps the phase of a message, which distinguishes commentary from the answer. Replies get worse if orch does not
    /// send it back. Returns false if no position is reserved under the key.
    pub(super) fn keep_phase(&mut self, key: &str, item: &Value) -> bool {
        let phase = text_in(item, "phase").map(|phase| json!({"type": "message", "phase": phase}));
        phase.is_some_and(|data| self.builder.blocks.fill_opaque(key, Dialect::Responses, data))
    }

    /// Whether a response used as many tokens as the request allows. llama.cpp reports such a response as completed
    /// even if the limit cut it off.
    pub(super) fn has_reached_limit(&self, response: &Value) -> bool {
        let output = response.pointer("/usage/output_tokens").and_then(parse_token_count);
        self.unreported_limit.zip(output).is_some_and(|(limit, output)| output >= u64::from(limit))
    }

    /// Records whether a finished item has another status than `completed`, such as `incomplete` or `in_progress`.
    pub(super) fn check_item_status(&mut self, item: &Value) {
        let can_be_cut_off = matches!(text_in(item, "type"), Some("message" | "function_call"));
        let status = item.get("status").filter(|status| !is_blank(status));
        self.has_incomplete_item |= can_be_cut_off && status.is_some_and(|status| *status != "completed");
    }
}

impl Assembler for ResponsesReply {
    const USAGE_FIELDS: &'static UsageFields = &OPENAI;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let kind = text_in(event, "type").unwrap_or_default();
        let result = self.read_event_of_kind(kind, event, sink);
        // Some servers report the usage, or a part of it, before the response ends.
        if kind.starts_with("response.") {
            self.read_usage(event);
        }
        result
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        if !body.get("output").is_some_and(Value::is_array) {
            return false;
        }
        // A response that has not ended, or has no status, may be incomplete.
        let status = response_status(body).filter(|status| !matches!(status.as_str(), "in_progress" | "queued"));
        self.finish_response(body, status.as_deref().unwrap_or_default(), sink) == EventKind::End
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn read_usage(&mut self, event: &Value) {
        for container in [Some(event), event.get("response")].into_iter().flatten() {
            self.builder.usage.merge_reports(container, "usage", &OPENAI);
        }
    }

    fn into_reply(self) -> ChatReply {
        let (has_calls, has_refusal) = (!self.calls.is_empty(), self.builder.has_refusal);
        let reply = self.builder.into_reply(&OPENAI);
        let stop = match reply.stop {
            StopReason::End if has_refusal => StopReason::Refusal,
            // The API has no stop reason for calls: a response with calls is complete.
            StopReason::End if has_calls => StopReason::ToolUse,
            stop => stop,
        };
        ChatReply { stop, ..reply }
    }
}
