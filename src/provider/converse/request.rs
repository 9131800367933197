//! The body of a request to the Converse API.

use serde_json::{Map, Value, json};

use crate::catalog::{
    BedrockReasoning, ClaudeThinking, bedrock_accepts_forced_calls, bedrock_limits_tool_schemas, bedrock_reasoning,
    is_converse_field,
};
use crate::model::ToolChoice;
use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::request_content::{EncodedFile, FileKind, arguments_object, request_blocks};
use crate::provider::request_tools::native_schema;
use crate::provider::sent_options::{SentOptions, merge_options, refuse_reserved, thinking_fields};
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
        // A turn with tools may have more blocks than the API looks back from a cache point.
        let count = if request.tools.is_empty() { 1 } else { 2 };
        user_contents(&mut messages).rev().take(count).for_each(push_cache_point);
    }
    if !request.tools.is_empty()
        && request.tools.choice == ToolChoice::None
        && let Some(content) = user_contents(&mut messages).next_back().and_then(Value::as_array_mut)
    {
        // After the cache point, so that the next request has the same cached prefix.
        content.push(json!({"text": NO_CALLS}));
    }
    let mut inference_config = Map::new();
    inference_config.insert("maxTokens".into(), json!(request.max_output_tokens));
    let options = SentOptions::new(endpoint, request)?;
    if let Some(temperature) = options.temperature {
        inference_config.insert("temperature".into(), json!(temperature));
    }
    if let Some(top_p) = options.top_p {
        inference_config.insert("topP".into(), json!(top_p));
    }
    if !options.stop.is_empty() {
        inference_config.insert("stopSequences".into(), json!(options.stop));
    }
    let mut body = Map::new();
    if !request.system.is_empty() {
        let mut system = json!([{"text": request.system}]);
        if has_cache_points {
            push_cache_point(&mut system);
        }
        body.insert("system".into(), system);
    }
    body.insert("messages".into(), Value::Array(messages));
    body.insert("inferenceConfig".into(), Value::Object(inference_config));
    let may_send_schema = endpoint.structured_output && crate::catalog::bedrock_accepts_schema(model);
    let schema = native_schema(request).filter(|_| may_send_schema);
    if let Some(schema) = schema.and_then(schema::anthropic_schema) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let structure = json!({"jsonSchema": {"name": name, "schema": schema.to_string()}});
        body.insert("outputConfig".into(), json!({"textFormat": {"type": "json_schema", "structure": structure}}));
    }
    let reasoning =
        options.reasoning.and_then(|effort| bedrock_reasoning(model, effort, request.max_output_tokens).ok());
    if !request.tools.is_empty() {
        body.insert("toolConfig".into(), tool_config(request, reasoning, has_cache_points));
    }
    let fields = reasoning.map(reasoning_fields).unwrap_or_default();
    refuse_reserved(&request.options, Dialect::Converse)?;
    add_model_fields(&mut body, fields, &request.options.provider_options)?;
    Ok(Value::Object(body))
}

/// The instruction for the final answer of a conversation with tools, because the API has no choice `none`.
const NO_CALLS: &str = "Answer without calling a tool.";

/// The contents of the user messages. Cache points at the last one and after the system prompt let the calls of a step
/// share the cached prompt, and each turn of a conversation the cached turns before it.
fn user_contents(messages: &mut [Value]) -> impl DoubleEndedIterator<Item = &mut Value> {
    let is_from_user = |message: &&mut Value| message.get("role").is_some_and(|role| role == "user");
    messages.iter_mut().filter(is_from_user).filter_map(|message| message.get_mut("content"))
}

/// Makes the API cache the request up to the end of this list of blocks.
fn push_cache_point(blocks: &mut Value) {
    if let Some(blocks) = blocks.as_array_mut() {
        blocks.push(json!({"cachePoint": {"type": "default"}}));
    }
}

/// The tools and the choice among them. The API puts the tools before the system prompt, so that a cache point after
/// them covers all of them.
fn tool_config(request: &ChatRequest, reasoning: Option<BedrockReasoning>, has_cache_points: bool) -> Value {
    let model = &request.model.model;
    let specs = request.tools.definitions.iter().map(|tool| {
        let mut schema = schema::tool_schema(&tool.parameters);
        if let Some(members) = schema.as_object_mut().filter(|_| bedrock_limits_tool_schemas(model)) {
            members.retain(|key, _| matches!(key.as_str(), "type" | "properties" | "required"));
        }
        json!({"toolSpec": {"name": tool.name, "description": tool.description, "inputSchema": {"json": schema}}})
    });
    let mut tools = specs.collect::<Value>();
    if has_cache_points {
        push_cache_point(&mut tools);
    }
    let thinking: Option<ClaudeThinking> = match reasoning {
        Some(BedrockReasoning::Claude(thinking)) => Some(thinking),
        Some(BedrockReasoning::OmitConfig | BedrockReasoning::Nova(_) | BedrockReasoning::Effort(_)) | None => None,
    };
    let forces_call = request.tools.choice == ToolChoice::Required && bedrock_accepts_forced_calls(model, thinking);
    if forces_call { json!({"tools": tools, "toolChoice": {"any": {}}}) } else { json!({"tools": tools}) }
}

/// The fields that set the reasoning of a model. Each family of models has its own fields.
fn reasoning_fields(reasoning: BedrockReasoning) -> Map<String, Value> {
    let mut fields = Map::new();
    match reasoning {
        BedrockReasoning::OmitConfig => {}
        BedrockReasoning::Claude(thinking) => {
            let thinking = thinking_fields(thinking);
            fields.extend(thinking.thinking.map(|thinking| ("thinking".to_owned(), thinking)));
            fields.extend(thinking.effort.map(|effort| ("output_config".to_owned(), json!({"effort": effort}))));
        }
        BedrockReasoning::Nova(None) => {
            fields.insert("reasoningConfig".into(), json!({"type": "disabled"}));
        }
        BedrockReasoning::Nova(Some(effort)) => {
            let config = json!({"type": "enabled", "maxReasoningEffort": effort});
            fields.insert("reasoningConfig".into(), config);
        }
        BedrockReasoning::Effort(effort) => {
            fields.insert("reasoning_effort".into(), json!(effort));
        }
    }
    fields
}

/// Adds the fields of the model and the `provider_options` to the body. Options that the Converse API defines become
/// members of the body itself, and all other options become fields of the model.
fn add_model_fields(
    body: &mut Map<String, Value>,
    mut fields: Map<String, Value>,
    provider_options: &Map<String, Value>,
) -> Result<(), Failure> {
    let (api_options, model_options): (Map<String, Value>, Map<String, Value>) =
        provider_options.clone().into_iter().partition(|(name, _)| is_converse_field(name));
    merge_options(body, &api_options, Dialect::Converse)?;
    merge_options(&mut fields, &model_options, Dialect::Converse)?;
    if !fields.is_empty() {
        body.insert("additionalModelRequestFields".into(), Value::Object(fields));
    }
    Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::test_request::request_with_options;

    fn body(model: &str, options: Value) -> Value {
        let endpoint = Endpoint::new("lab", Dialect::Converse, "http://127.0.0.1:1");
        request_body(&endpoint, &request_with_options(model, options), &RequestLimits::default()).unwrap()
    }

    #[test]
    fn options_are_fields_of_the_api_or_of_the_model() {
        let messages = json!([{"role": "user", "content": [{"text": "hi"}, {"cachePoint": {"type": "default"}}]}]);
        let options = json!({"reasoning": "low", "top_p": 0.95, "seed": 7, "stop": ["END"],
            "provider_options": {"serviceTier": {"type": "flex"}, "top_k": 5}});
        assert_eq!(
            body("anthropic.claude-sonnet-4-5-v1:0", options.clone()),
            json!({"messages": messages, "serviceTier": {"type": "flex"},
                "inferenceConfig": {"maxTokens": 8000, "topP": 0.95, "stopSequences": ["END"]},
                "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1600}, "top_k": 5}})
        );
        let nova_body = body("amazon.nova-2-lite-v1:0", options);
        assert_eq!(
            nova_body["additionalModelRequestFields"],
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}, "top_k": 5})
        );
        assert_eq!(body("amazon.nova-pro-v1:0", json!({})).get("additionalModelRequestFields"), None);
    }

    #[test]
    fn only_models_that_are_known_to_accept_a_schema_receive_it() {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
            "additionalProperties": false});
        let endpoint = Endpoint::new("lab", Dialect::Converse, "http://127.0.0.1:1");
        for (model, has_schema) in [
            ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", true),
            ("us.anthropic.claude-opus-4-7", false),
            ("au.anthropic.claude-haiku-4-5-20251001-v1:0", false),
            ("anthropic.claude-sonnet-5", false),
        ] {
            let request = ChatRequest { schema: Some(schema.clone().into()), ..request_with_options(model, json!({})) };
            let body = request_body(&endpoint, &request, &RequestLimits::default()).unwrap();
            assert_eq!(body.get("outputConfig").is_some(), has_schema, "{model}");
        }
    }
}
