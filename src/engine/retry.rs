//! Decides how often orch retries a failed request or command, and how long it waits before each retry.

use crate::durable::Wait;
use crate::model::{Failure, FailureClass};

use super::node::StepLimits;

/// The first back-off in milliseconds. It doubles with every try.
const BASE_BACKOFF: u64 = 500;
/// The first back-off for an unavailable provider, in milliseconds. The pauses between [`UNAVAILABLE_TRIES`] tries add
/// up to at least 31 s, so that a server has time to load a model.
const UNAVAILABLE_BACKOFF: u64 = 1000;
/// The total number of tries of a request to an unavailable provider.
const UNAVAILABLE_TRIES: u32 = 6;
/// The total number of tries of a request whose reply has an unknown stop reason. A retry usually gives the same
/// result.
const UNKNOWN_STOP_TRIES: u32 = 2;
/// The longest back-off in milliseconds, unless the step sets a longer `backoff`.
const MAX_BACKOFF: u64 = 30_000;
/// The longest pause that a provider may request, in milliseconds. If it requests a longer pause, the step fails at
/// once.
const MAX_RETRY_AFTER: u64 = 300_000;

/// Whether to wait longer than usual for an unavailable provider. False after an interrupted reply, since it may have
/// cost money. False if orch never reached the provider, since the address may be wrong.
fn should_wait_longer(limits: &StepLimits, failure: &Failure) -> bool {
    limits.waits_for_provider
        && failure.class == FailureClass::ProviderUnavailable
        && !failure.interrupted
        && !failure.unreached
}

/// The maximum total number of tries after this failure.
pub(super) fn max_tries(limits: &StepLimits, failure: &Failure) -> u32 {
    match failure.class {
        FailureClass::UnknownStop => limits.tries.min(UNKNOWN_STOP_TRIES),
        _ if should_wait_longer(limits, failure) => UNAVAILABLE_TRIES,
        _ => limits.tries,
    }
}

/// The pause before the next try; `None` if the provider requests a longer pause than [`MAX_RETRY_AFTER`].
///
/// The back-off doubles with every try. The pause is between half and all of the back-off. If
/// [`should_wait_longer`], it is between the whole back-off and a quarter more. A `Retry-After` is a lower bound of the
/// pause.
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

/// Returns the failure of a step that orch does not retry. If the provider requested too long a pause, the message says
/// so.
pub(super) fn explain_long_retry_after(failure: Failure) -> Failure {
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
        let final_failure = explain_long_retry_after(failure);
        assert_eq!(final_failure.message, "slow down; it asks to wait 3600 s, longer than the 300 s that a step waits");
        assert!(final_failure.hint.is_some());
    }

    #[test]
    fn an_unavailable_provider_is_retried_for_half_a_minute() {
        let failure = Failure::new(FailureClass::ProviderUnavailable, "loading model");
        let total_pause = |limits: &StepLimits, failure: &Failure| -> u64 {
            (1..max_tries(limits, failure))
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
        for other_failure in [
            Failure { unreached: true, ..failure.clone() },
            Failure { interrupted: true, ..failure.clone() },
            Failure::new(FailureClass::RateLimited, "slow down"),
        ] {
            assert_eq!(
                (max_tries(&limits(), &other_failure), total_pause(&limits(), &other_failure)),
                (3, 750),
                "{other_failure:?}"
            );
        }
        let limits_without_waiting = StepLimits { waits_for_provider: false, ..limits() };
        assert_eq!(
            (max_tries(&limits_without_waiting, &failure), total_pause(&limits_without_waiting, &failure)),
            (3, 750)
        );
    }

    #[test]
    fn an_unknown_stop_reason_is_retried_once() {
        let failure = Failure::new(FailureClass::UnknownStop, "sleepy");
        assert_eq!(max_tries(&limits(), &failure), 2);
        assert_eq!(max_tries(&StepLimits { tries: 1, ..limits() }, &failure), 1);
    }
}
