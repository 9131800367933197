//! The embedded model as a provider: it runs in this process and generates one reply at a time.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use local_llm::{
    CallChoice, FinishReason, GenerateEvent, GeneratedReply, LoadOptions, Model, ModelCall, OfferedTool, PromptMessage,
    Request, catalog, weights,
};
use tokio::sync::mpsc;

use super::files::refuse_files;
use super::local_models::LocalModels;
use crate::model::name::max_reply_tokens;
use crate::model::{
    ChatReply, ChatRequest, Content, ContentBlock, Failure, FailureClass, Message, ReplyDetails, Role, StopReason,
    ToolChoice, Usage,
};
use crate::provider::{CallNaming, Provider, RequestLimits, StreamEvent, arguments_object, result_text};

/// The default sampling temperature. Small models need a low temperature.
const DEFAULT_TEMPERATURE: f32 = 0.2;
/// The default of `top_p`.
const DEFAULT_TOP_P: f32 = 0.95;
/// The time limit for one reply: a busy machine generates only a few tokens per second.
const REPLY_TIMEOUT: Duration = Duration::from_hours(1);
/// The default of `seed`, for the first reply to a request. The seed is fixed, so that equal requests get equal
/// replies. Re-asks and retries use the next higher seeds.
const DEFAULT_SEED: u64 = 7;

/// The embedded models. Loads a model before its first request, and keeps the last model in memory.
pub struct LocalProvider {
    local_models: LocalModels,
    /// The model in memory, with its name.
    loaded: Arc<Mutex<Option<(String, Model)>>>,
}

impl LocalProvider {
    /// Creates a provider for the embedded models; loads nothing yet.
    pub fn new(local_models: &LocalModels) -> Self {
        Self { local_models: local_models.clone(), loaded: Arc::default() }
    }
}

impl Provider for LocalProvider {
    fn dialect(&self) -> &'static str {
        "local"
    }

    fn enforces_schema(&self) -> bool {
        true
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits { total_timeout: REPLY_TIMEOUT, ..RequestLimits::default() }
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: &'a (dyn Fn(StreamEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            refuse_files(request, "the embedded model")?;
            let (event_sender, mut events) = mpsc::unbounded_channel();
            let cancel_guard = CancelOnDrop::default();
            let job = ModelJob {
                local_models: self.local_models.clone(),
                loaded: self.loaded.clone(),
                name: request.model.model.clone(),
                request: to_local_request(request, limits.sample_index),
                is_cancelled: cancel_guard.0.clone(),
                deadline: Instant::now() + limits.total_timeout,
                event_sender,
            };
            let worker = tokio::task::spawn_blocking(move || job.run());
            while let Some(event) = events.recv().await {
                sink(event);
            }
            let reply = worker.await;
            let reply =
                reply.map_err(|error| agent_error(format!("the embedded model stopped unexpectedly: {error}")))??;
            Ok(to_chat_reply(&reply, request))
        }
        .boxed()
    }
}

/// Makes the worker thread stop when the caller drops the future of the reply.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request, and everything that the worker thread needs to generate the reply.
struct ModelJob {
    local_models: LocalModels,
    loaded: Arc<Mutex<Option<(String, Model)>>>,
    name: String,
    request: Request,
    is_cancelled: Arc<AtomicBool>,
    deadline: Instant,
    event_sender: mpsc::UnboundedSender<StreamEvent>,
}

impl ModelJob {
    fn run(self) -> Result<GeneratedReply, Failure> {
        // A panic during generation leaves the model's cache in an unknown state, so the model is loaded again.
        let mut loaded = self.loaded.lock().unwrap_or_else(|poisoned| {
            let mut guard = PoisonError::into_inner(poisoned);
            *guard = None;
            guard
        });
        if loaded.as_ref().is_none_or(|(name, _)| *name != self.name) {
            *loaded = None;
            *loaded = Some((self.name.clone(), self.load()?));
        }
        let Some((_, model)) = loaded.as_mut() else {
            return Err(agent_error("the embedded model is not loaded"));
        };
        let mut on_event = |event: GenerateEvent<'_>| {
            if self.is_cancelled.load(Ordering::Relaxed) || Instant::now() > self.deadline {
                return ControlFlow::Break(());
            }
            let stream_event = match event {
                GenerateEvent::PromptProgress { done, total } => Some(StreamEvent::PromptProgress {
                    tokens_read: token_count(done),
                    tokens_total: token_count(total),
                }),
                GenerateEvent::Text(text) => Some(StreamEvent::Text(text.to_owned())),
                GenerateEvent::CallProgress => None,
            };
            // Sending fails only after the caller has dropped the receiver. `is_cancelled` is then set too.
            drop(stream_event.map(|event| self.event_sender.send(event)));
            ControlFlow::Continue(())
        };
        let reply = model.generate(&self.request, &mut on_event).map_err(|error| agent_error(error.to_string()))?;
        if reply.finish_reason == FinishReason::Cancelled {
            let failure =
                Failure::new(FailureClass::Timeout, "the embedded model took longer than the request's time limit");
            let failure = failure.with_hint("raise `timeout:` of the step, or use a faster model");
            return Err(Failure { interrupted: true, ..failure });
        }
        Ok(reply)
    }

    fn load(&self) -> Result<Model, Failure> {
        let path = match catalog::find(&self.name) {
            Some(spec) => weights::installed_path(&self.local_models.cache, spec).ok_or_else(|| {
                Failure::new(FailureClass::NotInstalled, format!("the embedded model `{}` is not installed", self.name))
                    .with_hint(format!("download it: `orch models pull {}`", self.name))
            })?,
            None => match self.local_models.file_problem(&self.name) {
                Some(problem) => return Err(problem),
                None => self.local_models.own_model_path(&self.name),
            },
        };
        if self.local_models.has_changed(&path) {
            let message = format!("the model file {} changed during the run", path.display());
            return Err(agent_error(message).with_hint("`orch pipeline resume` uses the new file"));
        }
        let load_failure = |error| agent_error(format!("{} can't be used: {error}", path.display()));
        Model::load(&path, &LoadOptions { threads: None }).map_err(load_failure)
    }
}

fn token_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn agent_error(message: impl Into<String>) -> Failure {
    Failure::new(FailureClass::AgentError, message)
}

fn to_local_request(request: &ChatRequest, sample_index: u32) -> Request {
    let system = (!request.system.is_empty()).then(|| PromptMessage::new("system", request.system.clone()));
    #[expect(clippy::cast_possible_truncation, reason = "a temperature and a probability have few digits")]
    let as_f32 = |number: f64| number as f32;
    let options = &request.options;
    let tools = request.tools.definitions.iter().map(|definition| OfferedTool {
        name: definition.name.clone(),
        description: definition.description.clone(),
        parameters: (*definition.parameters).clone(),
    });
    Request {
        messages: system.into_iter().chain(request.messages.iter().flat_map(prompt_messages)).collect(),
        schema: request.schema.as_deref().cloned(),
        tools: tools.collect(),
        choice: match request.tools.choice {
            ToolChoice::Auto => CallChoice::Auto,
            ToolChoice::Required => CallChoice::Required,
            ToolChoice::None => CallChoice::None,
        },
        max_tokens: max_reply_tokens(&request.model, request.max_output_tokens),
        temperature: request.temperature.map_or(DEFAULT_TEMPERATURE, as_f32),
        top_p: options.top_p.map_or(DEFAULT_TOP_P, as_f32),
        seed: options.seed.map_or(DEFAULT_SEED, u64::from) + u64::from(sample_index),
        stop: options.stop.clone(),
    }
}

/// The messages of the prompt for a message: one for each result of a call, then one for the text and the calls.
fn prompt_messages(message: &Message) -> Vec<PromptMessage> {
    let (mut messages, mut calls) = (Vec::new(), Vec::new());
    for block in message.content.blocks() {
        match block {
            ContentBlock::ToolResult { content, is_error, .. } => {
                messages.push(PromptMessage::new("tool", result_text(content, *is_error)));
            }
            ContentBlock::ToolCall { name, arguments, .. } => {
                calls.push(ModelCall { name: name.clone(), arguments: arguments_object(arguments) });
            }
            ContentBlock::Text { .. } | ContentBlock::Opaque { .. } | ContentBlock::File { .. } => {}
        }
    }
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let text = message.content.text().into_owned();
    if !text.is_empty() || !calls.is_empty() || messages.is_empty() {
        messages.push(PromptMessage { calls, ..PromptMessage::new(role, text) });
    }
    messages
}

fn to_chat_reply(reply: &GeneratedReply, request: &ChatRequest) -> ChatReply {
    let mut naming = CallNaming::of_request(request);
    let call = reply.call.iter().map(|call| ContentBlock::ToolCall {
        id: naming.unique_id(None),
        name: call.name.clone(),
        arguments: call.arguments.clone(),
    });
    let text = Vec::from(Content::from_text(reply.text.clone()));
    let omitted_calls = reply.cut_call.iter().cloned().collect();
    ChatReply {
        content: Content::from(text.into_iter().chain(call).collect::<Vec<_>>()),
        stop: match reply.finish_reason {
            FinishReason::Complete if reply.call.is_some() => StopReason::ToolUse,
            FinishReason::Complete => StopReason::End,
            FinishReason::Length | FinishReason::Cancelled => StopReason::Length,
        },
        usage: Usage {
            input: reply.prompt_tokens as u64,
            cache_read: reply.cached_tokens as u64,
            cache_write: 0,
            output: reply.output_tokens as u64,
            reasoning: 0,
        }
        .into(),
        model: Some(request.model.model.clone()),
        id: None,
        constrained: request.schema.is_some(),
        details: Box::new(ReplyDetails { omitted_calls, ..ReplyDetails::default() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{ModelRef, OfferedTools, ToolDefinition};

    fn call(id: &str, arguments: Value) -> ContentBlock {
        ContentBlock::ToolCall { id: id.to_owned(), name: "read".to_owned(), arguments }
    }

    fn result(content: &str, is_error: bool) -> ContentBlock {
        let (id, name) = ("call_1".to_owned(), "read".to_owned());
        ContentBlock::ToolResult { id, name, content: content.to_owned(), is_error }
    }

    fn request() -> ChatRequest {
        let definition = ToolDefinition {
            name: "read".to_owned(),
            description: "Reads a file.".to_owned(),
            parameters: Arc::new(json!({"type": "object"})),
        };
        let message = |role, blocks: Vec<ContentBlock>| Message { role, content: Content::from(blocks) };
        let calls = vec![ContentBlock::text("Look:"), call("call_1", json!({"path": "a"})), call("call_2", json!("{"))];
        let results = vec![result("A", false), result("no such file", true), ContentBlock::text("Go on.")];
        let messages = vec![
            Message::user("Compare."),
            message(Role::Assistant, calls),
            message(Role::User, results),
            message(Role::Assistant, vec![call("call_3", json!({}))]),
            message(Role::User, vec![result("C", false)]),
        ];
        ChatRequest {
            tools: Arc::new(OfferedTools { definitions: vec![definition], choice: ToolChoice::Required }),
            ..ChatRequest::new(ModelRef::new("local", "m"), messages, 10)
        }
    }

    #[test]
    fn the_prompt_has_a_message_for_each_result_and_the_calls_of_each_reply() {
        let local = to_local_request(&request(), 0);
        assert_eq!((local.choice, local.tools.len(), local.tools[0].name.as_str()), (CallChoice::Required, 1, "read"));
        let messages: Vec<(&str, &str, usize)> = local
            .messages
            .iter()
            .map(|message| (message.role.as_str(), message.content.as_str(), message.calls.len()))
            .collect();
        assert_eq!(
            messages,
            [
                ("user", "Compare.", 0),
                ("assistant", "Look:", 2),
                ("tool", "A", 0),
                ("tool", "Error:\nno such file", 0),
                ("user", "Go on.", 0),
                ("assistant", "", 1),
                ("tool", "C", 0),
            ]
        );
        assert_eq!(local.messages[1].calls[1].arguments, json!({"arguments": "{"}));
    }

    fn generated(call: Option<ModelCall>, cut_call: Option<&str>) -> GeneratedReply {
        GeneratedReply {
            text: "Look:".to_owned(),
            finish_reason: if cut_call.is_some() { FinishReason::Length } else { FinishReason::Complete },
            call,
            cut_call: cut_call.map(str::to_owned),
            prompt_tokens: 20,
            cached_tokens: 0,
            output_tokens: 9,
            prompt_time: Duration::ZERO,
            output_time: Duration::ZERO,
        }
    }

    #[test]
    fn a_reply_has_its_call_unless_it_is_incomplete() {
        let read = ModelCall { name: "read".to_owned(), arguments: json!({"path": "a"}) };
        let reply = to_chat_reply(&generated(Some(read), None), &request());
        assert_eq!(reply.content.blocks(), [ContentBlock::text("Look:"), call("call_4", json!({"path": "a"}))]);
        assert_eq!((reply.stop, reply.details.is_empty()), (StopReason::ToolUse, true));
        let cut = to_chat_reply(&generated(None, Some("write")), &request());
        assert_eq!(cut.content, Content::from_text("Look:"));
        assert_eq!(cut.stop, StopReason::Length);
        assert_eq!(cut.details.omitted_calls, ["write"]);
    }
}
