//! Replies as providers send them, and replies as they should not.

use std::time::Duration;

use serde_json::{Value, json};

/// What a server does with one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// What is sent, in this order.
    pub parts: Vec<Part>,
}

/// A piece of a reply.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes of the body, as one chunk.
    Bytes(Vec<u8>),
    /// Nothing for a while. In front of the first bytes the head waits as well.
    Wait(Duration),
    /// The connection is closed without the body's end.
    Cut,
}

impl Reply {
    /// A body with a status and a content type.
    pub fn body(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Self { status, headers, parts: vec![Part::Bytes(body.into())] }
    }

    /// A JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::body(status, "application/json", body.to_string())
    }

    /// A stream of these pieces.
    pub fn stream(pieces: impl IntoIterator<Item = String>) -> Self {
        let parts = pieces.into_iter().map(|piece| Part::Bytes(piece.into_bytes())).collect();
        Self { status: 200, headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())], parts }
    }

    /// The same with a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, waiting before anything is sent.
    pub fn late(mut self, wait: Duration) -> Self {
        self.parts.insert(0, Part::Wait(wait));
        self
    }

    /// Only the first pieces, then the connection breaks.
    pub fn cut_after(mut self, pieces: usize) -> Self {
        self.parts.truncate(pieces);
        self.parts.push(Part::Cut);
        self
    }

    /// Only the first pieces, then nothing more for a while.
    pub fn stall_after(mut self, pieces: usize, wait: Duration) -> Self {
        self.parts.insert(pieces, Part::Wait(wait));
        self
    }
}

/// One event with a JSON value.
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn halves(text: &str) -> [&str; 2] {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(index, _)| index);
    let (one, two) = text.split_at(middle);
    [one, two]
}

/// `OpenAI`'s dialect.
pub mod openai {
    use super::{Reply, Value, event, halves, json};

    /// A streamed reply of this text: five pieces, two of them text.
    pub fn text(text: &str) -> Reply {
        stopped(text, "stop")
    }

    /// The same with another reason to stop.
    pub fn stopped(text: &str, reason: &str) -> Reply {
        let chunk = |delta: Value, reason: Option<&str>| {
            event(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "served-model",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": null}))
        };
        let [one, two] = halves(text);
        Reply::stream([
            chunk(json!({"role": "assistant", "content": one}), None),
            chunk(json!({"content": two}), None),
            chunk(json!({}), Some(reason)),
            event(&json!({"id": "chatcmpl-1", "model": "served-model", "choices": [], "usage": usage()})),
            "data: [DONE]\n\n".to_owned(),
        ])
    }

    /// Events with these deltas, then a stop.
    pub fn deltas(deltas: &[Value], reason: &str) -> Reply {
        let chunk = |delta: &Value| event(&json!({"choices": [{"index": 0, "delta": delta}]}));
        let stop = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
        Reply::stream(deltas.iter().map(chunk).chain([stop, "data: [DONE]\n\n".to_owned()]))
    }

    /// The same text from a server that does not stream.
    pub fn whole(text: &str) -> Reply {
        let message = json!({"role": "assistant", "content": text});
        Reply::json(200, &json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "served-model",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage()}))
    }

    /// An error.
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Reply {
        Reply::json(status, &json!({"error": {"message": message, "type": kind, "code": code, "param": null}}))
    }

    fn usage() -> Value {
        json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 5}})
    }
}

/// Anthropic's dialect.
pub mod anthropic {
    use super::{Reply, Value, halves, json};

    /// A streamed reply of this text: nine pieces, the text in the fifth and sixth.
    pub fn text(text: &str) -> Reply {
        stopped(text, json!({"stop_reason": "end_turn", "stop_sequence": null}))
    }

    /// The same with another end.
    pub fn stopped(text: &str, end: Value) -> Reply {
        let [one, two] = halves(text);
        let delta = |text: &str| json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": text}});
        Reply::stream(
            [
                json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                    "model": "served-model", "content": [], "stop_reason": null, "usage": {"input_tokens": 30,
                    "cache_creation_input_tokens": 6, "cache_read_input_tokens": 64, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "ping"}),
                json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "thinking_delta", "thinking": "hm"}}),
                delta(one),
                delta(two),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": end, "usage": {"output_tokens": 20,
                    "output_tokens_details": {"thinking_tokens": 5}}}),
                json!({"type": "message_stop"}),
            ]
            .iter()
            .map(event),
        )
    }

    /// The same text from a server that does not stream.
    pub fn whole(text: &str) -> Reply {
        Reply::json(200, &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "served-model",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 30, "output_tokens": 20}}))
    }

    /// An error.
    pub fn error(status: u16, kind: &str, message: &str) -> Reply {
        Reply::json(status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
    }

    /// One event.
    pub fn event(data: &Value) -> String {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("message"))
    }
}

/// Gemini's dialect.
pub mod gemini {
    use super::{Reply, Value, event, halves, json};

    /// A streamed reply of this text: three pieces, text in the last two.
    pub fn text(text: &str) -> Reply {
        stopped(text, "STOP")
    }

    /// The same with another reason to stop.
    pub fn stopped(text: &str, reason: &str) -> Reply {
        let [one, two] = halves(text);
        let part = |part: Value, reason: Option<&str>| {
            let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [part]}});
            if let Some(reason) = reason {
                candidate["finishReason"] = json!(reason);
            }
            event(&json!({"candidates": [candidate], "modelVersion": "served-model", "responseId": "r1",
                "usageMetadata": {"promptTokenCount": 100, "cachedContentTokenCount": 64,
                "candidatesTokenCount": 15, "thoughtsTokenCount": 5, "totalTokenCount": 120}}))
        };
        Reply::stream([
            part(json!({"text": "hm", "thought": true}), None),
            part(json!({"text": one}), None),
            part(json!({"text": two}), Some(reason)),
        ])
    }

    /// An error.
    pub fn error(status: u16, kind: &str, message: &str, details: &Value) -> Reply {
        Reply::json(status, &json!({"error": {"code": status, "message": message, "status": kind, "details": details}}))
    }
}

/// A streamed reply of this text in the dialect of a path.
pub fn text_for(path: &str, text: &str) -> Reply {
    if path.ends_with("/messages") {
        anthropic::text(text)
    } else if path.contains(":streamGenerateContent") {
        gemini::text(text)
    } else {
        openai::text(text)
    }
}
