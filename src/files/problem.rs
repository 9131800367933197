//! Collects all problems of a list of files into one failure.

use indexmap::IndexSet;

use crate::model::{Failure, FailureClass};

use super::path::{is_invisible, is_misleading};

/// The maximum number of problems that a failure lists.
const MAX_LISTED_PROBLEMS: usize = 10;

/// The maximum number of characters of a path in a message.
const MAX_PATH_CHARS: usize = 120;

/// The problems of a list of files, in order and without repetitions.
#[derive(Debug, Default)]
pub(super) struct Problems(IndexSet<String>);

impl Problems {
    /// Adds a problem with a path.
    pub(super) fn add_for_path(&mut self, path: &str, problem: impl std::fmt::Display) {
        self.0.insert(format!("`{}` {problem}", escaped_path(path)));
    }

    /// Adds a problem whose text names its file itself.
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.0.insert(problem.into());
    }

    /// The number of problems.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the first problems as texts, and the number of the others as a last text.
    pub(super) fn into_messages(self) -> Vec<String> {
        let mut list: Vec<String> = self.0.into_iter().collect();
        let more = list.len().saturating_sub(MAX_LISTED_PROBLEMS);
        list.truncate(MAX_LISTED_PROBLEMS);
        if more > 0 {
            list.push(format!("and {more} more"));
        }
        list
    }

    /// Returns a failure with the first problems, if there are any.
    pub(super) fn into_result(self, class: FailureClass, summary: &str, hint: &str) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Failure::new(class, format!("{summary}: {}", self.into_messages().join("; "))).with_hint(hint))
    }
}

/// Formats a path for a message: shortens it, and escapes control characters and invisible characters.
pub(super) fn escaped_path(path: &str) -> String {
    let mut out = String::new();
    for (index, char) in path.chars().enumerate() {
        if index == MAX_PATH_CHARS {
            out.push('…');
            break;
        }
        if char.is_control() || is_misleading(char) || is_invisible(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ten_problems_are_listed_and_the_others_are_counted() {
        let mut problems = Problems::default();
        for index in 0..12 {
            problems.add_for_path(&format!("f{index}"), "is bad");
        }
        let failure = problems.into_result(FailureClass::PathRefused, "can't write", "hint").unwrap_err();
        assert!(failure.message.starts_with("can't write: `f0` is bad; `f1` is bad"), "{failure}");
        assert!(failure.message.ends_with("`f9` is bad; and 2 more"), "{failure}");
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(escaped_path("a\u{1b}[2J\u{202e}\n\u{200b}ü"), "a\\u{1b}[2J\\u{202e}\\u{a}\\u{200b}ü");
        assert!(escaped_path(&"x".repeat(500)).chars().count() < 130);
    }
}
