//! Reads the events and the body of a response.

use serde_json::{Value, json};

use super::text::ReceivedText;
use crate::model::chat::{ChatReply, StopReason};
use crate::model::usage::parse_token_count;
use crate::provider::Dialect;
use crate::provider::assembler::{Assembler, ReplySink, list_in, text_in};
use crate::provider::reply_builder::ReplyBuilder;
use crate::provider::stop_reasons;
use crate::provider::stream::EventKind;
use crate::provider::usage::{OPENAI, UsageFields};

/// A Responses reply under construction.
#[derive(Default)]
pub(in crate::provider) struct ResponsesReply {
    builder: ReplyBuilder,
    text: ReceivedText,
    calls: Vec<FunctionCallIds>,
    /// The kinds of the output items in the events so far.
    seen_kinds: Vec<String>,
    /// Whether the server marked a message or a function call as incomplete.
    has_incomplete_item: bool,
    /// Whether text of the current reasoning item has arrived.
    has_reasoning_text: bool,
    /// The maximum number of output tokens, if the server may report a reply as completed that this limit cut off.
    unreported_limit: Option<u32>,
}

/// The ids with which later events refer to a function call. Servers leave out some of them.
struct FunctionCallIds {
    call_id: Option<String>,
    item_id: Option<String>,
    output_index: Option<u64>,
}

/// The statuses of a response that ended before it was complete.
const INCOMPLETE_STATUSES: [&str; 3] = ["incomplete", "failed", "cancelled"];

/// The result for an event whose complete text differs from the pieces of it.
const TEXT_MISMATCH: EventKind = EventKind::Inconsistent("sent a text that differs from the pieces before it");

/// The status of a response; `None` if it has none. A value that is not text becomes a status that no table lists.
fn response_status(response: &Value) -> Option<String> {
    match response.get("status")? {
        Value::Null => None,
        Value::String(status) => Some(status.clone()).filter(|status| !status.is_empty()),
        other => Some(other.to_string()),
    }
}

/// The text of a message item: its answers and refusals.
fn message_text(item: &Value) -> String {
    let part_text = |part| match text_in(part, "type")? {
        "refusal" => text_in(part, "refusal"),
        "output_text" | "text" => text_in(part, "text"),
        _ => None,
    };
    list_in(item, "content").filter_map(part_text).collect()
}

/// The complete arguments in a function call or an event: a text, or the object itself from some servers.
fn complete_arguments(object: &Value) -> Option<&Value> {
    object.get("arguments").filter(|value| value.is_object() || value.as_str().is_some_and(|text| !text.is_empty()))
}

/// The key of an output item: its position, or its id if the server sends no positions.
fn item_key(event: &Value) -> String {
    let index = event.get("output_index").and_then(Value::as_u64).map(|index| index.to_string());
    let id = event.get("item").and_then(|item| text_in(item, "id")).or_else(|| text_in(event, "item_id"));
    index.or_else(|| id.map(str::to_owned)).unwrap_or_default()
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
            "response.output_text.done" => return self.finish_part(text_in(event, "text"), sink),
            "response.refusal.done" => {
                self.builder.has_refusal = true;
                return self.finish_part(text_in(event, "refusal"), sink);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.has_reasoning_text |= !delta.is_empty();
                self.builder.push_reasoning(delta, sink);
            }
            "response.function_call_arguments.delta" => {
                self.builder.check_arguments_piece(event.get("delta"));
                if let Some(key) = self.call_of_event(event) {
                    self.builder.push_arguments(&key, delta);
                }
            }
            "response.function_call_arguments.done" => {
                if let Some((key, arguments)) = self.call_of_event(event).zip(complete_arguments(event)) {
                    self.builder.set_arguments(&key, arguments);
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
                return if self.finish_response(response, status, sink) { EventKind::End } else { TEXT_MISMATCH };
            }
            // Other events repeat parts of an item, or report the progress of the server's own tools.
            kind if kind.starts_with("response.") => {}
            "keepalive" | "ping" => return EventKind::KeepAlive,
            _ => return EventKind::Unrecognized,
        }
        EventKind::Part
    }

    /// Reads the id and the model of a response.
    fn read_metadata(&mut self, response: &Value) {
        self.builder.id = self.builder.id.take().or_else(|| text_in(response, "id").map(str::to_owned));
        self.builder.model = self.builder.model.take().or_else(|| text_in(response, "model").map(str::to_owned));
    }

    fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        self.record_kind("message");
        self.text.push(text);
        self.builder.push_text(text, sink);
    }

    fn record_kind(&mut self, kind: &str) {
        if !self.seen_kinds.iter().any(|seen_kind| seen_kind == kind) {
            self.seen_kinds.push(kind.to_owned());
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
    fn start_item(&mut self, event: &Value) {
        let item = event.get("item").unwrap_or(&Value::Null);
        let kind = text_in(item, "type").unwrap_or_default();
        self.record_kind(kind);
        match kind {
            "function_call" => {
                self.start_call(event, item);
            }
            // orch sends items back in the order of their starts, but some servers complete them only at the end.
            "reasoning" | "message" => self.builder.blocks.reserve(&format!("{kind} {}", item_key(event))),
            _ => {}
        }
    }

    /// Reads a complete output item.
    fn finish_item(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        let item = event.get("item").unwrap_or(&Value::Null);
        let kind = text_in(item, "type").unwrap_or_default();
        self.record_kind(kind);
        self.check_item_status(item);
        let key = format!("{kind} {}", item_key(event));
        match kind {
            "message" => return self.finish_message(&key, item, sink),
            "function_call" => {
                let call = self.call_of_item(event, item).or_else(|| self.start_call(event, item));
                if let Some((call, arguments)) = call.zip(complete_arguments(item)) {
                    self.builder.set_arguments(&call, arguments);
                }
            }
            "reasoning" => self.finish_reasoning(&key, item, sink),
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
        for part in list_in(item, "content") {
            match text_in(part, "type").unwrap_or_default() {
                "refusal" => self.builder.has_refusal = true,
                "output_text" | "text" => self.builder.check_text_type(part.get("text")),
                kind => self.builder.record_other_content(kind),
            }
        }
        let full_text = message_text(item);
        let Some(missing) = self.text.missing_in_item(&full_text).map(str::to_owned) else { return TEXT_MISMATCH };
        self.push_text(&missing, sink);
        self.text.confirm_item(full_text.len());
        // The phase distinguishes commentary from the answer. Replies get worse if orch does not send it back.
        if let Some(phase) = text_in(item, "phase") {
            self.builder.blocks.fill_opaque(key, Dialect::Responses, json!({"type": "message", "phase": phase}));
        }
        EventKind::Part
    }

    /// Reads a complete reasoning item, which orch sends back to the server unchanged.
    fn finish_reasoning(&mut self, key: &str, item: &Value, sink: ReplySink<'_>) {
        if !std::mem::take(&mut self.has_reasoning_text) {
            let thoughts = list_in(item, "summary").chain(list_in(item, "content"));
            let text: String = thoughts.filter_map(|thought| text_in(thought, "text")).collect();
            if text.is_empty() {
                self.builder.record_hidden_reasoning();
            } else {
                self.builder.push_reasoning(&text, sink);
            }
        }
        // Without either of these, the server would look the item up in its storage, which the request turned off.
        if text_in(item, "encrypted_content").is_some() || list_in(item, "content").next().is_some() {
            let is_filled = self.builder.blocks.fill_opaque(key, Dialect::Responses, item.clone());
            if !is_filled {
                self.builder.blocks.push_opaque(Dialect::Responses, item.clone());
            }
        }
    }

    /// Starts a function call; `None` if the item does not name the function.
    fn start_call(&mut self, event: &Value, item: &Value) -> Option<String> {
        let name = text_in(item, "name")?;
        let key = self.calls.len().to_string();
        self.builder.start_call(&key, text_in(item, "call_id").or_else(|| text_in(item, "id")), name);
        self.calls.push(FunctionCallIds {
            call_id: text_in(item, "call_id").map(str::to_owned),
            item_id: text_in(item, "id").map(str::to_owned),
            output_index: event.get("output_index").and_then(Value::as_u64),
        });
        Some(key)
    }

    /// The key of the call that a complete item describes.
    fn call_of_item(&self, event: &Value, item: &Value) -> Option<String> {
        let call_id = text_in(item, "call_id");
        let by_call_id = call_id.and_then(|id| self.find_call(|call| call.call_id.as_deref() == Some(id)));
        by_call_id.or_else(|| self.find_named_call(text_in(item, "id"), event))
    }

    /// The key of the call to which a piece of arguments belongs; the latest one if the event does not name it.
    fn call_of_event(&self, event: &Value) -> Option<String> {
        let named = self.find_named_call(text_in(event, "item_id"), event);
        named.or_else(|| self.calls.len().checked_sub(1).map(|last| last.to_string()))
    }

    fn find_named_call(&self, item_id: Option<&str>, event: &Value) -> Option<String> {
        let by_id = item_id.and_then(|id| self.find_call(|call| call.item_id.as_deref() == Some(id)));
        let index = event.get("output_index").and_then(Value::as_u64);
        by_id.or_else(|| index.and_then(|index| self.find_call(|call| call.output_index == Some(index))))
    }

    /// The key of the latest call with a property.
    fn find_call(&self, has_property: impl Fn(&FunctionCallIds) -> bool) -> Option<String> {
        self.calls.iter().rposition(has_property).map(|position| position.to_string())
    }

    /// Whether a response used as many tokens as the request allows. llama.cpp reports such a response as completed
    /// even if the limit cut it off.
    fn has_reached_limit(&self, response: &Value) -> bool {
        let output = response.pointer("/usage/output_tokens").and_then(parse_token_count);
        self.unreported_limit.zip(output).is_some_and(|(limit, output)| output >= u64::from(limit))
    }

    /// Records whether the server marked a finished item as incomplete.
    fn check_item_status(&mut self, item: &Value) {
        let can_be_cut_off = matches!(text_in(item, "type"), Some("message" | "function_call"));
        self.has_incomplete_item |= can_be_cut_off && text_in(item, "status") == Some("incomplete");
    }

    /// Reads a response that has ended; returns false if its text differs from the pieces before it. Of its items,
    /// reads only the kinds that no event contained, and the end of the text, if not all pieces of it arrived.
    fn finish_response(&mut self, response: &Value, status: &str, sink: ReplySink<'_>) -> bool {
        self.read_metadata(response);
        let seen_kinds = self.seen_kinds.clone();
        let mut repeated_text = String::new();
        for (index, item) in list_in(response, "output").enumerate() {
            self.check_item_status(item);
            if seen_kinds.iter().any(|seen_kind| Some(seen_kind.as_str()) == text_in(item, "type")) {
                if text_in(item, "type") == Some("message") {
                    repeated_text.push_str(&message_text(item));
                }
                continue;
            }
            let event = json!({"output_index": index, "item": item});
            self.start_item(&event);
            if self.finish_item(&event, sink) == TEXT_MISMATCH {
                return false;
            }
        }
        // Some servers repeat the items without their texts.
        if !repeated_text.is_empty() {
            let Some(missing) = self.text.missing_in_response(&repeated_text).map(str::to_owned) else { return false };
            self.push_text(&missing, sink);
        }
        let reason = match status.to_ascii_lowercase().as_str() {
            "incomplete" => response.pointer("/incomplete_details/reason").and_then(Value::as_str).unwrap_or(status),
            "completed" if self.has_reached_limit(response) => "max_output_tokens",
            "completed" if self.has_incomplete_item => "incomplete",
            _ => status,
        };
        self.builder.stop.record_chunk(stop_reasons::RESPONSES, Some(&json!(reason)), false);
        self.builder.usage.merge_report(response.get("usage"), &OPENAI);
        true
    }
}

impl Assembler for ResponsesReply {
    const USAGE_FIELDS: &'static UsageFields = &OPENAI;

    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind {
        self.read_event_of_kind(text_in(event, "type").unwrap_or_default(), event, sink)
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        if !body.get("output").is_some_and(Value::is_array) {
            return false;
        }
        // A response that has not ended, or has no status, may be incomplete.
        let status = response_status(body).filter(|status| !matches!(status.as_str(), "in_progress" | "queued"));
        self.finish_response(body, status.as_deref().unwrap_or_default(), sink)
    }

    fn builder(&self) -> &ReplyBuilder {
        &self.builder
    }

    fn read_usage(&mut self, event: &Value) {
        for report in [event.get("usage"), event.pointer("/response/usage")] {
            self.builder.usage.merge_report(report, &OPENAI);
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
