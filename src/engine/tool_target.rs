//! What a model may call: a built-in tool, a tool of an MCP server, or a pipeline.

use std::sync::Arc;

use serde_json::Value;

use crate::model::event::CallKind;
use crate::model::{
    BuiltinTool, Failure, FailureClass, McpCallKind, McpServerSpec, McpToolDefinition, McpToolName, ToolDefinition,
    call_summary,
};
use crate::schema::Schema;
use crate::tool;
use crate::tool::mcp::model_tool_name;

/// A tool that an agent may use.
#[derive(Clone)]
pub(super) enum ToolTarget {
    /// A tool of orch.
    Builtin(BuiltinTool),
    /// A tool of an MCP server.
    Mcp(Arc<McpTool>),
    /// A pipeline.
    Pipeline(Arc<PipelineTool>),
}

impl ToolTarget {
    /// Whether a call changes nothing, so that it may run beside others.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Builtin(tool) => tool.only_reads(),
            Self::Mcp(tool) => tool.kind().only_reads(),
            Self::Pipeline(_) => false,
        }
    }

    /// The name in the pipeline file: `read`, `github.list_issues`, or the name of the pipeline.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Builtin(tool) => tool.to_string(),
            Self::Mcp(tool) => tool.name.to_string(),
            Self::Pipeline(pipeline) => pipeline.name.clone(),
        }
    }

    /// The kind of the durable call that performs a call; `None` for a pipeline, which has the calls of its steps.
    pub(super) fn call_kind(&self) -> Option<CallKind> {
        match self {
            Self::Builtin(tool) => Some(CallKind::Tool(*tool)),
            Self::Mcp(tool) => Some(CallKind::McpTool(tool.kind())),
            Self::Pipeline(_) => None,
        }
    }

    /// Whether reading the arguments of a call may take long, even if they are small.
    pub(super) fn has_costly_schema(&self) -> bool {
        match self {
            Self::Builtin(_) => false,
            Self::Mcp(tool) => tool.schema.may_take_long(),
            Self::Pipeline(pipeline) => pipeline.parameters.may_take_long(),
        }
    }

    /// A short form of the arguments of a call, for people.
    pub(super) fn summarize(&self, arguments: &Value) -> String {
        match self {
            Self::Builtin(tool) => tool.summarize(arguments),
            Self::Mcp(_) | Self::Pipeline(_) => call_summary(&arguments.to_string()),
        }
    }

    /// Reads the arguments of a call as the model wrote them.
    ///
    /// # Errors
    /// The arguments do not fit the tool. The error is for the model.
    pub(super) fn read_arguments(&self, arguments: &Value) -> Result<Value, String> {
        match self {
            Self::Builtin(tool) => tool::read_arguments(*tool, arguments),
            Self::Mcp(tool) => tool.read_arguments(arguments),
            Self::Pipeline(pipeline) => tool::read_arguments_with(&pipeline.name, &pipeline.parameters, arguments),
        }
    }
}

/// A tool of an MCP server, as the server listed it.
#[derive(Clone, Debug)]
pub(super) struct McpTool {
    /// The server's name and the tool's name.
    pub(super) name: McpToolName,
    pub(super) server: McpServerSpec,
    pub(super) definition: McpToolDefinition,
    /// The name under which a model sees the tool.
    pub(super) model_name: String,
    /// The schema of the arguments.
    pub(super) schema: Schema,
}

impl McpTool {
    /// Prepares a tool for calls.
    ///
    /// # Errors
    /// The schema of its arguments can't be used.
    pub(super) fn new(server: &McpServerSpec, definition: &McpToolDefinition) -> Result<Self, Failure> {
        let name = McpToolName { server: server.name.clone(), tool: definition.name.clone() };
        let schema = Schema::compile(&definition.name, (*definition.input_schema).clone()).map_err(|error| {
            let message = format!("the MCP tool `{name}` has a schema of arguments that orch can't use: {error}");
            Failure::new(FailureClass::BadRequest, message).with_hint("report this to the author of the server")
        })?;
        let model_name = model_tool_name(&name);
        Ok(Self { name, server: server.clone(), definition: definition.clone(), model_name, schema })
    }

    /// What a call may change.
    pub(super) fn kind(&self) -> McpCallKind {
        self.server.call_kind()
    }

    /// Reads the arguments of a call.
    ///
    /// # Errors
    /// The arguments do not fit the schema of the tool. The error is for whoever wrote them.
    pub(super) fn read_arguments(&self, arguments: &Value) -> Result<Value, String> {
        tool::read_arguments_with(&self.name.to_string(), &self.schema, arguments)
    }

    /// The definition for a request to a model.
    pub(super) fn model_definition(&self) -> ToolDefinition {
        let description = if self.definition.description.is_empty() {
            format!("The tool `{}` of the MCP server `{}`.", self.name.tool, self.name.server)
        } else {
            self.definition.description.clone()
        };
        ToolDefinition { name: self.model_name.clone(), description, parameters: self.definition.input_schema.clone() }
    }
}

/// A pipeline that a model may call.
pub(super) struct PipelineTool {
    /// Its position in the pipelines of the agent.
    pub(super) index: usize,
    /// The name under which the model sees it.
    pub(super) name: String,
    /// The schema of its inputs.
    pub(super) parameters: Schema,
}

impl PipelineTool {
    /// Prepares a pipeline for calls. Each input also has a schema of its own, which the pipeline checks, so a schema of
    /// all inputs that is too large is no obstacle.
    pub(super) fn new(index: usize, definition: &ToolDefinition) -> Self {
        let parameters = Schema::compile(&definition.name, (*definition.parameters).clone());
        Self { index, name: definition.name.clone(), parameters: parameters.unwrap_or_else(|_| Schema::any()) }
    }
}
