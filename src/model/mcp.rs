//! MCP servers: how orch reaches a server, what agents may call, and what a server has listed.

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::canonical::canonical_json;
use super::id::Digest;
pub use super::mcp_name::{McpGrant, McpToolName};
use super::pipeline::PASSED_VARIABLE_PATTERN;
use super::sandbox_spec::{SandboxSpec, is_outside_workspace};
use super::step::Access;

/// The pattern of the name of an MCP server. The name is the first part of the names of its tools.
pub const MCP_SERVER_PATTERN: &str = "^[a-z][a-z0-9_-]{0,31}$";

/// The maximum length of the name of an MCP server.
const MAX_SERVER_NAME_BYTES: usize = 32;

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

impl McpHeader {
    /// The environment variable that holds the value; `None` for a text.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable(name) => Some(name.as_str()),
            Self::Text(_) => None,
        }
    }
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
        /// Names of variables that the server receives from the environment of orch, in addition to the basic ones,
        /// such as `PATH`.
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
        json!({ "name": self.name, "transport": self.transport.without_level(), "access": self.access })
    }

    /// The server for a CLI agent with these grants: with only the granted tools, and without the minimum level of its
    /// sandbox. `None` if no grant names the server.
    pub fn for_cli_agent(&self, grants: &[McpGrant]) -> Option<Self> {
        let granted: Vec<&McpGrant> = grants.iter().filter(|grant| grant.server == self.name).collect();
        if granted.is_empty() {
            return None;
        }
        let tools: Option<Vec<String>> = granted.iter().map(|grant| grant.tool.clone()).collect();
        let tools = tools.or_else(|| self.tools.clone());
        Some(Self { transport: self.transport.without_level(), tools, ..self.clone() })
    }

    /// The names of the environment variables whose values the server receives.
    pub fn variables(&self) -> Vec<&str> {
        match &self.transport {
            McpTransport::Stdio { env, .. } => env.iter().map(String::as_str).collect(),
            McpTransport::Http { .. } => self.header_variables(),
        }
    }

    /// The names of the environment variables whose values orch sends in headers. Their values are secrets.
    pub fn header_variables(&self) -> Vec<&str> {
        match &self.transport {
            McpTransport::Stdio { .. } => Vec::new(),
            McpTransport::Http { headers, .. } => headers.values().filter_map(McpHeader::variable).collect(),
        }
    }
}

impl McpTransport {
    /// The same transport without the minimum level of its sandbox.
    fn without_level(&self) -> Self {
        match self {
            Self::Stdio { command, env, sandbox } => Self::Stdio {
                command: command.clone(),
                env: env.clone(),
                sandbox: sandbox.as_ref().map(SandboxSpec::without_level),
            },
            Self::Http { .. } => self.clone(),
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
    fn a_cli_agent_gets_a_server_with_only_the_granted_tools() {
        let server = stdio(McpAccess::Write, None);
        let granted = |texts: &[&str]| {
            let grants: Vec<McpGrant> = texts.iter().filter_map(|text| McpGrant::parse(text).unwrap()).collect();
            server.for_cli_agent(&grants).map(|server| server.tools)
        };
        let names = |names: &[&str]| Some(Some(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(granted(&["other.*"]), None);
        assert_eq!(granted(&["files.b", "files.a.c", "other.x"]), names(&["b", "a.c"]));
        assert_eq!(granted(&["files.b", "files.*"]), names(&["read_file"]));
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
