//! The body of a request to the Responses API.

use serde_json::{Map, Value, json};

use crate::model::chat::{ChatRequest, Message, Role};
use crate::model::content::ContentBlock;
use crate::model::failure::Failure;
use crate::provider::openai_host::{accepts_schema, cache_key, effort_to_send, requests_encrypted_reasoning};
use crate::provider::request_content::{EncodedFile, FileKind, arguments_object, request_blocks, result_text};
use crate::provider::request_tools::{native_schema, openai_choice};
use crate::provider::sent_options::{SentOptions, add_provider_options};
use crate::provider::{Dialect, Endpoint, RequestLimits, schema};

pub(super) fn request_body(
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &RequestLimits,
) -> Result<Value, Failure> {
    let model = &request.model.model;
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    if !request.system.is_empty() {
        body.insert("instructions".into(), json!(request.system));
    }
    body.insert("input".into(), Value::Array(input_items(request, limits)?));
    body.insert("stream".into(), json!(true));
    // The server does not store the conversation, so orch sends encrypted reasoning back with the next request.
    body.insert("store".into(), json!(false));
    if requests_encrypted_reasoning(endpoint, model) {
        body.insert("include".into(), json!(["reasoning.encrypted_content"]));
    }
    body.insert("prompt_cache_key".into(), json!(cache_key(request)));
    body.insert("max_output_tokens".into(), json!(request.max_output_tokens));
    let options = SentOptions::new(endpoint, request)?;
    if let Some(temperature) = options.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if let Some(effort) = options.reasoning.and_then(|effort| effort_to_send(endpoint, model, effort)) {
        body.insert("reasoning".into(), json!({"effort": effort}));
    }
    if let Some(top_p) = options.top_p {
        body.insert("top_p".into(), json!(top_p));
    }
    insert_tools(&mut body, request);
    if let Some(schema) = native_schema(request).filter(|schema| accepts_schema(endpoint, model, schema)) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let adapted = schema::openai_schema(schema);
        let format = json!({"type": "json_schema", "name": name, "schema": adapted.schema, "strict": adapted.strict});
        body.insert("text".into(), json!({"format": format}));
    }
    add_provider_options(&mut body, &request.options, Dialect::Responses)?;
    Ok(Value::Object(body))
}

/// Inserts the tools and the choice among them. Without `strict`, the API would try to make every schema strict.
fn insert_tools(body: &mut Map<String, Value>, request: &ChatRequest) {
    if request.tools.is_empty() {
        return;
    }
    let tools = request.tools.definitions.iter().map(|tool| {
        let adapted = schema::openai_schema(&schema::tool_schema(&tool.parameters));
        json!({"type": "function", "name": tool.name, "description": tool.description,
            "parameters": adapted.schema, "strict": adapted.strict})
    });
    body.insert("tools".into(), tools.collect());
    if let Some(choice) = openai_choice(request) {
        body.insert("tool_choice".into(), json!(choice));
    }
}

/// The input items: messages, calls, results and reasoning.
fn input_items(request: &ChatRequest, limits: &RequestLimits) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        push_items(&mut items, message, limits)?;
    }
    Ok(items)
}

/// Appends the items of a message. Text and files between two other items are one message item.
fn push_items(items: &mut Vec<Value>, message: &Message, limits: &RequestLimits) -> Result<(), Failure> {
    let mut open_message = OpenMessage { role: message.role, parts: Vec::new(), phase: None };
    for block in request_blocks(message, Dialect::Responses) {
        let item = match block {
            ContentBlock::Text { text } => {
                open_message.parts.push(json!({"type": "input_text", "text": text}));
                continue;
            }
            ContentBlock::File { media_type, digest } => {
                open_message.parts.push(file_part(&EncodedFile::read(media_type, digest, limits)?));
                continue;
            }
            // This data is the phase of the following message.
            ContentBlock::Opaque { data, .. } if data.get("type").is_some_and(|kind| kind == "message") => {
                items.extend(open_message.take_item());
                open_message.phase = data.get("phase").cloned();
                continue;
            }
            ContentBlock::Opaque { data, .. } => data.clone(),
            ContentBlock::ToolCall { id, name, arguments } => {
                let arguments = arguments_object(arguments).to_string();
                json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
            }
            ContentBlock::ToolResult { id, content, is_error, .. } => {
                json!({"type": "function_call_output", "call_id": id, "output": result_text(content, *is_error)})
            }
        };
        items.extend(open_message.take_item());
        items.push(item);
    }
    items.extend(open_message.take_item());
    Ok(())
}

/// A message item under construction.
struct OpenMessage {
    role: Role,
    parts: Vec<Value>,
    phase: Option<Value>,
}

impl OpenMessage {
    /// Returns the item if it has any content, and starts the next one.
    fn take_item(&mut self) -> Option<Value> {
        if self.parts.is_empty() {
            return None;
        }
        let parts = std::mem::take(&mut self.parts);
        let (role, text) = match self.role {
            Role::User => ("user", None),
            // The API accepts output parts in an assistant's message only with the id and the status of a message that
            // it generated. Without these, the content must be a string.
            Role::Assistant => ("assistant", joined_text(&parts)),
        };
        let mut item = Map::new();
        item.insert("type".into(), json!("message"));
        item.insert("role".into(), json!(role));
        if let Some(phase) = self.phase.take() {
            item.insert("phase".into(), phase);
        }
        item.insert("content".into(), text.map_or(Value::Array(parts), Value::String));
        Some(Value::Object(item))
    }
}

/// The text of all parts; `None` if one of them is a file.
fn joined_text(parts: &[Value]) -> Option<String> {
    parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect()
}

fn file_part(file: &EncodedFile) -> Value {
    match file.kind {
        FileKind::Image => json!({"type": "input_image", "image_url": file.data_url(), "detail": "auto"}),
        FileKind::Document => {
            json!({"type": "input_file", "filename": file.file_name(), "file_data": file.data_url()})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelRef;
    use crate::model::failure::FailureClass;

    fn request(model: &str, max_output_tokens: u32) -> ChatRequest {
        ChatRequest {
            system: "You are terse.".into(),
            temperature: Some(0.5),
            ..ChatRequest::new(ModelRef::new("openai", model), vec![Message::user("hi")], max_output_tokens)
        }
    }

    fn body(base_url: &str, request: &ChatRequest) -> Result<Value, Failure> {
        request_body(&Endpoint::new("openai", Dialect::Responses, base_url), request, &RequestLimits::default())
    }

    const OPENAI: &str = "https://api.openai.com/v1";
    const OTHER_SERVER: &str = "http://127.0.0.1:1/v1";

    #[test]
    fn openai_receives_only_what_its_models_accept() {
        for (url, model, requests_reasoning, sends_temperature) in [
            (OPENAI, "gpt-6.1-sol", true, false),
            (OPENAI, "o4-mini", true, false),
            (OPENAI, "gpt-4.1", false, true),
            (OPENAI, "gpt-5-chat-latest", false, false),
            (OTHER_SERVER, "qwen3", true, true),
        ] {
            let body = body(url, &request(model, 256)).unwrap();
            assert_eq!(body.get("include").is_some(), requests_reasoning, "{model}");
            assert_eq!(body.get("temperature").is_some(), sends_temperature, "{model}");
        }
    }

    #[test]
    fn sampling_options_are_sent_while_the_reasoning_of_a_model_is_off() {
        let request_with = |effort: &str| ChatRequest {
            options: Box::new(serde_json::from_value(json!({"reasoning": effort, "top_p": 0.9})).unwrap()),
            ..request("gpt-5.1", 256)
        };
        let off = body(OPENAI, &request_with("none")).unwrap();
        assert_eq!(off["reasoning"], json!({"effort": "none"}));
        assert_eq!((&off["temperature"], &off["top_p"]), (&json!(0.5), &json!(0.9)));
        let on = body(OPENAI, &request_with("low")).unwrap();
        assert_eq!((on.get("temperature"), on.get("top_p")), (None, None));
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let request_with = |model: &str, options: Value| ChatRequest {
            temperature: None,
            options: Box::new(serde_json::from_value(options).unwrap()),
            ..request(model, 256)
        };
        let options = json!({"reasoning": "max", "top_p": 0.9, "seed": 7, "stop": ["END"],
            "provider_options": {"service_tier": "flex", "text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}}});
        let without_options = body(OPENAI, &request_with("gpt-5.4", json!({}))).unwrap();
        let mut expected = without_options.as_object().cloned().unwrap();
        expected.insert("reasoning".into(), json!({"effort": "xhigh", "summary": "auto"}));
        expected.insert("service_tier".into(), json!("flex"));
        expected.insert("text".into(), json!({"verbosity": "low"}));
        assert_eq!(body(OPENAI, &request_with("gpt-5.4", options.clone())).unwrap(), Value::Object(expected.clone()));

        expected.insert("model".into(), json!("qwen3"));
        expected.insert("reasoning".into(), json!({"effort": "max", "summary": "auto"}));
        expected.insert("top_p".into(), json!(0.9));
        let key = cache_key(&request_with("qwen3", json!({})));
        expected.insert("prompt_cache_key".into(), json!(key));
        assert_eq!(body(OTHER_SERVER, &request_with("qwen3", options)).unwrap(), Value::Object(expected));
    }

    #[test]
    fn a_limit_below_the_minimum_fails_only_where_the_server_refuses_it() {
        let failure = body(OPENAI, &request("gpt-4.1", 15)).unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert_eq!(failure.hint.as_deref(), Some("set `max_output_tokens` to at least 16"));
        assert!(body(OPENAI, &request("gpt-4.1", 16)).is_ok());
        assert!(body(OTHER_SERVER, &request("qwen3", 1)).is_ok());
    }

    #[test]
    fn the_cache_key_depends_on_the_model_and_the_system_prompt_alone() {
        let base = request("gpt-6.1-sol", 256);
        let messages = vec![Message::user("hi"), Message::assistant("hello")];
        let later_turn = ChatRequest { messages, ..base.clone() };
        assert_eq!(cache_key(&base), cache_key(&later_turn));
        assert_ne!(cache_key(&base), cache_key(&request("gpt-6.2", 256)));
        assert_ne!(cache_key(&base), cache_key(&ChatRequest { system: "Other.".into(), ..base.clone() }));
    }
}
