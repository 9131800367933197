//! The keys of `agents:` for tools, and for the programs of CLI agents.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::cli_agent::{CliAgent, CliAgentKind};
use super::mcp::McpGrant;
use super::pipeline::Agent;
use super::step::Access;
use super::tool::{BuiltinTool, ToolGrant};

/// The maximum length of a reply in tokens, if an agent does not set it.
pub const DEFAULT_MAX_OUTPUT_TOKENS: u32 = 4096;

/// The maximum number of turns of a model with tools, if an agent does not set it.
pub const DEFAULT_MAX_TURNS: u32 = 40;

/// A CLI agent that orch supports by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CliProgram {
    /// Claude Code, the program `claude`.
    Claude,
    /// Codex, the program `codex`.
    Codex,
}

/// A CLI agent that speaks the Agent Client Protocol on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acp {
    /// The program and its arguments.
    #[schemars(length(min = 1))]
    #[schemars(example = json!(["gemini", "--acp"]))]
    pub command: Vec<String>,
}

/// What orch does before a conversation with tools exceeds the context window of its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compaction {
    /// Leaves out old tool results, the oldest first.
    #[default]
    Elide,
    /// Lets the step fail.
    Fail,
}

/// Whether a model must call a tool before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The first reply of a conversation must call a tool.
    Required,
}

/// The tools that an agent may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Tools {
    /// `none`: the agent only replies.
    #[default]
    None,
    /// The listed tools: grants of a model, or the CLI agent's own names for its tools.
    Names(Vec<String>),
}

impl Tools {
    /// Whether the value is `none`.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The names of the tools; empty for `none`.
    pub fn names(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Names(names) => names,
        }
    }
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "none" => Ok(Self::None),
            Value::Array(list) => {
                let names = serde_json::from_value(Value::Array(list));
                names.map(Self::Names).map_err(|_| D::Error::custom("expected a list of names"))
            }
            _ => Err(D::Error::custom("expected `none` or a list of names")),
        }
    }
}

impl JsonSchema for Tools {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tools".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "`none`, or a list of tool names.",
            "pattern": TOOLS_PATTERN,
            "items": { "type": "string", "minLength": 1, "maxLength": MAX_TOOL_CHARS },
            "maxItems": MAX_TOOLS
        })
    }
}

/// The maximum number of entries of `tools`.
const MAX_TOOLS: usize = 256;

/// The maximum length of an entry of `tools`, in characters.
const MAX_TOOL_CHARS: usize = 4096;

/// The pattern of the only string that `tools` accepts in place of a list.
pub const TOOLS_PATTERN: &str = "^none$";

/// The keys that make an agent a CLI agent.
pub const CLI_AGENT_KIND_KEYS: &[&str] = &["cli", "acp", "command"];

/// The keys that only agents with a model support.
pub const MODEL_AGENT_KEYS: &[&str] = &[
    "temperature",
    "max_output_tokens",
    "reasoning",
    "top_p",
    "seed",
    "stop",
    "provider_options",
    "tool_choice",
    "approve_tools",
    "compaction",
    "pipelines",
];

/// The keys that only CLI agents support.
pub const CLI_AGENT_KEYS: &[&str] = &["estimate"];

impl Agent {
    /// The maximum length of a reply in tokens; `default` is `defaults.max_output_tokens` of `orch.yaml`.
    pub fn reply_limit(&self, default: Option<u32>) -> u32 {
        self.max_output_tokens.or(default).unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS)
    }

    /// The keys of the options for requests to a model that the agent sets.
    pub fn model_option_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("temperature", self.temperature.is_some()),
            ("max_output_tokens", self.max_output_tokens.is_some()),
            ("reasoning", self.reasoning.is_some()),
            ("top_p", self.top_p.is_some()),
            ("seed", self.seed.is_some()),
            ("stop", !self.stop.is_empty()),
            ("provider_options", !self.provider_options.is_empty()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// The keys of the tools of a model that the agent sets. They do not apply to a CLI agent, which has tools of its
    /// own.
    pub fn model_tool_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("tools", !self.tools.names().is_empty()),
            ("tool_choice", self.tool_choice.is_some()),
            ("max_turns", self.max_turns.is_some()),
            ("approve_tools", !self.approve_tools.is_empty()),
            ("compaction", self.compaction.is_some()),
            ("pipelines", !self.pipelines.is_empty()),
            ("env", !self.env.is_empty()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// The keys that the agent sets and that only apply to its own program. The `model` of a CLI agent is one of them:
    /// it is a name that only this program knows.
    pub fn cli_option_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("model", self.cli_kind().is_some() && self.model != "auto"),
            ("tools", !self.tools.names().is_empty()),
            ("max_turns", self.max_turns.is_some()),
            ("estimate", self.estimate.is_some()),
            ("env", !self.env.is_empty()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// The kind of the CLI agent; `None` for a model.
    pub fn cli_kind(&self) -> Option<CliAgentKind> {
        match (&self.cli, &self.acp, &self.command) {
            (Some(CliProgram::Claude), _, _) => Some(CliAgentKind::Claude),
            (Some(CliProgram::Codex), _, _) => Some(CliAgentKind::Codex),
            (None, Some(_), _) => Some(CliAgentKind::Acp),
            (None, None, Some(_)) => Some(CliAgentKind::Command),
            (None, None, None) => None,
        }
    }

    /// The CLI agent for a step with this access; `None` for a model. The caller adds the sandbox, which also depends
    /// on `orch.yaml`.
    pub fn cli_agent(&self, access: Access) -> Option<CliAgent> {
        let acp = self.acp.as_ref().map(|acp| &acp.command);
        Some(CliAgent {
            kind: self.cli_kind()?,
            argv: acp.or(self.command.as_ref()).filter(|_| self.cli.is_none()).cloned().unwrap_or_default(),
            model: (self.model != "auto").then(|| self.model.clone()),
            tools: self.tools.names().to_vec(),
            mcp: Vec::new(),
            max_turns: self.max_turns,
            env: self.env.clone(),
            access,
            sandbox: None,
        })
    }

    /// The tools that a model may use; empty for a CLI agent. Omits entries that name no tool. Does not check the
    /// patterns: `check` reports those that are not valid.
    pub fn tool_grants(&self) -> Vec<ToolGrant> {
        if self.cli_kind().is_some() {
            return Vec::new();
        }
        self.tools.names().iter().filter_map(|text| ToolGrant::parse_unchecked(text).ok()).collect()
    }

    /// The tools of MCP servers that the agent may use, a model or a CLI agent. Omits invalid entries, which `check`
    /// reports.
    pub fn mcp_grants(&self) -> Vec<McpGrant> {
        self.tools.names().iter().filter_map(|text| McpGrant::parse(text).ok().flatten()).collect()
    }

    /// The built-in tools of a model whose calls the user approves.
    pub fn approved_tools(&self) -> Vec<BuiltinTool> {
        self.approve_tools.iter().filter_map(|name| BuiltinTool::from_name(name)).collect()
    }

    /// Whether the agent is a model that may call tools: those of orch, those of MCP servers, or pipelines.
    pub fn has_model_tools(&self) -> bool {
        let is_model = self.cli_kind().is_none();
        is_model && (!self.tools.names().is_empty() || !self.pipelines.is_empty())
    }

    /// The workspace access of a step with this agent, unless the step sets `access`.
    pub fn default_access(&self) -> Access {
        self.pipeline_access.map_or(self.own_access(), |access| access.max(self.own_access()))
    }

    /// The workspace access that the agent itself needs, without the pipelines that it may call.
    pub fn own_access(&self) -> Access {
        if self.cli_kind().is_some() {
            return if self.tools.names().is_empty() { Access::None } else { Access::Write };
        }
        let builtin_access = self.tool_grants().iter().map(|grant| grant.tool.access()).max();
        builtin_access.max(self.mcp_access).unwrap_or(Access::None)
    }
}

/// Agents by name, as a pipeline declares them.
pub type Agents = IndexMap<String, Agent>;
