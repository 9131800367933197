//! Reads the results of calls: texts, images, resources and structured content, as a text for a model and a value for
//! a step.

use serde_json::{Map, Value};

use crate::model::visible::one_line;
use crate::model::{Failure, InputQuestion, InputRequired};
use crate::schema::{Schema, render_mismatches};
use crate::secret::Redactor;
use crate::tool::output::RawOutput;

use super::questions::read_questions;

/// The maximum size of a structured result, in bytes.
const MAX_STRUCTURED_BYTES: usize = 4 << 20;
/// The maximum length of the name of a type in a text, in characters.
const MAX_QUOTED_CHARS: usize = 100;
/// The members of a result that has no content.
const MEMBERS_OF_EMPTY_RESULT: &[&str] = &["_meta", "isError", "resultType"];

/// What a call of an MCP tool returned, without secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct McpResult {
    /// The text for a model, of limited size.
    pub content: String,
    /// Whether the call failed.
    pub is_error: bool,
    /// The structured result, if the tool has an output schema that it fits.
    pub structured: Option<Value>,
    /// The whole text, if `content` is only a part of it.
    pub full_output: Option<Vec<u8>>,
    /// What the server needs from the user before it returns a result. The other fields are empty then.
    pub input_required: Option<InputRequired>,
    /// The questions that the server asked during the call and that got no answer. The call has failed then.
    pub unanswered: Vec<InputQuestion>,
}

/// The reply of a server to a call.
#[derive(Debug, PartialEq)]
pub(super) enum ToolReply {
    /// The call has ended.
    Complete(CompleteResult),
    /// The server needs answers of the user, without which it does not go on.
    InputRequired(InputRequired),
}

/// The result of a call as the server sent it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CompleteResult {
    /// The blocks of content, as one text.
    pub(super) text: String,
    pub(super) structured: Option<Value>,
    pub(super) is_error: bool,
}

impl ToolReply {
    /// Reads the result of `tools/call`. The error is the reason why it is none; it continues a sentence about the
    /// server.
    pub(super) fn read(result: Value) -> Result<Self, String> {
        let Value::Object(mut members) = result else {
            return Err("returned a result that is not an object".to_owned());
        };
        match optional_text(members.get("resultType"), "`resultType` of its result")? {
            None | Some("complete") => {}
            Some("input_required") => return read_questions(members).map(Self::InputRequired),
            Some("task") => return Err("answered with a task, which orch does not support".to_owned()),
            Some(other) => {
                return Err(format!("returned a result of the unknown type `{}`", one_line(other, MAX_QUOTED_CHARS)));
            }
        }
        let blocks = match members.remove("content") {
            Some(Value::Array(blocks)) => blocks,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err("returned a result whose `content` is not a list".to_owned()),
        };
        let structured = members.remove("structuredContent");
        if blocks.is_empty() && structured.is_none() && !is_empty_result(&members) {
            return Err("returned a result without `content` and `structuredContent`".to_owned());
        }
        let is_error = match members.get("isError") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_error)) => *is_error,
            Some(_) => return Err(wrong_type("`isError` of its result", "neither true nor false")),
        };
        let texts = blocks.iter().map(block_text).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::Complete(CompleteResult { text: texts.join("\n"), structured, is_error }))
    }
}

fn is_empty_result(members: &Map<String, Value>) -> bool {
    members.keys().all(|name| MEMBERS_OF_EMPTY_RESULT.contains(&name.as_str()))
}

/// What is wrong with a member; continues a sentence about the server.
fn wrong_type(member: &str, problem: &str) -> String {
    format!("does not follow the protocol: {member} is {problem}")
}

/// The text of a member that an object may leave out. `what` names the member.
fn optional_text<'a>(value: Option<&'a Value>, what: &str) -> Result<Option<&'a str>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(what, "not a text")),
    }
}

/// The text of a block of content. Data that is not text is only described.
fn block_text(block: &Value) -> Result<String, String> {
    if !block.is_object() {
        return Err(wrong_type("a block of its content", "not an object"));
    }
    Ok(match required(block, "type")? {
        "text" => required(block, "text")?.to_owned(),
        kind @ ("image" | "audio") => {
            let media_type = member(block, "mimeType")?.filter(|media_type| !media_type.is_empty()).unwrap_or(kind);
            format!("[{media_type}, {} bytes: not shown]", decoded_len(required(block, "data")?, "data")?)
        }
        "resource" => match block.get("resource") {
            Some(resource) if resource.is_object() => resource_text(resource)?,
            _ => return Err(wrong_type("`resource` of its content", "not an object")),
        },
        "resource_link" => {
            format!("[link {} {}]", required(block, "uri")?, member(block, "name")?.unwrap_or_default())
        }
        kind => format!("[content of the type `{}`: not shown]", one_line(kind, MAX_QUOTED_CHARS)),
    })
}

fn resource_text(resource: &Value) -> Result<String, String> {
    let uri = required(resource, "uri")?;
    Ok(match (member(resource, "text")?, member(resource, "blob")?) {
        (Some(content), _) => format!("[resource {uri}]\n{content}"),
        (None, Some(data)) => {
            let media_type = member(resource, "mimeType")?.unwrap_or("data");
            format!("[resource {uri}, {media_type}, {} bytes: not shown]", decoded_len(data, "blob")?)
        }
        (None, None) => format!("[resource {uri}: empty]"),
    })
}

/// The text of a member of a part of the content, which may leave it out.
fn member<'a>(part: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    optional_text(part.get(name), &format!("`{name}` of its content"))
}

/// The text of a member of a part of the content.
fn required<'a>(part: &'a Value, name: &str) -> Result<&'a str, String> {
    member(part, name)?.ok_or_else(|| wrong_type(&format!("`{name}` of its content"), "missing"))
}

/// The number of bytes that a text in base64 stands for. `name` is the member with the text.
fn decoded_len(text: &str, name: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches('=').bytes().filter(|byte| !byte.is_ascii_whitespace());
    // Some servers use the alphabet for addresses.
    let is_base64 = digits.clone().all(|digit| digit.is_ascii_alphanumeric() || b"+/-_".contains(&digit));
    let count = digits.count();
    if is_base64 && count % 4 != 1 {
        Ok(count * 3 / 4)
    } else {
        Err(wrong_type(&format!("`{name}` of its content"), "not base64"))
    }
}

impl CompleteResult {
    /// A result that tells a model why a call was not performed.
    pub(super) fn error(text: String) -> Self {
        Self { text, structured: None, is_error: true }
    }

    /// Converts the result for a model and a step, with notes at the end of the text.
    pub(super) fn finish(
        self,
        output_schema: Option<&Value>,
        mut notes: Vec<String>,
        redactor: &Redactor,
    ) -> Result<McpResult, Failure> {
        let mut text = self.text;
        if text.is_empty()
            && let Some(value) = &self.structured
        {
            text = format!("{value:#}");
        }
        let structured = match (self.structured, output_schema) {
            (Some(value), Some(schema)) if !self.is_error => match check_structured(&value, schema) {
                Ok(schema) => Some(redactor.redact_value(schema.with_integers(value))),
                Err(reason) => {
                    notes.push(format!("[the structured result is left out: {reason}]"));
                    None
                }
            },
            _ => None,
        };
        if text.is_empty() && notes.is_empty() {
            notes.push("[the tool returned nothing]".to_owned());
        }
        for note in notes {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&note);
        }
        let performed = RawOutput { is_error: self.is_error, ..RawOutput::new(text) }.finish(redactor);
        let output = performed.result?;
        Ok(McpResult {
            content: output.content,
            is_error: output.is_error,
            structured,
            full_output: performed.full_output,
            input_required: None,
            unanswered: Vec::new(),
        })
    }
}

/// Checks that a structured result fits the output schema of its tool, and returns the schema.
fn check_structured(value: &Value, schema: &Value) -> Result<Schema, String> {
    if value.to_string().len() > MAX_STRUCTURED_BYTES {
        return Err(format!("it has more than {} MiB", MAX_STRUCTURED_BYTES >> 20));
    }
    let schema = Schema::compile("output schema", schema.clone()).map_err(|error| error.to_string())?;
    let mismatches = schema.mismatches(value);
    if mismatches.is_empty() {
        return Ok(schema);
    }
    Err(format!("it does not fit the output schema of the tool:\n{}", render_mismatches(&mismatches)))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;

    fn complete(result: Value) -> CompleteResult {
        match ToolReply::read(result) {
            Ok(ToolReply::Complete(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn finished(result: Value, output_schema: Option<&Value>) -> McpResult {
        complete(result).finish(output_schema, Vec::new(), &Redactor::default()).unwrap()
    }

    #[test]
    fn each_kind_of_content_has_a_text() {
        let result = finished(
            json!({ "content": [
                { "type": "text", "text": "a" },
                { "type": "image", "data": "aGVsbG8=", "mimeType": "image/png", "annotations": { "priority": 0.5 } },
                { "type": "audio", "data": "" },
                { "type": "resource", "resource": { "uri": "file:///a", "text": "b" } },
                { "type": "resource", "resource": { "uri": "file:///b", "blob": "aGVsbG8=", "mimeType": "x/y" } },
                { "type": "resource_link", "uri": "file:///c", "name": "C", "size": 1 },
                { "type": "video", "data": "" },
            ] }),
            None,
        );
        let expected = "a\n[image/png, 5 bytes: not shown]\n[audio, 0 bytes: not shown]\n[resource file:///a]\nb\n\
                        [resource file:///b, x/y, 5 bytes: not shown]\n[link file:///c C]\n\
                        [content of the type `video`: not shown]";
        assert_eq!((result.content.as_str(), result.is_error), (expected, false));
        for empty in [json!({}), json!({ "content": [], "_meta": { "a": 1 } }), json!({ "resultType": "complete" })] {
            assert_eq!(finished(empty, None).content, "[the tool returned nothing]");
        }
        assert!(finished(json!({ "content": [], "isError": true }), None).is_error);
        assert!(!finished(json!({ "content": [], "isError": null, "resultType": null }), None).is_error);
    }

    #[test]
    fn a_structured_result_must_fit_the_output_schema() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "number" } }, "required": ["a"] });
        let result = finished(json!({ "structuredContent": { "a": 0.50 } }), Some(&schema));
        assert_eq!((result.structured, result.content.as_str()), (Some(json!({ "a": 0.5 })), "{\n  \"a\": 0.5\n}"));
        let text = json!([{ "type": "text", "text": "t" }]);
        let wrong = finished(json!({ "content": text, "structuredContent": { "a": "x" } }), Some(&schema));
        assert_eq!(wrong.structured, None);
        assert!(wrong.content.starts_with("t\n[the structured result is left out: it does not fit"), "{wrong:?}");
        assert!(wrong.content.contains("/a: expected number"), "{wrong:?}");
        let without_schema = finished(json!({ "content": text, "structuredContent": { "a": 1 } }), None);
        assert_eq!((without_schema.structured, without_schema.content.as_str()), (None, "t"));
        let error =
            finished(json!({ "content": text, "structuredContent": { "a": 1 }, "isError": true }), Some(&schema));
        assert_eq!((error.structured, error.is_error), (None, true));
        let large = json!({ "structuredContent": { "a": 1, "b": "x".repeat(MAX_STRUCTURED_BYTES) } });
        let large = finished(large, Some(&schema));
        assert!(large.structured.is_none() && large.content.ends_with("it has more than 4 MiB]"));
    }

    #[test]
    fn what_is_no_result_is_an_error_with_a_reason() {
        for (result, reason) in [
            (json!([]), "is not an object"),
            (json!({ "resultType": "task", "taskId": "1" }), "with a task"),
            (json!({ "resultType": "later" }), "the unknown type `later`"),
            (json!({ "resultType": 5, "content": [] }), "protocol: `resultType` of its result is not a text"),
            (json!({ "content": "text" }), "`content` is not a list"),
            (
                json!({ "content": [], "isError": "true" }),
                "protocol: `isError` of its result is neither true nor false",
            ),
            (json!({ "content": [], "isError": 1 }), "`isError` of its result"),
            (json!({ "content": ["text"] }), "a block of its content is not an object"),
            (json!({ "content": [{ "text": "a" }] }), "`type` of its content is missing"),
            (json!({ "content": [{ "type": 5 }] }), "`type` of its content is not a text"),
            (json!({ "content": [{ "type": "text" }] }), "`text` of its content is missing"),
            (json!({ "content": [{ "type": "text", "text": 5 }] }), "protocol: `text` of its content is not a text"),
            (json!({ "content": [{ "type": "image", "data": 5 }] }), "`data` of its content is not a text"),
            (json!({ "content": [{ "type": "image", "data": "!!!!" }] }), "`data` of its content is not base64"),
            (json!({ "content": [{ "type": "audio", "data": "AAAAA" }] }), "`data` of its content is not base64"),
            (json!({ "content": [{ "type": "image", "data": "", "mimeType": 1 }] }), "`mimeType` of its content"),
            (json!({ "content": [{ "type": "resource", "resource": "a" }] }), "`resource` of its content"),
            (json!({ "content": [{ "type": "resource", "resource": { "text": "a" } }] }), "`uri` of its content"),
            (json!({ "content": [{ "type": "resource_link", "uri": 5 }] }), "`uri` of its content"),
            (json!({ "resources": [] }), "without `content`"),
        ] {
            let error = ToolReply::read(result).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn no_part_of_a_result_has_a_secret() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let text = format!("{}s3cret-value-of-a-key", "x".repeat(crate::tool::MAX_CONTENT_BYTES));
        let result = json!({
            "content": [{ "type": "text", "text": text }],
            "structuredContent": { "s3cret-value-of-a-key": ["s3cret-value-of-a-key"] },
        });
        let result = complete(result).finish(Some(&json!({ "type": "object" })), Vec::new(), &redactor).unwrap();
        assert_eq!(result.structured, Some(json!({ "[secret KEY]": ["[secret KEY]"] })));
        assert!(result.content.ends_with("[secret KEY]"), "{}", result.content);
        assert!(String::from_utf8(result.full_output.unwrap()).unwrap().ends_with("[secret KEY]"));
    }
}
