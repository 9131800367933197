//! The MCP servers of `orch.yaml` for CLI agents, which start and call the servers themselves.
//!
//! A server runs inside the sandbox of its agent. Values of variables are not part of arguments: the agent passes the
//! variables on by their names, and the Agent Client Protocol, which has no such names, sends the values over a pipe.

use serde_json::{Map, Value, json};

use crate::model::http_url::host_with_port;
use crate::model::{
    AllowedHost, Failure, FailureClass, McpHeader, McpServerSpec, McpTransport, SandboxNetwork, SandboxSpec,
};

use super::program::TurnJob;

/// The beginning of the names of MCP tools in Claude Code.
const CLAUDE_PREFIX: &str = "mcp__";
/// What separates the server from the tool in names of MCP tools.
const SEPARATOR: &str = "__";
/// How long Codex waits for a server to start, in seconds.
const CODEX_START_SECONDS: u64 = 60;

impl TurnJob<'_> {
    /// The MCP servers of the agent.
    pub(super) fn servers(&self) -> &[McpServerSpec] {
        &self.turn.program.mcp
    }

    /// The MCP servers of the agent, with the project's folder in their commands.
    pub(super) fn servers_in_project(&self) -> Vec<McpServerSpec> {
        match &self.agent_env.sandbox.project_root {
            Some(root) => self.servers().iter().map(|server| server.in_project(root)).collect(),
            None => self.servers().to_vec(),
        }
    }

    /// The names of the variables that the agent gets for its own work and for its MCP servers.
    pub(super) fn variables_with_servers<'a>(&'a self, own: &[&'a str]) -> Vec<&'a str> {
        own.iter().copied().chain(self.servers().iter().flat_map(McpServerSpec::variables)).collect()
    }

    /// Checks that every variable of a header has a value.
    pub(super) fn check_server_headers(&self) -> Result<(), Failure> {
        for server in self.servers() {
            let McpTransport::Http { .. } = server.transport else { continue };
            let is_missing = |name: &&str| (self.agent_env.variables)(name).is_none();
            if let Some(name) = server.variables().into_iter().find(is_missing) {
                let message = format!("{name} is not set, and the MCP server `{}` needs it", server.name);
                return Err(Failure::new(FailureClass::Auth, message).with_hint(format!("set {name}")));
            }
        }
        Ok(())
    }

    /// The value of a variable for a server; `None` if it is not set.
    pub(super) fn server_variable(&self, name: &str) -> Option<String> {
        (self.agent_env.variables)(name)
    }
}

/// The hosts that the servers need: those of their addresses and those of their sandboxes.
pub(super) fn server_hosts(servers: &[McpServerSpec]) -> Vec<AllowedHost> {
    let hosts = servers.iter().flat_map(|server| match &server.transport {
        McpTransport::Http { url, .. } => {
            host_with_port(url).map(|host| AllowedHost { host, private: true }).into_iter().collect::<Vec<_>>()
        }
        McpTransport::Stdio { sandbox: Some(SandboxSpec { network: SandboxNetwork::Hosts(hosts), .. }), .. } => {
            hosts.clone()
        }
        McpTransport::Stdio { .. } => Vec::new(),
    });
    hosts.collect()
}

/// The servers as Claude Code reads them from a file of `--mcp-config`.
///
/// # Errors
/// A text contains `${`, which Claude Code would replace.
pub(super) fn claude_config(job: &TurnJob<'_>) -> Result<Value, Failure> {
    let mut servers = Map::new();
    for server in &job.servers_in_project() {
        let config = match &server.transport {
            McpTransport::Stdio { command, env, .. } => {
                check_texts(&server.name, command)?;
                let set = env.iter().filter(|name| job.server_variable(name).is_some());
                let variables: Map<String, Value> =
                    set.map(|name| (name.clone(), format!("${{{name}}}").into())).collect();
                let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, rest)| (p.as_str(), rest));
                json!({ "type": "stdio", "command": program, "args": arguments, "env": variables })
            }
            McpTransport::Http { url, headers } => {
                check_texts(&server.name, [url])?;
                let mut values = Map::new();
                for (name, value) in headers {
                    let value = match value {
                        McpHeader::Text(text) => {
                            check_texts(&server.name, [text])?;
                            text.clone()
                        }
                        McpHeader::Variable(variable) => format!("${{{variable}}}"),
                    };
                    values.insert(name.clone(), value.into());
                }
                json!({ "type": "http", "url": url, "headers": values })
            }
        };
        servers.insert(server.name.clone(), config);
    }
    Ok(json!({ "mcpServers": servers }))
}

fn check_texts<'a>(server: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<(), Failure> {
    match texts.into_iter().find(|text| text.contains("${")) {
        None => Ok(()),
        Some(text) => {
            let message =
                format!("Claude Code would replace `${{…}}` in `{text}` of the MCP server `{server}` by a variable");
            Err(Failure::new(FailureClass::BadRequest, message).with_hint("write it without `${`"))
        }
    }
}

/// The rules of `--allowedTools` for the tools of the servers.
pub(super) fn claude_rules(servers: &[McpServerSpec]) -> Vec<String> {
    let rules = servers.iter().flat_map(|server| {
        let prefix = format!("{CLAUDE_PREFIX}{}", server.name);
        match &server.tools {
            None => vec![prefix],
            Some(tools) => tools.iter().map(|tool| format!("{prefix}{SEPARATOR}{}", claude_name(tool))).collect(),
        }
    });
    rules.collect()
}

/// The name of a tool as Claude Code writes it.
fn claude_name(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().map(|c| if is_kept(c) { c } else { '_' }).collect()
}

/// The settings of Codex for the servers, each as the value of `-c`.
pub(super) fn codex_settings(servers: &[McpServerSpec]) -> Vec<String> {
    servers.iter().flat_map(codex_server_settings).collect()
}

fn codex_server_settings(server: &McpServerSpec) -> Vec<String> {
    let mut settings = Vec::new();
    // A JSON text or a list of JSON texts is also valid TOML.
    let mut set = |key: &str, value: String| settings.push(format!("mcp_servers.{}.{key}={value}", server.name));
    match &server.transport {
        McpTransport::Stdio { command, env, .. } => {
            let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, rest)| (p.as_str(), rest));
            set("command", json!(program).to_string());
            set("args", json!(arguments).to_string());
            set("env_vars", json!(env).to_string());
        }
        McpTransport::Http { url, headers } => {
            set("url", json!(url).to_string());
            let (mut texts, mut variables) = (Vec::new(), Vec::new());
            for (name, value) in headers {
                match value {
                    McpHeader::Text(text) => texts.push(format!("{}={}", json!(name), json!(text))),
                    McpHeader::Variable(variable) => variables.push(format!("{}={}", json!(name), json!(variable))),
                }
            }
            set("http_headers", format!("{{{}}}", texts.join(",")));
            set("env_http_headers", format!("{{{}}}", variables.join(",")));
        }
    }
    set("startup_timeout_sec", CODEX_START_SECONDS.to_string());
    set("required", "true".to_owned());
    // The user granted these tools in the pipeline, so Codex does not ask for each call.
    set("default_tools_approval_mode", json!("approve").to_string());
    if let Some(tools) = &server.tools {
        set("enabled_tools", json!(tools).to_string());
    }
    settings
}

/// Whether the name of a tool, as an agent reports it, is that of a tool of a server: `mcp__SERVER__TOOL`,
/// `SERVER__TOOL` or `SERVER.TOOL`.
pub(super) fn is_server_tool(servers: &[McpServerSpec], name: &str) -> bool {
    let name = name.strip_prefix(CLAUDE_PREFIX).unwrap_or(name);
    servers.iter().any(|server| {
        let rest = name.strip_prefix(server.name.as_str());
        let tool = rest.and_then(|rest| rest.strip_prefix(SEPARATOR).or_else(|| rest.strip_prefix('.')));
        tool.is_some_and(|tool| match &server.tools {
            None => !tool.is_empty(),
            Some(tools) => tools.iter().any(|allowed| allowed == tool || claude_name(allowed) == tool),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, transport: Value, tools: Option<&[&str]>) -> McpServerSpec {
        serde_json::from_value(json!({ "name": name, "transport": transport, "tools": tools, "access": "write" }))
            .unwrap()
    }

    fn servers() -> Vec<McpServerSpec> {
        let github = json!({ "stdio": { "command": ["github", "a b"], "env": ["TOKEN"], "sandbox": null } });
        let headers = json!({ "Authorization": { "env": "DOCS_AUTH" }, "x-team": "a\"b" });
        let docs = json!({ "http": { "url": "https://docs.example/mcp", "headers": headers } });
        vec![server("github", github, Some(&["list_issues", "a.b"])), server("docs", docs, None)]
    }

    #[test]
    fn claude_code_may_use_only_the_granted_tools() {
        assert_eq!(claude_rules(&servers()), ["mcp__github__list_issues", "mcp__github__a_b", "mcp__docs"]);
    }

    #[test]
    fn codex_gets_the_names_of_variables_and_not_their_values() {
        let settings = codex_settings(&servers());
        for setting in [
            "mcp_servers.github.command=\"github\"",
            "mcp_servers.github.args=[\"a b\"]",
            "mcp_servers.github.env_vars=[\"TOKEN\"]",
            "mcp_servers.github.enabled_tools=[\"list_issues\",\"a.b\"]",
            "mcp_servers.docs.url=\"https://docs.example/mcp\"",
            "mcp_servers.docs.http_headers={\"x-team\"=\"a\\\"b\"}",
            "mcp_servers.docs.env_http_headers={\"Authorization\"=\"DOCS_AUTH\"}",
        ] {
            assert!(settings.iter().any(|other| other == setting), "{setting}: {settings:?}");
        }
        assert!(!settings.iter().any(|setting| setting.starts_with("mcp_servers.docs.enabled_tools")));
    }

    #[test]
    fn only_granted_tools_of_servers_are_allowed_under_each_form_of_their_names() {
        let servers = servers();
        for name in ["mcp__github__list_issues", "github__a_b", "github.a.b", "mcp__docs__anything"] {
            assert!(is_server_tool(&servers, name), "{name}");
        }
        for name in ["list_issues", "mcp__github__delete", "github", "docs", "docs.", "githubx__a_b", "execute"] {
            assert!(!is_server_tool(&servers, name), "{name}");
        }
    }

    #[test]
    fn the_hosts_of_servers_are_those_of_their_addresses_and_sandboxes() {
        let hosts: Vec<String> = server_hosts(&servers()).into_iter().map(|host| host.host).collect();
        assert_eq!(hosts, ["docs.example:443"]);
    }
}
