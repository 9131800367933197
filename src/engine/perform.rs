//! Does what calls say: asks the model, within its time, and keeps secrets out of the answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::agent::Models;
use crate::durable::{Ask, Call, Effect, Observer, Outcome, Perform, Signal};
use crate::model::{CallKey, ChatReply, Class, Failure};
use crate::provider::Signal as Heard;
use crate::secret::Redactor;

/// Performs the calls of a run.
pub struct Performer {
    models: Arc<Models>,
    observer: Arc<dyn Observer>,
    redactor: Arc<Redactor>,
}

impl Performer {
    /// A performer that asks `models`, tells `observer`, and redacts with `redactor`.
    pub fn new(models: Arc<Models>, observer: Arc<dyn Observer>, redactor: Arc<Redactor>) -> Self {
        Self { models, observer, redactor }
    }
}

impl Perform for Performer {
    fn perform(&self, call: Call) -> BoxFuture<'static, Outcome> {
        let (models, observer, redactor) = (self.models.clone(), self.observer.clone(), self.redactor.clone());
        async move {
            let started = Timestamp::now();
            let Effect::Ask(ask) = call.effect;
            let result = redactor.result(answer(&models, observer.as_ref(), &call.key, &ask, started).await);
            let cost = result.as_ref().ok().and_then(|reply| models.cost(&ask.request.model, &reply.usage));
            Outcome { started, ended: Timestamp::now(), result, cost }
        }
        .boxed()
    }
}

async fn answer(
    models: &Models,
    observer: &dyn Observer,
    key: &CallKey,
    ask: &Ask,
    now: Timestamp,
) -> Result<ChatReply, Failure> {
    let provider = models.provider(&ask.request.model.provider)?;
    let mut limits = provider.limits();
    if let Some(millis) = ask.timeout_ms {
        limits.total = Duration::from_millis(millis);
        // Whoever allows a request more time has a slow server, whose first byte is late too.
        limits.first_byte = limits.total;
    }
    if let Some(until) = ask.until {
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if left.is_zero() {
            return Err(
                Failure::new(Class::Timeout, "the step's deadline is over").with_hint("raise `deadline:` of the step")
            );
        }
        limits.total = limits.total.min(left);
    }
    limits.first_byte = limits.first_byte.min(limits.total);
    observer.signal(&Signal::Sent(key.clone()));
    let sink = |heard: Heard| {
        let signal = match heard {
            Heard::Reading { done, total } => Signal::Reading(key.clone(), done, total),
            Heard::Text(text) => Signal::Text(key.clone(), text),
            Heard::Reasoning(text) => Signal::Reasoning(key.clone(), text.len()),
        };
        observer.signal(&signal);
    };
    provider.chat(&ask.request, &limits, &sink).await
}
