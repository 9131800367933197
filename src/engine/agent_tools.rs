//! The tools of an agent with a model, as a plan contains them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::agent::{Compaction, DEFAULT_MAX_TURNS};
use crate::model::{Agent, BuiltinTool, OfferedTools, SandboxNetwork, SandboxSpec, ToolChoice, ToolGrant};
use crate::tool;

/// The tools of an agent with a model, with every default filled in.
#[derive(Clone, Debug)]
pub struct AgentTools {
    /// What the agent may use.
    pub grants: Vec<ToolGrant>,
    /// The offer of requests in which the model may call tools.
    pub offered: Arc<OfferedTools>,
    /// The offer of requests for a final answer: the same tools, which the model must not call.
    pub listed: Arc<OfferedTools>,
    /// The maximum number of turns of a conversation.
    pub max_turns: u32,
    /// The tools whose calls the user approves.
    pub approved: Vec<BuiltinTool>,
    /// What happens before a conversation exceeds the context window.
    pub compaction: Compaction,
    /// Names of variables that `shell` inherits from the environment of the run.
    pub env: Vec<String>,
    /// The sandbox of the tools; `None` if it is disabled.
    pub sandbox: Option<SandboxSpec>,
    /// The `network` in the `sandbox` of `orch.yaml`, which bounds the hosts of `fetch`. `None` without `fetch`.
    pub project_network: Option<SandboxNetwork>,
}

impl AgentTools {
    /// The tools of an agent with this sandbox, in a project whose `orch.yaml` has this `network`. Returns `None` if the
    /// agent has no tools.
    pub(super) fn from_agent(
        agent: &Agent,
        sandbox: Option<SandboxSpec>,
        project_network: Option<&SandboxNetwork>,
    ) -> Option<Self> {
        let grants = agent.tool_grants();
        if grants.is_empty() {
            return None;
        }
        let is_granted = |tool: &BuiltinTool| grants.iter().any(|grant| grant.tool == *tool);
        let tools = BuiltinTool::ALL.into_iter().filter(is_granted);
        let definitions: Vec<_> = tools.map(|tool| tool::definition(tool, &grants)).collect();
        let offer = |choice| Arc::new(OfferedTools { definitions: definitions.clone(), choice });
        Some(Self {
            offered: offer(ToolChoice::Auto),
            listed: offer(ToolChoice::None),
            max_turns: agent.max_turns.unwrap_or(DEFAULT_MAX_TURNS),
            approved: agent.approved_tools(),
            compaction: agent.compaction.unwrap_or_default(),
            env: agent.env.clone(),
            sandbox,
            project_network: project_network.filter(|_| is_granted(&BuiltinTool::Fetch)).cloned(),
            grants,
        })
    }

    /// Whether the agent may use a tool.
    pub fn includes(&self, tool: BuiltinTool) -> bool {
        self.grants.iter().any(|grant| grant.tool == tool)
    }

    /// The grants for one tool.
    pub(super) fn grants_for(&self, tool: BuiltinTool) -> Vec<ToolGrant> {
        self.grants.iter().filter(|grant| grant.tool == tool).cloned().collect()
    }

    /// What determines the results of the tools, for the fingerprint of a step. The requests contain the definitions.
    /// The limits of the conversation and the approvals do not change the value of a completed step.
    pub(super) fn fingerprint_value(&self) -> Value {
        let sandbox = self.sandbox.as_ref().map(SandboxSpec::without_level);
        let mut value = json!({ "grants": self.grants, "env": self.env, "sandbox": sandbox });
        if let Some(network) = &self.project_network {
            value["project_network"] = json!(network);
        }
        value
    }
}
