//! Recognizes a complete reply in a single value of a stream, and evidence that a model generated something before an
//! error.

use serde_json::Value;

use super::assembler::{Assembler, ReplySink};
use super::error_body;
use super::json_body::{AfterValue, JsonBody};
use crate::model::text::strip_bom_bytes;

/// The content of a stream so far.
#[derive(Default)]
pub(super) struct StreamContent {
    /// Whether a part of the reply arrived.
    pub(super) has_reply_part: bool,
    /// The first event that is not an event of the dialect.
    pub(super) first_unrecognized_event: Option<Value>,
    /// An event that contains a complete reply.
    complete_reply: Option<Value>,
    /// Whether several events could each be a complete reply. Each may then be only a part of the reply.
    has_several_replies: bool,
    /// The whole body, if it begins like a JSON value rather than like an event.
    json_body: Option<JsonBody>,
    /// Whether anything other than white space arrived.
    has_text: bool,
    /// What determined a complete reply at the last call of `has_changed`.
    checked_state: (Option<AfterValue>, bool),
}

impl StreamContent {
    /// Records bytes of the body.
    pub(super) fn record_bytes(&mut self, bytes: &[u8]) {
        // The first chunk may contain only a line break.
        if !self.has_text && bytes.trim_ascii_start().is_empty() {
            return;
        }
        if !self.has_text && matches!(strip_bom_bytes(bytes).trim_ascii_start().first(), Some(b'{' | b'[')) {
            self.json_body = Some(JsonBody::default());
        }
        if let Some(body) = &mut self.json_body {
            body.push(bytes);
        }
        self.has_text = true;
    }

    /// Reads a complete reply that is the whole body or a single event, since some servers do not stream. Returns false
    /// if there is none.
    pub(super) fn read_single_reply<A: Assembler>(&mut self, assembler: &mut A, sink: ReplySink<'_>) -> bool {
        let body = self.json_value().filter(is_complete_reply::<A>);
        let reply = body.as_ref().or(self.complete_reply.as_ref().filter(|_| !self.has_several_replies));
        reply.is_some_and(|reply| assembler.read_complete_reply(reply, sink))
    }

    /// Records an event that is not an event of the dialect.
    pub(super) fn record_unrecognized_event<A: Assembler>(&mut self, event: &Value) {
        if is_complete_reply::<A>(event) {
            self.has_several_replies |= self.complete_reply.replace(event.clone()).is_some();
        }
        self.first_unrecognized_event.get_or_insert_with(|| event.clone());
    }

    /// Whether a reply may have become complete since the last call. True only a few times for a body, because each check
    /// reads the whole body.
    pub(super) fn has_changed(&mut self) -> bool {
        let after_value = self.json_body.as_ref().and_then(JsonBody::after_value);
        let state = (after_value, self.complete_reply.is_some());
        std::mem::replace(&mut self.checked_state, state) != state
    }

    /// The JSON value at the start of the body, if only comments and events follow it.
    pub(super) fn json_value(&self) -> Option<Value> {
        let body = self.json_body.as_ref()?;
        body.value().filter(|_| body.after_value() != Some(AfterValue::Other))
    }
}

/// Whether a value is a complete reply.
fn is_complete_reply<A: Assembler>(value: &Value) -> bool {
    let mut assembler = A::default();
    assembler.read_complete_reply(value, &|_| {})
        && assembler.is_complete_unstreamed()
        && !assembler.builder().is_empty()
}

/// Whether the model generated something before the error that a value reports: the server has reported tokens, or the
/// value also contains a part of a reply. Adds the tokens in the value to the assembler's usage.
pub(super) fn reports_generation<A: Assembler>(assembler: &mut A, value: &Value) -> bool {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
        .iter()
        .for_each(|part| assembler.read_usage(part));
    assembler.usage().lower_bound().total() > 0 || error_body::has_content(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_body_is_checked_only_when_a_reply_may_have_become_complete() {
        let mut content = StreamContent::default();
        let mut checks = 0;
        let mut record = |bytes: &[u8]| {
            content.record_bytes(bytes);
            checks += usize::from(content.has_changed());
        };
        record(b"{\"a\": [");
        // White space, brackets and colons, at which a server might have ended the body or have sent a comment.
        for _ in 0..1000 {
            record(b"[[], {\"b\"");
            record(b"   \n");
            record(b": 1}],");
        }
        record(b"1]}");
        for _ in 0..1000 {
            record(b"\n");
            record(b": ping\n");
        }
        assert_eq!(checks, 2, "after the value, and after the first comment");
        assert!(content.json_value().is_some());
    }
}
