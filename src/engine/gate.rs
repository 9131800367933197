//! How much may go on at once: one limit for the run, one for each provider, and the pace that
//! a provider asks for. Fair: who waits longest comes first.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::durable::{Call, Effect, Permit};
use crate::model::event::{Event, Fact};
use crate::model::name::longest_reply;
use crate::model::{ChatReply, ChatRequest, Class, Failure, Usage};

/// Calls of a run at once, when nothing else is said.
pub const CONCURRENCY: usize = 64;
/// The window of the limits by the minute.
const MINUTE: Duration = Duration::from_mins(1);
/// The longest pause that a provider may impose on its other calls.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a provider allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderAllowance {
    /// Requests at once.
    pub concurrency: Option<usize>,
    /// Requests a minute.
    pub requests: Option<u32>,
    /// Tokens a minute, input and output together.
    pub tokens: Option<u64>,
}

/// The gates of a run.
pub struct RateLimiters {
    run: Arc<Semaphore>,
    providers: HashMap<String, Arc<RateLimiter>>,
    /// The providers that have answered in this run, be it with a failure.
    answered: Mutex<HashSet<String>>,
}

/// The gate of a provider.
struct RateLimiter {
    allowance: ProviderAllowance,
    places: Arc<Semaphore>,
    pace: Mutex<RateWindow>,
}

/// What went through lately, and until when nothing may.
#[derive(Default)]
struct RateWindow {
    sent: Vec<(Instant, u64)>,
    closed_until: Option<Instant>,
}

/// Places in the run and at a provider.
struct CallPermit {
    _run: Option<OwnedSemaphorePermit>,
    _provider: Option<OwnedSemaphorePermit>,
}

impl RateLimiters {
    /// Gates for a run: `concurrency` calls at once, and what each provider allows.
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

    /// Takes in which providers answered in earlier sessions of the run.
    pub fn remember(&self, events: &[Event]) {
        let calls = events.iter().filter_map(|event| match &event.fact {
            Fact::CallEnded(call) => Some(call),
            _ => None,
        });
        let answered = calls.filter(|call| call.failure.as_ref().is_none_or(is_answer));
        let names = answered.filter_map(|call| Some(call.model.as_ref()?.provider.clone()));
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    /// The failure of a call, which says whether the provider was never reached in this run.
    pub fn judged(&self, provider: &str, failure: Failure) -> Failure {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if is_answer(&failure) {
            answered.insert(provider.to_owned());
        }
        let unreached = failure.unreached && !answered.contains(provider);
        Failure { unreached, ..failure }
    }

    /// Waits for a place.
    pub async fn admit(&self, call: &Call) -> Permit {
        let ask = match &call.effect {
            Effect::Ask(ask) => Some(ask),
            Effect::Turn(_) | Effect::Command(_) | Effect::Look(_) | Effect::Write(_) => None,
        };
        let gate = ask.and_then(|ask| self.providers.get(&ask.request.model.provider));
        // The provider's place first: who waits for it must not hold up other providers.
        let mut provider = None;
        if let (Some(gate), Some(ask)) = (gate, ask) {
            provider = gate.places.clone().acquire_owned().await.ok();
            gate.pass(ask.max_usage.total()).await;
        }
        // A closed semaphore does not occur: nobody closes it.
        let run = self.run.clone().acquire_owned().await.ok();
        Box::new(CallPermit { _run: run, _provider: provider })
    }

    /// Takes in what a provider answered: its `Retry-After` holds for every call to it.
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

/// Whether a failure is an answer of the provider.
fn is_answer(failure: &Failure) -> bool {
    failure.status.is_some() || failure.interrupted && failure.class == Class::ProviderUnavailable
}

impl RateLimiter {
    /// Waits until a request of so many tokens may be sent, and counts it.
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
    /// When the next request may be sent; `None` and counted when now.
    fn opens(&mut self, allowance: ProviderAllowance, tokens: u64) -> Option<Instant> {
        let now = Instant::now();
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Some(until);
        }
        self.sent.retain(|(at, _)| *at + MINUTE > now);
        let used: u64 = self.sent.iter().map(|(_, tokens)| tokens).sum();
        let many =
            allowance.requests.is_some_and(|most| self.sent.len() >= usize::try_from(most).unwrap_or(usize::MAX));
        // A request larger than the whole allowance goes alone: waiting would not help it.
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

/// What a request may use at most: two bytes a token of input at least, and the longest reply.
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
        // A refusal is an answer, of this provider alone.
        let busy = Failure { status: Some(503), ..Failure::new(Class::ProviderUnavailable, "loading model") };
        assert!(!gates.judged("lab", busy).unreached);
        assert!(!gates.judged("lab", refused()).unreached);
        assert!(gates.judged("other", refused()).unreached);
    }
}
