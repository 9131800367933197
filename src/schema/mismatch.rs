//! Explains to people and models why a value does not fit its schema.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::validation_cost::{MAX_CHECK_DEPTH, MAX_VISITS, TooCostly};
use crate::model::counted;

/// The maximum number of mismatches that orch sends to a model, and their maximum size in bytes.
const MAX_LINES: usize = 20;
const MAX_BYTES: usize = 4096;
/// The maximum length of a pattern that a mismatch quotes, in bytes.
const MAX_PATTERN_BYTES: usize = 200;

/// A reason why a value does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The location in the value, as a JSON pointer; empty for the entire value.
    pub pointer: String,
    /// The location in the schema, as a JSON pointer.
    pub schema_pointer: String,
    /// The keyword that the value violates.
    pub keyword: String,
    /// The requirement of the schema, as text.
    pub expected: String,
    /// The actual value, shortened.
    pub got: String,
    /// What the author of the schema can do, if the schema is a reason too. Models can't change it, so they don't get
    /// this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_advice: Option<String>,
}

impl Mismatch {
    /// Returns the mismatch for a value that does not fit for more reasons than orch can list.
    pub(super) fn too_many_to_list() -> Self {
        let expected = "a value that fits one of the alternatives of the schema".to_owned();
        let got = "one that fits none of them, for too many reasons to list".to_owned();
        Self::of_whole_value(expected, got, None)
    }

    /// Returns the mismatch for a value that takes too much work to check.
    pub(super) fn too_costly(reason: TooCostly) -> Self {
        let (expected, got, advice) = match reason {
            TooCostly::Visits => (
                "a smaller value",
                "one that takes too long to check against the alternatives of the schema",
                format!("a check has at most {MAX_VISITS} steps: offer fewer alternatives in the schema"),
            ),
            TooCostly::Depth => (
                "a flatter value",
                "one that is nested too deeply for the references of the schema",
                format!("a check nests at most {MAX_CHECK_DEPTH} schemas: shorten the chains of `$ref` in the schema"),
            ),
        };
        Self::of_whole_value(expected.to_owned(), got.to_owned(), Some(advice))
    }

    fn of_whole_value(expected: String, got: String, schema_advice: Option<String>) -> Self {
        let (pointer, schema_pointer, keyword) = (String::new(), String::new(), String::new());
        Self { pointer, schema_pointer, keyword, expected, got, schema_advice }
    }

    /// The location, the expected value and the actual value, in one line.
    fn describe(&self) -> String {
        let location = if self.pointer.is_empty() { "the value" } else { &self.pointer };
        format!("{location}: expected {}, got {}", self.expected, self.got)
    }

    /// Replaces a long pattern by the schema's description, because neither people nor models can read such a pattern.
    pub(super) fn with_described_pattern(mut self, schema: &Value) -> Self {
        if self.keyword == "pattern" && self.expected.len() > MAX_PATTERN_BYTES {
            let parent = self.schema_pointer.strip_suffix("/pattern").and_then(|pointer| schema.pointer(pointer));
            let description = parent.and_then(|schema| schema.get("description")).and_then(Value::as_str);
            self.expected = match description {
                Some(text) => format!("text of another form (\"{}\")", text.trim()),
                None => truncate(&self.expected, MAX_PATTERN_BYTES) + "`",
            };
        }
        self
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())?;
        self.schema_advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Renders the mismatches as a list for the re-ask of a model: the pointer, the expected value and the actual value of
/// each mismatch. The list has a maximum number of lines and a maximum size.
pub fn render_mismatches(mismatches: &[Mismatch]) -> String {
    let mut out = String::new();
    let mut line_count = 0;
    for mismatch in mismatches.iter().take(MAX_LINES) {
        let line = format!("- {}\n", mismatch.describe());
        if out.len() + line.len() > MAX_BYTES {
            break;
        }
        out.push_str(&line);
        line_count += 1;
    }
    if mismatches.len() > line_count {
        out.push_str(&format!("- and {} more\n", mismatches.len() - line_count));
    }
    out.truncate(out.trim_end().len());
    out
}

/// Returns the pattern that does not compile, if the error is about a `pattern`.
pub(super) fn invalid_pattern<'a>(error: &'a ValidationError<'_>) -> Option<&'a str> {
    let is_pattern = matches!(error.kind(), Kind::Format { format } if format.as_str() == "regex");
    error.instance().as_str().filter(|_| is_pattern)
}

/// Explains an error of the validator. For a union, explains the errors of the alternative that the value most likely
/// follows.
pub(super) fn explain_error(error: &ValidationError<'_>) -> Vec<Mismatch> {
    match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            let best = context.iter().filter(|branch| !branch.is_empty()).min_by_key(|branch| branch_rank(branch));
            match best {
                // If every error of the alternative is about the type of the value itself, "one of the alternatives" is
                // more helpful.
                Some(branch)
                    if context.len() == 1 || !branch.iter().all(|inner| is_type_error_of_whole_value(inner, error)) =>
                {
                    branch.iter().flat_map(explain_error).collect()
                }
                // For a string, an alternative with an `enum` is more helpful than "one of the alternatives".
                _ => match context.iter().flatten().find(|inner| {
                    matches!(inner.kind(), Kind::Enum { .. }) && inner.instance_path() == error.instance_path()
                }) {
                    Some(enum_error) if error.instance().is_string() => vec![to_mismatch(enum_error)],
                    _ => vec![to_mismatch(error)],
                },
            }
        }
        _ => vec![to_mismatch(error)],
    }
}

/// Ranks a failed alternative of a union; the value most likely follows the alternative with the lowest rank. Prefers
/// few errors of `const` and `type`, then few errors in total, then errors deep in the value.
fn branch_rank(branch: &[ValidationError<'static>]) -> (usize, usize, std::cmp::Reverse<usize>) {
    let type_errors = branch.iter().filter(|e| matches!(e.kind(), Kind::Constant { .. } | Kind::Type { .. })).count();
    let depth = branch.iter().map(|e| e.instance_path().to_string().matches('/').count()).max().unwrap_or(0);
    (type_errors, branch.len(), std::cmp::Reverse(depth))
}

fn is_type_error_of_whole_value(inner: &ValidationError<'_>, outer: &ValidationError<'_>) -> bool {
    matches!(inner.kind(), Kind::Type { .. }) && inner.instance_path() == outer.instance_path()
}

fn to_mismatch(error: &ValidationError<'_>) -> Mismatch {
    let (expected, got) = expected_and_got(error);
    Mismatch {
        pointer: error.instance_path().to_string(),
        schema_pointer: error.schema_path().to_string(),
        keyword: error.kind().keyword().to_owned(),
        expected,
        got,
        schema_advice: None,
    }
}

fn expected_and_got(error: &ValidationError<'_>) -> (String, String) {
    let value = summarize(error.instance());
    match error.kind() {
        Kind::Type { kind } => (type_names(kind), format!("{} ({value})", json_type_name(error.instance()))),
        Kind::Required { property } => (format!("a property {property}"), "none".to_owned()),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            ("no other properties".to_owned(), quote_names(unexpected))
        }
        Kind::Enum { options } => (format!("one of {}", summarize_list(options)), value),
        Kind::Constant { expected_value } => (expected_value.to_string(), value),
        Kind::MinLength { limit } => (
            format!("at least {}", counted(*limit, "character")),
            format!("{} ({value})", character_count(error.instance())),
        ),
        Kind::MaxLength { limit } => (
            format!("at most {}", counted(*limit, "character")),
            format!("{} ({value})", character_count(error.instance())),
        ),
        Kind::MinItems { limit } => (format!("at least {}", counted(*limit, "item")), item_count(error.instance())),
        Kind::MaxItems { limit } => (format!("at most {}", counted(*limit, "item")), item_count(error.instance())),
        Kind::Minimum { limit } => (format!("at least {limit}"), value),
        Kind::Maximum { limit } => (format!("at most {limit}"), value),
        Kind::ExclusiveMinimum { limit } => (format!("more than {limit}"), value),
        Kind::ExclusiveMaximum { limit } => (format!("less than {limit}"), value),
        Kind::Pattern { pattern } => (format!("text that matches `{pattern}`"), value),
        Kind::Format { format } => (format!("text in the format `{format}`"), value),
        Kind::UniqueItems => ("items that all differ".to_owned(), value),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => ("one of the alternatives of the schema".to_owned(), value),
        Kind::OneOfMultipleValid { .. } => {
            ("exactly one of the alternatives of the schema".to_owned(), format!("several ({value})"))
        }
        Kind::Contains => (contained_items(&error.schema_path().to_string()).to_owned(), value),
        Kind::FalseSchema => ("nothing here".to_owned(), value),
        _ => (validator_message(error), value),
    }
}

/// The items that `contains` requires, or `minContains` or `maxContains` at this pointer of the schema.
fn contained_items(schema_pointer: &str) -> &'static str {
    match schema_pointer.rsplit('/').next() {
        Some("maxContains") => "fewer items that fit the schema under `contains`",
        Some("minContains") => "more items that fit the schema under `contains`",
        _ => "an item that fits the schema under `contains`",
    }
}

/// Returns the validator's own message, without the value, which can be of any length.
fn validator_message(error: &ValidationError<'_>) -> String {
    truncate(&error.masked().to_string(), 300)
}

fn type_names(kind: &jsonschema::error::TypeKind) -> String {
    match kind {
        jsonschema::error::TypeKind::Single(name) => name.to_string(),
        jsonschema::error::TypeKind::Multiple(names) => {
            names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// Returns JSON Schema's name for the type of a value.
pub(crate) fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn character_count(value: &Value) -> String {
    value.as_str().map_or_else(String::new, |text| text.chars().count().to_string())
}

fn item_count(value: &Value) -> String {
    value.as_array().map_or_else(String::new, |items| items.len().to_string())
}

fn quote_names(names: &[String]) -> String {
    truncate(&names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "), 200)
}

fn summarize_list(value: &Value) -> String {
    let list = value.as_array().map(|items| items.iter().map(Value::to_string).collect::<Vec<_>>().join(", "));
    truncate(&list.unwrap_or_else(|| value.to_string()), 300)
}

fn summarize(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(map) => {
            format!("an object with {}", quote_names(&map.keys().take(8).cloned().collect::<Vec<_>>()))
        }
        value => truncate(&value.to_string(), 80),
    }
}

fn truncate(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    fn mismatch_list(schema: Value, value: &Value) -> String {
        render_mismatches(&Schema::compile("t", schema).unwrap().mismatches(value))
    }

    #[test]
    fn each_mismatch_has_a_location_an_expected_value_and_an_actual_value() {
        let schema = json!({ "type": "object", "required": ["a", "b"], "additionalProperties": false,
            "properties": { "a": { "type": "integer" }, "b": { "enum": ["x", "y"] }, "c": { "type": "array", "minItems": 2 } } });
        let expected = "- /a: expected integer, got string (\"1\")\n- /b: expected one of \"x\", \"y\", got \"z\"\n\
            - /c: expected at least 2 items, got 1\n- the value: expected no other properties, got `d`";
        assert_eq!(mismatch_list(schema, &json!({ "a": "1", "b": "z", "c": [1], "d": 0 })), expected);
    }

    #[test]
    fn a_list_without_a_required_item_is_described_in_words() {
        let schema = json!({ "type": "array", "contains": { "const": "a" } });
        let expected = "- the value: expected an item that fits the schema under `contains`, got an array of 1";
        assert_eq!(mismatch_list(schema, &json!(["b"])), expected);
    }

    #[test]
    fn a_model_gets_no_advice_about_the_schema() {
        for (reason, expected, advice) in [
            (TooCostly::Visits, "a smaller value", "offer fewer alternatives"),
            (TooCostly::Depth, "a flatter value", "shorten the chains of `$ref`"),
        ] {
            let mismatch = Mismatch::too_costly(reason);
            assert!(mismatch.to_string().contains(advice), "{mismatch}");
            let for_model = render_mismatches(&[mismatch]);
            assert!(for_model.starts_with(&format!("- the value: expected {expected}, got one that ")), "{for_model}");
            assert!(!for_model.contains(advice), "{for_model}");
        }
    }

    #[test]
    fn only_the_mismatches_of_the_closest_alternative_are_listed() {
        let schema = json!({ "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "a" }, "n": { "type": "integer" } }, "required": ["kind", "n"] },
            { "type": "object", "properties": { "kind": { "const": "b" }, "s": { "type": "string" } }, "required": ["kind", "s"] } ] });
        assert_eq!(mismatch_list(schema, &json!({ "kind": "b", "s": 1 })), "- /s: expected string, got number (1)");
    }
}
