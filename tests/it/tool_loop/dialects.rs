//! Replies with tool calls, and the tool results in requests, in every dialect.

use serde_json::{Value, json};

use crate::support::{ReceivedRequest, Reply};

/// The dialects in which models call tools here.
pub(super) const DIALECTS: [&str; 4] = ["openai", "responses", "anthropic", "gemini"];

/// A tool call: the name and the arguments.
pub(super) type ToolCall = (&'static str, Value);

/// The output tokens that each reply reports.
const OUTPUT_TOKENS: usize = 9;

/// The input tokens that the reply to a request reports. They grow with the request, as those of real models do.
fn input_tokens(request: &ReceivedRequest) -> usize {
    request.bytes.len() / 4
}

/// A streamed reply with tool calls, in the dialect of a request. The ids contain `turn`.
pub(super) fn reply_with_calls(request: &ReceivedRequest, turn: usize, calls: &[ToolCall]) -> Reply {
    let path = &request.path;
    if path.contains("/messages") {
        anthropic_calls(turn, calls, input_tokens(request))
    } else if path.contains("enerateContent") {
        gemini_calls(calls, input_tokens(request))
    } else if path.contains("/responses") {
        responses_calls(turn, calls, input_tokens(request))
    } else if path.ends_with("/converse") {
        converse_calls(turn, calls, input_tokens(request))
    } else {
        openai_calls(request, turn, calls, "tool_calls")
    }
}

fn call_id(turn: usize, index: usize) -> String {
    format!("call_{turn}_{index}")
}

/// A chat completion with tool calls, whose arguments arrive in two pieces, and with this finish reason.
pub(super) fn openai_calls(request: &ReceivedRequest, turn: usize, calls: &[ToolCall], reason: &str) -> Reply {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": null}), Value::Null)];
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let arguments = arguments.to_string();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        let function = json!({"name": name, "arguments": first});
        let start = json!({"index": index, "id": call_id(turn, index), "type": "function", "function": function});
        events.push(chunk(json!({"tool_calls": [start]}), Value::Null));
        let rest = json!({"index": index, "function": {"arguments": second}});
        events.push(chunk(json!({"tool_calls": [rest]}), Value::Null));
    }
    events.push(chunk(json!({}), json!(reason)));
    let input = input_tokens(request);
    events.push(json!({"id": "chatcmpl-1", "model": "scripted", "choices": [], "usage": {"prompt_tokens": input,
        "completion_tokens": OUTPUT_TOKENS, "total_tokens": input + OUTPUT_TOKENS}}));
    let lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Reply::raw_events(lines.concat() + "data: [DONE]\n\n")
}

fn anthropic_calls(turn: usize, calls: &[ToolCall], input: usize) -> Reply {
    let mut events = vec![json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "scripted", "content": [], "stop_reason": null,
        "usage": {"input_tokens": input, "output_tokens": 1}}})];
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let block = json!({"type": "tool_use", "id": call_id(turn, index), "name": name, "input": {}});
        let delta = json!({"type": "input_json_delta", "partial_json": arguments.to_string()});
        events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
        "usage": {"output_tokens": OUTPUT_TOKENS}}));
    events.push(json!({"type": "message_stop"}));
    Reply::named_events(&events)
}

fn responses_calls(turn: usize, calls: &[ToolCall], input: usize) -> Reply {
    let item = |index: usize, name: &str, arguments: &Value| {
        json!({"type": "function_call", "id": format!("fc_{turn}_{index}"), "call_id": call_id(turn, index),
            "name": name, "arguments": arguments.to_string(), "status": "completed"})
    };
    let items: Vec<Value> =
        calls.iter().enumerate().map(|(index, (name, arguments))| item(index, name, arguments)).collect();
    let response = |status: &str, output: &[Value]| {
        json!({"id": "resp_1", "object": "response", "model": "scripted", "status": status, "error": null,
            "incomplete_details": null, "output": output, "usage": {"input_tokens": input,
            "output_tokens": OUTPUT_TOKENS, "total_tokens": input + OUTPUT_TOKENS}})
    };
    let mut events = vec![json!({"type": "response.created", "response": response("in_progress", &[])})];
    for (index, item) in items.iter().enumerate() {
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": item}));
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": response("completed", &items)}));
    Reply::named_events(&events)
}

fn gemini_calls(calls: &[ToolCall], input: usize) -> Reply {
    let parts: Vec<Value> =
        calls.iter().map(|(name, arguments)| json!({"functionCall": {"name": name, "args": arguments}})).collect();
    Reply::events(&[
        json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}],
            "modelVersion": "scripted", "responseId": "r1"}),
        json!({"candidates": [{"index": 0, "finishReason": "STOP"}], "modelVersion": "scripted", "responseId": "r1",
            "usageMetadata": {"promptTokenCount": input, "candidatesTokenCount": OUTPUT_TOKENS}}),
    ])
}

/// A reply of the Converse API, which is not streamed.
fn converse_calls(turn: usize, calls: &[ToolCall], input: usize) -> Reply {
    let mut content = Vec::new();
    for (index, (name, arguments)) in calls.iter().enumerate() {
        content.push(json!({"toolUse": {"toolUseId": call_id(turn, index), "name": name, "input": arguments}}));
    }
    let body = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use",
        "metrics": {"latencyMs": 1}, "usage": {"inputTokens": input, "outputTokens": OUTPUT_TOKENS,
        "totalTokens": input + OUTPUT_TOKENS}});
    Reply::typed("application/json", body.to_string())
}

/// The texts of the tool results in a request, in order, in any dialect.
pub(super) fn tool_results(request: &ReceivedRequest) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut results = Vec::new();
    for message in list(&request.body["messages"]) {
        if message["role"] == "tool" {
            results.push(text_of(&message["content"]));
        }
        let blocks = list(&message["content"]);
        let anthropic = blocks.iter().filter(|block| block["type"] == "tool_result");
        results.extend(anthropic.map(|block| text_of(&block["content"])));
        let converse = blocks.iter().filter_map(|block| block.get("toolResult"));
        results.extend(converse.map(|result| text_of(&result["content"])));
    }
    let items = list(&request.body["input"]).into_iter();
    results.extend(items.filter(|item| item["type"] == "function_call_output").map(|item| text_of(&item["output"])));
    for content in list(&request.body["contents"]) {
        let parts = list(&content["parts"]).into_iter();
        results.extend(parts.filter_map(|part| Some(text_of(part["functionResponse"].get("response")?))));
    }
    results
}

/// The text in a value: a string, a list of parts, or an object with the text in one of its members.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(members) => members.values().filter(|member| !member.is_boolean()).map(text_of).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// The names of the tools that a request offers, in any dialect.
pub(super) fn offered_tools(request: &ReceivedRequest) -> Vec<String> {
    fn collect(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
            Value::Object(members) => match members.get("name").and_then(Value::as_str) {
                Some(name) => names.push(name.to_owned()),
                None => members.values().for_each(|member| collect(member, names)),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut names = Vec::new();
    collect(&request.body["tools"], &mut names);
    names
}
