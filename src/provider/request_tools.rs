//! What the requests of all dialects have in common if they offer tools.

use serde_json::Value;

use crate::model::ToolChoice;
use crate::model::chat::ChatRequest;

/// The schema for the API's own field for structured output. While the model may call tools, only the prompt contains
/// the schema: not every API accepts a schema together with tools, and the reply may be a call. The request for the
/// final answer still lists the tools, but does not let the model call them.
pub(super) fn native_schema(request: &ChatRequest) -> Option<&Value> {
    let may_call = !request.tools.is_empty() && request.tools.choice != ToolChoice::None;
    request.schema.as_deref().filter(|_| !may_call)
}

/// The value of `tool_choice` in the dialects of `OpenAI`; `None` for their default, `auto`.
pub(super) fn openai_choice(request: &ChatRequest) -> Option<&'static str> {
    match request.tools.choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some("required"),
        ToolChoice::None => Some("none"),
    }
}
