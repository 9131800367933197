//! How long to wait before a failed request is tried again.

use std::time::Duration;

use crate::durable::Wait;
use crate::model::Failure;

/// The first pause, in milliseconds; it doubles with every try.
const BASE: u64 = 500;
/// The longest pause of our own choosing, in milliseconds.
const CAP: u64 = 30_000;
/// The longest pause that a provider may ask for, in milliseconds; beyond it the step fails at once.
const PATIENCE: u64 = 300_000;

/// The pause before the next try, `None` when the provider asks for more than we wait.
///
/// Exponential backoff with jitter between half and all of it; a `Retry-After` is the least.
pub(super) fn pause(failure: &Failure, tries: u32, backoff: Option<Duration>) -> Option<Wait> {
    let base = backoff.map_or(BASE, |backoff| u64::try_from(backoff.as_millis()).unwrap_or(CAP));
    let full = base.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(CAP.max(base));
    match failure.retry_after_ms {
        Some(asked) if asked > PATIENCE => None,
        Some(asked) => Some(Wait::Between(asked, asked.saturating_add(full / 2))),
        None => Some(Wait::Between(full / 2, full)),
    }
}

/// The failure of a step that was not tried again, saying so when the provider asks for too long a pause.
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
    use crate::model::Class;

    #[test]
    fn pauses_grow_and_obey_the_provider() {
        let mut failure = Failure::new(Class::RateLimited, "slow down");
        assert_eq!(pause(&failure, 1, None), Some(Wait::Between(250, 500)));
        assert_eq!(pause(&failure, 10, None), Some(Wait::Between(15_000, 30_000)));
        failure.retry_after_ms = Some(45_000);
        assert_eq!(pause(&failure, 1, None), Some(Wait::Between(45_000, 45_250)));
        failure.retry_after_ms = Some(3_600_000);
        assert_eq!(pause(&failure, 1, None), None);
        let told = impatient(failure);
        assert_eq!(told.message, "slow down; it asks to wait 3600 s, longer than the 300 s that a step waits");
        assert!(told.hint.is_some());
    }
}
