//! The embedded model as a provider: it runs in this process and generates one reply at a time.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use local_llm::{GenerateEvent, GeneratedReply, LoadOptions, Model, ReplyEnd, Request, catalog, weights};
use tokio::sync::mpsc;

use super::shelf::Shelf;
use crate::model::name::longest_reply;
use crate::model::{ChatReply, ChatRequest, Class, Failure, Role, StopReason, Usage};
use crate::provider::{Provider, RequestLimits, StreamEvent};

/// The sampling temperature of agents that give none: small models need a low one.
const TEMPERATURE: f32 = 0.2;
/// The time limit for one reply: a busy machine generates only a few tokens per second.
const PATIENCE: Duration = Duration::from_hours(1);
/// The seed for a step's first reply, so that equal requests get equal replies. Re-asks and retries use other seeds.
const SEED: u64 = 7;

/// The embedded models. Loads a model when it is used, and keeps the last one in memory.
pub struct Local {
    shelf: Shelf,
    loaded: Arc<Mutex<Option<(String, Model)>>>,
}

impl Local {
    /// A provider for the models of a shelf; loads nothing yet.
    pub fn new(shelf: &Shelf) -> Self {
        Self { shelf: shelf.clone(), loaded: Arc::default() }
    }
}

impl Provider for Local {
    fn dialect(&self) -> &'static str {
        "local"
    }

    fn constrains(&self) -> bool {
        true
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits { total: PATIENCE, ..RequestLimits::default() }
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: &'a (dyn Fn(StreamEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            let (signals, mut heard) = mpsc::unbounded_channel();
            let abandoned = Abandon::default();
            let job = ModelJob {
                shelf: self.shelf.clone(),
                loaded: self.loaded.clone(),
                name: request.model.model.clone(),
                request: asked(request, limits.draw),
                abandoned: abandoned.0.clone(),
                until: Instant::now() + limits.total,
                signals,
            };
            let worker = tokio::task::spawn_blocking(move || job.run());
            while let Some(signal) = heard.recv().await {
                sink(signal);
            }
            let reply = worker.await.map_err(|error| failure(format!("the embedded model broke off: {error}")))??;
            Ok(answer(&reply, request))
        }
        .boxed()
    }
}

/// Makes the worker thread stop generating when the caller drops its future.
#[derive(Default)]
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct ModelJob {
    shelf: Shelf,
    loaded: Arc<Mutex<Option<(String, Model)>>>,
    name: String,
    request: Request,
    abandoned: Arc<AtomicBool>,
    until: Instant,
    signals: mpsc::UnboundedSender<StreamEvent>,
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
            return Err(failure("the embedded model is not loaded"));
        };
        let mut listen = |event: GenerateEvent<'_>| {
            if self.abandoned.load(Ordering::Relaxed) || Instant::now() > self.until {
                return ControlFlow::Break(());
            }
            let signal = match event {
                GenerateEvent::Prompt { done, total } => {
                    StreamEvent::Reading { done: tokens(done), total: tokens(total) }
                }
                GenerateEvent::Token(text) => StreamEvent::Text(text.to_owned()),
            };
            // Sending fails only when the caller dropped the receiver; then `abandoned` is set too.
            drop(self.signals.send(signal));
            ControlFlow::Continue(())
        };
        let reply = model.generate(&self.request, &mut listen).map_err(|error| failure(error.to_string()))?;
        if reply.stop == ReplyEnd::Cancelled {
            let words = "the embedded model took longer than the request may take";
            let failure = Failure::new(Class::Timeout, words);
            let failure = failure.with_hint("raise `timeout:` of the step, or use a faster model");
            return Err(Failure { interrupted: true, ..failure });
        }
        Ok(reply)
    }

    fn load(&self) -> Result<Model, Failure> {
        let path = match catalog::find(&self.name) {
            Some(spec) => weights::installed(&self.shelf.cache, spec).ok_or_else(|| {
                Failure::new(Class::NotInstalled, format!("the embedded model `{}` is not here", self.name))
                    .with_hint(format!("fetch it: `orch models pull {}`", self.name))
            })?,
            None => match self.shelf.problem(&self.name) {
                Some(problem) => return Err(problem),
                None => self.shelf.own_file(&self.name),
            },
        };
        if self.shelf.changed(&path) {
            let words = format!("the model file {} changed while the run went on", path.display());
            return Err(failure(words).with_hint("`orch pipeline resume` asks the file that is there now"));
        }
        let unusable = |error| failure(format!("{} can't be used: {error}", path.display()));
        Model::load(&path, &LoadOptions { threads: None }).map_err(unusable)
    }
}

fn tokens(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn failure(message: impl Into<String>) -> Failure {
    Failure::new(Class::AgentError, message)
}

fn asked(request: &ChatRequest, draw: u32) -> Request {
    let system = local_llm::PromptMessage { role: "system".to_owned(), content: request.system.clone() };
    let messages = request.messages.iter().map(|message| local_llm::PromptMessage {
        role: match message.role {
            Role::User => "user".to_owned(),
            Role::Assistant => "assistant".to_owned(),
        },
        content: message.content.clone(),
    });
    #[expect(clippy::cast_possible_truncation, reason = "a temperature has few digits")]
    let temperature = request.temperature.map_or(TEMPERATURE, |temperature| temperature as f32);
    Request {
        messages: (!request.system.is_empty()).then_some(system).into_iter().chain(messages).collect(),
        schema: request.schema.as_deref().cloned(),
        max_tokens: longest_reply(&request.model, request.max_output_tokens),
        temperature,
        top_p: 0.95,
        seed: SEED + u64::from(draw),
    }
}

fn answer(reply: &GeneratedReply, request: &ChatRequest) -> ChatReply {
    ChatReply {
        text: reply.text.clone(),
        stop: match reply.stop {
            ReplyEnd::End => StopReason::End,
            ReplyEnd::Length | ReplyEnd::Cancelled => StopReason::Length,
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
        agent_activity: None,
        remarks: Box::default(),
    }
}
