//! Normalizers: rules for the parts of recorded requests that differ from run to run, such as durations.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum length of a pattern, in bytes. Parsing a pattern takes hundreds of times its size.
const MAX_PATTERN_BYTES: usize = 64 << 10;
/// The maximum size of a compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A rule that makes requests comparable: before orch compares a request with the recorded ones, it replaces each match
/// of the pattern in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    /// The regular expression to search for, without look-around and back-references, so that the search takes linear
    /// time.
    #[serde(rename = "match")]
    #[schemars(length(min = 1), example = &r"seed [0-9]+")]
    pub pattern: String,
    /// The text in place of each match.
    #[serde(rename = "as")]
    #[schemars(example = &"seed …")]
    pub replacement: String,
}

/// Why a pattern can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// The reason, in lower case and without a full stop.
    pub message: String,
    /// The bytes of the mistake in the pattern, if they are known.
    pub span: Option<Range<usize>>,
}

impl Normalizer {
    /// Compiles the pattern. The search for it takes time that is linear in the length of the text.
    ///
    /// # Errors
    /// The pattern is not a regular expression, is too large, or matches the empty text.
    pub fn compile(&self) -> Result<Regex, PatternError> {
        let length = self.pattern.len();
        if length > MAX_PATTERN_BYTES {
            let message = format!("it has {length} bytes, and at most {MAX_PATTERN_BYTES} are allowed");
            return Err(PatternError { message, span: None });
        }
        let pattern = RegexBuilder::new(&self.pattern).size_limit(MAX_COMPILED_BYTES).build();
        let pattern = pattern.map_err(|error| PatternError::from_regex_error(&self.pattern, &error))?;
        if pattern.is_match("") {
            let message = "it matches the empty text, so it would change every text".to_owned();
            return Err(PatternError { message, span: None });
        }
        Ok(pattern)
    }
}

impl PatternError {
    /// The crate reports a syntax error only as a text: the pattern, a line with carets below the mistake, the reason.
    fn from_regex_error(pattern: &str, error: &regex::Error) -> Self {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return Self { message: "it is too large when compiled".to_owned(), span: None };
        }
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let is_single_line = !pattern.contains('\n');
        let span = text.lines().nth(2).filter(|_| is_single_line).and_then(|line| caret_span(pattern, line));
        Self { message: reason, span }
    }
}

/// The bytes of a pattern above the carets of a line, which is indented by four spaces as the pattern is.
fn caret_span(pattern: &str, line: &str) -> Option<Range<usize>> {
    let carets = line.get(4..).filter(|carets| carets.trim_start().starts_with('^'))?;
    let first = carets.chars().take_while(|c| *c == ' ').count();
    let count = carets.trim_start().chars().take_while(|c| *c == '^').count();
    let offset = |index: usize| pattern.char_indices().nth(index).map_or(pattern.len(), |(offset, _)| offset);
    Some(offset(first)..offset(first + count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(pattern: &str) -> Result<Regex, PatternError> {
        Normalizer { pattern: pattern.to_owned(), replacement: String::new() }.compile()
    }

    #[test]
    fn an_invalid_pattern_has_a_reason_and_a_position() {
        let long = "x".repeat(MAX_PATTERN_BYTES + 1);
        for (pattern, reason, mistake) in [
            ("Ran (\\d+", "unclosed group", Some("(")),
            ("é [", "unclosed character class", Some("[")),
            ("a(?=b)", "look-around", Some("(?=")),
            ("(.{1000}){1000}", "too large", None),
            ("x*", "matches the empty text", None),
            (long.as_str(), "it has 65537 bytes, and at most 65536 are allowed", None),
        ] {
            let error = compile(pattern).unwrap_err();
            assert!(error.message.contains(reason), "{pattern}: {}", error.message);
            assert_eq!(error.span.map(|span| &pattern[span]), mistake, "{pattern}");
        }
        assert!(compile("Ran \\d+ tests? in [\\d.]+s").is_ok());
    }
}
