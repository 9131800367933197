//! What a stream or an error holds besides the events of a reply: a reply in one piece, and signs that the model
//! generated something.

use serde_json::Value;

use super::body::leading_value;
use super::http::{Assembler, ReplySink};
use super::said;
use crate::model::text::json_bytes;

/// What a stream has held so far.
#[derive(Default)]
pub(super) struct StreamContent {
    /// Whether a part of the reply arrived.
    pub(super) began: bool,
    /// The first event that does not have the dialect's shape.
    pub(super) first_foreign: Option<Value>,
    /// An event that is a complete reply by itself.
    reply: Option<Value>,
    /// Whether several events are complete replies by themselves; then each may be only a part.
    several: bool,
    /// The whole body, if it begins like a JSON value rather than like an event.
    json: Option<Vec<u8>>,
    /// Whether anything other than white space arrived.
    begins: bool,
    /// How much had arrived when `is_new` was last called.
    looked_at: usize,
}

impl StreamContent {
    /// Records bytes of the body.
    pub(super) fn body(&mut self, bytes: &[u8]) {
        // The first chunk may be only a line break.
        if !self.begins && bytes.trim_ascii_start().is_empty() {
            return;
        }
        match &mut self.json {
            Some(body) => body.extend_from_slice(bytes),
            None if !self.begins => {
                let start = json_bytes(bytes).trim_ascii_start();
                self.json = matches!(start.first(), Some(b'{' | b'[')).then(|| bytes.to_vec());
            }
            None => {}
        }
        self.begins = true;
    }

    /// Reads a stream that holds one complete reply, as the body or as one event: some servers do not stream.
    pub(super) fn is_one_reply<A: Assembler>(&mut self, assembler: &mut A, sink: ReplySink<'_>) -> bool {
        let body = self.value().filter(is_whole::<A>);
        let reply = body.as_ref().or(self.reply.as_ref().filter(|_| !self.several));
        reply.is_some_and(|reply| assembler.whole(reply, sink))
    }

    /// Records an event that does not have the dialect's shape.
    pub(super) fn foreign<A: Assembler>(&mut self, event: &Value) {
        if is_whole::<A>(event) {
            self.several |= self.reply.replace(event.clone()).is_some();
        }
        self.first_foreign.get_or_insert_with(|| event.clone());
    }

    /// Whether more arrived since the last call.
    pub(super) fn is_new(&mut self) -> bool {
        let length = self.json.as_ref().map_or(0, |body| body.trim_ascii_end().len());
        let seen = length + usize::from(self.reply.is_some());
        std::mem::replace(&mut self.looked_at, seen) < seen
    }

    /// The JSON value that the body begins with, if only comments and events follow it.
    pub(super) fn value(&self) -> Option<Value> {
        let (value, _, rest) = leading_value(self.json.as_ref()?)?;
        let rest = rest.trim_ascii_start();
        let is_field = [&b":"[..], b"data:", b"event:"].iter().any(|field| rest.starts_with(field));
        (rest.is_empty() || is_field).then_some(value)
    }
}

/// Whether a value is a complete reply by itself.
fn is_whole<A: Assembler>(value: &Value) -> bool {
    let mut trial = A::default();
    trial.whole(value, &|_| {}) && trial.answered_whole() && !trial.draft().is_empty()
}

/// Whether a value that reports an error also reports tokens or holds a part of a reply: then the model generated
/// something. Adds the tokens to the assembler's usage.
pub(super) fn tells_of_work<A: Assembler>(assembler: &mut A, value: &Value) -> bool {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter().for_each(|part| assembler.count(part));
    assembler.usage().at_least().total() > 0 || said::has_content(value)
}
