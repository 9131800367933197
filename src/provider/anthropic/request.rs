//! The body of a request to Anthropic's Messages API.

use serde_json::{Map, Value, json};

use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::request_content::{EncodedFile, FileKind, arguments_object, request_blocks};
use crate::provider::{Dialect, Endpoint, RequestLimits, schema};

pub(super) fn request_body(
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model.model));
    body.insert("max_tokens".into(), json!(request.max_output_tokens));
    if !request.system.is_empty() {
        let mut system = json!({"type": "text", "text": request.system});
        mark_cached(&mut system);
        body.insert("system".into(), json!([system]));
    }
    body.insert("messages".into(), Value::Array(messages(request, limits)?));
    body.insert("stream".into(), json!(true));
    // Newer models refuse any request that sets a temperature, even their own default.
    let has_own_temperature = crate::catalog::claude_has_fixed_temperature(&request.model.model);
    if let Some(temperature) = request.temperature.filter(|_| !has_own_temperature) {
        body.insert("temperature".into(), json!(temperature));
    }
    let schema = request.schema.as_deref().filter(|_| endpoint.structured_output);
    if let Some(schema) = schema.and_then(schema::anthropic_schema) {
        let format = json!({"type": "json_schema", "schema": schema});
        body.insert("output_config".into(), json!({"format": format}));
    }
    Ok(Value::Object(body))
}

/// The messages of the request, with a cache mark at the end of the last user message. Together with the mark of the
/// system prompt, the calls of a step share the prompt, and each turn of a conversation shares the turns before it.
fn messages(request: &ChatRequest, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    let mut messages = Vec::with_capacity(request.messages.len());
    let mut last_user = None;
    for message in &request.messages {
        let blocks = content_blocks(message, limits)?;
        // The API refuses a message without content.
        if blocks.is_empty() {
            continue;
        }
        let role = match message.role {
            Role::User => {
                last_user = Some(messages.len());
                "user"
            }
            Role::Assistant => "assistant",
        };
        messages.push(json!({"role": role, "content": blocks}));
    }
    let last_block = last_user
        .and_then(|index| messages.get_mut(index))
        .and_then(|message| message.get_mut("content")?.as_array_mut()?.last_mut());
    if let Some(block) = last_block {
        mark_cached(block);
    }
    Ok(messages)
}

/// Makes the API cache the request up to the end of this block.
fn mark_cached(block: &mut Value) {
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
