//! The body of a request to Anthropic's Messages API.

use serde_json::{Map, Value, json};

use crate::catalog::{anthropic_accepts_schema, claude_accepts_forced_calls, claude_thinking};
use crate::model::ToolChoice;
use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::request_content::{EncodedFile, FileKind, arguments_object, request_blocks};
use crate::provider::request_tools::native_schema;
use crate::provider::sent_options::{SentOptions, add_provider_options, thinking_fields};
use crate::provider::{Dialect, Endpoint, RequestLimits, schema};

pub(super) fn request_body(
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model.model));
    body.insert("max_tokens".into(), json!(request.max_output_tokens));
    if !request.tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools(request)));
    }
    if !request.system.is_empty() {
        let mut system = json!({"type": "text", "text": request.system});
        set_cache_breakpoint(&mut system);
        body.insert("system".into(), json!([system]));
    }
    body.insert("messages".into(), Value::Array(messages(request, limits)?));
    body.insert("stream".into(), json!(true));
    let options = SentOptions::new(endpoint, request)?;
    if let Some(temperature) = options.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if let Some(top_p) = options.top_p {
        body.insert("top_p".into(), json!(top_p));
    }
    if !options.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(options.stop));
    }
    let mut output_config = Map::new();
    let model = &request.model.model;
    let thinking = options.reasoning.and_then(|effort| claude_thinking(model, effort, request.max_output_tokens).ok());
    let fields = thinking.map(thinking_fields).unwrap_or_default();
    body.extend(fields.thinking.map(|thinking| ("thinking".to_owned(), thinking)));
    output_config.extend(fields.effort.map(|effort| ("effort".to_owned(), json!(effort))));
    let choice = match request.tools.choice {
        _ if request.tools.is_empty() => None,
        ToolChoice::Required if claude_accepts_forced_calls(model, thinking) => Some("any"),
        ToolChoice::None => Some("none"),
        ToolChoice::Auto | ToolChoice::Required => None,
    };
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), json!({"type": choice}));
    }
    let may_send_schema = endpoint.structured_output && anthropic_accepts_schema(model);
    let schema = native_schema(request).filter(|_| may_send_schema);
    if let Some(schema) = schema.and_then(schema::anthropic_schema) {
        output_config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if !output_config.is_empty() {
        body.insert("output_config".into(), Value::Object(output_config));
    }
    add_provider_options(&mut body, &request.options, Dialect::Anthropic)?;
    Ok(Value::Object(body))
}

/// The tools of the request. The API puts them before the system prompt, so that a cache breakpoint after the last one
/// covers all of them.
fn tools(request: &ChatRequest) -> Vec<Value> {
    let mut tools: Vec<Value> = request
        .tools
        .definitions
        .iter()
        .map(|tool| {
            let schema = schema::tool_schema(&tool.parameters);
            json!({"name": tool.name, "description": tool.description, "input_schema": schema})
        })
        .collect();
    if let Some(tool) = tools.last_mut() {
        set_cache_breakpoint(tool);
    }
    tools
}

/// The messages of the request, with a cache breakpoint at the end of the last user message. Together with the
/// breakpoint after the system prompt, it lets the calls of a step share the cached prompt, and each turn of a
/// conversation the cached turns before it. The API finds a cached turn only if it ends at most 20 blocks before a
/// breakpoint, and a turn with tools may have more blocks. So the user message before, at which the previous request
/// ended, has a breakpoint too. A request may have four breakpoints, and `cache_control` of the user is one of them.
fn messages(request: &ChatRequest, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    let mut messages = Vec::with_capacity(request.messages.len());
    let mut user_messages = Vec::new();
    for message in &request.messages {
        let blocks = content_blocks(message, limits)?;
        // The API refuses a message without content.
        if blocks.is_empty() {
            continue;
        }
        let role = match message.role {
            Role::User => {
                user_messages.push(messages.len());
                "user"
            }
            Role::Assistant => "assistant",
        };
        messages.push(json!({"role": role, "content": blocks}));
    }
    let has_own_breakpoint = request.options.provider_options.contains_key("cache_control");
    let breakpoints = if request.tools.is_empty() || has_own_breakpoint { 1 } else { 2 };
    for index in user_messages.into_iter().rev().take(breakpoints) {
        let message: Option<&mut Value> = messages.get_mut(index);
        let last_block = message.and_then(|message| message.get_mut("content")?.as_array_mut()?.last_mut());
        if let Some(block) = last_block {
            set_cache_breakpoint(block);
        }
    }
    Ok(messages)
}

/// Makes the API cache the request up to the end of this block.
fn set_cache_breakpoint(block: &mut Value) {
    if let Some(block) = block.as_object_mut() {
        block.insert("cache_control".into(), json!({"type": "ephemeral"}));
    }
}

fn content_blocks(message: &Message, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    request_blocks(message, Dialect::Anthropic).map(|block| content_block(block, limits)).collect()
}

fn content_block(block: &ContentBlock, limits: &RequestLimits) -> Result<Value, Failure> {
    Ok(match block {
        ContentBlock::Text { text } => json!({"type": "text", "text": text}),
        ContentBlock::Opaque { data, .. } => data.clone(),
        ContentBlock::ToolCall { id, name, arguments } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": arguments_object(arguments)})
        }
        ContentBlock::ToolResult { id, content, is_error, .. } => {
            let mut result = json!({"type": "tool_result", "tool_use_id": id, "content": content});
            if *is_error && let Some(result) = result.as_object_mut() {
                result.insert("is_error".into(), json!(true));
            }
            result
        }
        ContentBlock::File { media_type, digest } => {
            let file = EncodedFile::read(media_type, digest, limits)?;
            let kind = match file.kind {
                FileKind::Image => "image",
                FileKind::Document => "document",
            };
            let source = json!({"type": "base64", "media_type": file.media_type, "data": file.base64});
            json!({"type": kind, "source": source})
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::test_request::request_with_options;

    fn body(model: &str, options: Value) -> Value {
        let endpoint = Endpoint::new("lab", Dialect::Anthropic, "http://127.0.0.1:1");
        request_body(&endpoint, &request_with_options(model, options), &RequestLimits::default()).unwrap()
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let user = json!({"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]});
        let options = json!({"reasoning": "low", "top_p": 0.95, "stop": ["END"], "provider_options": {"top_k": 5}});
        assert_eq!(
            body("claude-sonnet-4-5", options.clone()),
            json!({"model": "claude-sonnet-4-5", "max_tokens": 8000, "messages": [user], "stream": true, "top_p": 0.95,
                "stop_sequences": ["END"], "thinking": {"type": "enabled", "budget_tokens": 1600}, "top_k": 5})
        );
        assert_eq!(
            body("claude-sonnet-5-5", options),
            json!({"model": "claude-sonnet-5-5", "max_tokens": 8000, "messages": [user], "stream": true,
                "stop_sequences": ["END"], "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "top_k": 5})
        );
    }

    #[test]
    fn a_temperature_is_not_sent_with_reasoning() {
        let endpoint = Endpoint::new("lab", Dialect::Anthropic, "http://127.0.0.1:1");
        for (effort, sends_temperature) in [("none", true), ("high", false)] {
            let request = ChatRequest {
                temperature: Some(0.5),
                ..request_with_options("claude-sonnet-4-5", json!({"reasoning": effort}))
            };
            let body = request_body(&endpoint, &request, &RequestLimits::default()).unwrap();
            assert_eq!(body.get("temperature").is_some(), sends_temperature, "{effort}");
            assert_eq!(body.get("thinking").is_some(), !sends_temperature, "{effort}");
        }
    }

    fn body_with_schema(model: &str, options: Value) -> Value {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
            "additionalProperties": false});
        let request = ChatRequest { schema: Some(schema.into()), ..request_with_options(model, options) };
        let endpoint = Endpoint::new("lab", Dialect::Anthropic, "http://127.0.0.1:1");
        request_body(&endpoint, &request, &RequestLimits::default()).unwrap()
    }

    #[test]
    fn a_model_that_refuses_a_schema_receives_none() {
        for (model, has_schema) in [
            ("claude-3-5-haiku-latest", false),
            ("claude-3-7-sonnet-20250219", false),
            ("claude-sonnet-4-20250514", false),
            ("claude-sonnet-4-5-20250929", true),
            ("some-model", true),
        ] {
            assert_eq!(body_with_schema(model, json!({})).get("output_config").is_some(), has_schema, "{model}");
        }
    }

    #[test]
    fn the_output_config_contains_the_schema_and_the_effort() {
        let options = json!({"reasoning": "max", "provider_options": {"output_config": {"task_budget": 1}}});
        let body = body_with_schema("claude-opus-4-6", options);
        let config = &body["output_config"];
        assert_eq!((&config["effort"], &config["task_budget"]), (&json!("max"), &json!(1)));
        assert_eq!(config["format"]["type"], "json_schema");
    }
}
