//! Explains why a `pattern` can't be used. orch matches patterns in time that is linear in the text, so that no pattern
//! in a schema can hang a run. Look-around and back-references need backtracking, which takes longer than linear time.

use std::fmt;

/// A feature of patterns that needs backtracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BacktrackingFeature {
    LookAhead,
    LookBehind,
    BackReference,
}

impl fmt::Display for BacktrackingFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookAhead => "look-ahead",
            Self::LookBehind => "look-behind",
            Self::BackReference => "a back-reference",
        })
    }
}

/// Explains a pattern that does not compile. Returns the message, and advice if there is any.
pub(super) fn explain_pattern(pattern: &str) -> (String, Option<String>) {
    if let Some((feature, source)) = find_backtracking(pattern) {
        let message = format!("the pattern `{pattern}` uses {feature} (`{source}`), which is not supported");
        let advice = "write one pattern for text that must match, and one for text that must not match: \
                      `\"allOf\": [{ \"pattern\": \"…\" }], \"not\": { \"pattern\": \"…\" }`";
        return (message, Some(advice.to_owned()));
    }
    match regex::Regex::new(pattern) {
        Err(regex::Error::CompiledTooBig(_)) | Ok(_) => (
            format!("the pattern `{pattern}` is too large when compiled"),
            Some("use lower repetition counts, or limit the length with `maxLength`".to_owned()),
        ),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            (format!("the pattern `{pattern}` is not a regular expression: {reason}"), None)
        }
    }
}

/// Returns the first feature of a pattern that needs backtracking, with its source text.
fn find_backtracking(pattern: &str) -> Option<(BacktrackingFeature, &str)> {
    let mut in_class = false;
    let mut remaining = pattern;
    while let Some(first) = remaining.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '\\' => {
                let next = remaining.get(1..)?.chars().next()?;
                length += next.len_utf8();
                if !in_class && (matches!(next, '1'..='9') || remaining.starts_with("\\k<")) {
                    return Some((BacktrackingFeature::BackReference, remaining.get(..length)?));
                }
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let groups = [
                    ("(?=", BacktrackingFeature::LookAhead),
                    ("(?!", BacktrackingFeature::LookAhead),
                    ("(?<=", BacktrackingFeature::LookBehind),
                    ("(?<!", BacktrackingFeature::LookBehind),
                ];
                if let Some((source, feature)) = groups.into_iter().find(|(source, _)| remaining.starts_with(source)) {
                    return Some((feature, source));
                }
            }
            _ => {}
        }
        remaining = remaining.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::schema::Schema;

    #[test]
    fn the_error_names_the_backtracking_feature_and_an_alternative() {
        for (pattern, expected) in [
            ("^(?!eo:)[a-z]+$", "uses look-ahead (`(?!`)"),
            (r"a(?=b)", "uses look-ahead (`(?=`)"),
            (r"(?<=a)b", "uses look-behind (`(?<=`)"),
            (r"(a)\1", r"uses a back-reference (`\1`)"),
            (r"(?<n>a)\k<n>", r"uses a back-reference (`\k`)"),
        ] {
            for schema in [json!({ "pattern": pattern }), json!({ "patternProperties": { pattern: true } })] {
                let error = Schema::compile("a", schema).unwrap_err();
                assert!(error.pointer.to_lowercase().starts_with("/pattern"), "{error:?}");
                assert!(error.message.contains(expected), "{pattern}: {error}");
                assert!(error.help.unwrap().contains("\"not\""), "{pattern}");
            }
        }
    }

    #[test]
    fn the_advised_schema_accepts_the_intended_texts() {
        let schema = json!({ "allOf": [{ "pattern": "^[a-z:]+$" }], "not": { "pattern": "^eo:" } });
        let schema = Schema::compile("a", schema).unwrap();
        assert!(schema.is_valid(&json!("abc")) && !schema.is_valid(&json!("eo:abc")) && !schema.is_valid(&json!("A")));
    }

    #[test]
    fn other_mistakes_of_patterns_have_other_messages() {
        let error = |pattern: &str| Schema::compile("a", json!({ "pattern": pattern })).unwrap_err().message;
        assert!(error("(a").contains("not a regular expression: unclosed group"), "{}", error("(a"));
        assert!(error("(.{1000}){1000}").contains("too large"), "{}", error("(.{1000}){1000}"));
        for valid in [r"[(?!]", r"\(?!a", r"\\1", "(?:a)"] {
            let value: Value = json!({ "pattern": valid });
            assert!(Schema::compile("a", value).is_ok(), "{valid}");
        }
    }
}
