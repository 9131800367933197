//! Sends a request to a model or runs a turn of a CLI agent, within the limits of the step, and reports the progress.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentEnv, AgentEvent, CallContext, TurnResult, run_turn};
use crate::durable::{CallProgress, ModelRequest};
use crate::model::failure::RAISE_DEADLINE_HINT;
use crate::model::{AgentTurn, CallKey, ChatReply, Failure, FailureClass};
use crate::provider::{RequestLimits, StreamEvent};
use crate::secret::StreamRedactor;

use super::message::with_schema_instruction;
use super::perform::Performer;

/// Redacts a text that arrives in chunks, and passes it to the observer. A chunk may end in the middle of a secret.
struct RedactedStream<'a> {
    performer: &'a Performer,
    key: &'a CallKey,
    redactor: Mutex<StreamRedactor<'a>>,
}

impl<'a> RedactedStream<'a> {
    fn new(performer: &'a Performer, key: &'a CallKey) -> Self {
        Self { performer, key, redactor: Mutex::new(StreamRedactor::new(&performer.redactor)) }
    }

    fn push(&self, text: &str) {
        self.emit_text(self.redactor.lock().unwrap_or_else(PoisonError::into_inner).push(text));
    }

    fn end(self) {
        let (performer, key) = (self.performer, self.key);
        let remaining_text = self.redactor.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        RedactedStream::new(performer, key).emit_text(remaining_text);
    }

    fn emit_text(&self, text: String) {
        if !text.is_empty() {
            self.performer.observer.on_progress(&CallProgress::Text(self.key.clone(), text));
        }
    }
}

/// Runs a turn of a CLI agent.
pub(super) async fn run_agent_turn(
    performer: &Performer,
    key: &CallKey,
    turn: &AgentTurn,
    context: &CallContext,
    interruption: impl Future<Output = Failure>,
) -> TurnResult {
    let agent_env = AgentEnv {
        workspace: performer.workspace.clone(),
        agents_folder: performer.agents_folder.clone(),
        artifacts: performer.artifact_files.paths().clone(),
        variables: performer.env_vars.clone(),
        insecure_providers: performer.models.insecure_providers(),
        supervisor: performer.supervisor.clone(),
        ending_process_groups: performer.endings.get_or_create(key, &performer.clock),
        sandbox: performer.sandbox.clone(),
    };
    performer.observer.on_progress(&CallProgress::Sent(key.clone()));
    let stream = RedactedStream::new(performer, key);
    let sink = |event: AgentEvent| match event {
        AgentEvent::Text(text) => stream.push(&text),
        AgentEvent::Tool(line) => {
            performer
                .observer
                .on_progress(&CallProgress::Output(key.clone(), performer.redactor.redact_quotations(&line)));
        }
        AgentEvent::Session(_) | AgentEvent::TurnEnded => {}
    };
    let result = run_turn(turn, &agent_env, context, &sink, interruption).await;
    stream.end();
    result
}

/// Returns a number that differs between the calls of a step. The embedded model adds it to its seed, so that it does
/// not repeat a rejected reply.
fn seed_offset(key: &CallKey) -> u32 {
    key.attempt.saturating_sub(1).saturating_mul(100).saturating_add(key.ordinal.saturating_sub(1))
}

/// Sends a request to a model.
pub(super) async fn send_request(
    performer: &Performer,
    key: &CallKey,
    model_request: &ModelRequest,
    now: Timestamp,
    cancellation: &CancellationToken,
) -> Result<ChatReply, Failure> {
    let observer = performer.observer.as_ref();
    let provider = performer.models.provider(&model_request.request.model.provider)?;
    let mut limits = RequestLimits {
        clock: performer.clock.clone(),
        cancellation: cancellation.clone(),
        sample_index: seed_offset(key),
        ..provider.limits()
    };
    if let Some(millis) = model_request.timeout_ms {
        limits.total_timeout = Duration::from_millis(millis);
        // A user who allows a request more time has a slow server, whose first byte arrives late too.
        limits.first_byte_timeout = limits.total_timeout;
    }
    let mut is_limited_by_deadline = false;
    if let Some(ends_at) = model_request.deadline {
        let remaining = Duration::try_from(ends_at.duration_since(now)).unwrap_or_default();
        if remaining.is_zero() {
            return Err(
                Failure::new(FailureClass::Timeout, "the step's deadline has passed").with_hint(RAISE_DEADLINE_HINT)
            );
        }
        is_limited_by_deadline = remaining < limits.total_timeout;
        limits.total_timeout = limits.total_timeout.min(remaining);
    }
    limits.first_byte_timeout = limits.first_byte_timeout.min(limits.total_timeout);
    observer.on_progress(&CallProgress::Sent(key.clone()));
    let stream = RedactedStream::new(performer, key);
    let sink = |event: StreamEvent| match event {
        StreamEvent::PromptProgress { tokens_read: done, tokens_total: total } => {
            observer.on_progress(&CallProgress::ReadingPrompt(key.clone(), done, total));
        }
        StreamEvent::Text(text) => stream.push(&text),
        StreamEvent::Reasoning(text) => observer.on_progress(&CallProgress::Reasoning(key.clone(), text.len())),
    };
    // The schema of the answer would distract a small model from its first call.
    let reply = if provider.enforces_schema() {
        provider.chat(&model_request.request, &limits, &sink).await
    } else {
        provider.chat(&with_schema_instruction(model_request.request.clone()), &limits, &sink).await
    };
    stream.end();
    reply.map_err(|failure| if is_limited_by_deadline { failure.with_raise_deadline_hint() } else { failure })
}
