//! The dialect of `OpenAI`'s Chat Completions API, which most servers speak.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::http::{self, Assembler, HttpCall, ReplySink};
use super::stop_reasons;
use super::stream::StreamItem;
use super::usage::OPENAI;
use super::{Endpoint, Provider, RequestLimits, client, schema};
use crate::model::chat::{ChatReply, ChatRequest, Role, StopReason};
use crate::model::failure::Failure;
use crate::model::usage::ReportedUsage;

/// A provider that speaks the Chat Completions API.
pub(super) struct OpenAi {
    endpoint: Endpoint,
}

impl OpenAi {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Provider for OpenAi {
    fn dialect(&self) -> &'static str {
        "openai"
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: ReplySink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        let base = client::base_url(&self.endpoint, &request.model.model);
        let body = request_body(&self.endpoint, request);
        let draft = Draft::new(body.get("response_format").is_some());
        let assembler = OpenAiReply { draft, ..OpenAiReply::default() };
        let call = HttpCall {
            endpoint: &self.endpoint,
            model: &request.model.model,
            url: format!("{base}/chat/completions"),
            key_header: ("authorization", "Bearer "),
            headers: &[],
            body,
            limits,
        };
        http::exchange(call, assembler, sink).boxed()
    }
}

fn request_body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    messages.extend(request.messages.iter().map(|message| {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        json!({"role": role, "content": message.content.text()})
    }));
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model.model));
    body.insert("messages".into(), Value::Array(messages));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({"include_usage": true}));
    // `OpenAI` itself has deprecated `max_tokens`, and its newer models refuse it; other servers accept only that name.
    let limit_name = if is_openai(endpoint) { "max_completion_tokens" } else { "max_tokens" };
    body.insert(limit_name.into(), json!(request.max_output_tokens));
    if let Some(temperature) = request.temperature.filter(|_| !is_reasoning_model(endpoint, &request.model.model)) {
        body.insert("temperature".into(), json!(temperature));
    }
    // `OpenAI` itself refuses a schema whose root is not an object; other servers accept it.
    let is_accepted = |schema: &&Value| {
        endpoint.structured_output
            && (!is_openai(endpoint) || schema.get("type").and_then(Value::as_str) == Some("object"))
    };
    if let Some(schema) = request.schema.as_deref().filter(is_accepted) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let adapted = schema::openai_schema(schema);
        let format = json!({"name": name, "schema": adapted.schema, "strict": adapted.strict});
        body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": format}));
    }
    Value::Object(body)
}

/// Whether the endpoint is `OpenAI`'s own, or Azure's with the same models.
fn is_openai(endpoint: &Endpoint) -> bool {
    let host = client::url_host(&endpoint.base_url);
    host.is_some_and(|host| {
        // Azure runs the same models and refuses the same parameters.
        let domains = ["api.openai.com", "openai.azure.com"];
        domains.iter().any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.')))
    })
}

/// Whether the model is one of `OpenAI`'s own reasoning models, which refuse any temperature except their own.
fn is_reasoning_model(endpoint: &Endpoint, model: &str) -> bool {
    is_openai(endpoint) && crate::catalog::is_openai_reasoning_model(model)
}

/// A Chat Completions reply under construction.
#[derive(Default)]
pub(super) struct OpenAiReply {
    draft: Draft,
    has_refusal: bool,
    /// The tool calls that are arriving: at most one for each index.
    open_calls: Vec<OpenCall>,
}

/// A tool call of which pieces are arriving.
#[derive(PartialEq)]
struct OpenCall {
    id: Option<String>,
    name: String,
    index: u64,
}

/// The key of the tool call at an index.
fn call_key(index: u64) -> String {
    index.to_string()
}

impl OpenAiReply {
    /// Reads a response or a chunk; `message_field` is `message` or `delta`.
    fn read_chunk(&mut self, value: &Value, message_field: &str, sink: ReplySink<'_>) {
        let draft = &mut self.draft;
        for (field, slot) in [("model", &mut draft.model), ("id", &mut draft.id)] {
            let text = value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            if slot.is_none() {
                *slot = text.map(str::to_owned);
            }
        }
        let choices = value.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        for choice in choices.iter().filter(is_first) {
            let has_content = choice.get(message_field).is_some_and(|message| self.read_message(message, sink));
            let reason = choice.get("finish_reason");
            self.draft.stop.record_chunk(stop_reasons::OPENAI, reason, has_content);
        }
        self.read_usage(value);
    }

    /// Reads a message or a delta of one; returns whether it has any content.
    fn read_message(&mut self, message: &Value, sink: ReplySink<'_>) -> bool {
        let text = |field: &str| message.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let length_before = self.draft.text_len();
        let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
        match reasoning {
            Some(reasoning) => self.draft.push_reasoning(reasoning, sink),
            None => list_in(message, "reasoning_details").for_each(|detail| self.read_reasoning(detail, sink)),
        }
        let has_reasoning = reasoning.is_some() || list_in(message, "reasoning_details").next().is_some();
        if let Some(refusal) = text("refusal") {
            self.has_refusal = true;
            self.draft.push_text(refusal, sink);
        }
        match message.get("content") {
            Some(Value::String(text)) => self.draft.push_text(text, sink),
            // Some servers send the parts of a message as a list.
            Some(Value::Array(parts)) => {
                for part in parts {
                    self.read_part(part, sink);
                }
            }
            _ => {}
        }
        let media = ["images", "audio"].map(|field| (field, message.get(field)));
        for (kind, _) in media.iter().filter(|(_, value)| value.is_some_and(|v| v.is_object() || is_filled_list(v))) {
            self.draft.record_other_content(kind);
        }
        let has_tool_calls = self.read_tool_calls(message);
        let has_parts = message.get("content").is_some_and(is_filled_list);
        has_reasoning || has_parts || self.draft.text_len() > length_before || has_tool_calls
    }

    /// Reads one element of a content list. Mistral writes reasoning as an element that holds a list of texts.
    fn read_part(&mut self, part: &Value, sink: ReplySink<'_>) {
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            return self.draft.push_text(text, sink);
        }
        match part.get("type").and_then(Value::as_str) {
            Some("thinking") if part.get("thinking").is_some_and(Value::is_array) => {
                list_in(part, "thinking").for_each(|thought| self.read_reasoning(thought, sink));
            }
            Some("thinking") => self.read_reasoning(part, sink),
            Some("text") | None => {}
            Some(kind) => self.draft.record_other_content(kind),
        }
    }

    /// Reads a piece of reasoning from an object: text, a summary (`OpenRouter`), or data that orch can't read.
    fn read_reasoning(&mut self, detail: &Value, sink: ReplySink<'_>) {
        let texts = ["text", "summary", "thinking"].iter().filter_map(|field| detail.get(*field)?.as_str());
        match texts.into_iter().find(|text| !text.is_empty()) {
            Some(text) => self.draft.push_reasoning(text, sink),
            None if detail.get("data").is_some() => self.draft.record_hidden_reasoning(),
            None => {}
        }
    }

    /// Reads tool calls, or pieces of them; returns whether there are any.
    fn read_tool_calls(&mut self, message: &Value) -> bool {
        let mut has_calls = false;
        for call in list_in(message, "tool_calls").chain(message.get("function_call")) {
            let function = call.get("function").unwrap_or(call);
            has_calls |= function.is_object();
            self.read_tool_call(call, function);
        }
        has_calls
    }

    /// Reads one tool call or a piece of one. Only its first piece names the tool. Some servers give every parallel call
    /// the index 0, and some give every piece a new id. So a named piece starts a new call, unless it repeats the name
    /// and the id of the call that is open at its index.
    fn read_tool_call(&mut self, call: &Value, function: &Value) {
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let index = call.get("index").and_then(Value::as_u64).unwrap_or_default();
        let (id, name) = (text(call, "id"), text(function, "name"));
        if let Some(name) = name {
            let opened = OpenCall { id, name, index };
            if !self.open_calls.contains(&opened) || opened.id.is_none() {
                self.open_calls.retain(|open| open.index != index);
                self.draft.start_call(&call_key(index), opened.id.as_deref(), &opened.name);
                self.open_calls.push(opened);
            }
        }
        match function.get("arguments") {
            Some(Value::String(piece)) => self.draft.push_arguments(&call_key(index), piece),
            Some(value @ Value::Object(_)) => self.draft.set_arguments(&call_key(index), value),
            _ => {}
        }
    }
}

/// The elements of the list in a field; none if it is not a list.
fn list_in<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn is_filled_list(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty())
}

impl Assembler for OpenAiReply {
    fn read_event(&mut self, event: &Value, sink: ReplySink<'_>) -> StreamItem {
        let has_dialect_shape =
            event.get("choices").is_some_and(Value::is_array) || event.get("usage").is_some_and(Value::is_object);
        if !has_dialect_shape {
            return StreamItem::Foreign;
        }
        // Some servers send the whole message in one event.
        let has_object = |field: &str| event.pointer(&format!("/choices/0/{field}")).is_some_and(Value::is_object);
        let is_message = self.draft.is_empty() && has_object("message") && !has_object("delta");
        self.read_chunk(event, if is_message { "message" } else { "delta" }, sink);
        StreamItem::Part
    }

    fn read_complete_reply(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        self.read_chunk(body, "message", sink);
        body.get("choices").is_some_and(Value::is_array)
    }

    fn draft(&self) -> &Draft {
        &self.draft
    }

    fn is_complete_at_done(&self) -> bool {
        true
    }

    fn is_complete_at_stream_end(&self) -> bool {
        self.draft.stop.first_reason_ends_content()
    }

    fn is_complete_unstreamed(&self) -> bool {
        true
    }

    fn read_usage(&mut self, event: &Value) {
        let choices = event.get("choices").and_then(Value::as_array).into_iter().flatten();
        let choice_reports = choices.map(|choice| choice.get("usage"));
        let reports = [event.get("timings"), Some(event), event.pointer("/x_groq/usage")].into_iter();
        for report in reports.chain(choice_reports).chain([event.get("usage")]) {
            self.draft.usage.merge_report(report, &OPENAI);
        }
    }

    fn has_final_usage(&self) -> bool {
        self.draft.usage.is_up_to_date(&OPENAI)
    }

    fn usage(&self) -> ReportedUsage {
        self.draft.usage.partial_usage(&OPENAI)
    }

    fn into_reply(self) -> ChatReply {
        let reply = self.draft.into_reply(&OPENAI);
        if self.has_refusal { ChatReply { stop: StopReason::Refusal, ..reply } } else { reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Dialect;

    fn endpoint(base_url: &str) -> Endpoint {
        Endpoint {
            name: "openai".into(),
            dialect: Dialect::OpenAi,
            base_url: base_url.into(),
            api_key: None,
            key_variable: None,
            headers: Vec::new(),
            structured_output: true,
            key_header: None,
            query: Vec::new(),
            network: std::sync::Arc::default(),
        }
    }

    #[test]
    fn the_output_limit_is_sent_under_the_name_that_the_server_accepts() {
        let request = |model: &str| ChatRequest {
            model: crate::model::ModelRef::new("openai", model),
            system: String::new(),
            messages: Vec::new(),
            max_output_tokens: 9,
            temperature: Some(0.5),
            schema: None,
            schema_name: None,
        };
        let official = endpoint("https://api.openai.com/v1");
        for (model, temperature) in [("gpt-4o", true), ("gpt-6.1-sol", false)] {
            let body = request_body(&official, &request(model));
            assert_eq!((body.get("max_completion_tokens"), body.get("max_tokens")), (Some(&json!(9)), None), "{model}");
            assert_eq!(body.get("temperature").is_some(), temperature, "{model}");
        }
        let body = request_body(&endpoint("http://127.0.0.1:1/v1"), &request("gpt-6.1-sol"));
        assert_eq!((body.get("max_tokens"), body.get("temperature")), (Some(&json!(9)), Some(&json!(0.5))));
    }

    #[test]
    fn only_openai_itself_has_reasoning_models() {
        let official = endpoint("https://api.openai.com/v1");
        for model in ["gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-6-sol", "o1", "o3-mini", "o4-mini"] {
            assert!(is_reasoning_model(&official, model), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "omni", "chatgpt-4o-latest"] {
            assert!(!is_reasoning_model(&official, model), "{model}");
        }
        assert!(!is_reasoning_model(&endpoint("http://127.0.0.1:1/v1"), "gpt-5"));
    }
}
