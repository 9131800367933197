//! Upper bounds of what a request uses, from its texts.

use crate::model::name::{LOCAL_PROVIDER, max_reply_tokens};
use crate::model::{ChatRequest, Failure, FailureClass, ToolDefinition, Usage};

use super::message::schema_instruction;

/// Returns the upper bound of a request's usage. The tokens of a file depend on the model, and not on the bytes of the
/// file. So a request with files counts as a whole context window, which no request exceeds.
///
/// # Errors
/// `bad_request` for a request with files if the context window of the model is unknown.
pub(super) fn max_request_usage(request: &ChatRequest, context_window: Option<u64>) -> Result<Usage, Failure> {
    let usage = max_text_usage(request);
    if !request.has_files() {
        return Ok(usage);
    }
    let window = context_window.ok_or_else(|| {
        let message = format!(
            "the request to {} has files, and orch can't tell how many tokens they need, since it does not know the \
             context window of the model",
            request.model
        );
        Failure::new(FailureClass::BadRequest, message)
            .with_hint("set `context_window` of the model under `models:` in orch.yaml")
    })?;
    Ok(Usage { input: usage.input.max(window), ..usage })
}

/// Returns the upper bound of the usage of a request's texts and its reply: one input token for every two bytes of the
/// texts that orch sends, and the longest reply.
pub(super) fn max_text_usage(request: &ChatRequest) -> Usage {
    let (input, output) = (
        u64::try_from(text_bytes(request).div_ceil(2)).unwrap_or(u64::MAX),
        u64::from(max_reply_tokens(&request.model, request.max_output_tokens)),
    );
    Usage { input, output, ..Usage::default() }
}

/// The bytes of all texts of a request, including those that orch adds to it.
pub(super) fn text_bytes(request: &ChatRequest) -> usize {
    let messages: usize = request.messages.iter().map(|message| message.content.byte_len()).sum();
    let additions = schema_bytes(request) + tools_bytes(request) + provider_options_bytes(request);
    request.system.len() + messages + additions
}

/// The bytes of the schema in the final request: in the instruction, and in the field of the API. The embedded model
/// receives neither.
fn schema_bytes(request: &ChatRequest) -> usize {
    let Some(schema) = request.schema.as_ref().filter(|_| request.model.provider != LOCAL_PROVIDER) else { return 0 };
    // A blank line separates the instruction from the message.
    "\n\n".len() + schema_instruction(schema, !request.tools.is_empty()).len() + schema.to_string().len()
}

/// The bytes that an API or a chat template writes around the definition of a tool, at most.
const TOOL_MARKUP_BYTES: usize = 160;
/// The bytes of the instructions for calls that an API or a chat template adds to the prompt, at most.
const TOOL_INSTRUCTION_BYTES: usize = 2048;

/// The bytes of the tools in the prompt that the model reads.
fn tools_bytes(request: &ChatRequest) -> usize {
    let definition_bytes = |tool: &ToolDefinition| {
        tool.name.len() + tool.description.len() + tool.parameters.to_string().len() + TOOL_MARKUP_BYTES
    };
    let definitions: usize = request.tools.definitions.iter().map(definition_bytes).sum();
    if request.tools.is_empty() { 0 } else { definitions + TOOL_INSTRUCTION_BYTES }
}

/// The bytes of `provider_options`. Some servers insert such members into the prompt.
fn provider_options_bytes(request: &ChatRequest) -> usize {
    let options = Some(&request.options.provider_options).filter(|options| !options.is_empty());
    options.map_or(0, |options| serde_json::to_string(options).map_or(0, |text| text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::message::with_schema_instruction;
    use crate::model::{Content, ContentBlock, Digest, Message, ModelRef, OfferedTools, Role, ToolChoice};

    fn request(blocks: Vec<ContentBlock>) -> ChatRequest {
        let message = Message { role: Role::User, content: Content::from(blocks) };
        ChatRequest { system: "1234".to_owned(), ..ChatRequest::new(ModelRef::new("lab", "m"), vec![message], 10) }
    }

    #[test]
    fn the_bound_covers_every_text_of_the_final_request() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let options: Value = json!({"provider_options": {"chat_template_kwargs": {"documents": ["a", "b"]}}});
        let request = ChatRequest {
            options: Box::new(serde_json::from_value(options.clone()).unwrap()),
            schema: Some(schema.clone().into()),
            ..request(vec![ContentBlock::text("12345678")])
        };
        let message_length = with_schema_instruction(request.clone()).messages[0].content.byte_len();
        assert!(message_length > "12345678".len() + serde_json::to_string_pretty(&schema).unwrap().len());
        let options_length = options["provider_options"].to_string().len();
        let bytes = "1234".len() + message_length + schema.to_string().len() + options_length;
        assert_eq!(max_text_usage(&request).input, u64::try_from(bytes.div_ceil(2)).unwrap());
        let embedded = ChatRequest { model: ModelRef::new("local", "m"), options: Box::default(), ..request.clone() };
        assert_eq!(max_text_usage(&embedded).input, 6, "the embedded model receives no schema as text");
        let definition = ToolDefinition {
            name: "read".to_owned(),
            description: "Reads a file.".to_owned(),
            parameters: json!({"type": "object"}).into(),
        };
        let definition_length = "readReads a file.".len() + r#"{"type":"object"}"#.len();
        let tools_length = definition_length + TOOL_MARKUP_BYTES + TOOL_INSTRUCTION_BYTES;
        let tools = OfferedTools { definitions: vec![definition], choice: ToolChoice::Auto };
        let request = ChatRequest { tools: tools.into(), ..request };
        let embedded = ChatRequest { model: ModelRef::new("local", "m"), options: Box::default(), ..request.clone() };
        assert_eq!(max_text_usage(&embedded).input, u64::try_from((12 + tools_length).div_ceil(2)).unwrap());
        let message_length = with_schema_instruction(request.clone()).messages[0].content.byte_len();
        let bytes = "1234".len() + message_length + schema.to_string().len() + options_length + tools_length;
        assert_eq!(max_text_usage(&request).input, u64::try_from(bytes.div_ceil(2)).unwrap());
    }

    #[test]
    fn the_bound_covers_the_definitions_of_tools() {
        let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
        let tool = ToolDefinition {
            name: "read".to_owned(),
            description: "Reads a file of the workspace.".to_owned(),
            parameters: parameters.clone().into(),
        };
        let without_tools = request(vec![ContentBlock::text("12345678")]);
        let with_tools = |count: usize| {
            let tools = OfferedTools { definitions: vec![tool.clone(); count], choice: ToolChoice::Auto };
            max_text_usage(&ChatRequest { tools: tools.into(), ..without_tools.clone() }).input
        };
        assert_eq!(with_tools(0), max_text_usage(&without_tools).input);
        let definition = "read".len() + tool.description.len() + parameters.to_string().len();
        let added = |count: usize| u64::try_from(count * definition / 2).unwrap();
        assert!(with_tools(1) > with_tools(0) + added(1));
        assert!(with_tools(8) > with_tools(1) + added(7));
    }

    #[test]
    fn a_request_with_a_file_may_fill_the_context_window() {
        let text = ContentBlock::text("12345678");
        let file =
            ContentBlock::File { media_type: "application/pdf".to_owned(), digest: Digest::compute(b"a small file") };
        for (blocks, window, input) in [
            (vec![text.clone()], None, Some(6)),
            (vec![text.clone()], Some(1000), Some(6)),
            (vec![text.clone(), file.clone()], Some(1000), Some(1000)),
            // The texts alone may need more than the window, as far as orch knows.
            (vec![text.clone(), file.clone()], Some(5), Some(6)),
            (vec![file], None, None),
        ] {
            let usage = max_request_usage(&request(blocks), window);
            assert_eq!(usage.as_ref().ok().map(|usage| usage.input), input, "{usage:?}");
            match usage {
                Ok(usage) => assert_eq!(usage.output, 10),
                Err(failure) => {
                    assert_eq!(failure.class, FailureClass::BadRequest);
                    assert!(failure.message.contains("lab/m has files"), "{failure}");
                    assert!(failure.hint.is_some_and(|hint| hint.contains("`context_window`")));
                }
            }
        }
    }
}
