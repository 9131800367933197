//! Reads the arguments of a call as the model wrote them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::extract::{Options, Rejection, RejectionReason, extract, remaining_mismatches};
use crate::model::BuiltinTool;
use crate::model::repeated_keys::{read_json, repeated_key};
use crate::model::visible::one_line;
use crate::schema::{Schema, render_mismatches};

use super::definition::parameters;

/// The maximum length of a key in a message, in characters.
const MAX_KEY_CHARS: usize = 60;

/// The arguments of `read`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ReadArguments {
    pub(super) path: String,
    pub(super) from: Option<u64>,
    pub(super) lines: Option<u64>,
}

/// The arguments of `list`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ListArguments {
    #[serde(default)]
    pub(super) path: String,
    pub(super) glob: Option<String>,
}

/// The arguments of `search`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SearchArguments {
    pub(super) regex: String,
    pub(super) glob: Option<String>,
}

/// The arguments of `edit`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EditArguments {
    pub(super) path: String,
    pub(super) old: String,
    pub(super) new: String,
    #[serde(default)]
    pub(super) all: bool,
}

/// The arguments of `write`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct WriteArguments {
    pub(super) path: String,
    pub(super) content: String,
}

/// The arguments of `shell`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ShellArguments {
    pub(super) command: String,
    pub(super) timeout: Option<u64>,
}

/// The arguments of `fetch`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FetchArguments {
    pub(super) url: String,
}

/// Reads the arguments of a call of a built-in tool, as [`read_arguments_with`] does.
///
/// # Errors
/// The same as those of [`read_arguments_with`].
pub fn read_arguments(tool: BuiltinTool, arguments: &Value) -> Result<Value, String> {
    let schema = Schema::compile(tool.as_str(), parameters(tool)).map_err(|error| error.to_string())?;
    read_arguments_with(tool.as_str(), &schema, arguments)
}

/// Reads the arguments of a call of the tool `name`: an object, or a text with JSON, which may need repairs. Members
/// that are `null` count as absent, unless the schema allows them. Integers that are written as `1.0` become `1`.
///
/// # Errors
/// The arguments are not JSON, do not fit the schema, or are those of several calls. The error lists every problem, for
/// the model.
pub fn read_arguments_with(name: &str, schema: &Schema, arguments: &Value) -> Result<Value, String> {
    read_fitting_arguments(name, schema, arguments).map(|value| schema.with_integers(value))
}

fn read_fitting_arguments(name: &str, schema: &Schema, arguments: &Value) -> Result<Value, String> {
    let value = match arguments {
        Value::String(text) => match parse_object(name, text)? {
            Some(value) => value,
            None => return extract_arguments(name, text, schema),
        },
        Value::Null => Value::Object(Map::new()),
        value => value.clone(),
    };
    if schema.is_valid(&value) {
        return Ok(value);
    }
    let value = without_nulls(value);
    if schema.is_valid(&value) {
        return Ok(value);
    }
    // A scalar of another type, such as "5" for 5, can be converted without loss.
    match extract(value.to_string().as_bytes(), schema, &Options::default()) {
        Ok(extraction) => Ok(extraction.value),
        Err(_) => Err(mismatch_message(name, &render_mismatches(&remaining_mismatches(&value, schema)))),
    }
}

/// Parses a text that is a JSON object without any repair; `None` if it is none. An empty text is an empty object, since
/// some servers send it for a call without arguments.
///
/// # Errors
/// The text has a key with several values, or consists of several objects.
fn parse_object(name: &str, text: &str) -> Result<Option<Value>, String> {
    if text.trim().is_empty() {
        return Ok(Some(Value::Object(Map::new())));
    }
    if let Ok(read) = read_json(text.as_bytes()) {
        return match repeated_key(&read.value).filter(|_| read.has_repeated_keys) {
            Some(key) => Err(repeated_key_message(name, key)),
            None => Ok(Some(read.value).filter(Value::is_object)),
        };
    }
    match count_objects(text) {
        0 | 1 => Ok(None),
        count => Err(several_objects_message(name, count)),
    }
}

/// The number of objects of which a text consists, if it consists of nothing else; equal ones count as one.
fn count_objects(text: &str) -> usize {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let Ok(values) = values else { return 0 };
    let Some((first, others)) = values.split_first().filter(|_| values.iter().all(Value::is_object)) else { return 0 };
    if others.iter().all(|other| other == first) { 1 } else { values.len() }
}

/// Extracts the arguments from a text that is not strict JSON.
fn extract_arguments(name: &str, text: &str, schema: &Schema) -> Result<Value, String> {
    match extract(text.as_bytes(), schema, &Options::default()) {
        Ok(extraction) if extraction.others > 0 => Err(several_objects_message(name, extraction.others + 1)),
        Ok(extraction) => Ok(extraction.value),
        Err(rejection) => Err(rejection_message(name, &rejection)),
    }
}

fn several_objects_message(name: &str, count: usize) -> String {
    let objects = if count == 2 { "two objects".to_owned() } else { format!("{count} objects") };
    format!("the arguments of `{name}` hold {objects}, so nothing was done; make a separate call for each of them")
}

fn repeated_key_message(name: &str, key: &str) -> String {
    let key = one_line(key, MAX_KEY_CHARS);
    format!(
        "the arguments of `{name}` have the key `{key}` twice, with different values, so nothing was done; make a \
         separate call for each value"
    )
}

fn rejection_message(name: &str, rejection: &Rejection) -> String {
    let problem = match rejection.reason {
        RejectionReason::SchemaMismatch if !rejection.mismatches.is_empty() => {
            return mismatch_message(name, &render_mismatches(&rejection.mismatches));
        }
        RejectionReason::MaxTokensReached => "end inside a JSON value",
        RejectionReason::AmbiguousReply => {
            "can be read in more than one way, since a quote inside a string needs a backslash before it"
        }
        RejectionReason::NoJson
        | RejectionReason::SchemaMismatch
        | RejectionReason::Refusal
        | RejectionReason::EmptyReply => {
            if let Some(reason) = rejection.unreadable_json() {
                return unreadable_message(name, reason);
            }
            "are not a JSON object"
        }
    };
    format!("the arguments of `{name}` {problem}, so nothing was done; make the call again with a JSON object")
}

fn unreadable_message(name: &str, reason: &str) -> String {
    format!(
        "the arguments of `{name}` can't be read, so nothing was done: {reason}; make the call again with a JSON object \
         that is correct"
    )
}

fn mismatch_message(name: &str, mismatches: &str) -> String {
    format!("the arguments of `{name}` do not fit its schema, so nothing was done:\n{mismatches}")
}

/// Removes the members of an object that are `null`. Schemas for models often require every member.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, member)| !member.is_null()).collect(),
        value => value,
    }
}

/// Converts arguments that fit the schema to their type.
///
/// # Errors
/// A sentence for the model, for arguments that were not checked with [`read_arguments`].
pub(super) fn typed_arguments<T: DeserializeOwned>(tool: BuiltinTool, arguments: &Value) -> Result<T, String> {
    T::deserialize(arguments)
        .map_err(|error| format!("the arguments of `{tool}` can't be used, so nothing was done: {error}; correct them"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_and_a_text_give_the_same_arguments() {
        let expected = json!({"path": "a", "from": 3});
        for arguments in [
            json!({"path": "a", "from": 3}),
            json!({"path": "a", "from": 3, "lines": null}),
            json!({"path": "a", "from": "3"}),
            json!("{\"path\": \"a\", \"from\": 3}"),
            json!("{'path': 'a', 'from': 3,}"),
            json!("```json\n{\"path\": \"a\", \"from\": 3}\n```"),
        ] {
            assert_eq!(read_arguments(BuiltinTool::Read, &arguments).as_ref(), Ok(&expected), "{arguments}");
        }
        for arguments in [json!(""), json!(null), json!({}), json!("{}")] {
            assert_eq!(read_arguments(BuiltinTool::List, &arguments), Ok(json!({})), "{arguments}");
        }
    }

    #[test]
    fn json_in_the_content_of_a_file_stays_a_text() {
        let arguments = json!({"path": "a.json", "content": "{\"path\": \"b\", \"content\": \"x\"}"});
        assert_eq!(read_arguments(BuiltinTool::Write, &arguments), Ok(arguments.clone()));
        assert_eq!(read_arguments(BuiltinTool::Write, &json!(arguments.to_string())), Ok(arguments));
    }

    #[test]
    fn a_null_is_an_argument_only_if_the_schema_allows_it() {
        let properties = json!({ "until": { "type": ["string", "null"] }, "limit": { "type": "integer" } });
        let document = json!({ "type": "object", "properties": properties, "required": ["until"] });
        let schema = Schema::compile("docs.find", document).unwrap();
        let read = |arguments: Value| read_arguments_with("docs.find", &schema, &arguments);
        assert_eq!(read(json!({ "until": null })), Ok(json!({ "until": null })));
        assert_eq!(read(json!({ "until": "x", "limit": null })), Ok(json!({ "until": "x" })));
        let error = read(json!({ "limit": "many" })).unwrap_err();
        assert!(error.starts_with("the arguments of `docs.find` do not fit its schema"), "{error}");
    }

    #[test]
    fn an_argument_that_orch_converts_is_no_problem() {
        let properties = json!({
            "first": { "type": "integer" }, "second": { "type": "integer" }, "all": { "type": "boolean" },
            "size": { "enum": ["S", "L"] },
        });
        let document = json!({ "type": "object", "properties": properties, "required": ["first", "second"] });
        let schema = Schema::compile("my.add", document).unwrap();
        let arguments = json!({ "first": "3", "second": "many", "all": "true", "size": "l" });
        for arguments in [arguments.clone(), json!(arguments.to_string()), json!(format!("```\n{arguments}\n```"))] {
            let error = read_arguments_with("my.add", &schema, &arguments).unwrap_err();
            assert!(error.contains("/second: expected integer, got string (\"many\")"), "{error}");
            for part in ["/first", "/all", "/size"] {
                assert!(!error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn an_integer_may_be_written_as_a_float() {
        let expected = json!({"path": "a", "from": 3, "lines": 20});
        for text in [
            r#"{"path": "a", "from": 3.0, "lines": 2e1}"#,
            r#"{"path": "a", "from": "3.0", "lines": 20.00}"#,
            "{'path': 'a', 'from': 3.0, 'lines': 200e-1}",
        ] {
            let read = read_arguments(BuiltinTool::Read, &json!(text)).unwrap();
            assert_eq!(read, expected, "{text}");
            let typed: ReadArguments = typed_arguments(BuiltinTool::Read, &read).unwrap();
            assert_eq!((typed.from, typed.lines), (Some(3), Some(20)), "{text}");
        }
        let value: Value = serde_json::from_str(r#"{"command": "true", "timeout": 5.0}"#).unwrap();
        assert_eq!(read_arguments(BuiltinTool::Shell, &value), Ok(json!({"command": "true", "timeout": 5})));
        let error = read_arguments(BuiltinTool::Read, &json!({"path": "a", "from": 1.5})).unwrap_err();
        assert!(error.contains("/from: expected integer"), "{error}");
    }

    #[test]
    fn arguments_of_several_calls_are_an_error() {
        for (text, problem) in [
            (r#"{"path": "a"}{"path": "b"}"#, "hold two objects"),
            ("{\"path\": \"a\"}\n{\"other\": 1}", "hold two objects"),
            (r#"{"path": "a"} {"path": "b"} {"path": "c"}"#, "hold 3 objects"),
            ("{'path': 'a'}\n{'path': 'b'}", "hold two objects"),
            (r#"{"path": "a", "path": "b"}"#, "have the key `path` twice, with different values"),
        ] {
            let error = read_arguments(BuiltinTool::List, &json!(text)).unwrap_err();
            assert!(error.starts_with(&format!("the arguments of `list` {problem}")), "{text}: {error}");
            assert!(error.contains("so nothing was done; make a separate call for each"), "{text}: {error}");
        }
        for text in [r#"{"path": "a"}{"path": "a"}"#, r#"{"path": "a", "path": "a"}"#] {
            assert_eq!(read_arguments(BuiltinTool::List, &json!(text)), Ok(json!({"path": "a"})), "{text}");
        }
    }

    #[test]
    fn a_text_that_no_schema_accepts_is_named() {
        for (arguments, problem) in [
            (json!(r#"{"path": "\ud83d"}"#), "half of a surrogate pair"),
            (json!(r#"{"path": "a\u0000"}"#), "/path: expected text without NUL characters"),
            (json!({"path": "a\0"}), "/path: expected text without NUL characters"),
        ] {
            let error = read_arguments(BuiltinTool::List, &arguments).unwrap_err();
            assert!(error.contains(problem) && error.contains("so nothing was done"), "{arguments}: {error}");
        }
    }

    #[test]
    fn the_model_is_told_every_problem() {
        let error = read_arguments(BuiltinTool::Edit, &json!({"path": [], "old": "", "extra": true})).unwrap_err();
        for part in ["/path: expected string", "/old: expected at least 1 character", "\"new\"", "`extra`"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        for (text, expected) in [
            ("{\"path\": \"a\", \"content\": \"x", "end inside a JSON value"),
            ("write it", "are not a JSON object"),
            ("[1]", "do not fit its schema"),
        ] {
            let error = read_arguments(BuiltinTool::Write, &json!(text)).unwrap_err();
            assert!(error.starts_with("the arguments of `write` ") && error.contains(expected), "{text}: {error}");
        }
    }
}
