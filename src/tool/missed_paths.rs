//! The files or folders that a tool could not examine, for the notes of its result.

use crate::model::counted;

/// The maximum number of reasons that a note contains.
const MAX_NAMED_REASONS: usize = 3;

/// Counts the files or folders that a tool could not examine, and keeps the reasons for the first ones.
#[derive(Debug, Default)]
pub(super) struct MissedPaths {
    count: u64,
    reasons: Vec<String>,
}

impl MissedPaths {
    /// Counts a path. `reason` is a phrase that names the path and says why the tool could not examine it.
    pub(super) fn add(&mut self, reason: String) {
        self.count += 1;
        if self.reasons.len() < MAX_NAMED_REASONS {
            self.reasons.push(reason);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of paths, with a noun.
    pub(super) fn counted(&self, noun: &str) -> String {
        counted(self.count, noun)
    }

    /// The reasons that it keeps, separated by commas, and the number of the other paths.
    pub(super) fn reasons(&self) -> String {
        let more = match self.count - self.reasons.len() as u64 {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        format!("{}{more}", self.reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missed_paths_are_named_and_the_others_counted() {
        let mut missed = MissedPaths::default();
        assert!(missed.is_empty());
        missed.add("`a` can't be read".to_owned());
        assert_eq!((missed.counted("file"), missed.reasons()), ("1 file".to_owned(), "`a` can't be read".to_owned()));
        for name in ["b", "c", "d", "e"] {
            missed.add(name.to_owned());
        }
        assert_eq!(
            (missed.counted("file"), missed.reasons()),
            ("5 files".to_owned(), "`a` can't be read, b, c and 2 more".to_owned())
        );
    }
}
