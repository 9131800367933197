//! What orch knows about a tool outside of a run: its names, its schemas, and whether a call changes anything.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::diagnostic::did_you_mean;
use crate::model::{BuiltinTool, McpServerSpec, McpToolDefinition, McpToolName};
use crate::schema::Schema;
use crate::tool;
use crate::tool::mcp::model_tool_name;

use super::error::RunnerError;

/// The maximum number of names in a message about a missing tool.
const MAX_NAMED_TOOLS: usize = 20;

/// A tool that agents and steps can call.
#[derive(Clone, Debug)]
pub(crate) struct ToolInfo {
    /// The name in pipelines: `read` or `github.list_issues`.
    pub(crate) name: String,
    /// The name under which a model sees the tool.
    pub(crate) model_name: String,
    /// What the tool does. The text of an MCP server is data, and not an instruction.
    pub(crate) description: String,
    /// Whether a call changes nothing.
    pub(crate) only_reads: bool,
    /// The JSON Schema of the arguments.
    pub(crate) arguments: Arc<Value>,
    /// The JSON Schema of the structured result, if the server declares one.
    pub(crate) result: Option<Arc<Value>>,
    /// What a call addresses.
    pub(super) target: Target,
}

/// What a call of a tool addresses.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A tool of orch.
    Builtin(BuiltinTool),
    /// A tool of an MCP server, by the server's name for it.
    Mcp(Box<McpServerSpec>, String),
}

impl ToolInfo {
    fn builtin(tool: BuiltinTool) -> Self {
        let definition = tool::definition(tool, &[]);
        Self {
            name: tool.to_string(),
            model_name: definition.name,
            description: definition.description,
            only_reads: tool.only_reads(),
            arguments: definition.parameters,
            result: None,
            target: Target::Builtin(tool),
        }
    }

    /// A tool as its MCP server lists it.
    pub(super) fn of_server(server: &McpServerSpec, definition: &McpToolDefinition) -> Self {
        let name = McpToolName { server: server.name.clone(), tool: definition.name.clone() };
        Self {
            model_name: model_tool_name(&name),
            name: name.to_string(),
            description: definition.description.clone(),
            only_reads: server.call_kind().only_reads(),
            arguments: definition.input_schema.clone(),
            result: definition.output_schema.clone(),
            target: Target::Mcp(Box::new(server.clone()), definition.name.clone()),
        }
    }

    /// The MCP server of the tool; `None` for a tool of orch.
    pub(crate) fn server(&self) -> Option<&str> {
        match &self.target {
            Target::Builtin(_) => None,
            Target::Mcp(server, _) => Some(&server.name),
        }
    }

    /// The tool for the output of commands.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "server": self.server(),
            "model_name": self.model_name,
            "access": if self.only_reads { "read" } else { "write" },
            "description": self.description,
            "arguments": self.arguments,
            "result": self.result,
        })
    }

    /// Reads arguments as the tool accepts them.
    ///
    /// # Errors
    /// The arguments do not fit the schema of the tool.
    pub(crate) fn read_arguments(&self, arguments: &Value) -> Result<Value, RunnerError> {
        let schema = Schema::compile(&self.name, (*self.arguments).clone());
        let schema = schema.map_err(|error| {
            RunnerError::usage(format!("the schema of the arguments of `{}` can't be used: {error}", self.name))
        })?;
        tool::read_arguments_with(&self.name, &schema, arguments).map_err(|message| {
            let mut lines = message.lines();
            RunnerError::usage(lines.next().unwrap_or_default())
                .with_details(lines.map(str::to_owned))
                .with_hint(format!("`orch tools show {}` prints the schema of its arguments", self.name))
        })
    }
}

/// The tools of orch, in the order of the documentation.
pub(crate) fn builtin_tools() -> Vec<ToolInfo> {
    BuiltinTool::ALL.into_iter().map(ToolInfo::builtin).collect()
}

/// The tool of orch with this name.
pub(crate) fn builtin_tool(name: &str) -> Option<ToolInfo> {
    BuiltinTool::from_name(name).map(ToolInfo::builtin)
}

/// The error for a name that `mcp` of `orch.yaml` does not have.
pub(super) fn unknown_server(name: &str, specs: &IndexMap<String, McpServerSpec>) -> RunnerError {
    let error = RunnerError::usage(format!("`orch.yaml` has no MCP server `{name}`"));
    let names: Vec<&str> = specs.keys().map(String::as_str).collect();
    error.with_hint(match did_you_mean(name, names.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if names.is_empty() => "add it under `mcp` of `orch.yaml`".to_owned(),
        None => format!("its servers are {}", shortened_list(&names)),
    })
}

/// The error for a name that no tool of orch has.
pub(super) fn unknown_tool(name: &str) -> RunnerError {
    let names = BuiltinTool::ALL.map(BuiltinTool::as_str);
    let error = RunnerError::usage(format!("there is no tool `{name}`"));
    error.with_hint(match did_you_mean(name, names) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("write {}, or `SERVER.TOOL` for a tool of an MCP server", shortened_list(&names)),
    })
}

/// Names in backticks, at most [`MAX_NAMED_TOOLS`].
pub(super) fn shortened_list(names: &[&str]) -> String {
    let listed: Vec<String> = names.iter().take(MAX_NAMED_TOOLS).map(|name| format!("`{name}`")).collect();
    match names.len() - listed.len() {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}
