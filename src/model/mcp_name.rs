//! The names of the tools of MCP servers, and the grants of agents for them.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mcp::is_mcp_server_name;

/// What a grant contains after the name of the server if it allows all tools of the server.
const ALL_TOOLS: &str = "*";

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
