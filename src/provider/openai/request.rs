//! The body of a request to the Chat Completions API.

use serde_json::{Map, Value, json};

use super::reasoning::REASONING_FIELD;
use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::openai_host::{accepts_cache_key, accepts_schema, cache_key, effort_to_send, is_openai};
use crate::provider::request_content::{EncodedFile, FileKind, arguments_object, request_blocks, result_text};
use crate::provider::request_tools::{native_schema, openai_choice};
use crate::provider::sent_options::{SentOptions, add_provider_options};
use crate::provider::{Dialect, Endpoint, RequestLimits, schema};

pub(super) fn request_body(
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<Value, Failure> {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in &request.messages {
        push_message(&mut messages, message, limits)?;
    }
    let model = &request.model.model;
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), Value::Array(messages));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({"include_usage": true}));
    if accepts_cache_key(endpoint) {
        body.insert("prompt_cache_key".into(), json!(cache_key(request)));
    }
    // `OpenAI` itself has deprecated `max_tokens`, and its newer models refuse it; other servers accept only that name.
    let limit_name = if is_openai(endpoint, model) { "max_completion_tokens" } else { "max_tokens" };
    body.insert(limit_name.into(), json!(request.max_output_tokens));
    insert_options(&mut body, endpoint, request)?;
    insert_tools(&mut body, request);
    if let Some(schema) = native_schema(request).filter(|schema| accepts_schema(endpoint, model, schema)) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let adapted = schema::openai_schema(schema);
        let format = json!({"name": name, "schema": adapted.schema, "strict": adapted.strict});
        body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": format}));
    }
    add_provider_options(&mut body, &request.options, Dialect::OpenAi)?;
    Ok(Value::Object(body))
}

fn insert_options(body: &mut Map<String, Value>, endpoint: &Endpoint, request: &ChatRequest) -> Result<(), Failure> {
    let options = SentOptions::new(endpoint, request)?;
    if let Some(temperature) = options.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if let Some(effort) = options.reasoning.and_then(|effort| effort_to_send(endpoint, &request.model.model, effort)) {
        body.insert("reasoning_effort".into(), json!(effort));
    }
    if let Some(top_p) = options.top_p {
        body.insert("top_p".into(), json!(top_p));
    }
    if let Some(seed) = options.seed {
        body.insert("seed".into(), json!(seed));
    }
    if !options.stop.is_empty() {
        body.insert("stop".into(), json!(options.stop));
    }
    Ok(())
}

/// Inserts the tools and the choice among them. Strict mode needs a schema within its subset.
fn insert_tools(body: &mut Map<String, Value>, request: &ChatRequest) {
    if request.tools.is_empty() {
        return;
    }
    let tools = request.tools.definitions.iter().map(|tool| {
        let adapted = schema::openai_schema(&schema::tool_schema(&tool.parameters));
        let function = json!({"name": tool.name, "description": tool.description, "parameters": adapted.schema,
            "strict": adapted.strict});
        json!({"type": "function", "function": function})
    });
    body.insert("tools".into(), tools.collect());
    if let Some(choice) = openai_choice(request) {
        body.insert("tool_choice".into(), json!(choice));
    }
}

/// Appends a message. Each tool result in it becomes a separate message before it.
fn push_message(messages: &mut Vec<Value>, message: &Message, limits: &RequestLimits) -> Result<(), Failure> {
    let (mut parts, mut calls, mut reasoning) = (Vec::new(), Vec::new(), Vec::new());
    let count_before = messages.len();
    for block in request_blocks(message, Dialect::OpenAi) {
        match block {
            ContentBlock::Text { text } => parts.push(json!({"type": "text", "text": text})),
            ContentBlock::File { media_type, digest } => {
                parts.push(file_part(&EncodedFile::read(media_type, digest, limits)?));
            }
            ContentBlock::ToolCall { id, name, arguments } => {
                let function = json!({"name": name, "arguments": arguments_object(arguments).to_string()});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            ContentBlock::ToolResult { id, content, is_error, .. } => {
                let content = result_text(content, *is_error);
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            ContentBlock::Opaque { data, .. } => {
                let details = data.get(REASONING_FIELD).and_then(Value::as_array);
                reasoning.extend(details.into_iter().flatten().cloned());
            }
        }
    }
    if parts.is_empty() && calls.is_empty() && messages.len() > count_before {
        return Ok(());
    }
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    // Many servers accept a list of parts only if it contains more than text.
    let has_files = message.content.blocks().iter().any(|block| matches!(block, ContentBlock::File { .. }));
    let content = match (has_files, parts.is_empty() && !calls.is_empty()) {
        (true, _) => Value::Array(parts),
        (false, true) => Value::Null,
        (false, false) => json!(message.content.text()),
    };
    let mut message_object = Map::new();
    message_object.insert("role".into(), json!(role));
    message_object.insert("content".into(), content);
    if !calls.is_empty() {
        message_object.insert("tool_calls".into(), Value::Array(calls));
    }
    if !reasoning.is_empty() {
        message_object.insert(REASONING_FIELD.into(), Value::Array(reasoning));
    }
    messages.push(Value::Object(message_object));
    Ok(())
}

fn file_part(file: &EncodedFile) -> Value {
    match file.kind {
        FileKind::Image => json!({"type": "image_url", "image_url": {"url": file.data_url()}}),
        FileKind::Document => {
            json!({"type": "file", "file": {"filename": file.file_name(), "file_data": file.data_url()}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelRef;

    fn endpoint(base_url: &str) -> Endpoint {
        Endpoint::new("openai", Dialect::OpenAi, base_url)
    }

    #[test]
    fn the_output_limit_is_sent_under_the_name_that_the_server_accepts() {
        let request = |model: &str| ChatRequest {
            temperature: Some(0.5),
            ..ChatRequest::new(ModelRef::new("openai", model), Vec::new(), 9)
        };
        let body = |endpoint: &Endpoint, model: &str| {
            request_body(endpoint, &request(model), &RequestLimits::default()).unwrap()
        };
        let openai = endpoint("https://api.openai.com/v1");
        for (model, sends_temperature) in [("gpt-4o", true), ("gpt-6.1-sol", false)] {
            let body = body(&openai, model);
            assert!(body["prompt_cache_key"].as_str().unwrap().starts_with("orch-"), "{model}");
            assert_eq!((body.get("max_completion_tokens"), body.get("max_tokens")), (Some(&json!(9)), None), "{model}");
            assert_eq!(body.get("temperature").is_some(), sends_temperature, "{model}");
        }
        let gateway = endpoint("http://127.0.0.1:1/v1");
        let other_name = Endpoint { name: "lab".into(), ..gateway.clone() };
        for (endpoint, model) in [(&gateway, "gpt-4.1"), (&gateway, "qwen3"), (&other_name, "gpt-6.1-sol")] {
            let body = body(endpoint, model);
            assert_eq!(
                (body.get("max_tokens"), body.get("temperature")),
                (Some(&json!(9)), Some(&json!(0.5))),
                "{model}"
            );
        }
        // Behind a gateway, the reasoning models of the provider `openai` are still those of OpenAI.
        let body = body(&gateway, "gpt-6.1-sol");
        assert_eq!((body.get("max_completion_tokens"), body.get("max_tokens")), (Some(&json!(9)), None));
        assert_eq!((body.get("temperature"), body.get("prompt_cache_key")), (None, None));
    }

    #[test]
    fn only_openais_own_address_receives_a_cache_key() {
        let request = ChatRequest::new(ModelRef::new("openai", "gpt-4o"), Vec::new(), 9);
        for (url, has_key) in [
            ("https://api.openai.com/v1", true),
            ("https://eu.api.openai.com/v1", true),
            ("https://name.openai.azure.com/openai/v1", false),
            ("https://api.openai.com.example/v1", false),
            ("http://127.0.0.1:1/v1", false),
        ] {
            let body = request_body(&endpoint(url), &request, &RequestLimits::default()).unwrap();
            assert_eq!(body.get("prompt_cache_key").is_some(), has_key, "{url}");
        }
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let body = |endpoint: &Endpoint, model: &str, options: Value| {
            let request = ChatRequest {
                options: Box::new(serde_json::from_value(options).unwrap()),
                ..ChatRequest::new(ModelRef::new("openai", model), vec![Message::user("hi")], 9)
            };
            let mut body = request_body(endpoint, &request, &RequestLimits::default()).unwrap();
            body.as_object_mut().unwrap().remove("prompt_cache_key");
            body
        };
        let options = json!({"reasoning": "max", "top_p": 0.9, "seed": 7, "stop": ["END"],
            "provider_options": {"top_k": 5, "chat_template_kwargs": {"enable_thinking": false}}});
        let common_members = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true,
            "stream_options": {"include_usage": true}, "seed": 7, "top_k": 5,
            "chat_template_kwargs": {"enable_thinking": false}});
        let body_with = |members: Value| {
            let mut body = common_members.as_object().cloned().unwrap();
            body.extend(members.as_object().cloned().unwrap());
            Value::Object(body)
        };
        assert_eq!(
            body(&endpoint("http://127.0.0.1:1/v1"), "qwen3", options.clone()),
            body_with(
                json!({"model": "qwen3", "max_tokens": 9, "reasoning_effort": "max", "top_p": 0.9, "stop": ["END"]})
            )
        );
        // A reasoning model of OpenAI itself has a fixed `top_p` and no `stop`.
        assert_eq!(
            body(&endpoint("https://api.openai.com/v1"), "gpt-5.4", options),
            body_with(json!({"model": "gpt-5.4", "max_completion_tokens": 9, "reasoning_effort": "xhigh"}))
        );
    }
}
