//! Tools that a model may call: what a request offers, what an agent is granted, and what a call returns.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::Digest;
use super::sandbox::SandboxNetwork;
use super::sandbox_spec::SandboxSpec;
use super::step::Access;

/// The maximum length of a summary of a call, in characters.
const MAX_SUMMARY_CHARS: usize = 200;

/// A tool as a request describes it to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolDefinition {
    /// The name (`[a-zA-Z_][a-zA-Z0-9_-]*`, at most 64 characters, the smallest limit of all APIs).
    pub name: String,
    /// What the tool does and when to use it.
    pub description: String,
    /// The self-contained JSON Schema of the arguments; always of an object.
    pub parameters: Arc<Value>,
}

/// Whether the model may, must or must not call a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model must call at least one tool.
    Required,
    /// The model must not call a tool. The request still lists the tools, because the conversation contains calls.
    None,
}

/// The tools that a request offers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OfferedTools {
    /// The tools.
    pub definitions: Vec<ToolDefinition>,
    /// Whether the model may, must or must not call one.
    #[serde(default)]
    pub choice: ToolChoice,
}

impl OfferedTools {
    /// Whether the request offers no tools.
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }
}

/// The tools that orch itself provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuiltinTool {
    /// Reads a file of the workspace.
    Read,
    /// Lists a folder of the workspace.
    List,
    /// Searches the files of the workspace for a regular expression.
    Search,
    /// Replaces a text in a file of the workspace.
    Edit,
    /// Writes a file of the workspace.
    Write,
    /// Runs a command in the workspace, in a sandbox.
    Shell,
    /// Reads a page of an allowed host.
    Fetch,
}

impl BuiltinTool {
    /// All built-in tools, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::List, Self::Search, Self::Edit, Self::Write, Self::Shell, Self::Fetch];

    /// The name in pipelines, requests and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Search => "search",
            Self::Edit => "edit",
            Self::Write => "write",
            Self::Shell => "shell",
            Self::Fetch => "fetch",
        }
    }

    /// The tool with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.as_str() == name)
    }

    /// Whether a call can't change the workspace, so that it may run beside others and again after a crash.
    pub fn only_reads(self) -> bool {
        match self {
            Self::Read | Self::List | Self::Search | Self::Fetch => true,
            Self::Edit | Self::Write | Self::Shell => false,
        }
    }

    /// The access to the workspace that the tool needs.
    pub fn access(self) -> Access {
        match self {
            Self::Fetch => Access::None,
            Self::Read | Self::List | Self::Search => Access::Read,
            Self::Edit | Self::Write | Self::Shell => Access::Write,
        }
    }

    /// The argument that identifies what a call addresses.
    fn main_argument(self) -> &'static str {
        match self {
            Self::Read | Self::List | Self::Edit | Self::Write => "path",
            Self::Search => "regex",
            Self::Shell => "command",
            Self::Fetch => "url",
        }
    }

    /// A short form of the arguments of a call: the path, the command, the regular expression or the address.
    pub fn summarize(self, arguments: &Value) -> String {
        let argument = arguments.get(self.main_argument()).and_then(Value::as_str);
        call_summary(match (self, argument) {
            (_, Some(text)) => text,
            (Self::List, None) => arguments.get("glob").and_then(Value::as_str).unwrap_or("."),
            (_, None) => "",
        })
    }
}

/// The beginning of a text about a call, for events.
pub fn call_summary(text: &str) -> String {
    let mut summary: String = text.chars().take(MAX_SUMMARY_CHARS).collect();
    if summary.len() < text.len() {
        summary.push('…');
    }
    summary
}

impl fmt::Display for BuiltinTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tool that an agent may use, such as `read`, or `shell(cargo:*)`, which is narrowed to a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ToolGrant {
    /// The tool.
    pub tool: BuiltinTool,
    /// What a call may address: for `shell` the first words of a command (`cargo:*`, `git diff:*`), for the file tools a
    /// glob of paths (`src/**`), for `fetch` a host (`docs.rs`). `None` allows everything that the tool can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// One call of a tool, as orch performs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolInvocation {
    /// The id of the call in the conversation.
    pub id: String,
    /// The tool.
    pub tool: BuiltinTool,
    /// The arguments, which fit the schema of the tool.
    pub arguments: Value,
    /// All grants of the agent for this tool. A call must fit one of them.
    pub grants: Vec<ToolGrant>,
    /// Workspace paths that the tool must not change, such as artifact files and the files that define the run. A change
    /// that `shell` makes to them does not count as a change of the call.
    pub reserved: Arc<[String]>,
    /// Names of variables that `shell` inherits from the environment of the run.
    pub env: Vec<String>,
    /// The sandbox of the agent: `shell` runs in it, and the other tools obey its `write`, `deny_read` and `network`.
    /// Without a sandbox, orch refuses `shell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    /// The `network` in the `sandbox` of `orch.yaml`, which bounds the hosts of `fetch`. Without it, `fetch` may read
    /// public hosts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_network: Option<SandboxNetwork>,
    /// The time limit, in milliseconds.
    pub timeout_ms: u64,
}

impl ToolInvocation {
    /// A short form of the arguments for events: the path, the command, the regular expression or the address.
    pub fn summary(&self) -> String {
        self.tool.summarize(&self.arguments)
    }
}

/// What a call of a tool returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolOutput {
    /// The text for the model, at most 64 KiB.
    pub content: String,
    /// Whether the call failed. The model sees the content in either case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// The whole output, if the content is only a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_output: Option<String>,
    /// The files that the call changed, with paths relative to the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<ChangedFile>,
}

impl ToolOutput {
    /// The size of its texts, in bytes.
    pub fn byte_len(&self) -> usize {
        self.content.len().saturating_add(self.full_output.as_ref().map_or(0, String::len))
    }

    /// The whole output.
    pub fn whole_text(&self) -> &str {
        self.full_output.as_deref().unwrap_or(&self.content)
    }
}

/// The output of a call of a built-in tool, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCallOutput {
    /// The tool.
    pub tool: BuiltinTool,
    /// A short form of the arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// What the call returned.
    pub result: ToolOutput,
}

/// A file that a tool changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedFile {
    /// The path, relative to the workspace, with `/`.
    pub path: String,
    /// The digest of the content before the call; `None` if the file did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The digest of the content after the call; `None` if the call deleted the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_names_what_a_call_addresses() {
        for (tool, arguments, summary) in [
            (BuiltinTool::Read, json!({ "path": "src/a.rs", "from": 3 }), "src/a.rs".to_owned()),
            (BuiltinTool::List, json!({}), ".".to_owned()),
            (BuiltinTool::List, json!({ "glob": "*.rs" }), "*.rs".to_owned()),
            (BuiltinTool::Shell, json!({ "command": "x".repeat(500) }), format!("{}…", "x".repeat(MAX_SUMMARY_CHARS))),
        ] {
            let invocation = ToolInvocation {
                id: "call".to_owned(),
                tool,
                arguments,
                grants: Vec::new(),
                reserved: [].into(),
                env: Vec::new(),
                sandbox: None,
                project_network: None,
                timeout_ms: 0,
            };
            assert_eq!(invocation.summary(), summary, "{tool}");
        }
    }

    #[test]
    fn a_tool_that_only_reads_needs_no_access_to_write() {
        for tool in BuiltinTool::ALL {
            assert_eq!(tool.only_reads(), tool.access() != Access::Write, "{tool}");
        }
    }
}
