//! Recognizes a complete reply in a single value of a stream, and evidence that a model generated something before an
//! error.

use serde_json::Value;

use super::assembler::{Assembler, ReplySink};
use super::body::split_leading_json;
use super::error_body;
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
    json_body: Option<Vec<u8>>,
    /// Whether anything other than white space arrived.
    has_text: bool,
    /// The amount of content at the last call of `has_grown`.
    checked_size: usize,
}

impl StreamContent {
    /// Records bytes of the body.
    pub(super) fn record_bytes(&mut self, bytes: &[u8]) {
        // The first chunk may contain only a line break.
        if !self.has_text && bytes.trim_ascii_start().is_empty() {
            return;
        }
        match &mut self.json_body {
            Some(body) => body.extend_from_slice(bytes),
            None if !self.has_text => {
                let start = strip_bom_bytes(bytes).trim_ascii_start();
                self.json_body = matches!(start.first(), Some(b'{' | b'[')).then(|| bytes.to_vec());
            }
            None => {}
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

    /// Whether more content arrived since the last call.
    pub(super) fn has_grown(&mut self) -> bool {
        let length = self.json_body.as_ref().map_or(0, |body| body.trim_ascii_end().len());
        let size = length + usize::from(self.complete_reply.is_some());
        std::mem::replace(&mut self.checked_size, size) < size
    }

    /// The JSON value at the start of the body, if only comments and events follow it.
    pub(super) fn json_value(&self) -> Option<Value> {
        let (value, _, trailing_bytes) = split_leading_json(self.json_body.as_ref()?)?;
        let trailing_bytes = trailing_bytes.trim_ascii_start();
        let is_field = [&b":"[..], b"data:", b"event:"].iter().any(|field| trailing_bytes.starts_with(field));
        (trailing_bytes.is_empty() || is_field).then_some(value)
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
