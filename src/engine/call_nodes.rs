//! The data of the steps that call a tool or another pipeline.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::step::Access;
use crate::model::{BuiltinTool, McpServerSpec, McpToolDefinition, SandboxNetwork, SandboxSpec};
use crate::schema::Schema;

use super::node::{NodeKind, PlanBody, PlanNode, StepLimits};

/// The data of a step that calls a tool.
#[derive(Clone, Serialize)]
pub struct CallNode {
    /// The tool.
    pub tool: CalledTool,
    /// The arguments in the pipeline file. Each text is a template.
    pub args: Map<String, Value>,
    /// Whether the pipeline file sets the type of the artifact (`schema:`).
    pub has_schema: bool,
    /// Time limits and retries.
    pub limits: StepLimits,
}

/// The tool that a step calls.
#[derive(Clone, Serialize)]
pub enum CalledTool {
    /// A tool of orch.
    Builtin {
        /// The tool.
        tool: BuiltinTool,
        /// The sandbox of the tool; `None` if it is disabled.
        sandbox: Option<SandboxSpec>,
        /// The `network` in the `sandbox` of `orch.yaml`, which bounds the hosts of `fetch`; `None` for another tool.
        project_network: Option<SandboxNetwork>,
    },
    /// A tool of an MCP server.
    Mcp {
        /// The server.
        server: McpServerSpec,
        /// The server's name for the tool.
        tool: String,
    },
}

impl CalledTool {
    /// The name in the pipeline file: `read`, or `github.list_issues`.
    pub fn name(&self) -> String {
        match self {
            Self::Builtin { tool, .. } => tool.to_string(),
            Self::Mcp { server, tool } => format!("{}.{tool}", server.name),
        }
    }

    /// Whether a call changes nothing, so that it may run again.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Builtin { tool, .. } => tool.only_reads(),
            Self::Mcp { server, .. } => server.call_kind().only_reads(),
        }
    }

    /// Whether the state of the workspace determines the result of a call. A tool of an MCP server that may change
    /// something can change more than the workspace, so a change of the workspace is no reason to call it again.
    pub(super) fn depends_on_workspace(&self) -> bool {
        match self {
            Self::Builtin { .. } => true,
            Self::Mcp { .. } => self.only_reads(),
        }
    }

    /// What determines the results of the tool besides the arguments, for the fingerprint of a step. `definition` is the
    /// tool as its MCP server lists it; `None` for a tool of orch, and if the tools of the server are not known. It counts
    /// only for a tool that only reads: another definition is no reason to make a call again that changed something.
    pub(super) fn fingerprint_value(&self, definition: Option<&McpToolDefinition>) -> Value {
        match self {
            Self::Builtin { tool, sandbox, project_network } => {
                let sandbox = sandbox.as_ref().map(SandboxSpec::without_level);
                json!({ "tool": tool, "sandbox": sandbox, "project_network": project_network })
            }
            Self::Mcp { server, tool } => {
                let definition = definition.filter(|_| self.only_reads());
                json!({ "tool": tool, "server": server.fingerprint_value(), "definition": definition })
            }
        }
    }
}

/// The data of a step that calls a pipeline.
#[derive(Clone, Serialize)]
pub struct PipelineNode {
    /// The called pipeline.
    pub body: PlanBody,
    /// Its inputs: names with expressions over the caller's values.
    pub with: IndexMap<String, String>,
    /// The inputs that the called pipeline declares.
    pub inputs: IndexMap<String, CalledPipelineInput>,
}

impl PlanNode {
    /// A pipeline that a model may call by this name. It has no settings of a step: it uses the workspace as its steps
    /// do, and the model decides what follows from a failure.
    pub(super) fn called_by_model(name: String, call: PipelineNode) -> Self {
        let mut node = Self {
            id: name,
            when: None,
            for_each: None,
            inputs: Vec::new(),
            previous_reads: Vec::new(),
            output: None,
            has_file: false,
            access: Access::None,
            budget: None,
            stops_on_failure: false,
            kind: NodeKind::Pipeline(Box::new(call)),
        };
        node.access = node.children().map(|child| child.access).fold(node.access, Access::max);
        node
    }
}

/// An input that a called pipeline declares.
#[derive(Clone, Serialize)]
pub struct CalledPipelineInput {
    /// Its schema. It refers to no other file.
    #[serde(serialize_with = "super::plan_digest::serialize_schema")]
    pub schema: Schema,
    /// Its value if the caller passes none.
    pub default: Option<Value>,
}
