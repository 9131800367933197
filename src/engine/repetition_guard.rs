//! Notices a model that repeats a tool call although the result is the same each time.

use std::collections::HashMap;

use crate::model::Digest;

/// How often a call may have the same result before the model receives a warning with the next equal result.
const MAX_EQUAL_RESULTS: u32 = 3;

/// The repetitions of the tool calls of a conversation.
#[derive(Debug, Default)]
pub(super) struct RepetitionGuard {
    /// For each call, by the digest of its tool and arguments: the digest of its latest result, and how often it has
    /// had this result without a change of files in between.
    results: HashMap<Digest, (Digest, u32)>,
}

/// What follows from a repeated call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// Nothing: the call may help the model.
    Allowed,
    /// The model receives a warning with the result, which it has had this often.
    Warned(u32),
    /// The step fails. The call had the same result this often.
    TooOften(u32),
}

impl RepetitionGuard {
    /// Adds a call with its result. A call that changes files can change the results of all other calls.
    pub(super) fn add(&mut self, call: Digest, result: Digest, changes_files: bool) -> Repetition {
        if changes_files {
            self.results.retain(|other, _| *other == call);
        }
        let (latest, count) = self.results.entry(call).or_insert_with(|| (result.clone(), 0));
        if *latest != result {
            (*latest, *count) = (result, 0);
        }
        *count += 1;
        match *count {
            count if count <= MAX_EQUAL_RESULTS => Repetition::Allowed,
            count if count == MAX_EQUAL_RESULTS + 1 => Repetition::Warned(count),
            count => Repetition::TooOften(count),
        }
    }

    /// How often a call may still have its latest result until it has had this result too often. At least 1.
    pub(super) fn allowance(&self, call: &Digest) -> u32 {
        let count = self.results.get(call).map_or(0, |(_, count)| *count);
        (MAX_EQUAL_RESULTS + 2).saturating_sub(count).max(1)
    }

    /// Forgets all results, because the conversation leaves out some of them, so that the model may need them again.
    pub(super) fn reset(&mut self) {
        self.results.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::compute(text.as_bytes())
    }

    #[test]
    fn the_fourth_equal_result_is_warned_about_and_the_fifth_is_too_many() {
        let mut guard = RepetitionGuard::default();
        let mut add = |call: &str, result: &str| guard.add(digest(call), digest(result), false);
        for _ in 0..3 {
            assert_eq!((add("read a", "x"), add("read b", "x")), (Repetition::Allowed, Repetition::Allowed));
        }
        assert_eq!(add("read a", "x"), Repetition::Warned(4));
        assert_eq!(add("read a", "x"), Repetition::TooOften(5));
        assert_eq!(add("read b", "y"), Repetition::Allowed, "another result starts again");
    }

    #[test]
    fn a_change_of_files_resets_the_counts_of_other_calls() {
        let mut guard = RepetitionGuard::default();
        for number in 0..10 {
            assert_eq!(guard.add(digest("test"), digest("failed"), false), Repetition::Allowed);
            guard.add(digest(&format!("edit {number}")), digest("done"), true);
        }
        let mut repeat = || guard.add(digest("format"), digest("done"), true);
        let repetitions = [repeat(), repeat(), repeat(), repeat()];
        assert_eq!(repetitions[3], Repetition::Warned(4), "a call that changes files each time");
    }

    #[test]
    fn the_allowance_ends_with_the_repetition_that_is_too_often() {
        let mut guard = RepetitionGuard::default();
        let call = digest("read a");
        loop {
            let is_last = guard.allowance(&call) == 1;
            let repetition = guard.add(call.clone(), digest("x"), false);
            assert_eq!(matches!(repetition, Repetition::TooOften(_)), is_last);
            if is_last {
                break;
            }
        }
        guard.reset();
        assert_eq!(guard.allowance(&call), MAX_EQUAL_RESULTS + 2);
    }

    #[test]
    fn a_reset_forgets_all_results() {
        let mut guard = RepetitionGuard::default();
        for _ in 0..10 {
            assert_eq!(guard.add(digest("read a"), digest("x"), false), Repetition::Allowed);
            guard.reset();
        }
    }
}
