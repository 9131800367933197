//! Collects everything that is wrong with a list of files into one failure.

use indexmap::IndexSet;

use crate::model::{Class, Failure};

use super::path::{hides, ignorable};

/// How many problems a failure names.
const NAMED: usize = 10;

/// How many characters of a path are shown.
const SHOWN: usize = 120;

/// The problems of a list, in order, each once.
#[derive(Debug, Default)]
pub(super) struct Problems(IndexSet<String>);

impl Problems {
    /// Adds what is wrong with a path.
    pub(super) fn add(&mut self, path: &str, why: impl std::fmt::Display) {
        self.0.insert(format!("`{}` {why}", shown(path)));
    }

    /// Adds a problem of the list as a whole.
    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.0.insert(what.into());
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The first problems as texts, and how many more there are.
    pub(super) fn list(self) -> Vec<String> {
        let mut list: Vec<String> = self.0.into_iter().collect();
        let rest = list.len().saturating_sub(NAMED);
        list.truncate(NAMED);
        if rest > 0 {
            list.push(format!("and {rest} more"));
        }
        list
    }

    /// One failure with the first problems, if there are any.
    pub(super) fn end(self, class: Class, what: &str, hint: &str) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Failure::new(class, format!("{what}: {}", self.list().join("; "))).with_hint(hint))
    }
}

/// A path for a message: on one line, shortened, and with control characters and invisible characters escaped.
pub(super) fn shown(path: &str) -> String {
    let mut out = String::new();
    for (index, char) in path.chars().enumerate() {
        if index == SHOWN {
            out.push('…');
            break;
        }
        if char.is_control() || hides(char) || ignorable(char) {
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
    fn the_first_ten_are_named_and_the_rest_counted() {
        let mut problems = Problems::default();
        for index in 0..12 {
            problems.add(&format!("f{index}"), "is bad");
        }
        let failure = problems.end(Class::PathRefused, "can't write", "hint").unwrap_err();
        assert!(failure.message.starts_with("can't write: `f0` is bad; `f1` is bad"), "{failure}");
        assert!(failure.message.ends_with("`f9` is bad; and 2 more"), "{failure}");
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(shown("a\u{1b}[2J\u{202e}\n\u{200b}ü"), "a\\u{1b}[2J\\u{202e}\\u{a}\\u{200b}ü");
        assert!(shown(&"x".repeat(500)).chars().count() < 130);
    }
}
