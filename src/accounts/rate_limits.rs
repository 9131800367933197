//! Limits the number of concurrent calls of the run and of each provider, and the rate of the requests to a provider.
//! Calls receive permits in the order in which they started to wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::durable::Permit;
use crate::model::event::{Event, Fact};
use crate::model::{Failure, FailureClass};

use super::{RateAccount, RatedRequest};

/// The default number of concurrent calls of a run.
pub const DEFAULT_CONCURRENCY: usize = 64;
/// The window of the per-minute limits.
const RATE_WINDOW: Duration = Duration::from_mins(1);
/// The longest pause that a provider's `Retry-After` can impose on its other calls.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// The limits of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderLimits {
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
    /// The providers that have responded in this run, including those that responded with a failure.
    responsive: Mutex<HashSet<String>>,
}

/// The rate limiter of a provider.
struct RateLimiter {
    limits: ProviderLimits,
    permits: Arc<Semaphore>,
    window: Mutex<RateWindow>,
}

/// The requests of the last minute, and the end of the pause that a `Retry-After` imposes.
#[derive(Default)]
struct RateWindow {
    /// When each request was sent, and its tokens.
    sent_requests: VecDeque<(Instant, u64)>,
    /// The tokens of these requests.
    sent_tokens: u64,
    blocked_until: Option<Instant>,
}

/// The permits of a call, from the run and from the provider.
struct CallPermit {
    _run: Option<OwnedSemaphorePermit>,
    _provider: Option<OwnedSemaphorePermit>,
}

impl RateLimiters {
    /// Creates the limiters of a run from the maximum number of concurrent calls and the limits of each provider.
    pub fn new(concurrency: usize, providers: impl IntoIterator<Item = (String, ProviderLimits)>) -> Self {
        let new_limiter = |(name, limits): (String, ProviderLimits)| {
            let permits = Arc::new(Semaphore::new(limits.concurrency.unwrap_or(Semaphore::MAX_PERMITS)));
            (name, Arc::new(RateLimiter { limits, permits, window: Mutex::default() }))
        };
        Self {
            run: Arc::new(Semaphore::new(concurrency.max(1))),
            providers: providers.into_iter().map(new_limiter).collect(),
            responsive: Mutex::default(),
        }
    }

    /// Restores the providers that responded in earlier sessions of the run, from its events.
    pub fn restore(&self, events: &[Event]) {
        let calls = events.iter().filter_map(|event| match &event.fact {
            Fact::CallEnded(call) => Some(call),
            _ => None,
        });
        let responsive = calls.filter(|call| call.failure.as_ref().is_none_or(is_response));
        let names = responsive.filter_map(|call| Some(call.model.as_ref()?.provider.clone()));
        self.responsive.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }
}

impl RateAccount for RateLimiters {
    fn acquire(&self, request: Option<RatedRequest>) -> BoxFuture<'_, Permit> {
        async move {
            let limited = request.and_then(|request| Some((self.providers.get(&request.provider)?, request.tokens)));
            // Acquire the provider's permit first, so that a call that waits for it does not block calls to other
            // providers.
            let mut provider = None;
            if let Some((limiter, tokens)) = limited {
                provider = limiter.permits.clone().acquire_owned().await.ok();
                limiter.wait_for_slot(tokens).await;
            }
            // Acquiring fails only if the semaphore is closed, and orch never closes it.
            let run = self.run.clone().acquire_owned().await.ok();
            Box::new(CallPermit { _run: run, _provider: provider }) as Permit
        }
        .boxed()
    }

    fn observe(&self, provider: &str, failure: Option<&Failure>) -> bool {
        if let (Some(limiter), Some(millis)) =
            (self.providers.get(provider), failure.and_then(|failure| failure.retry_after_ms))
        {
            let until = Instant::now() + Duration::from_millis(millis).min(MAX_PAUSE);
            let mut window = limiter.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.blocked_until = window.blocked_until.max(Some(until));
        }
        let mut responsive = self.responsive.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none_or(is_response) {
            responsive.insert(provider.to_owned());
        }
        responsive.contains(provider)
    }
}

/// Whether a failure shows that the provider responded: it sent a status, or the reply broke off.
fn is_response(failure: &Failure) -> bool {
    failure.status.is_some() || failure.interrupted && failure.class == FailureClass::ProviderUnavailable
}

impl RateLimiter {
    /// Waits until a request of this many tokens may be sent, and counts it.
    async fn wait_for_slot(&self, tokens: u64) {
        loop {
            let until = {
                let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
                match window.try_reserve_slot(self.limits, tokens) {
                    None => return,
                    Some(until) => until,
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

impl RateWindow {
    /// Counts a request and returns `None` if it may be sent now; otherwise returns the time of the next try.
    fn try_reserve_slot(&mut self, limits: ProviderLimits, tokens: u64) -> Option<Instant> {
        let now = Instant::now();
        if let Some(until) = self.blocked_until.filter(|until| *until > now) {
            return Some(until);
        }
        while let Some((_, tokens)) = self.sent_requests.pop_front_if(|(sent_at, _)| *sent_at + RATE_WINDOW <= now) {
            self.sent_tokens = self.sent_tokens.saturating_sub(tokens);
        }
        let too_many_requests = limits
            .requests
            .is_some_and(|limit| self.sent_requests.len() >= usize::try_from(limit).unwrap_or(usize::MAX));
        // A request that is larger than the limit may be sent when no other request counts, since waiting would never
        // make it fit.
        let too_many_tokens =
            limits.tokens.is_some_and(|limit| self.sent_tokens > 0 && self.sent_tokens.saturating_add(tokens) > limit);
        if let (true, Some((first, _))) = (too_many_requests || too_many_tokens, self.sent_requests.front()) {
            return Some(*first + RATE_WINDOW);
        }
        if limits.requests.is_some() || limits.tokens.is_some() {
            self.sent_requests.push_back((now, tokens));
            self.sent_tokens = self.sent_tokens.saturating_add(tokens);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_has_responded_after_a_reply_or_a_failure_with_a_status() {
        let limiters = RateLimiters::new(1, []);
        let refused =
            Failure { unreached: true, ..Failure::new(FailureClass::ProviderUnavailable, "connection refused") };
        assert!(!limiters.observe("lab", Some(&refused)));
        // A refusal counts as a response, and only for this provider.
        let busy = Failure { status: Some(503), ..Failure::new(FailureClass::ProviderUnavailable, "loading model") };
        assert!(limiters.observe("lab", Some(&busy)));
        assert!(limiters.observe("lab", Some(&refused)));
        assert!(!limiters.observe("other", Some(&refused)));
        assert!(limiters.observe("other", None) && limiters.observe("other", Some(&refused)));
    }
}
