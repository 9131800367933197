//! The body of a request to the Gemini API.

use serde_json::{Map, Value, json};

use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::request_content::{EncodedFile, arguments_object, request_blocks};
use crate::provider::{Dialect, Endpoint, RequestLimits, schema};

pub(super) fn request_body(
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<Value, Failure> {
    let mut contents = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "model",
        };
        let parts = parts(message, limits)?;
        // The API refuses a message without parts.
        if !parts.is_empty() {
            contents.push(json!({"role": role, "parts": parts}));
        }
    }
    let mut config = Map::new();
    config.insert("maxOutputTokens".into(), json!(request.max_output_tokens));
    let has_own_temperature = crate::catalog::gemini_has_fixed_temperature(&request.model.model);
    if let Some(temperature) = request.temperature.filter(|_| !has_own_temperature) {
        config.insert("temperature".into(), json!(temperature));
    }
    if let Some(schema) = request.schema.as_deref().filter(|_| endpoint.structured_output) {
        config.insert("responseMimeType".into(), json!("application/json"));
        config.insert("responseJsonSchema".into(), schema::gemini_schema(schema));
    }
    let mut body = Map::new();
    if !request.system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": [{"text": request.system}]}));
    }
    body.insert("contents".into(), Value::Array(contents));
    body.insert("generationConfig".into(), Value::Object(config));
    Ok(Value::Object(body))
}

fn parts(message: &Message, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    let mut parts = Vec::new();
    for block in request_blocks(message, Dialect::Gemini) {
        let part = match block {
            ContentBlock::Text { text } => json!({"text": text}),
            ContentBlock::Opaque { data, .. } => {
                push_signature(&mut parts, data);
                continue;
            }
            ContentBlock::ToolCall { id, name, arguments } => {
                json!({"functionCall": {"id": id, "name": name, "args": arguments_object(arguments)}})
            }
            ContentBlock::ToolResult { id, name, content, is_error } => {
                let field = if *is_error { "error" } else { "output" };
                json!({"functionResponse": {"id": id, "name": name, "response": {field: content}}})
            }
            ContentBlock::File { media_type, digest } => {
                let file = EncodedFile::read(media_type, digest, limits)?;
                json!({"inlineData": {"mimeType": file.media_type, "data": file.base64}})
            }
        };
        parts.push(part);
    }
    Ok(parts)
}

/// Appends the signature of a part to that part, which is the last one; data with a text is a part of its own.
fn push_signature(parts: &mut Vec<Value>, data: &Value) {
    let signature = data.get("thoughtSignature").filter(|_| data.get("text").is_none());
    let signed_part =
        parts.last_mut().and_then(Value::as_object_mut).filter(|part| !part.contains_key("thoughtSignature"));
    match (signature, signed_part) {
        (Some(signature), Some(part)) => {
            part.insert("thoughtSignature".into(), signature.clone());
        }
        // The part is gone: its text was replaced by another one.
        (Some(signature), None) => parts.push(json!({"text": "", "thoughtSignature": signature})),
        (None, _) => parts.push(data.clone()),
    }
}
