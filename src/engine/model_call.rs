//! Sends a request to a model or a CLI agent, within the limits of the step, and reports its progress.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentEnv, AgentEvent, TurnLimits, TurnResult, take_turn};
use crate::durable::{Ask, CallProgress};
use crate::model::failure::RAISE_DEADLINE;
use crate::model::{AgentTurn, CallKey, ChatReply, Class, Failure};
use crate::provider::{RequestLimits, StreamEvent as Heard};
use crate::secret::StreamRedactor;

use super::message::with_contract;
use super::perform::Performer;

/// Shows a text as it arrives, redacted. A secret may begin in one chunk and end in the next.
struct RedactedStream<'a> {
    own: &'a Performer,
    key: &'a CallKey,
    pieces: Mutex<StreamRedactor<'a>>,
}

impl<'a> RedactedStream<'a> {
    fn new(own: &'a Performer, key: &'a CallKey) -> Self {
        Self { own, key, pieces: Mutex::new(StreamRedactor::new(&own.redactor)) }
    }

    fn push(&self, text: &str) {
        self.tell(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).push(text));
    }

    fn end(self) {
        let (own, key) = (self.own, self.key);
        let rest = self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner).end();
        RedactedStream::new(own, key).tell(rest);
    }

    fn tell(&self, text: String) {
        if !text.is_empty() {
            self.own.observer.signal(&CallProgress::Text(self.key.clone(), text));
        }
    }
}

/// Lets a CLI agent take a turn.
pub(super) async fn program(
    own: &Performer,
    key: &CallKey,
    turn: &AgentTurn,
    bounds: &TurnLimits,
    cut: impl Future<Output = Failure>,
) -> TurnResult {
    let place = AgentEnv {
        workspace: own.workspace.clone(),
        homes: own.homes.clone(),
        artifacts: own.artifacts.clone(),
        variables: own.variables.clone(),
        unencrypted: own.models.unencrypted(),
        guard: own.guard.clone(),
        endings: own.endings.of(key, &own.clock),
    };
    own.observer.signal(&CallProgress::Sent(key.clone()));
    let shown = RedactedStream::new(own, key);
    let sink = |sign: AgentEvent| match sign {
        AgentEvent::Text(text) => shown.push(&text),
        AgentEvent::Tool(line) => own.observer.signal(&CallProgress::Output(key.clone(), own.redactor.text(&line))),
        AgentEvent::Session(_) | AgentEvent::Over => {}
    };
    let answer = take_turn(turn, &place, bounds, &sink, cut).await;
    shown.end();
    answer
}

/// Returns a number that differs between the calls of a step. The embedded model adds it to its seed, so that it does
/// not repeat a rejected answer.
fn draw(key: &CallKey) -> u32 {
    key.attempt.saturating_sub(1).saturating_mul(100).saturating_add(key.ordinal.saturating_sub(1))
}

/// Sends a request to a model.
pub(super) async fn answer(
    own: &Performer,
    key: &CallKey,
    ask: &Ask,
    now: Timestamp,
    cut: &CancellationToken,
) -> Result<ChatReply, Failure> {
    let observer = own.observer.as_ref();
    let provider = own.models.provider(&ask.request.model.provider)?;
    let mut limits = RequestLimits { clock: own.clock.clone(), cut: cut.clone(), draw: draw(key), ..provider.limits() };
    if let Some(millis) = ask.timeout_ms {
        limits.total = Duration::from_millis(millis);
        // A user who allows a request more time has a slow server, whose first byte is late too.
        limits.first_byte = limits.total;
    }
    let mut by_deadline = false;
    if let Some(until) = ask.until {
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if left.is_zero() {
            return Err(Failure::new(Class::Timeout, "the step's deadline is over").with_hint(RAISE_DEADLINE));
        }
        by_deadline = left < limits.total;
        limits.total = limits.total.min(left);
    }
    limits.first_byte = limits.first_byte.min(limits.total);
    observer.signal(&CallProgress::Sent(key.clone()));
    let shown = RedactedStream::new(own, key);
    let sink = |heard: Heard| match heard {
        Heard::Reading { done, total } => observer.signal(&CallProgress::Reading(key.clone(), done, total)),
        Heard::Text(text) => shown.push(&text),
        Heard::Reasoning(text) => observer.signal(&CallProgress::Reasoning(key.clone(), text.len())),
    };
    let reply = if provider.constrains() {
        provider.chat(&ask.request, &limits, &sink).await
    } else {
        provider.chat(&with_contract(ask.request.clone()), &limits, &sink).await
    };
    shown.end();
    reply.map_err(|failure| if by_deadline { failure.of_deadline() } else { failure })
}
