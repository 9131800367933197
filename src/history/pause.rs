//! How long a run waits between two tries.

use crate::model::{CallKey, Digest, RunId};

/// The duration of a pause between `min` and `max` milliseconds. It depends only on the run and the key, so it is the
/// same after a resume and differs between runs.
pub fn pause_millis(run: RunId, key: &CallKey, min: u64, max: u64) -> u64 {
    let seed = Digest::compute(format!("{} {key}", run.0).as_bytes());
    let number = u64::from_str_radix(seed.as_str().get(..12).unwrap_or_default(), 16).unwrap_or_default();
    min + number.checked_rem(max.saturating_sub(min).saturating_add(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StepKey;

    #[test]
    fn a_pause_depends_on_the_run_and_the_call() {
        let key =
            |attempt| CallKey { step: StepKey::root("a"), attempt, ordinal: 0, tool_call: None, input_round: None };
        let (run, other) = (RunId(uuid::Uuid::from_u128(1)), RunId(uuid::Uuid::from_u128(2)));
        let pause = |run, attempt| pause_millis(run, &key(attempt), 1_000, 1_000_000);
        assert_eq!(pause(run, 1), pause(run, 1));
        assert!(pause(run, 1) != pause(other, 1) && pause(run, 1) != pause(run, 2));
        assert!((1_000..=1_000_000).contains(&pause(run, 3)));
        assert_eq!(pause_millis(run, &key(1), 500, 500), 500);
    }
}
