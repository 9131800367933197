//! Asks a model or a program, within the limits of the step, and shows what comes meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{Answer, Bounds, Place, Sign, take_turn};
use crate::durable::{Ask, Signal};
use crate::model::failure::RAISE_DEADLINE;
use crate::model::{CallKey, ChatReply, Class, Failure, Turn};
use crate::provider::{Limits, Signal as Heard};
use crate::secret::Pieces;

use super::message::with_contract;
use super::perform::Performer;

/// Shows a text while it comes, without secrets: one may begin in one piece and end in the next.
struct Shown<'a> {
    own: &'a Performer,
    key: &'a CallKey,
    pieces: Mutex<Pieces<'a>>,
}

impl<'a> Shown<'a> {
    fn new(own: &'a Performer, key: &'a CallKey) -> Self {
        Self { own, key, pieces: Mutex::new(Pieces::new(&own.redactor)) }
    }

    fn push(&self, text: &str) {
        self.tell(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).push(text));
    }

    fn end(self) {
        let (own, key) = (self.own, self.key);
        let rest = self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner).end();
        Shown::new(own, key).tell(rest);
    }

    fn tell(&self, text: String) {
        if !text.is_empty() {
            self.own.observer.signal(&Signal::Text(self.key.clone(), text));
        }
    }
}

/// Has a program take a turn.
pub(super) async fn program(
    own: &Performer,
    key: &CallKey,
    turn: &Turn,
    bounds: &Bounds,
    cut: impl Future<Output = Failure>,
) -> Answer {
    let place = Place {
        workspace: own.workspace.clone(),
        homes: own.homes.clone(),
        artifacts: own.artifacts.clone(),
        variables: own.variables.clone(),
        unencrypted: own.models.unencrypted(),
        guard: own.guard.clone(),
        endings: own.endings.of(key, &own.clock),
    };
    own.observer.signal(&Signal::Sent(key.clone()));
    let shown = Shown::new(own, key);
    let sink = |sign: Sign| match sign {
        Sign::Text(text) => shown.push(&text),
        Sign::Tool(line) => own.observer.signal(&Signal::Output(key.clone(), own.redactor.text(&line))),
        Sign::Session(_) | Sign::Over => {}
    };
    let answer = take_turn(turn, &place, bounds, &sink, cut).await;
    shown.end();
    answer
}

/// A number of a call among those of its step: an answer that was not taken must not come again.
fn draw(key: &CallKey) -> u32 {
    key.attempt.saturating_sub(1).saturating_mul(100).saturating_add(key.ordinal.saturating_sub(1))
}

/// Asks a model.
pub(super) async fn answer(
    own: &Performer,
    key: &CallKey,
    ask: &Ask,
    (now, cut): (Timestamp, &CancellationToken),
) -> Result<ChatReply, Failure> {
    let observer = own.observer.as_ref();
    let provider = own.models.provider(&ask.request.model.provider)?;
    let mut limits = Limits { clock: own.clock.clone(), cut: cut.clone(), draw: draw(key), ..provider.limits() };
    if let Some(millis) = ask.timeout_ms {
        limits.total = Duration::from_millis(millis);
        // Whoever allows a request more time has a slow server, whose first byte is late too.
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
    observer.signal(&Signal::Sent(key.clone()));
    let shown = Shown::new(own, key);
    let sink = |heard: Heard| match heard {
        Heard::Reading { done, total } => observer.signal(&Signal::Reading(key.clone(), done, total)),
        Heard::Text(text) => shown.push(&text),
        Heard::Reasoning(text) => observer.signal(&Signal::Reasoning(key.clone(), text.len())),
    };
    let reply = if provider.constrains() {
        provider.chat(&ask.request, &limits, &sink).await
    } else {
        provider.chat(&with_contract(ask.request.clone()), &limits, &sink).await
    };
    shown.end();
    reply.map_err(|failure| if by_deadline { failure.of_deadline() } else { failure })
}
