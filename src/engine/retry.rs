//! Decides how often a failed request is retried, and how long the back-off is.

use crate::durable::Wait;
use crate::model::{Class, Failure};

use super::node::StepLimits;

/// The first back-off, in milliseconds; it doubles with every try.
const BASE: u64 = 500;
/// The first back-off for an unavailable provider, in milliseconds. With [`PATIENT_TRIES`] the pauses add up to at
/// least 31 s, which is how long a server may take to load a model.
const PATIENT_BASE: u64 = 1000;
/// The number of tries, in total, of a request to an unavailable provider.
const PATIENT_TRIES: u32 = 6;
/// The number of tries, in total, of a request whose reply ended for an unknown reason. Another try rarely ends better.
const UNKNOWN_STOP_TRIES: u32 = 2;
/// The longest back-off that orch chooses, in milliseconds.
const CAP: u64 = 30_000;
/// The longest pause that a provider may ask for, in milliseconds. If it asks for more, the step fails at once.
const PATIENCE: u64 = 300_000;

/// Whether to wait longer, until a provider is available again. Not after a reply that broke off, which may have cost
/// money, and not if the provider was never reached, since its address may be wrong.
fn is_waited_for(limits: &StepLimits, failure: &Failure) -> bool {
    limits.patient && failure.class == Class::ProviderUnavailable && !failure.interrupted && !failure.unreached
}

/// The number of tries, in total, for a request that failed in this way.
pub(super) fn most_tries(limits: &StepLimits, failure: &Failure) -> u32 {
    match failure.class {
        Class::UnknownStop => limits.tries.min(UNKNOWN_STOP_TRIES),
        _ if is_waited_for(limits, failure) => PATIENT_TRIES,
        _ => limits.tries,
    }
}

/// The pause before the next try; `None` when the provider asks for a longer one than [`PATIENCE`].
///
/// The back-off is exponential, with jitter between half and all of it; a `Retry-After` is the lower bound. For an
/// unavailable provider that is worth waiting for, the pause is at least the whole back-off, and up to a quarter more.
pub(super) fn pause(limits: &StepLimits, failure: &Failure, tries: u32) -> Option<Wait> {
    let waited_for = is_waited_for(limits, failure);
    let own = if waited_for { PATIENT_BASE } else { BASE };
    let base = limits.backoff.map_or(own, |backoff| u64::try_from(backoff.as_millis()).unwrap_or(CAP));
    let full = base.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(CAP.max(base));
    match failure.retry_after_ms {
        Some(asked) if asked > PATIENCE => None,
        Some(asked) if waited_for => {
            let least = asked.max(full);
            Some(Wait::Between(least, least.saturating_add(full / 4)))
        }
        Some(asked) => Some(Wait::Between(asked, asked.saturating_add(full / 2))),
        None if waited_for => Some(Wait::Between(full, full + full / 4)),
        None => Some(Wait::Between(full / 2, full)),
    }
}

/// Returns the failure of a step that was not retried. If the provider asked for too long a pause, the message says so.
pub(super) fn impatient(failure: Failure) -> Failure {
    let Some(asked) = failure.retry_after_ms.filter(|asked| *asked > PATIENCE) else { return failure };
    let (asked, most) = (asked.div_ceil(1000), PATIENCE / 1000);
    let message = format!("{}; it asks to wait {asked} s, longer than the {most} s that a step waits", failure.message);
    let hint = failure.hint.clone().unwrap_or_else(|| "resume the run when that time is over".to_owned());
    Failure { message, ..failure }.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> StepLimits {
        StepLimits { timeout: None, deadline: None, tries: 3, backoff: None, retry_on: Vec::new(), patient: true }
    }

    #[test]
    fn pauses_grow_and_obey_the_provider() {
        let limits = limits();
        let mut failure = Failure::new(Class::RateLimited, "slow down");
        assert_eq!(pause(&limits, &failure, 1), Some(Wait::Between(250, 500)));
        assert_eq!(pause(&limits, &failure, 10), Some(Wait::Between(15_000, 30_000)));
        failure.retry_after_ms = Some(45_000);
        assert_eq!(pause(&limits, &failure, 1), Some(Wait::Between(45_000, 45_250)));
        failure.retry_after_ms = Some(3_600_000);
        assert_eq!(pause(&limits, &failure, 1), None);
        let told = impatient(failure);
        assert_eq!(told.message, "slow down; it asks to wait 3600 s, longer than the 300 s that a step waits");
        assert!(told.hint.is_some());
    }

    #[test]
    fn a_provider_that_is_unavailable_is_waited_for_half_a_minute() {
        let failure = Failure::new(Class::ProviderUnavailable, "loading model");
        let least = |limits: &StepLimits, failure: &Failure| -> u64 {
            (1..most_tries(limits, failure))
                .map(|tries| match pause(limits, failure, tries) {
                    Some(Wait::Between(least, _)) => least,
                    other => panic!("{other:?}"),
                })
                .sum()
        };
        assert_eq!(least(&limits(), &failure), 31_000);
        for asked in [0, 1000] {
            let failure = Failure { retry_after_ms: Some(asked), ..failure.clone() };
            assert_eq!(least(&limits(), &failure), 31_000, "{asked}");
        }
        for short in [
            Failure { unreached: true, ..failure.clone() },
            Failure { interrupted: true, ..failure.clone() },
            Failure::new(Class::RateLimited, "slow down"),
        ] {
            assert_eq!((most_tries(&limits(), &short), least(&limits(), &short)), (3, 750), "{short:?}");
        }
        let told = StepLimits { patient: false, ..limits() };
        assert_eq!((most_tries(&told, &failure), least(&told, &failure)), (3, 750));
    }

    #[test]
    fn a_reply_that_ended_for_an_unknown_reason_is_asked_for_once_more() {
        let failure = Failure::new(Class::UnknownStop, "sleepy");
        assert_eq!(most_tries(&limits(), &failure), 2);
        assert_eq!(most_tries(&StepLimits { tries: 1, ..limits() }, &failure), 1);
    }
}
