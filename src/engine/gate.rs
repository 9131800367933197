//! Limits how many calls are in flight: for the run, for each provider, and at the rate that a provider allows. Fair:
//! the call that waits longest goes first.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::durable::{Call, Effect, Permit};
use crate::model::event::{Event, Fact};
use crate::model::name::longest_reply;
use crate::model::{ChatReply, ChatRequest, Class, Failure, Usage};

/// The default number of concurrent calls of a run.
pub const CONCURRENCY: usize = 64;
/// The window of the per-minute limits.
const MINUTE: Duration = Duration::from_mins(1);
/// The longest pause that a provider's `Retry-After` can impose on its other calls.
const PATIENCE: Duration = Duration::from_mins(5);

/// The limits of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderAllowance {
    /// Concurrent requests.
    pub concurrency: Option<usize>,
    /// Requests per minute.
    pub requests: Option<u32>,
    /// Tokens per minute, input and output together.
    pub tokens: Option<u64>,
}

/// The rate limiters of a run.
pub struct RateLimiters {
    run: Arc<Semaphore>,
    providers: HashMap<String, Arc<RateLimiter>>,
    /// The providers that have answered in this run, also with a failure.
    answered: Mutex<HashSet<String>>,
}

/// The rate limiter of a provider.
struct RateLimiter {
    allowance: ProviderAllowance,
    places: Arc<Semaphore>,
    pace: Mutex<RateWindow>,
}

/// The requests sent in the last minute, and until when a `Retry-After` blocks the next ones.
#[derive(Default)]
struct RateWindow {
    sent: Vec<(Instant, u64)>,
    closed_until: Option<Instant>,
}

/// The permits of a call, from the run and from the provider.
struct CallPermit {
    _run: Option<OwnedSemaphorePermit>,
    _provider: Option<OwnedSemaphorePermit>,
}

impl RateLimiters {
    /// Creates the limiters of a run: `concurrency` calls at once, and the limits of each provider.
    pub fn new(concurrency: usize, providers: impl IntoIterator<Item = (String, ProviderAllowance)>) -> Self {
        let gate = |(name, allowance): (String, ProviderAllowance)| {
            let places = Arc::new(Semaphore::new(allowance.concurrency.unwrap_or(Semaphore::MAX_PERMITS)));
            (name, Arc::new(RateLimiter { allowance, places, pace: Mutex::default() }))
        };
        Self {
            run: Arc::new(Semaphore::new(concurrency.max(1))),
            providers: providers.into_iter().map(gate).collect(),
            answered: Mutex::default(),
        }
    }

    /// Notes from the events which providers answered in earlier sessions of the run.
    pub fn remember(&self, events: &[Event]) {
        let calls = events.iter().filter_map(|event| match &event.fact {
            Fact::CallEnded(call) => Some(call),
            _ => None,
        });
        let answered = calls.filter(|call| call.failure.as_ref().is_none_or(is_answer));
        let names = answered.filter_map(|call| Some(call.model.as_ref()?.provider.clone()));
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    /// Returns the failure of a call, with `unreached` set only if the provider has never answered in this run.
    pub fn judged(&self, provider: &str, failure: Failure) -> Failure {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if is_answer(&failure) {
            answered.insert(provider.to_owned());
        }
        let unreached = failure.unreached && !answered.contains(provider);
        Failure { unreached, ..failure }
    }

    /// Waits until the limits of the run and of the provider allow the call, and returns its permit.
    pub async fn admit(&self, call: &Call) -> Permit {
        let ask = match &call.effect {
            Effect::Ask(ask) => Some(ask),
            Effect::Turn(_) | Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => None,
        };
        let gate = ask.and_then(|ask| self.providers.get(&ask.request.model.provider));
        // The provider's permit comes first, so that a call that waits for it does not hold up other providers.
        let mut provider = None;
        if let (Some(gate), Some(ask)) = (gate, ask) {
            provider = gate.places.clone().acquire_owned().await.ok();
            gate.pass(ask.max_usage.total()).await;
        }
        // Acquiring fails only on a closed semaphore, and orch never closes one.
        let run = self.run.clone().acquire_owned().await.ok();
        Box::new(CallPermit { _run: run, _provider: provider })
    }

    /// Notes a provider's answer: its `Retry-After` delays every call to the provider.
    pub fn heard(&self, provider: &str, answer: &Result<ChatReply, Failure>) {
        if answer.is_ok() {
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(provider.to_owned());
        }
        if let (Some(gate), Err(failure)) = (self.providers.get(provider), answer)
            && let Some(millis) = failure.retry_after_ms
        {
            let until = Instant::now() + Duration::from_millis(millis).min(PATIENCE);
            let mut pace = gate.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.closed_until = pace.closed_until.max(Some(until));
        }
    }
}

/// Whether a failure shows that the provider answered: it sent a status, or broke off during the reply.
fn is_answer(failure: &Failure) -> bool {
    failure.status.is_some() || failure.interrupted && failure.class == Class::ProviderUnavailable
}

impl RateLimiter {
    /// Waits until a request of this many tokens may be sent, and counts it.
    async fn pass(&self, tokens: u64) {
        loop {
            let until = {
                let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
                match pace.opens(self.allowance, tokens) {
                    None => return,
                    Some(until) => until,
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

impl RateWindow {
    /// Returns when the next request may be sent; `None` if that is now, and then counts the request.
    fn opens(&mut self, allowance: ProviderAllowance, tokens: u64) -> Option<Instant> {
        let now = Instant::now();
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Some(until);
        }
        self.sent.retain(|(at, _)| *at + MINUTE > now);
        let used: u64 = self.sent.iter().map(|(_, tokens)| tokens).sum();
        let many =
            allowance.requests.is_some_and(|most| self.sent.len() >= usize::try_from(most).unwrap_or(usize::MAX));
        // A request larger than the whole allowance goes through alone, since waiting would never make it fit.
        let much = allowance.tokens.is_some_and(|most| used > 0 && used.saturating_add(tokens) > most);
        if let (true, Some((first, _))) = (many || much, self.sent.first()) {
            return Some(*first + MINUTE);
        }
        if allowance.requests.is_some() || allowance.tokens.is_some() {
            self.sent.push((now, tokens));
        }
        None
    }
}

/// Returns the upper bound of a request's usage: one input token for every two bytes, and the longest reply.
pub fn most(request: &ChatRequest) -> Usage {
    let messages: usize = request.messages.iter().map(|message| message.content.len()).sum();
    let schema = request.schema.as_ref().map_or(0, |schema| schema.to_string().len());
    let input = (request.system.len() + messages + schema).div_ceil(2);
    let (input, output) =
        (u64::try_from(input).unwrap_or(u64::MAX), u64::from(longest_reply(&request.model, request.max_output_tokens)));
    Usage { input, output, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_counts_as_unreached_until_it_has_answered() {
        let gates = RateLimiters::new(1, []);
        let refused = || Failure { unreached: true, ..Failure::new(Class::ProviderUnavailable, "connection refused") };
        assert!(gates.judged("lab", refused()).unreached);
        // A refusal counts as an answer, and only for this provider.
        let busy = Failure { status: Some(503), ..Failure::new(Class::ProviderUnavailable, "loading model") };
        assert!(!gates.judged("lab", busy).unreached);
        assert!(!gates.judged("lab", refused()).unreached);
        assert!(gates.judged("other", refused()).unreached);
    }
}
