//! What the assemblers of the dialects have in common: each builds a reply from the events of a stream, or from the
//! body of a response that is not a stream.

use serde_json::Value;

use super::StreamEvent;
use super::reply_builder::ReplyBuilder;
use super::stream::EventKind;
use super::usage::UsageFields;
use crate::model::chat::ChatReply;
use crate::model::json_number::whole_number;
use crate::model::usage::ReportedUsage;

/// Receives the parts of a reply as they arrive.
pub(super) type ReplySink<'a> = &'a (dyn Fn(StreamEvent) + Send + Sync);

/// Builds a reply from its parts, in one dialect. The defaults are those of a dialect with its own end event, whose
/// complete replies always have a stop reason.
pub(super) trait Assembler: Default + Send {
    /// The usage fields of the dialect.
    const USAGE_FIELDS: &'static UsageFields;

    /// Reads one event of the stream.
    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> EventKind;

    /// Reads a complete reply, from a server that does not stream; returns false if it is not a reply.
    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool;

    /// Reads only the usage of an event, for example of an event after the end of the reply.
    fn read_usage(&mut self, event: &Value);

    /// The reply so far.
    fn builder(&self) -> &ReplyBuilder;

    /// Finishes the reply.
    fn into_reply(self) -> ChatReply;

    /// Whether the reply is complete when `[DONE]` arrives.
    fn is_complete_at_done(&self) -> bool {
        false
    }

    /// Whether the reply is complete when the body of a stream ends properly.
    fn is_complete_at_stream_end(&self) -> bool {
        false
    }

    /// Whether a reply that the server did not stream is complete.
    fn is_complete_unstreamed(&self) -> bool {
        self.builder().stop.last_reason_ends_content()
    }

    /// Whether the provider has reported a usage that covers all output.
    fn has_final_usage(&self) -> bool {
        self.builder().usage.is_up_to_date(Self::USAGE_FIELDS)
    }

    /// The usage reported so far.
    fn usage(&self) -> ReportedUsage {
        self.builder().usage.partial_usage(Self::USAGE_FIELDS)
    }
}

/// A field that contains text, unless it is empty.
pub(super) fn text_in<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The elements of the list in a field; none if the field is not a list.
pub(super) fn list_in<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// The number in a field that says to which choice, block or item an event belongs. Some servers write all numbers as
/// floats.
pub(super) fn index_in(value: &Value, field: &str) -> Option<u64> {
    value.get(field).and_then(whole_number)
}

/// Whether a value has no content: it is `null`, an empty text, an empty list or an empty object.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Whether a field that must contain a list has other content, which is then lost.
pub(super) fn has_lost_list(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| !value.is_array() && !is_blank(value))
}

/// Whether a choice or a candidate is the first one: orch requests only one. Without an index it counts as the first.
pub(super) fn is_first(alternative: &Value) -> bool {
    let index = alternative.get("index");
    let number = index.and_then(|index| whole_number(index).or_else(|| index.as_str()?.trim().parse().ok()));
    number.unwrap_or_default() == 0
}

/// Whether the list in a field has more than one first choice or candidate. Their contents can't be told apart.
pub(super) fn has_several_first(value: &Value, field: &str) -> bool {
    list_in(value, field).filter(|alternative| is_first(alternative)).nth(1).is_some()
}
