//! What a stream or an error holds besides the events of a reply: a reply in one piece, and signs of work.

use serde_json::Value;

use super::http::{Assembler, Sink};
use super::said;
use crate::model::text::json_bytes;

/// What a stream has held so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Whether a part of the reply came.
    pub(super) began: bool,
    /// The first event that is not of the dialect's shape.
    pub(super) foreign: Option<Value>,
    /// The whole body, when it begins like a JSON value rather than like an event.
    json: Option<Vec<u8>>,
    /// Whether bytes came, other than white space.
    begins: bool,
}

impl Seen {
    /// Takes in bytes of the body.
    pub(super) fn body(&mut self, bytes: &[u8]) {
        // A first piece may be a line break alone.
        if !self.begins && bytes.trim_ascii_start().is_empty() {
            return;
        }
        match &mut self.json {
            Some(body) => body.extend_from_slice(bytes),
            None if !self.begins => self.json = bytes.trim_ascii_start().starts_with(b"{").then(|| bytes.to_vec()),
            None => {}
        }
        self.begins = true;
    }

    /// Reads a stream that holds one whole reply, as servers send it that do not stream: as the body, or as an event.
    pub(super) fn is_one_reply<A: Assembler>(&mut self, assembler: &mut A, sink: Sink<'_>) -> bool {
        let body: Option<Value> = self.json.take().and_then(|body| serde_json::from_slice(json_bytes(&body)).ok());
        let reply = body.as_ref().or(self.foreign.as_ref());
        reply.is_some_and(|reply| assembler.whole(reply, sink) && assembler.answered_whole())
    }
}

/// Whether a value that reports an error also reports tokens, or holds a part of a reply: then the model was at work.
/// Takes in the tokens that it reports.
pub(super) fn tells_of_work<A: Assembler>(assembler: &mut A, value: &Value) -> bool {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter().for_each(|part| assembler.count(part));
    assembler.usage().at_least().total() > 0 || said::has_content(value)
}
