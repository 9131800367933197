//! Calls of the tools of MCP servers, and the questions that a server may ask before it returns a result.

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::FailureClass;
use super::mcp::{McpCallKind, McpServerSpec, McpToolName};
use super::tool::{ToolOutput, call_summary};
use super::visible::escape_line_breaks;

/// Whether a call of an MCP tool that failed with this class got no usable answer. Unless orch knows otherwise
/// (`Failure::unperformed`), it is not known whether the server performed the call. A model receives such a failure as
/// the result of the call.
pub fn is_unanswered_call(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::Timeout
            | FailureClass::ProviderUnavailable
            | FailureClass::AgentError
            | FailureClass::OutputTooLarge
            // Many services count a request against a limit only after they have begun it.
            | FailureClass::RateLimited
    )
}

/// A call of a tool of an MCP server, as orch performs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpInvocation {
    /// The server.
    pub server: McpServerSpec,
    /// The server's name for the tool.
    pub tool: String,
    /// The arguments: an object that fits the schema of the tool.
    pub arguments: Value,
    /// The answers to the questions that the server asked when the same call was made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Box<InputAnswers>>,
    /// Workspace paths whose changes do not count as changes of the call, such as artifact files.
    pub reserved: Arc<[String]>,
    /// The time limit, in milliseconds.
    pub timeout_ms: u64,
}

/// What an MCP server needs from the user before it returns the result of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputRequired {
    /// The questions, by the server's names for them.
    pub questions: IndexMap<String, InputQuestion>,
    /// Data of the server that goes back to it unchanged, with the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A question of an MCP server to the user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputQuestion {
    /// The text of the question.
    pub message: String,
    /// The JSON Schema of the answer; `None` if the server only asks the user to open an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<Value>>,
    /// The address that the user should open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl InputQuestion {
    /// The question in one paragraph: its text, with the address or the schema of the answer.
    pub fn describe(&self) -> String {
        let message = &self.message;
        match (&self.url, &self.schema) {
            (Some(url), _) => format!("{message} It wants the user to open {}", escape_line_breaks(url)),
            (None, Some(schema)) => format!("{message} The answer fits this JSON Schema: {schema}"),
            (None, None) => message.clone(),
        }
    }
}

/// The user's answers to the questions of an MCP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputAnswers {
    /// The answers, by the server's names for the questions: an object for a question with a schema, `true` if the user
    /// accepted to open an address, and `null` if the user declined.
    pub responses: IndexMap<String, Value>,
    /// The data that the server sent with the questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl McpInvocation {
    /// The name of the tool with its server.
    pub fn tool_name(&self) -> McpToolName {
        McpToolName { server: self.server.name.clone(), tool: self.tool.clone() }
    }

    /// The tool and a short form of its arguments, for events: `github.list_issues {"repo":"orch"}`.
    pub fn summary(&self) -> String {
        call_summary(&format!("{} {}", self.tool_name(), self.arguments))
    }
}

/// The output of a call of an MCP tool, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct McpCallOutput {
    /// The tool.
    pub tool: McpToolName,
    /// The kind of the call.
    pub kind: McpCallKind,
    /// The tool and a short form of its arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// What the call returned, as a text for a model.
    pub result: ToolOutput,
    /// The structured result, if the server returned one that fits the tool's schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// What the server needs from the user, in place of a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_required: Option<Box<InputRequired>>,
    /// The questions of the server that no person answered. The call has failed then, and may have taken effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<InputQuestion>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{McpAccess, McpTransport};

    #[test]
    fn a_summary_names_the_tool_and_is_short() {
        let transport = McpTransport::Http { url: "https://files.example".to_owned(), headers: IndexMap::new() };
        let (name, access) = ("files".to_owned(), McpAccess::Read);
        let server = McpServerSpec { name, transport, tools: None, access };
        let invocation = McpInvocation {
            server,
            tool: "read_file".to_owned(),
            arguments: json!({ "path": "x".repeat(500) }),
            answers: None,
            reserved: [].into(),
            timeout_ms: 0,
        };
        let summary = invocation.summary();
        assert!(summary.starts_with("files.read_file {\"path\":\"xxx") && summary.ends_with('…'), "{summary}");
        assert_eq!(summary.chars().count(), 201);
    }
}
