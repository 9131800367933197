//! Decides how often orch retries a failed request, and how long the back-off is.

use crate::durable::Wait;
use crate::model::{Failure, FailureClass};

use super::node::StepLimits;

/// The first back-off, in milliseconds; it doubles with every try.
const BASE_BACKOFF: u64 = 500;
/// The first back-off for an unavailable provider, in milliseconds. With [`UNAVAILABLE_TRIES`] the pauses add up to at
/// least 31 s, which is how long a server may take to load a model.
const UNAVAILABLE_BACKOFF: u64 = 1000;
/// The number of tries, in total, of a request to an unavailable provider.
const UNAVAILABLE_TRIES: u32 = 6;
/// The number of tries, in total, of a request whose reply ended for an unknown reason. Another try rarely ends better.
const UNKNOWN_STOP_TRIES: u32 = 2;
/// The longest back-off that orch chooses, in milliseconds.
const MAX_BACKOFF: u64 = 30_000;
/// The longest pause that a provider may ask for, in milliseconds. If it asks for more, the step fails at once.
const MAX_RETRY_AFTER: u64 = 300_000;

/// Whether to wait longer, until a provider is available again. False after a reply that broke off, which may have cost
/// money, and false if orch never reached the provider, since its address may be wrong.
fn should_wait_longer(limits: &StepLimits, failure: &Failure) -> bool {
    limits.waits_for_provider
        && failure.class == FailureClass::ProviderUnavailable
        && !failure.interrupted
        && !failure.unreached
}

/// The number of tries, in total, for a request that failed in this way.
pub(super) fn most_tries(limits: &StepLimits, failure: &Failure) -> u32 {
    match failure.class {
        FailureClass::UnknownStop => limits.tries.min(UNKNOWN_STOP_TRIES),
        _ if should_wait_longer(limits, failure) => UNAVAILABLE_TRIES,
        _ => limits.tries,
    }
}

/// The pause before the next try; `None` when the provider asks for a longer one than [`MAX_RETRY_AFTER`].
///
/// The back-off is exponential, with jitter between half and all of it; a `Retry-After` is the lower bound. For an
/// unavailable provider with [`should_wait_longer`], the pause is at least the whole back-off, and up to a quarter
/// more.
pub(super) fn pause(limits: &StepLimits, failure: &Failure, tries: u32) -> Option<Wait> {
    let waits_longer = should_wait_longer(limits, failure);
    let default_base = if waits_longer { UNAVAILABLE_BACKOFF } else { BASE_BACKOFF };
    let base = limits.backoff.map_or(default_base, |backoff| u64::try_from(backoff.as_millis()).unwrap_or(MAX_BACKOFF));
    let backoff = base.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_BACKOFF.max(base));
    match failure.retry_after_ms {
        Some(retry_after) if retry_after > MAX_RETRY_AFTER => None,
        Some(retry_after) if waits_longer => {
            let min = retry_after.max(backoff);
            Some(Wait::DurationBetween(min, min.saturating_add(backoff / 4)))
        }
        Some(retry_after) => Some(Wait::DurationBetween(retry_after, retry_after.saturating_add(backoff / 2))),
        None if waits_longer => Some(Wait::DurationBetween(backoff, backoff + backoff / 4)),
        None => Some(Wait::DurationBetween(backoff / 2, backoff)),
    }
}

/// Returns the failure of a step that orch does not retry. If the provider asked for too long a pause, adds this to the
/// message.
pub(super) fn note_retry_after(failure: Failure) -> Failure {
    let Some(retry_after) = failure.retry_after_ms.filter(|retry_after| *retry_after > MAX_RETRY_AFTER) else {
        return failure;
    };
    let (retry_after, max) = (retry_after.div_ceil(1000), MAX_RETRY_AFTER / 1000);
    let message =
        format!("{}; it asks to wait {retry_after} s, longer than the {max} s that a step waits", failure.message);
    let hint = failure.hint.clone().unwrap_or_else(|| "resume the run after that time".to_owned());
    Failure { message, ..failure }.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> StepLimits {
        StepLimits {
            timeout: None,
            deadline: None,
            tries: 3,
            backoff: None,
            retry_on: Vec::new(),
            waits_for_provider: true,
        }
    }

    #[test]
    fn pauses_grow_and_obey_the_provider() {
        let limits = limits();
        let mut failure = Failure::new(FailureClass::RateLimited, "slow down");
        assert_eq!(pause(&limits, &failure, 1), Some(Wait::DurationBetween(250, 500)));
        assert_eq!(pause(&limits, &failure, 10), Some(Wait::DurationBetween(15_000, 30_000)));
        failure.retry_after_ms = Some(45_000);
        assert_eq!(pause(&limits, &failure, 1), Some(Wait::DurationBetween(45_000, 45_250)));
        failure.retry_after_ms = Some(3_600_000);
        assert_eq!(pause(&limits, &failure, 1), None);
        let noted = note_retry_after(failure);
        assert_eq!(noted.message, "slow down; it asks to wait 3600 s, longer than the 300 s that a step waits");
        assert!(noted.hint.is_some());
    }

    #[test]
    fn an_unavailable_provider_is_retried_for_half_a_minute() {
        let failure = Failure::new(FailureClass::ProviderUnavailable, "loading model");
        let total_pause = |limits: &StepLimits, failure: &Failure| -> u64 {
            (1..most_tries(limits, failure))
                .map(|tries| match pause(limits, failure, tries) {
                    Some(Wait::DurationBetween(min, _)) => min,
                    other => panic!("{other:?}"),
                })
                .sum()
        };
        assert_eq!(total_pause(&limits(), &failure), 31_000);
        for retry_after in [0, 1000] {
            let failure = Failure { retry_after_ms: Some(retry_after), ..failure.clone() };
            assert_eq!(total_pause(&limits(), &failure), 31_000, "{retry_after}");
        }
        for failure_kind in [
            Failure { unreached: true, ..failure.clone() },
            Failure { interrupted: true, ..failure.clone() },
            Failure::new(FailureClass::RateLimited, "slow down"),
        ] {
            assert_eq!(
                (most_tries(&limits(), &failure_kind), total_pause(&limits(), &failure_kind)),
                (3, 750),
                "{failure_kind:?}"
            );
        }
        let impatient_limits = StepLimits { waits_for_provider: false, ..limits() };
        assert_eq!((most_tries(&impatient_limits, &failure), total_pause(&impatient_limits, &failure)), (3, 750));
    }

    #[test]
    fn an_unknown_stop_reason_is_retried_once() {
        let failure = Failure::new(FailureClass::UnknownStop, "sleepy");
        assert_eq!(most_tries(&limits(), &failure), 2);
        assert_eq!(most_tries(&StepLimits { tries: 1, ..limits() }, &failure), 1);
    }
}
