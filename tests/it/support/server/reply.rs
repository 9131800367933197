//! Responses of the scripted server, in every provider's dialect.

use std::time::Duration;

use serde_json::{Value, json};

/// The server's response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The delay before the reply.
    pub(super) delay: Duration,
    /// The number of bytes after which the server sends nothing more and keeps the connection open.
    pub(super) stall_after: Option<usize>,
    /// The number of bytes after which the server closes the connection.
    pub(super) cut_after: Option<usize>,
    /// The number of bytes in each write, and the pause after it.
    pub(super) pieces: Option<(usize, Duration)>,
    /// Whether the reply has no length, so that the end of the connection ends the body.
    pub(super) unframed: bool,
    /// Whether the server resets the connection after the reply.
    pub(super) reset: bool,
}

impl Reply {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = if content_type.is_empty() {
            Vec::new()
        } else {
            vec![("content-type".to_owned(), content_type.to_owned())]
        };
        Self {
            status,
            headers,
            body: body.into(),
            delay: Duration::ZERO,
            stall_after: None,
            cut_after: None,
            pieces: None,
            unframed: false,
            reset: false,
        }
    }

    /// A response with any status and body, as JSON.
    pub(crate) fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// A response with any content type. Without a content type if `content_type` is empty.
    pub(crate) fn typed(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, content_type, body)
    }

    /// A web page.
    pub(crate) fn html(body: &str) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    /// An event stream of these bytes, well-formed or not.
    pub(crate) fn raw_events(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream", body)
    }

    /// An event stream of JSON values, without a final `[DONE]`.
    pub(crate) fn events(events: &[Value]) -> Self {
        let lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        Self::raw_events(lines.concat())
    }

    /// A streamed reply in the dialect of a request path.
    pub(crate) fn text_for(path: &str, text: &str) -> Self {
        if path.contains("/messages") {
            Self::anthropic_text(text)
        } else if path.contains("GenerateContent") || path.contains("generateContent") {
            Self::gemini_text(text)
        } else if path.contains("/responses") {
            Self::responses_text(text)
        } else if path.ends_with("/converse") {
            Self::converse_text(text)
        } else {
            Self::openai_text(text)
        }
    }

    /// A streamed chat completion that the model ended.
    pub(crate) fn openai_text(text: &str) -> Self {
        Self::openai_stopped(text, "stop")
    }

    /// A streamed chat completion with any finish reason.
    pub(crate) fn openai_stopped(text: &str, reason: &str) -> Self {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "scripted",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
        events.extend(split_into_pieces(text).map(|piece| chunk(json!({"content": piece}), Value::Null)));
        events.push(chunk(json!({}), json!(reason)));
        events.push(json!({"id": "chatcmpl-1", "model": "scripted", "choices": [], "usage": {
            "prompt_tokens": 11, "completion_tokens": word_count(text), "total_tokens": 11 + word_count(text),
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": word_count(text).min(2)}}}));
        let mut reply = Self::events(&events);
        reply.body.extend_from_slice(b"data: [DONE]\n\n");
        reply
    }

    /// A chat completion that is not streamed.
    pub(crate) fn openai_json(text: &str) -> Self {
        let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "scripted",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": word_count(text)}});
        Self::new(200, "application/json", body.to_string())
    }

    /// A streamed message that the model ended.
    pub(crate) fn anthropic_text(text: &str) -> Self {
        Self::anthropic_stopped(text, "end_turn")
    }

    /// A streamed message with any stop reason.
    pub(crate) fn anthropic_stopped(text: &str, reason: &str) -> Self {
        let mut events = vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "scripted", "content": [], "stop_reason": null, "usage": {"input_tokens": 5,
                "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
        ];
        events.extend(split_into_pieces(text).map(
            |piece| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
        ));
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
                "usage": {"output_tokens": word_count(text)}}),
            json!({"type": "message_stop"}),
        ]);
        Self::named_events(&events)
    }

    /// A streamed message that uses a tool.
    pub(crate) fn anthropic_tool(name: &str, input: &Value) -> Self {
        Self::anthropic_tool_call(&format!("toolu_{name}"), name, input)
    }

    /// A call with this id.
    pub(crate) fn anthropic_tool_call(id: &str, name: &str, input: &Value) -> Self {
        Self::named_events(&[
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "scripted", "content": [], "stop_reason": null,
                "usage": {"input_tokens": 5, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block":
                {"type": "tool_use", "id": id, "name": name, "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta":
                {"type": "input_json_delta", "partial_json": input.to_string()}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ])
    }

    /// A reply of the Converse API that is not streamed.
    pub(crate) fn converse_text(text: &str) -> Self {
        Self::converse_stopped(text, "end_turn")
    }

    /// A reply of the Converse API with any stop reason.
    pub(crate) fn converse_stopped(text: &str, reason: &str) -> Self {
        let body = json!({"output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": reason, "metrics": {"latencyMs": 1}, "usage": {"inputTokens": 5,
            "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2, "outputTokens": word_count(text),
            "totalTokens": 11 + word_count(text)}});
        Self::new(200, "application/json", body.to_string())
    }

    /// A streamed, completed response with reasoning, with every event that the API sends.
    pub(crate) fn responses_text(text: &str) -> Self {
        Self::responses_stopped(text, "completed")
    }

    /// A streamed response. It is incomplete unless `reason` is `completed`.
    pub(crate) fn responses_stopped(text: &str, reason: &str) -> Self {
        let reasoning = json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "e1"});
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
        let message = |status: &str, content: Value| json!({"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content});
        let response = |status: &str, details: Value, output: Value, usage: Value| {
            json!({"id": "resp_1", "object": "response", "model": "scripted", "status": status, "error": null,
                "incomplete_details": details, "output": output, "usage": usage})
        };
        let started = response("in_progress", Value::Null, json!([]), Value::Null);
        let is_complete = reason == "completed";
        let status = if is_complete { "completed" } else { "incomplete" };
        let details = if is_complete { Value::Null } else { json!({"reason": reason}) };
        let usage = json!({"input_tokens": 11, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": word_count(text), "output_tokens_details": {"reasoning_tokens": word_count(text).min(2)},
            "total_tokens": 11 + word_count(text)});
        let finished_message = message(status, json!([part(text)]));
        let final_response = response(status, details, json!([reasoning, finished_message]), usage);
        let item_position = json!({"item_id": "msg_1", "output_index": 1, "content_index": 0});
        let output_event = |event_type: &str, field: &str, value: Value| {
            let mut event = json!({"type": event_type});
            event.as_object_mut().unwrap().extend(item_position.as_object().unwrap().clone());
            event[field] = value;
            event
        };
        let mut events = vec![
            json!({"type": "response.created", "response": started}),
            json!({"type": "response.in_progress", "response": started}),
            json!({"type": "response.output_item.added", "output_index": 0, "item":
                {"id": "rs_1", "type": "reasoning", "summary": []}}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
            json!({"type": "response.output_item.added", "output_index": 1, "item":
                message("in_progress", json!([]))}),
            output_event("response.content_part.added", "part", part("")),
        ];
        events.extend(
            split_into_pieces(text).map(|piece| output_event("response.output_text.delta", "delta", json!(piece))),
        );
        events.extend([
            output_event("response.output_text.done", "text", json!(text)),
            output_event("response.content_part.done", "part", part(text)),
            json!({"type": "response.output_item.done", "output_index": 1, "item": finished_message}),
            json!({"type": format!("response.{status}"), "response": final_response}),
        ]);
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(number);
        }
        Self::named_events(&events)
    }

    /// A response of the Responses API that is not streamed.
    pub(crate) fn responses_json(text: &str) -> Self {
        let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
        let body = json!({"id": "resp_1", "object": "response", "model": "scripted", "status": "completed",
            "error": null, "incomplete_details": null,
            "output": [{"id": "msg_1", "type": "message", "role": "assistant", "content": content}],
            "usage": {"input_tokens": 11, "output_tokens": word_count(text)}});
        Self::new(200, "application/json", body.to_string())
    }

    /// A streamed response of the Responses API with one item.
    fn response(item: Value) -> Self {
        Self::named_events(&[
            json!({"type": "response.created", "response": {"id": "resp_1"}}),
            json!({"type": "response.output_item.done", "item": item}),
            json!({"type": "response.completed", "response": {"id": "resp_1", "usage": {
                "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14}}}),
        ])
    }

    /// A streamed response of the Responses API with a text.
    pub(crate) fn response_text(text: &str) -> Self {
        let content = json!([{"type": "output_text", "text": text}]);
        Self::response(json!({"type": "message", "role": "assistant", "id": "msg_1", "content": content}))
    }

    /// A streamed response of the Responses API with a function call.
    pub(crate) fn response_call(name: &str, arguments: &Value) -> Self {
        let arguments = arguments.to_string();
        Self::response(json!({"type": "function_call", "call_id": "call_1", "name": name, "arguments": arguments}))
    }

    /// An event stream in which every event is named by its `type`.
    pub(crate) fn named_events(events: &[Value]) -> Self {
        let lines: Vec<String> = events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("x")))
            .collect();
        Self::raw_events(lines.concat())
    }

    /// A streamed generation that the model ended.
    pub(crate) fn gemini_text(text: &str) -> Self {
        Self::gemini_stopped(text, "STOP")
    }

    /// A streamed generation with any finish reason.
    pub(crate) fn gemini_stopped(text: &str, reason: &str) -> Self {
        let mut events: Vec<Value> = split_into_pieces(text)
            .map(|piece| {
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": piece}]}}],
                    "modelVersion": "scripted", "responseId": "r1"})
            })
            .collect();
        events.push(json!({"candidates": [{"index": 0, "finishReason": reason}], "modelVersion": "scripted",
            "responseId": "r1", "usageMetadata": {"promptTokenCount": 11, "cachedContentTokenCount": 4,
            "candidatesTokenCount": word_count(text), "thoughtsTokenCount": 3}}));
        Self::events(&events)
    }

    /// Adds a header, and replaces a header of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the reply after this delay.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends only the first bytes of the body, and keeps the connection open.
    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.stall_after = Some(bytes);
        self
    }

    /// Sends only the first bytes of the body, and closes the connection.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Sends the body in writes of this number of bytes, with a pause after each.
    pub(crate) fn pieces(mut self, bytes: usize, pause: Duration) -> Self {
        self.pieces = Some((bytes, pause));
        self
    }

    /// Sends no length, so that the end of the connection ends the body.
    pub(crate) fn unframed(mut self) -> Self {
        self.unframed = true;
        self
    }

    /// Resets the connection after the reply.
    pub(crate) fn reset(mut self) -> Self {
        self.reset = true;
        self
    }

    /// Sends only the first bytes of the body, with the length of these bytes.
    pub(crate) fn truncated(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// The number of bytes of the body.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }
}

/// Splits a text into pieces of a few characters, as models send it.
fn split_into_pieces(text: &str) -> impl Iterator<Item = String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(7).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}

/// The number of words of a text, which the replies report as the number of tokens.
fn word_count(text: &str) -> usize {
    text.split_whitespace().count().max(1)
}
