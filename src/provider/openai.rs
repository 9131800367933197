//! The dialect of `OpenAI`'s Chat Completions API, which most servers speak.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::http::{self, Assembler, HttpCall, ReplySink};
use super::stop;
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
        let body = body(&self.endpoint, request);
        let draft = Draft::new(body.get("response_format").is_some());
        let parts = OpenAiReply { draft, ..OpenAiReply::default() };
        let call = HttpCall {
            endpoint: &self.endpoint,
            model: &request.model.model,
            url: format!("{base}/chat/completions"),
            key_header: ("authorization", "Bearer "),
            headers: &[],
            body,
            limits,
        };
        http::exchange(call, parts, sink).boxed()
    }
}

fn body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    messages.extend(request.messages.iter().map(|message| {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        json!({"role": role, "content": message.content})
    }));
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model.model));
    body.insert("messages".into(), Value::Array(messages));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({"include_usage": true}));
    // `OpenAI` itself has deprecated `max_tokens`, and its newer models refuse it; other servers know only that name.
    let limit = if is_openai(endpoint) { "max_completion_tokens" } else { "max_tokens" };
    body.insert(limit.into(), json!(request.max_output_tokens));
    if let Some(temperature) = request.temperature.filter(|_| !reasons(endpoint, &request.model.model)) {
        body.insert("temperature".into(), json!(temperature));
    }
    // `OpenAI` itself refuses a schema whose root is not an object; other servers accept it.
    let fits = |schema: &&Value| {
        endpoint.structured && (!is_openai(endpoint) || schema.get("type").and_then(Value::as_str) == Some("object"))
    };
    if let Some(schema) = request.schema.as_deref().filter(fits) {
        let name = request.schema_name.as_deref().unwrap_or("reply");
        let adapted = schema::openai(schema);
        let format = json!({"name": name, "schema": adapted.schema, "strict": adapted.strict});
        body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": format}));
    }
    Value::Object(body)
}

/// Whether the endpoint is `OpenAI`'s own, or Azure's with the same models.
fn is_openai(endpoint: &Endpoint) -> bool {
    let host = client::host_of(&endpoint.base_url);
    host.is_some_and(|host| {
        // Azure runs the same models and refuses the same parameters.
        let of = ["api.openai.com", "openai.azure.com"];
        of.iter().any(|own| host == *own || host.strip_suffix(own).is_some_and(|sub| sub.ends_with('.')))
    })
}

/// Whether the model is one of `OpenAI`'s own reasoning models, which refuse any temperature except their own.
fn reasons(endpoint: &Endpoint, model: &str) -> bool {
    is_openai(endpoint) && crate::catalog::reasons(model)
}

/// A Chat Completions reply under construction.
#[derive(Default)]
pub(super) struct OpenAiReply {
    draft: Draft,
    refusal: bool,
}

impl OpenAiReply {
    fn read(&mut self, value: &Value, part: &str, sink: ReplySink<'_>) {
        let draft = &mut self.draft;
        for (field, slot) in [("model", &mut draft.model), ("id", &mut draft.id)] {
            let text = value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            if slot.is_none() {
                *slot = text.map(str::to_owned);
            }
        }
        let choices = value.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        for choice in choices.iter().filter(first) {
            let content = choice.get(part).is_some_and(|said| self.say(said, sink));
            let reason = choice.get("finish_reason");
            self.draft.stop.chunk(stop::OPENAI, reason, content);
        }
        self.count(value);
    }

    /// Reads a message or a delta of one; returns whether it has any content.
    fn say(&mut self, said: &Value, sink: ReplySink<'_>) -> bool {
        let text = |field: &str| said.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let before = self.draft.text.len();
        let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
        match reasoning {
            Some(reasoning) => self.draft.reason(reasoning, sink),
            None => list_of(said, "reasoning_details").for_each(|detail| self.reason(detail, sink)),
        }
        let thought = reasoning.is_some() || list_of(said, "reasoning_details").next().is_some();
        if let Some(refusal) = text("refusal") {
            self.refusal = true;
            self.draft.say(refusal, sink);
        }
        match said.get("content") {
            Some(Value::String(text)) => self.draft.say(text, sink),
            // Some servers send the parts of a message as a list.
            Some(Value::Array(parts)) => {
                for part in parts {
                    self.part(part, sink);
                }
            }
            _ => {}
        }
        let others = ["images", "audio"].map(|field| (field, said.get(field)));
        for (kind, _) in others.iter().filter(|(_, value)| value.is_some_and(|v| v.is_object() || is_filled_list(v))) {
            self.draft.other(kind);
        }
        let called = self.called(said);
        let parts = said.get("content").is_some_and(is_filled_list);
        thought || parts || self.draft.text.len() > before || called
    }

    /// Reads one element of a content list. Mistral writes reasoning as an element that holds a list of texts.
    fn part(&mut self, part: &Value, sink: ReplySink<'_>) {
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            return self.draft.say(text, sink);
        }
        match part.get("type").and_then(Value::as_str) {
            Some("thinking") if part.get("thinking").is_some_and(Value::is_array) => {
                list_of(part, "thinking").for_each(|thought| self.reason(thought, sink));
            }
            Some("thinking") => self.reason(part, sink),
            Some("text") | None => {}
            Some(kind) => self.draft.other(kind),
        }
    }

    /// Records a piece of reasoning in an object: as text, as a summary (`OpenRouter`), or as data that can't be read.
    fn reason(&mut self, detail: &Value, sink: ReplySink<'_>) {
        let texts = ["text", "summary", "thinking"].iter().filter_map(|field| detail.get(*field)?.as_str());
        match texts.into_iter().find(|text| !text.is_empty()) {
            Some(text) => self.draft.reason(text, sink),
            None if detail.get("data").is_some() => self.draft.reason_hidden(),
            None => {}
        }
    }

    /// Records tool calls, of which only the first delta names the tool; returns whether there are any.
    fn called(&mut self, said: &Value) -> bool {
        let list = said.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        let calls: Vec<&Value> =
            list.filter_map(|call| call.get("function")).chain(said.get("function_call")).collect();
        for name in calls.iter().filter_map(|call| call.get("name")?.as_str()).filter(|name| !name.is_empty()) {
            self.draft.call_tool(name);
        }
        calls.iter().any(|call| call.is_object())
    }
}

/// The elements of the list in a field; none if it is not a list.
fn list_of<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn is_filled_list(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty())
}

impl Assembler for OpenAiReply {
    fn event(&mut self, event: &Value, sink: ReplySink<'_>) -> StreamItem {
        let known =
            event.get("choices").is_some_and(Value::is_array) || event.get("usage").is_some_and(Value::is_object);
        if !known {
            return StreamItem::Foreign;
        }
        // Some servers send the whole message in one event.
        let has = |part: &str| event.pointer(&format!("/choices/0/{part}")).is_some_and(Value::is_object);
        let is_message = self.draft.is_empty() && has("message") && !has("delta");
        self.read(event, if is_message { "message" } else { "delta" }, sink);
        StreamItem::Part
    }

    fn whole(&mut self, body: &Value, sink: ReplySink<'_>) -> bool {
        self.read(body, "message", sink);
        body.get("choices").is_some_and(Value::is_array)
    }

    fn draft(&self) -> &Draft {
        &self.draft
    }

    fn done(&self) -> bool {
        true
    }

    fn closed_whole(&self) -> bool {
        self.draft.stop.ended_once()
    }

    fn answered_whole(&self) -> bool {
        true
    }

    fn count(&mut self, event: &Value) {
        let inside = event.get("choices").and_then(Value::as_array).into_iter().flatten();
        let inside = inside.map(|choice| choice.get("usage"));
        let places = [event.get("timings"), Some(event), event.pointer("/x_groq/usage")].into_iter().chain(inside);
        for report in places.chain([event.get("usage")]) {
            self.draft.usage.report(report, &OPENAI);
        }
    }

    fn counted(&self) -> bool {
        self.draft.usage.is_up_to_date(&OPENAI)
    }

    fn usage(&self) -> ReportedUsage {
        self.draft.usage.so_far(&OPENAI)
    }

    fn reply(self) -> ChatReply {
        let reply = self.draft.reply(&OPENAI);
        if self.refusal { ChatReply { stop: StopReason::Refusal, ..reply } } else { reply }
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
            structured: true,
            key_header: None,
            query: Vec::new(),
            network: std::sync::Arc::default(),
        }
    }

    #[test]
    fn the_limit_has_the_name_that_the_server_knows() {
        let request = |model: &str| ChatRequest {
            model: crate::model::ModelRef::new("openai", model),
            system: String::new(),
            messages: Vec::new(),
            max_output_tokens: 9,
            temperature: Some(0.5),
            schema: None,
            schema_name: None,
        };
        let own = endpoint("https://api.openai.com/v1");
        for (model, temperature) in [("gpt-4o", true), ("gpt-6.1-sol", false)] {
            let body = body(&own, &request(model));
            assert_eq!((body.get("max_completion_tokens"), body.get("max_tokens")), (Some(&json!(9)), None), "{model}");
            assert_eq!(body.get("temperature").is_some(), temperature, "{model}");
        }
        let body = body(&endpoint("http://127.0.0.1:1/v1"), &request("gpt-6.1-sol"));
        assert_eq!((body.get("max_tokens"), body.get("temperature")), (Some(&json!(9)), Some(&json!(0.5))));
    }

    #[test]
    fn only_the_reasoning_models_of_openai_itself_are_special() {
        let own = endpoint("https://api.openai.com/v1");
        for model in ["gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-6-sol", "o1", "o3-mini", "o4-mini"] {
            assert!(reasons(&own, model), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "omni", "chatgpt-4o-latest"] {
            assert!(!reasons(&own, model), "{model}");
        }
        assert!(!reasons(&endpoint("http://127.0.0.1:1/v1"), "gpt-5"));
    }
}
