//! The body of a request to the Converse API.

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
    let model = &request.model.model;
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = content_blocks(message, limits)?;
        // The API refuses a message without content.
        if !content.is_empty() {
            messages.push(json!({"role": role, "content": content}));
        }
    }
    let has_cache_points = crate::catalog::bedrock_accepts_cache_points(model);
    if has_cache_points {
        push_cache_point(last_user_content(&mut messages));
    }
    let mut config = Map::new();
    config.insert("maxTokens".into(), json!(request.max_output_tokens));
    let has_own_temperature = crate::catalog::claude_has_fixed_temperature(model);
    if let Some(temperature) = request.temperature.filter(|_| !has_own_temperature) {
        config.insert("temperature".into(), json!(temperature));
    }
    let mut body = Map::new();
    if !request.system.is_empty() {
        let mut system = json!([{"text": request.system}]);
        if has_cache_points {
            push_cache_point(Some(&mut system));
        }
        body.insert("system".into(), system);
    }
    body.insert("messages".into(), Value::Array(messages));
    body.insert("inferenceConfig".into(), Value::Object(config));
    // The API refuses a schema for a model that can't be constrained, and most can't.
    let may_send_schema = endpoint.structured_output && crate::catalog::claude_has_structured_output(model);
    let schema = request.schema.as_deref().filter(|_| may_send_schema);
    if let Some(schema) = schema.and_then(schema::anthropic_schema) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let structure = json!({"jsonSchema": {"name": name, "schema": schema.to_string()}});
        body.insert("outputConfig".into(), json!({"textFormat": {"type": "json_schema", "structure": structure}}));
    }
    Ok(Value::Object(body))
}

/// The content of the last user message. With the cache points there and after the system prompt, the calls of a step
/// share the prompt, and each turn of a conversation shares the turns before it.
fn last_user_content(messages: &mut [Value]) -> Option<&mut Value> {
    let is_from_user = |message: &&mut Value| message.get("role").is_some_and(|role| role == "user");
    messages.iter_mut().rev().find(is_from_user)?.get_mut("content")
}

/// Makes the API cache the request up to the end of this list of blocks.
fn push_cache_point(blocks: Option<&mut Value>) {
    if let Some(blocks) = blocks.and_then(Value::as_array_mut) {
        blocks.push(json!({"cachePoint": {"type": "default"}}));
    }
}

fn content_blocks(message: &Message, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    request_blocks(message, Dialect::Converse).map(|block| content_block(block, limits)).collect()
}

fn content_block(block: &ContentBlock, limits: &RequestLimits) -> Result<Value, Failure> {
    Ok(match block {
        ContentBlock::Text { text } => json!({"text": text}),
        ContentBlock::Opaque { data, .. } => data.clone(),
        ContentBlock::ToolCall { id, name, arguments } => {
            json!({"toolUse": {"toolUseId": id, "name": name, "input": arguments_object(arguments)}})
        }
        ContentBlock::ToolResult { id, content, is_error, .. } => {
            let status = if *is_error { "error" } else { "success" };
            json!({"toolResult": {"toolUseId": id, "content": [{"text": content}], "status": status}})
        }
        ContentBlock::File { media_type, digest } => {
            let file = EncodedFile::read(media_type, digest, limits)?;
            let source = json!({"bytes": file.base64});
            match file.kind {
                FileKind::Image => json!({"image": {"format": file.format, "source": source}}),
                FileKind::Document => {
                    json!({"document": {"format": file.format, "name": file.name, "source": source}})
                }
            }
        }
    })
}
