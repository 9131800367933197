//! CLI agents: their kinds, their options and their turns.
//!
//! A table of capabilities describes each kind, so that the checks, the documentation and the code that runs CLI agents
//! always agree.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::activity::AgentActivity;
use super::chat::{ChatReply, ChatRequest};
use super::mcp::McpServerSpec;
use super::name::ModelRef;
use super::sandbox_spec::SandboxSpec;
use super::step::Access;
use super::usage::Usage;

/// A kind of CLI agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CliAgentKind {
    /// Claude Code (`cli: claude`).
    Claude,
    /// Codex (`cli: codex`).
    Codex,
    /// Any CLI agent that speaks the Agent Client Protocol (`acp:`).
    Acp,
    /// Any other program (`command:`), which reads a prompt and writes a reply.
    Command,
}

/// The capabilities of a kind of CLI agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind has a table row of yes-or-no capabilities")]
pub struct AgentCapabilities {
    /// It constrains its reply to the step's schema. Otherwise, the prompt contains the schema.
    pub structured_output: bool,
    /// It restricts the model to `tools`, or requests permission from orch.
    pub tools: bool,
    /// It can report the token usage of a turn.
    pub usage: bool,
    /// It can report the cost of a turn.
    pub cost: bool,
    /// It can continue its session for a re-ask. Otherwise, orch sends the full conversation again.
    pub resume: bool,
    /// At a time-out, orch asks it to stop before killing its process group.
    pub cancel: bool,
    /// orch passes `model` to it.
    pub model: bool,
    /// orch passes `max_turns` to it.
    pub max_turns: bool,
}

impl CliAgentKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Claude, Self::Codex, Self::Acp, Self::Command];

    /// The stable name, which is also the provider's name in references to its models.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Acp => "acp",
            Self::Command => "command",
        }
    }

    /// The capabilities of this kind.
    pub fn capabilities(self) -> AgentCapabilities {
        let no_capabilities = AgentCapabilities {
            structured_output: false,
            tools: false,
            usage: false,
            cost: false,
            resume: false,
            cancel: false,
            model: false,
            max_turns: false,
        };
        match self {
            Self::Claude => AgentCapabilities {
                structured_output: true,
                tools: true,
                usage: true,
                cost: true,
                resume: true,
                model: true,
                max_turns: true,
                ..no_capabilities
            },
            Self::Codex => {
                AgentCapabilities { structured_output: true, usage: true, resume: true, model: true, ..no_capabilities }
            }
            Self::Acp => AgentCapabilities {
                tools: true,
                usage: true,
                cost: true,
                resume: true,
                cancel: true,
                ..no_capabilities
            },
            Self::Command => AgentCapabilities { model: true, max_turns: true, ..no_capabilities },
        }
    }
}

/// A CLI agent as a step uses it. Every field is part of the step's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CliAgent {
    /// Its kind.
    pub kind: CliAgentKind,
    /// The program and its arguments, if the file specifies them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// The model that it should use, by its own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tools that it may use, without those of `mcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The MCP servers that it starts and calls itself, each with only the tools that it may use. The sandbox of such a
    /// server has no minimum level, because the server runs in the sandbox of the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp: Vec<McpServerSpec>,
    /// The maximum number of turns for one reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Names of environment variables that orch passes to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Its access to the workspace.
    pub access: Access,
    /// The sandbox of the agent; `None` if orch does not confine it. The fingerprint does not contain its minimum
    /// level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
}

impl CliAgent {
    /// Whether it has tools, its own or those of MCP servers.
    pub fn has_tools(&self) -> bool {
        !self.tools.is_empty() || !self.mcp.is_empty()
    }

    /// The model reference for reports and events, such as `claude/sonnet` or `command/review.py`.
    pub fn model_ref(&self) -> ModelRef {
        let file_name = |path: &String| path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
        let name = match self.kind {
            CliAgentKind::Claude | CliAgentKind::Codex => self.model.clone(),
            CliAgentKind::Acp | CliAgentKind::Command => self.argv.first().map(file_name),
        };
        ModelRef::new(self.kind.as_str(), name.unwrap_or_else(|| "default".to_owned()))
    }

    /// The model whose list price applies to its tokens, if it does not report costs.
    pub fn price_model(&self) -> Option<ModelRef> {
        match self.kind {
            CliAgentKind::Codex => self.model.as_ref().map(|model| ModelRef::new("openai", model.clone())),
            CliAgentKind::Claude | CliAgentKind::Acp | CliAgentKind::Command => None,
        }
    }

    /// Whether it reports the cost of every turn.
    pub fn always_reports_cost(&self) -> bool {
        match self.kind {
            CliAgentKind::Claude => true,
            // Some ACP agents report costs, but not all.
            CliAgentKind::Codex | CliAgentKind::Acp | CliAgentKind::Command => false,
        }
    }
}

/// The declared maximum usage of one turn of a CLI agent. If the turn does not report its tokens or its cost, orch
/// counts this amount instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnEstimate {
    /// The maximum number of tokens, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 50_000)]
    pub tokens: Option<u64>,
    /// The maximum cost in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 0.25)]
    pub usd: Option<f64>,
}

/// One turn of a CLI agent, from the prompt to the final message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentTurn {
    /// The CLI agent.
    pub program: CliAgent,
    /// The request, with the conversation so far.
    pub request: ChatRequest,
    /// The maximum of its usage: the `estimate` of the agent.
    #[serde(default)]
    pub estimate: TurnEstimate,
    /// The id of the agent's session to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The total usage that the session had reported before this turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_usage: Option<Usage>,
    /// The time limit in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// When the step's deadline expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The prefix of a line in [`AgentActivity::denied`] for a command whose output shows that a sandbox refused a write.
pub const SANDBOX_REFUSAL_PREFIX: &str = "to write outside of its sandbox";

/// The reply of a CLI agent, with what the agent did besides replying.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnReply {
    /// The reply.
    pub reply: ChatReply,
    /// What the agent did besides replying.
    pub activity: AgentActivity,
}
