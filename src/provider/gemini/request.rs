//! The body of a request to the Gemini API.

use serde_json::{Map, Value, json};

use crate::catalog::{GeminiThinking, gemini_accepts_schema_with_tools, gemini_thinking};
use crate::model::ToolChoice;
use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::request_content::{EncodedFile, arguments_object, request_blocks};
use crate::provider::request_tools::native_schema;
use crate::provider::sent_options::{SentOptions, add_provider_options};
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
        let parts = message_parts(message, limits)?;
        // The API refuses a message without parts.
        if !parts.is_empty() {
            contents.push(json!({"role": role, "parts": parts}));
        }
    }
    let mut generation_config = Map::new();
    generation_config.insert("maxOutputTokens".into(), json!(request.max_output_tokens));
    insert_options(&mut generation_config, endpoint, request)?;
    let accepts_schema = request.tools.is_empty() || gemini_accepts_schema_with_tools(&request.model.model);
    if let Some(schema) = native_schema(request).filter(|_| endpoint.structured_output && accepts_schema) {
        generation_config.insert("responseMimeType".into(), json!("application/json"));
        generation_config.insert("responseJsonSchema".into(), schema::gemini_schema(schema));
    }
    let mut body = Map::new();
    if !request.system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": [{"text": request.system}]}));
    }
    insert_tools(&mut body, request);
    body.insert("contents".into(), Value::Array(contents));
    body.insert("generationConfig".into(), Value::Object(generation_config));
    add_provider_options(&mut body, &request.options, Dialect::Gemini)?;
    Ok(Value::Object(body))
}

/// Inserts the tools and the choice among them. A tool without arguments has no schema.
fn insert_tools(body: &mut Map<String, Value>, request: &ChatRequest) {
    if request.tools.is_empty() {
        return;
    }
    let declarations = request.tools.definitions.iter().map(|tool| {
        let mut declaration = json!({"name": tool.name, "description": tool.description});
        let schema = schema::gemini_schema(&schema::tool_schema(&tool.parameters));
        let has_properties = schema.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        if let Some(declaration) = declaration.as_object_mut().filter(|_| has_properties) {
            declaration.insert("parametersJsonSchema".into(), schema);
        }
        declaration
    });
    body.insert("tools".into(), json!([{"functionDeclarations": declarations.collect::<Vec<Value>>()}]));
    let mode = match request.tools.choice {
        ToolChoice::Auto => return,
        ToolChoice::Required => "ANY",
        ToolChoice::None => "NONE",
    };
    body.insert("toolConfig".into(), json!({"functionCallingConfig": {"mode": mode}}));
}

fn insert_options(
    generation_config: &mut Map<String, Value>,
    endpoint: &Endpoint,
    request: &ChatRequest,
) -> Result<(), Failure> {
    let options = SentOptions::new(endpoint, request)?;
    if let Some(temperature) = options.temperature {
        generation_config.insert("temperature".into(), json!(temperature));
    }
    if let Some(top_p) = options.top_p {
        generation_config.insert("topP".into(), json!(top_p));
    }
    if let Some(seed) = options.seed {
        generation_config.insert("seed".into(), json!(seed));
    }
    if !options.stop.is_empty() {
        generation_config.insert("stopSequences".into(), json!(options.stop));
    }
    let thinking =
        options.reasoning.map(|effort| gemini_thinking(&request.model.model, effort, request.max_output_tokens));
    let thinking_config = match thinking {
        Some(Ok(GeminiThinking::Budget(budget))) => json!({"thinkingBudget": budget}),
        Some(Ok(GeminiThinking::Level(level))) => json!({"thinkingLevel": level}),
        // `SentOptions` leaves out an effort that the model refuses, and the check or the run reports that. So no error
        // is lost here.
        Some(Ok(GeminiThinking::OmitConfig) | Err(_)) | None => return Ok(()),
    };
    generation_config.insert("thinkingConfig".into(), thinking_config);
    Ok(())
}

fn message_parts(message: &Message, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    let mut parts = Vec::new();
    for block in request_blocks(message, Dialect::Gemini) {
        let part = match block {
            ContentBlock::Text { text } => json!({"text": text}),
            ContentBlock::Opaque { data, .. } => {
                push_opaque(&mut parts, data);
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

/// Adds opaque data. A bare signature goes into the last part, which it signs. Data with a `text` field is a whole
/// part, so it is appended as it is.
fn push_opaque(parts: &mut Vec<Value>, data: &Value) {
    let signature = data.get("thoughtSignature").filter(|_| data.get("text").is_none());
    let signed_part =
        parts.last_mut().and_then(Value::as_object_mut).filter(|part| !part.contains_key("thoughtSignature"));
    match (signature, signed_part) {
        (Some(signature), Some(part)) => {
            part.insert("thoughtSignature".into(), signature.clone());
        }
        // The part that this signature signs is gone, because orch replaced its text. Send the signature in an empty
        // text part.
        (Some(signature), None) => parts.push(json!({"text": "", "thoughtSignature": signature})),
        (None, _) => parts.push(data.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::test_request::request_with_options;

    fn body(model: &str, options: Value) -> Value {
        let endpoint = Endpoint::new("lab", Dialect::Gemini, "http://127.0.0.1:1");
        request_body(&endpoint, &request_with_options(model, options), &RequestLimits::default()).unwrap()
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
        let options = json!({"reasoning": "low", "top_p": 0.9, "seed": 7, "stop": ["END"],
            "provider_options": {"safetySettings": [], "generationConfig": {"topK": 4}}});
        assert_eq!(
            body("gemini-2.5-flash", options.clone()),
            json!({"contents": contents, "safetySettings": [], "generationConfig": {"maxOutputTokens": 8000,
                "topP": 0.9, "seed": 7, "stopSequences": ["END"], "thinkingConfig": {"thinkingBudget": 1600}, "topK": 4}})
        );
        assert_eq!(
            body("gemini-3.8-flash", options),
            json!({"contents": contents, "safetySettings": [], "generationConfig": {"maxOutputTokens": 8000,
                "seed": 7, "stopSequences": ["END"], "thinkingConfig": {"thinkingLevel": "low"}, "topK": 4}})
        );
        assert_eq!(
            body("gemini-2.5-flash", json!({"reasoning": "none"}))["generationConfig"]["thinkingConfig"],
            json!({"thinkingBudget": 0})
        );
    }
}
