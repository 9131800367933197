//! Replaces the parts of a request that change from run to run: temporary paths, times, durations of tests, and what
//! the user's normalizers match.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::{NoExpand, Regex, Replacer};

use crate::model::{Normalizer, PatternError};

/// The built-in rules: each a pattern and its replacement, which may refer to the groups of the pattern.
///
/// The rules match a number only beside the words of a program's output, because a number in a prompt is usually part of
/// the task.
const BUILTIN_RULES: &[(&str, &str)] = &[
    // Temporary files and folders, whose names are random.
    (
        r#"(?:(?:/private)?/(?:tmp|var/tmp|var/folders/[^/\s]+/[^/\s]+/T)|‹temporary›)/[^\s"'`<>|:;,()\[\]{}]+"#,
        "‹temporary›",
    ),
    (r#"[A-Za-z]:\\Users\\[^\\\s]+\\AppData\\Local\\Temp\\[^\s"'`<>|:;,()\[\]{}]+"#, "‹temporary›"),
    // Dates with a time: ISO 8601 as in logs, and the forms of `date` and of e-mails.
    (
        r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?",
        "‹time›",
    ),
    (
        r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?:[0-9]{1,2} +)?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +[0-9]{1,4} +[0-9]{2}:[0-9]{2}:[0-9]{2}(?: (?:AM|PM))?(?: [A-Z]{2,5}| [+-][0-9]{4})?(?: [0-9]{4})?",
        "‹time›",
    ),
    // PHPUnit: `Time: 00:00.012`.
    (r"(?i)\b(time: )[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?\b", "${1}‹duration›"),
    (r"\b[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?\b", "‹time›"),
    // unittest, pytest, cargo, RSpec, Jest, Maven, Gradle: `in 0.012s`, `in 65.12s (0:01:05)`,
    // `took 0.1 seconds`, `Time: 1.2 s`, `in 3s`.
    (
        r"(?i)((?:\b(?:in|took|time:?|elapsed:?|duration:?|estimated)|=) *)(?:[0-9]+[.,][0-9]+ ?(?:ns|µs|us|ms|s|secs?|seconds?)|[0-9]+ ?(?:ns|µs|us|ms)|[0-9]+s)\b(?: \([0-9]+:[0-9]{2}:[0-9]{2}\))?",
        "${1}‹duration›",
    ),
    // Go, Mocha, Jest, Deno: `(0.00s)`, `(12ms)`; Bun: `[0.12ms]`.
    (r"\([0-9]+(?:[.,][0-9]+)? ?(?:ns|µs|us|ms|s|secs?|seconds?)\)", "(‹duration›)"),
    (r"\[[0-9]+(?:[.,][0-9]+)? ?(?:ns|µs|us|ms|s)\]", "[‹duration›]"),
    // Go: `ok  package  0.003s`.
    (r"(?m)^((?:ok|FAIL)\s.*\s)[0-9]+\.[0-9]+s$", "${1}‹duration›"),
    // Vitest: `(transform 20ms, setup 0ms, …)`.
    (r"\b((?:transform|setup|collect|import|tests|environment|prepare) )[0-9]+(?:\.[0-9]+)?m?s\b", "${1}‹duration›"),
    // Node and TAP: `duration_ms 12.3`.
    (r"\b(duration_ms:? )[0-9]+(?:\.[0-9]+)?", "${1}‹duration›"),
    // CTest: `Passed    0.01 sec`.
    (r"((?:\bPassed|\bFailed|\*\*\*[A-Za-z]+) +)[0-9]+\.[0-9]+ sec\b", "${1}‹duration›"),
    // The shell's `time`: `real    0m0.003s`.
    (r"(?m)^((?:real|user|sys)\s+)[0-9]+m[0-9]+[.,][0-9]+s$", "${1}‹duration›"),
];

/// The compiled built-in rules. A test checks that every pattern compiles.
static COMPILED_RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let compile = |(pattern, replacement): &(&str, &'static str)| Some((Regex::new(pattern).ok()?, *replacement));
    BUILTIN_RULES.iter().filter_map(compile).collect()
});

/// A rule of the user.
#[derive(Debug)]
struct CustomRule {
    pattern: Regex,
    replacement: String,
    /// Whether the rule has matched a request or a recording.
    has_matched: AtomicBool,
}

/// The rules of a replay, in order: those of the user, then the built-in ones.
#[derive(Debug, Default)]
pub(super) struct RequestNormalizer {
    custom_rules: Vec<CustomRule>,
}

impl RequestNormalizer {
    /// Compiles the normalizers of the user.
    pub(super) fn new(normalizers: &[Normalizer]) -> Result<Self, PatternError> {
        let compile = |normalizer: &Normalizer| -> Result<CustomRule, PatternError> {
            let (pattern, replacement) = (normalizer.compile()?, normalizer.replacement.clone());
            Ok(CustomRule { pattern, replacement, has_matched: AtomicBool::new(false) })
        };
        Ok(Self { custom_rules: normalizers.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Applies all rules to a text.
    pub(super) fn normalize(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for rule in &self.custom_rules {
            if let Some(changed) = replace_matches(&rule.pattern, &text, NoExpand(&rule.replacement)) {
                rule.has_matched.store(true, Ordering::Relaxed);
                text = changed;
            }
        }
        for (pattern, replacement) in &*COMPILED_RULES {
            text = replace_matches(pattern, &text, *replacement).unwrap_or(text);
        }
        text
    }

    /// The positions of the normalizers that have matched nothing.
    pub(super) fn unused(&self) -> Vec<usize> {
        let rules = self.custom_rules.iter().enumerate();
        rules.filter(|(_, rule)| !rule.has_matched.load(Ordering::Relaxed)).map(|(index, _)| index).collect()
    }
}

/// The text with each match replaced; `None` if the pattern does not match.
fn replace_matches(pattern: &Regex, text: &str, replacement: impl Replacer) -> Option<String> {
    match pattern.replace_all(text, replacement) {
        Cow::Owned(changed) => Some(changed),
        Cow::Borrowed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_pattern_compiles() {
        assert_eq!(COMPILED_RULES.len(), BUILTIN_RULES.len());
    }

    #[test]
    fn the_outputs_of_common_test_runners_are_equal_in_every_run() {
        let normalizer = RequestNormalizer::default();
        for (first, second) in [
            ("Ran 3 tests in 0.001s", "Ran 3 tests in 0.012s"),
            ("=== 1 failed, 2 passed in 0.03s ===", "=== 1 failed, 2 passed in 65.12s (0:01:05) ==="),
            ("test result: ok. 3 passed; finished in 0.00s", "test result: ok. 3 passed; finished in 1.25s"),
            ("Finished `test` profile in 0.05s", "Finished `test` profile in 12.10s"),
            ("Time:        0.512 s, estimated 1 s", "Time:        1.020 s, estimated 1 s"),
            ("  ✓ adds (5 ms)", "  ✓ adds (17 ms)"),
            ("   Duration  312ms (transform 20ms, tests 3ms)", "   Duration  290ms (transform 18ms, tests 4ms)"),
            ("--- FAIL: TestAdd (0.00s)", "--- FAIL: TestAdd (0.12s)"),
            ("ok  \texample.com/calc\t0.003s", "ok  \texample.com/calc\t1.200s"),
            ("  3 passing (12ms)", "  3 passing (9ms)"),
            ("# duration_ms 12.34", "# duration_ms 7.1"),
            ("Tests run: 3, Time elapsed: 0.03 s", "Tests run: 3, Time elapsed: 0.1 s"),
            ("BUILD SUCCESSFUL in 3s", "BUILD SUCCESSFUL in 870ms"),
            (
                "Finished in 0.003 seconds (files took 0.08 seconds to load)",
                "Finished in 0.1 seconds (files took 1.2 seconds to load)",
            ),
            ("Time: 00:00.012, Memory: 6.00 MB", "Time: 00:01.5, Memory: 6.00 MB"),
            ("1/1 Test #1: add ....   Passed    0.01 sec", "1/1 Test #1: add ....   Passed    0.31 sec"),
            ("Total Test time (real) =   0.01 sec", "Total Test time (real) =   0.31 sec"),
            ("real\t0m0.003s\nuser\t0m0.001s", "real\t0m1.403s\nuser\t0m0.101s"),
            ("at 2026-03-05T10:12:33.123Z and 10:12:33", "at 2025-12-31 23:59:01,5 and 00:00:01"),
            ("Thu Mar  5 10:12:33 CET 2026", "Fri Dec 25 01:02:03 UTC 2025"),
            ("Thu, 05 Mar 2026 10:12:33 +0100", "Fri, 25 Dec 2025 01:02:03 GMT"),
            ("cat: /tmp/tmp.Xy12/a.txt: gone", "cat: /private/var/folders/ab/c_d/T/tmp.Zz9/a.txt: gone"),
        ] {
            assert_eq!(normalizer.normalize(first), normalizer.normalize(second), "{first}");
        }
    }

    #[test]
    fn the_words_of_a_task_and_the_results_of_tests_are_compared() {
        let normalizer = RequestNormalizer::default();
        for text in [
            "Answer in 5 minutes, in 3 sentences.",
            "Ran 3 tests",
            "2 passed, 1 failed",
            "see line 12 of calc.py",
            "version 1.2.3 of 2026-03-05",
            "wait 5 s, or 10s",
            "1 != 5",
            "/tmp is a folder",
        ] {
            assert_eq!(normalizer.normalize(text), text);
        }
    }

    #[test]
    fn the_normalizers_of_the_user_apply_first_and_count_their_use() {
        let rule = |pattern: &str, replacement: &str| Normalizer {
            pattern: pattern.to_owned(),
            replacement: replacement.to_owned(),
        };
        let normalizers = [rule("Ran \\d+ tests in [\\d.]+s", "Ran $1"), rule("seed \\d+", "seed …")];
        let normalizer = RequestNormalizer::new(&normalizers).unwrap();
        assert_eq!(normalizer.normalize("Ran 3 tests in 0.001s"), "Ran $1", "the replacement is a plain text");
        assert_eq!(normalizer.unused(), [1]);
        assert_eq!(normalizer.normalize("seed 7 in 0.5s"), "seed … in ‹duration›");
        assert_eq!(normalizer.unused(), [0; 0]);
    }
}
