//! MCP servers: how orch reaches a server, what agents may call, and what a server has listed.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::canonical::canonical_json;
use super::failure::FailureClass;
use super::id::Digest;
use super::pipeline::PASSED_VARIABLE_PATTERN;
use super::sandbox_spec::{SandboxSpec, is_outside_workspace};
use super::step::Access;
use super::tool::ToolOutput;

/// The pattern of the name of an MCP server. The name is the first part of the names of its tools.
pub const MCP_SERVER_PATTERN: &str = "^[a-z][a-z0-9_-]{0,31}$";

/// The maximum length of the name of an MCP server.
const MAX_SERVER_NAME_BYTES: usize = 32;

/// The maximum length of a summary of a call, in characters.
const MAX_SUMMARY_CHARS: usize = 200;

/// What a grant contains after the name of the server if it allows all tools of the server.
const ALL_TOOLS: &str = "*";

/// Whether a text is the name of an MCP server.
pub fn is_mcp_server_name(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    text.len() <= MAX_SERVER_NAME_BYTES
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(is_name_byte)
}

/// Whether the calls of a server's tools may change anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpAccess {
    /// The calls only read. They may run in parallel, and again after a crash.
    Read,
    /// The calls may change something. orch never repeats a call by itself.
    #[default]
    Write,
}

/// The value of a header that orch sends to an MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpHeader {
    /// This text.
    Text(String),
    /// The value of this environment variable.
    Variable(String),
}

/// The mapping form of [`McpHeader`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct McpHeaderMapping {
    /// The environment variable that holds the value.
    #[schemars(example = &"DOCS_AUTH", regex(pattern = PASSED_VARIABLE_PATTERN))]
    env: String,
}

impl Serialize for McpHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Variable(name) => json!({ "env": name }).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for McpHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Text(text)),
            value => {
                let McpHeaderMapping { env } = serde_json::from_value(value).map_err(D::Error::custom)?;
                Ok(Self::Variable(env))
            }
        }
    }
}

impl JsonSchema for McpHeader {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "McpHeader".into()
    }

    /// A string or a mapping. The schema needs no `anyOf`, because `properties` apply only to a mapping.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = McpHeaderMapping::json_schema(generator);
        schema.insert("type".to_owned(), json!(["string", "object"]));
        let description = "The value of the header, or the variable that holds it.";
        schema.insert("description".to_owned(), json!(description));
        schema
    }
}

/// An MCP server with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpServerSpec {
    /// The name in `orch.yaml`.
    pub name: String,
    /// How orch reaches the server.
    pub transport: McpTransport,
    /// The tools that agents and steps may call; `None` for all tools of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Whether the calls of its tools may change anything.
    pub access: McpAccess,
}

/// How orch reaches an MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpTransport {
    /// orch starts the server and exchanges messages over its standard input and output.
    Stdio {
        /// The program and its arguments.
        command: Vec<String>,
        /// Names of variables that the server receives from the environment of orch, beside the basic ones.
        env: Vec<String>,
        /// The sandbox of the server; `None` if it is disabled.
        sandbox: Option<SandboxSpec>,
    },
    /// The server runs already. orch sends it requests over HTTP.
    Http {
        /// The address.
        url: String,
        /// The headers of each request.
        headers: IndexMap<String, McpHeader>,
    },
}

impl McpServerSpec {
    /// Whether agents and steps may call a tool of the server.
    pub fn allows(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
    }

    /// How the server uses the workspace.
    pub fn workspace_access(&self) -> Access {
        let can_write = match &self.transport {
            McpTransport::Http { .. } => return Access::None,
            McpTransport::Stdio { sandbox: None, .. } => true,
            McpTransport::Stdio { sandbox: Some(sandbox), .. } => {
                sandbox.write.iter().any(|path| !is_outside_workspace(path))
            }
        };
        if can_write && self.access == McpAccess::Write { Access::Write } else { Access::Read }
    }

    /// The kind of the calls of its tools.
    pub fn call_kind(&self) -> McpCallKind {
        match (self.workspace_access(), self.access) {
            (Access::None, McpAccess::Read) => McpCallKind::RemoteRead,
            (Access::None, McpAccess::Write) => McpCallKind::RemoteWrite,
            (Access::Read | Access::Write, McpAccess::Read) => McpCallKind::LocalRead,
            (Access::Read, McpAccess::Write) => McpCallKind::LocalWrite,
            (Access::Write, McpAccess::Write) => McpCallKind::WorkspaceWrite,
        }
    }

    /// What determines the results of its tools, for the fingerprint of a step. The list of allowed tools does not: the
    /// grants of the step contain the tools that it may call.
    pub fn fingerprint_value(&self) -> Value {
        let transport = match &self.transport {
            McpTransport::Stdio { command, env, sandbox } => McpTransport::Stdio {
                command: command.clone(),
                env: env.clone(),
                sandbox: sandbox.as_ref().map(SandboxSpec::without_level),
            },
            transport @ McpTransport::Http { .. } => transport.clone(),
        };
        json!({ "name": self.name, "transport": transport, "access": self.access })
    }

    /// The names of the environment variables whose values the server receives.
    pub fn variables(&self) -> Vec<&str> {
        match &self.transport {
            McpTransport::Stdio { env, .. } => env.iter().map(String::as_str).collect(),
            McpTransport::Http { headers, .. } => {
                let variables = headers.values().filter_map(|header| match header {
                    McpHeader::Variable(name) => Some(name.as_str()),
                    McpHeader::Text(_) => None,
                });
                variables.collect()
            }
        }
    }
}

/// The kind of a call of an MCP tool. It follows from the settings of the server, and never from what the server says
/// about its tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpCallKind {
    /// The server is reached over HTTP, and its calls only read.
    RemoteRead,
    /// The server is reached over HTTP, and its calls may change something.
    RemoteWrite,
    /// orch started the server, and its calls only read.
    LocalRead,
    /// orch started the server, and its calls may change something outside of the workspace.
    LocalWrite,
    /// orch started the server, and its calls may change files of the workspace.
    WorkspaceWrite,
}

impl McpCallKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::RemoteRead, Self::RemoteWrite, Self::LocalRead, Self::LocalWrite, Self::WorkspaceWrite];

    /// Whether a call changes nothing, so that it may run beside others and again after a crash.
    pub fn only_reads(self) -> bool {
        match self {
            Self::RemoteRead | Self::LocalRead => true,
            Self::RemoteWrite | Self::LocalWrite | Self::WorkspaceWrite => false,
        }
    }
}

/// Whether a call of an MCP tool that failed with this class got no usable answer, so that nobody knows whether the
/// server performed it. A model receives such a failure as the result of the call.
pub fn is_unanswered_call(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::Timeout
            | FailureClass::ProviderUnavailable
            | FailureClass::AgentError
            | FailureClass::OutputTooLarge
    )
}

/// The name of a tool of an MCP server: `github.list_issues`. The name of the server has no dot, and that of the tool
/// may have some.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct McpToolName {
    /// The server, a key of `mcp` in `orch.yaml`.
    pub server: String,
    /// The tool, by the server's name for it.
    pub tool: String,
}

impl McpToolName {
    /// Parses `SERVER.TOOL`; `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, tool) = text.split_once('.')?;
        (is_mcp_server_name(server) && !tool.is_empty())
            .then(|| Self { server: server.to_owned(), tool: tool.to_owned() })
    }
}

impl fmt::Display for McpToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.tool)
    }
}

impl Serialize for McpToolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for McpToolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected `SERVER.TOOL`"))
    }
}

impl JsonSchema for McpToolName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "McpToolName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A tool of an MCP server, as `SERVER.TOOL`."
        })
    }
}

/// What an agent may call: one tool of an MCP server (`github.list_issues`), or all tools that `orch.yaml` allows
/// (`github.*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct McpGrant {
    /// The server.
    pub server: String,
    /// The tool; `None` for all tools of the server that `orch.yaml` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

impl McpGrant {
    /// Parses an entry of `tools`. Returns `None` if the entry does not name a tool of an MCP server.
    ///
    /// # Errors
    /// The entry has a pattern, which the tools of MCP servers do not have, or no tool. The error is the reason.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let name = text.split_once('(').map_or(text, |(name, _)| name);
        let Some((server, tool)) = name.split_once('.').filter(|(server, _)| is_mcp_server_name(server)) else {
            return Ok(None);
        };
        if name.len() < text.len() {
            return Err(format!("`{text}` has a pattern, and tools of MCP servers have none"));
        }
        if tool.is_empty() {
            return Err(format!("`{text}` names no tool: write `{server}.TOOL`, or `{server}.*` for all tools"));
        }
        Ok(Some(Self { server: server.to_owned(), tool: (tool != ALL_TOOLS).then(|| tool.to_owned()) }))
    }

    /// Whether the grant allows everything that `other` allows.
    pub fn includes(&self, other: &Self) -> bool {
        self.server == other.server && (self.tool.is_none() || self.tool == other.tool)
    }

    /// Whether the grant allows a tool, if `orch.yaml` allows it too.
    pub fn allows(&self, name: &McpToolName) -> bool {
        self.server == name.server && self.tool.as_ref().is_none_or(|tool| *tool == name.tool)
    }
}

impl fmt::Display for McpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.tool.as_deref().unwrap_or(ALL_TOOLS))
    }
}

/// A tool as its MCP server describes it. The texts come from the server, so they are data, and not instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct McpToolDefinition {
    /// The server's name for the tool.
    pub name: String,
    /// The server's description of the tool, shortened if it is long.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The JSON Schema of the arguments.
    pub input_schema: Arc<Value>,
    /// The JSON Schema of the structured result, if the server declares one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Arc<Value>>,
}

/// The tools that an MCP server listed. A run uses this list until a step has to call the server and the server lists
/// other tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct McpListing {
    /// The server, a key of `mcp` in `orch.yaml`.
    pub server: String,
    /// The version of the protocol that orch and the server use, such as `2025-11-25`.
    pub protocol_version: String,
    /// The tools that agents and steps may call, sorted by name.
    pub tools: Vec<McpToolDefinition>,
}

impl McpListing {
    /// The tool with this name.
    pub fn find(&self, tool: &str) -> Option<&McpToolDefinition> {
        self.tools.iter().find(|definition| definition.name == tool)
    }

    /// The digest of the definitions. It does not depend on the version of the protocol.
    pub fn digest(&self) -> Digest {
        Digest::compute(canonical_json(&json!(self.tools)).as_bytes())
    }
}

/// An MCP server listed its tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolsListed {
    /// The tools.
    pub listing: Arc<McpListing>,
    /// The tools of the server that orch can't offer, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
    pub reserved: Vec<String>,
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
        let text = format!("{} {}", self.tool_name(), self.arguments);
        let mut summary: String = text.chars().take(MAX_SUMMARY_CHARS).collect();
        if summary.len() < text.len() {
            summary.push('…');
        }
        summary
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sandbox;

    fn stdio(access: McpAccess, sandbox: Option<Value>) -> McpServerSpec {
        let sandbox: Option<Sandbox> = sandbox.map(|sandbox| serde_json::from_value(sandbox).unwrap());
        let workspace = if access == McpAccess::Write { Access::Write } else { Access::Read };
        let resolve = |own: Sandbox| SandboxSpec::resolve(&own, &Sandbox::default(), workspace);
        let sandbox = sandbox.and_then(resolve);
        McpServerSpec {
            name: "files".to_owned(),
            transport: McpTransport::Stdio { command: vec!["server".to_owned()], env: Vec::new(), sandbox },
            tools: Some(vec!["read_file".to_owned()]),
            access,
        }
    }

    #[test]
    fn the_kind_of_a_call_follows_from_the_settings_of_its_server() {
        let url = "https://docs.example/mcp".to_owned();
        let http = |access| McpServerSpec {
            transport: McpTransport::Http { url: url.clone(), headers: IndexMap::new() },
            ..stdio(access, None)
        };
        for (server, kind) in [
            (http(McpAccess::Read), McpCallKind::RemoteRead),
            (http(McpAccess::Write), McpCallKind::RemoteWrite),
            (stdio(McpAccess::Read, Some(json!({ "write": ["."] }))), McpCallKind::LocalRead),
            (stdio(McpAccess::Write, Some(json!({ "write": ["~/.cache/x"] }))), McpCallKind::LocalWrite),
            (stdio(McpAccess::Write, Some(json!({ "write": ["src"] }))), McpCallKind::WorkspaceWrite),
            (stdio(McpAccess::Write, None), McpCallKind::WorkspaceWrite),
            (stdio(McpAccess::Read, None), McpCallKind::LocalRead),
        ] {
            assert_eq!(server.call_kind(), kind, "{server:?}");
        }
    }

    #[test]
    fn a_server_name_begins_with_a_letter_and_has_no_dot() {
        for name in ["github", "docs-2", "a_b"] {
            assert!(is_mcp_server_name(name), "{name}");
        }
        for name in ["", "2x", "Git", "a.b", "-a", "a b", &"x".repeat(33)] {
            assert!(!is_mcp_server_name(name), "{name}");
        }
    }

    #[test]
    fn the_name_of_a_tool_may_have_dots() {
        let name = McpToolName::parse("github.repo.list").unwrap();
        assert_eq!((name.server.as_str(), name.tool.as_str()), ("github", "repo.list"));
        assert_eq!(serde_json::to_value(&name).unwrap(), json!("github.repo.list"));
        assert_eq!(serde_json::from_value::<McpToolName>(json!("github.repo.list")).unwrap(), name);
        assert!(serde_json::from_value::<McpToolName>(json!("github")).is_err());
    }

    #[test]
    fn a_grant_is_one_tool_or_all_tools_of_a_server() {
        let grant = |text: &str| McpGrant::parse(text).unwrap().unwrap();
        for text in ["github.list_issues", "github.*", "github.repo.list"] {
            assert_eq!(grant(text).to_string(), text);
        }
        let name = McpToolName::parse("github.list_issues").unwrap();
        assert!(grant("github.*").allows(&name) && grant("github.list_issues").allows(&name));
        assert!(!grant("docs.*").allows(&name) && !grant("github.get_issue").allows(&name));
        assert!(grant("github.*").includes(&grant("github.x")) && !grant("github.x").includes(&grant("github.*")));
        for text in ["read", "edit(src/a.rs)", "fetch(docs.rs)", "shell(cat a.txt)", "Bash(git diff:*)"] {
            assert_eq!(McpGrant::parse(text), Ok(None), "{text}");
        }
        for (text, expected) in [("github.", "names no tool"), ("github.list(x)", "have none")] {
            assert!(McpGrant::parse(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn a_summary_names_the_tool_and_is_short() {
        let invocation = McpInvocation {
            server: stdio(McpAccess::Read, None),
            tool: "read_file".to_owned(),
            arguments: json!({ "path": "x".repeat(500) }),
            answers: None,
            reserved: Vec::new(),
            timeout_ms: 0,
        };
        let summary = invocation.summary();
        assert!(summary.starts_with("files.read_file {\"path\":\"xxx") && summary.ends_with('…'), "{summary}");
        assert_eq!(summary.chars().count(), MAX_SUMMARY_CHARS + 1);
    }

    #[test]
    fn only_changed_definitions_change_the_digest_of_a_listing() {
        let listing = |version: &str, description: &str| McpListing {
            server: "files".to_owned(),
            protocol_version: version.to_owned(),
            tools: vec![McpToolDefinition {
                name: "read".to_owned(),
                description: description.to_owned(),
                input_schema: Arc::new(json!({ "type": "object" })),
                output_schema: None,
            }],
        };
        assert_eq!(listing("2025-11-25", "a").digest(), listing("2026-07-28", "a").digest());
        assert_ne!(listing("2025-11-25", "a").digest(), listing("2025-11-25", "b").digest());
    }
}
