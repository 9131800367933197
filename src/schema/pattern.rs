//! Explains why a `pattern` can't be used. orch matches patterns in time that is linear in the text, so that no pattern
//! in a schema can hang a run. Look-around and back-references need backtracking, which takes longer than linear time.

use std::fmt;

use serde_json::{Map, Value};

use super::error::SchemaError;

/// The maximum length of a pattern in a schema, in bytes. Parsing a pattern takes hundreds of times its size.
pub const MAX_PATTERN_BYTES: usize = 64 << 10;
/// The maximum size of a compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 4 << 20;
/// The maximum size of all compiled patterns of a schema together, in bytes.
const MAX_TOTAL_BYTES: usize = 256 << 20;

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

/// The maximum size of each compiled pattern of a schema, in bytes. The more patterns the schema has, the smaller each
/// may be.
///
/// # Errors
/// A pattern is too long. The error names its location.
pub(super) fn compiled_size_limit(name: &str, schema: &Value) -> Result<usize, SchemaError> {
    let (mut count, mut longest) = (0, 0);
    let mut pending = vec![schema];
    while let Some(value) = pending.pop() {
        for pattern in own_patterns(value) {
            count += 1;
            longest = longest.max(pattern.len());
        }
        match value {
            Value::Array(items) => pending.extend(items),
            Value::Object(map) => pending.extend(map.values()),
            _ => {}
        }
    }
    if longest > MAX_PATTERN_BYTES {
        let pointer = pointer_of_long_pattern(schema).unwrap_or_default();
        let message = format!("a pattern has {longest} bytes, and at most {MAX_PATTERN_BYTES} are allowed");
        let help = Some("write a shorter pattern, or several that `allOf` combines".to_owned());
        return Err(SchemaError { file: name.to_owned(), pointer, message, help });
    }
    Ok(MAX_COMPILED_BYTES.min(MAX_TOTAL_BYTES / count.max(1)))
}

/// The patterns in a schema object, without those in the schemas inside it.
fn own_patterns(schema: &Value) -> impl Iterator<Item = &str> {
    let names = schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    schema.get("pattern").and_then(Value::as_str).into_iter().chain(names.map(String::as_str))
}

/// The pointer of the first schema object with a pattern that is too long.
fn pointer_of_long_pattern(schema: &Value) -> Option<String> {
    let mut pending = vec![(String::new(), schema)];
    while let Some((pointer, value)) = pending.pop() {
        if own_patterns(value).any(|pattern| pattern.len() > MAX_PATTERN_BYTES) {
            return Some(pointer);
        }
        match value {
            Value::Array(items) => {
                pending.extend(items.iter().enumerate().map(|(index, item)| (format!("{pointer}/{index}"), item)));
            }
            Value::Object(map) => pending.extend(
                map.iter()
                    .map(|(key, part)| (format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), part)),
            ),
            _ => {}
        }
    }
    None
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
    use serde_json::json;

    use super::*;
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
    fn the_length_and_the_compiled_size_of_all_patterns_are_limited() {
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        let long = long.as_str();
        for schema in [json!({ "pattern": long }), json!({ "patternProperties": { long: true } })] {
            let error = Schema::compile("a", json!({ "properties": { "x": schema } })).unwrap_err();
            assert_eq!(error.pointer, "/properties/x");
            assert_eq!(error.message, "a pattern has 65537 bytes, and at most 65536 are allowed");
        }
        let with_patterns = |count: usize| {
            let properties: Map<String, Value> =
                (0..count).map(|index| (format!("p{index}"), json!({ "pattern": "^.{100}$" }))).collect();
            json!({ "properties": properties })
        };
        let limit = |count| compiled_size_limit("a", &with_patterns(count)).unwrap();
        assert_eq!((limit(0), limit(64)), (MAX_COMPILED_BYTES, MAX_COMPILED_BYTES));
        assert_eq!(limit(1024), 256 << 10);
        assert!(Schema::compile("a", with_patterns(10)).is_ok());
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
