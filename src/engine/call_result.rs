//! Turns the result of a tool into the artifact of the step that called it.

use serde_json::Value;

use crate::model::{Failure, FailureClass, ToolOutput};
use crate::process::shorten_middle;
use crate::schema::Schema;

use super::node::{ArtifactOutput, ArtifactType, CallNode};

/// The maximum size of an artifact in bytes.
const MAX_ARTIFACT_BYTES: usize = 4 << 20;

/// The maximum size in bytes of a tool's text in a message.
const MAX_QUOTED_BYTES: usize = 2 << 10;

/// The artifact of a call, if its step has one, or the failure of the step.
pub(super) type CallResult = Result<Option<Value>, Failure>;

/// What a tool returned.
#[derive(Clone, Copy)]
pub(super) struct ReceivedResult<'r> {
    pub(super) output: &'r ToolOutput,
    /// The structured result, if the tool has one.
    pub(super) structured: Option<&'r Value>,
}

impl<'r> ReceivedResult<'r> {
    /// The whole text.
    pub(super) fn text(self) -> &'r str {
        self.output.whole_text()
    }
}

/// The artifact of a call that returned this result.
///
/// The artifact is the structured result. Without one, it is the text, which orch parses as JSON if `schema:` of the
/// step sets another type than text.
pub(super) fn read_result(
    artifact: Option<&ArtifactOutput>,
    call: &CallNode,
    received: ReceivedResult<'_>,
) -> CallResult {
    if received.output.is_error {
        let text = shorten_middle(received.output.content.trim(), MAX_QUOTED_BYTES);
        return Err(Failure::new(FailureClass::ToolFailed, format!("`{}` failed: {text}", call.tool.name())));
    }
    let Some(artifact) = artifact else { return Ok(None) };
    let schema = match &artifact.artifact_type {
        ArtifactType::Text => return text_value(call, received.text()).map(Some),
        ArtifactType::Json(schema) => schema,
    };
    let value = match received.structured {
        Some(value) => value.clone(),
        None if call.has_schema => {
            let text = received.text();
            check_size(call, text)?;
            serde_json::from_str(text).map_err(|error| no_json(call, text, &error))?
        }
        None => Value::String(shorten_middle(received.text(), MAX_ARTIFACT_BYTES).into_owned()),
    };
    check_schema(schema, value, &format!("the result of `{}`", call.tool.name())).map(Some)
}

/// The value of an artifact whose file the user edited.
pub(super) fn value_of_edit(artifact: &ArtifactOutput, text: &str) -> Result<Value, Failure> {
    match &artifact.artifact_type {
        ArtifactType::Text => Ok(Value::String(text.to_owned())),
        ArtifactType::Json(schema) => {
            let value = serde_json::from_str(text)
                .map_err(|error| Failure::new(FailureClass::NoJson, format!("the edited file is not JSON: {error}")))?;
            check_schema(schema, value, "the edited file")
        }
    }
}

fn text_value(call: &CallNode, text: &str) -> Result<Value, Failure> {
    check_size(call, text)?;
    if text.contains('\0') {
        let message = format!("the result of `{}` has a NUL character, so it is no text", call.tool.name());
        return Err(Failure::new(FailureClass::SchemaMismatch, message).with_hint("remove `schema: text`"));
    }
    Ok(Value::String(text.to_owned()))
}

fn check_size(call: &CallNode, text: &str) -> Result<(), Failure> {
    if text.len() <= MAX_ARTIFACT_BYTES {
        return Ok(());
    }
    let (tool, max_mib) = (call.tool.name(), MAX_ARTIFACT_BYTES >> 20);
    let message = format!("the result of `{tool}` has more than {max_mib} MiB, the limit of an artifact");
    Err(Failure::new(FailureClass::OutputTooLarge, message).with_hint("call the tool with arguments that select less"))
}

fn check_schema(schema: &Schema, value: Value, what: &str) -> Result<Value, Failure> {
    match schema.mismatches(&value).first() {
        None => Ok(schema.with_integers(value)),
        Some(first) => Err(Failure::new(FailureClass::SchemaMismatch, format!("{what} does not fit: {first}"))
            .with_hint("correct the schema of the step, or its arguments")),
    }
}

fn no_json(call: &CallNode, text: &str, error: &serde_json::Error) -> Failure {
    let quoted = shorten_middle(text.trim(), MAX_QUOTED_BYTES);
    let quoted = if quoted.is_empty() { String::new() } else { format!(":\n{quoted}") };
    let message = format!("the result of `{}` is not JSON: {error}{quoted}", call.tool.name());
    Failure::new(FailureClass::NoJson, message)
        .with_hint("set `schema: text` to get the text itself, or remove `schema:` from the step")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::engine::node::{CalledTool, StepLimits};
    use crate::model::BuiltinTool;

    fn call(has_schema: bool) -> CallNode {
        let limits = StepLimits {
            timeout: None,
            deadline: None,
            tries: 1,
            backoff: None,
            retry_on: Vec::new(),
            waits_for_provider: false,
        };
        let tool = CalledTool::Builtin { tool: BuiltinTool::Read, sandbox: None, project_network: None };
        CallNode { tool, args: Map::new(), has_schema, limits }
    }

    fn artifact(artifact_type: ArtifactType) -> ArtifactOutput {
        ArtifactOutput { name: "result".to_owned(), artifact_type }
    }

    fn read(artifact_type: ArtifactType, has_schema: bool, text: &str, structured: Option<&Value>) -> CallResult {
        let output = ToolOutput { content: text.to_owned(), ..ToolOutput::default() };
        let received = ReceivedResult { output: &output, structured };
        read_result(Some(&artifact(artifact_type)), &call(has_schema), received)
    }

    fn any() -> ArtifactType {
        ArtifactType::Json(Schema::any())
    }

    fn integers() -> ArtifactType {
        let document = json!({ "type": "array", "items": { "type": "integer" } });
        ArtifactType::Json(Schema::compile("integers", document).unwrap())
    }

    #[test]
    fn the_type_of_the_artifact_decides_how_the_result_is_read() {
        let structured = json!([1, 2]);
        for (artifact_type, has_schema, text, structured, expected) in [
            (any(), false, "[1]", None, json!("[1]")),
            (any(), false, "[1]", Some(&structured), json!([1, 2])),
            (any(), true, "[1]", None, json!([1])),
            (integers(), true, "[1]", None, json!([1])),
            (integers(), true, "two numbers", Some(&structured), json!([1, 2])),
            (ArtifactType::Text, true, "[1]", Some(&structured), json!("[1]")),
        ] {
            assert_eq!(read(artifact_type, has_schema, text, structured), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn a_result_that_can_not_be_used_fails_the_step() {
        let too_large = "x".repeat(MAX_ARTIFACT_BYTES + 1);
        for (artifact_type, text, class, message) in [
            (any(), "one", FailureClass::NoJson, "the result of `read` is not JSON"),
            (integers(), "[\"a\"]", FailureClass::SchemaMismatch, "the result of `read` does not fit: /0"),
            (ArtifactType::Text, "a\0b", FailureClass::SchemaMismatch, "has a NUL character"),
            (ArtifactType::Text, too_large.as_str(), FailureClass::OutputTooLarge, "more than 4 MiB"),
            (any(), too_large.as_str(), FailureClass::OutputTooLarge, "more than 4 MiB"),
        ] {
            let failure = read(artifact_type, true, text, None).unwrap_err();
            assert_eq!(failure.class, class);
            assert!(failure.message.contains(message) && failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn an_error_of_a_tool_fails_the_step_also_without_an_artifact() {
        let output = ToolOutput { content: "no such file\n".to_owned(), is_error: true, ..ToolOutput::default() };
        let received = ReceivedResult { output: &output, structured: None };
        let failure = read_result(None, &call(false), received).unwrap_err();
        assert_eq!(
            (failure.class, failure.message.as_str()),
            (FailureClass::ToolFailed, "`read` failed: no such file")
        );
    }

    #[test]
    fn the_artifact_has_the_whole_text() {
        let full_output = Some("first\nsecond".to_owned());
        let output = ToolOutput { content: "first".to_owned(), full_output, ..ToolOutput::default() };
        let received = ReceivedResult { output: &output, structured: None };
        let value = read_result(Some(&artifact(ArtifactType::Text)), &call(true), received);
        assert_eq!(value, Ok(Some(json!("first\nsecond"))));
        assert_eq!(read_result(None, &call(false), received), Ok(None));
    }

    #[test]
    fn an_edited_file_is_read_by_the_type_of_the_artifact() {
        assert_eq!(value_of_edit(&artifact(ArtifactType::Text), "[1]"), Ok(json!("[1]")));
        assert_eq!(value_of_edit(&artifact(integers()), "[1]"), Ok(json!([1])));
        for text in ["one", "[\"a\"]"] {
            assert!(value_of_edit(&artifact(integers()), text).is_err(), "{text}");
        }
    }
}
