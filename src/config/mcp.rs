//! The key `mcp` of `orch.yaml`: the MCP servers whose tools agents and steps may call.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::model::pipeline::PASSED_VARIABLE_PATTERN;
use crate::model::step::Access;
use crate::model::{McpAccess, McpHeader, McpServerSpec, McpTransport, Sandbox, SandboxSpec};

/// An MCP server: a program that orch starts (`command`), or a server that it reaches over HTTP (`url`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpServerSettings {
    /// The program to start and its arguments. It runs in the workspace, in a sandbox, and speaks MCP on its standard
    /// input and output. `{{ project.root }}` is the project's folder.
    #[schemars(length(min = 1))]
    #[schemars(example = json!(["github-mcp-server", "stdio"]))]
    pub command: Option<Vec<String>>,
    /// The address of a running server that speaks MCP over HTTP.
    #[schemars(length(min = 1))]
    #[schemars(example = &"https://docs.example/mcp")]
    pub url: Option<String>,
    /// The headers of each request to `url`. A value is a text, or `{ env: VARIABLE }` for a secret.
    #[schemars(example = json!({"Authorization": {"env": "DOCS_AUTH"}}))]
    pub headers: IndexMap<String, McpHeader>,
    /// Whether orch may send the secrets in `headers` over plain HTTP to another machine, so that others on the network
    /// can read them.
    #[schemars(example = true)]
    pub insecure: bool,
    /// Names of environment variables that orch passes to the program in addition to the basic ones, such as `PATH`.
    #[schemars(example = json!(["GITHUB_TOKEN"]))]
    #[schemars(inner(length(min = 1), regex(pattern = PASSED_VARIABLE_PATTERN)))]
    pub env: Vec<String>,
    /// The sandbox of the program. By default, it can change no file and connect to no host. It does not inherit
    /// `write` and `network` of the `sandbox` of `orch.yaml`.
    #[schemars(example = json!({"network": ["api.github.com"]}))]
    pub sandbox: Option<Sandbox>,
    /// The tools that agents and steps may call. Default: all tools of the server.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    #[schemars(example = json!(["list_issues", "get_issue"]))]
    pub tools: Option<Vec<String>>,
    /// Whether calls of the tools may change anything, inside or outside of the workspace. Calls that only `read` may
    /// run in parallel, and again after a crash. Default: `write`.
    #[schemars(example = &"read")]
    pub access: Option<McpAccess>,
}

impl McpServerSettings {
    /// The server with every default filled in; `None` if the settings have neither `command` nor `url`. `defaults` is
    /// the `sandbox` of `orch.yaml`.
    pub fn spec(&self, name: &str, defaults: &Sandbox) -> Option<McpServerSpec> {
        let access = self.access.unwrap_or_default();
        let transport = match (&self.command, &self.url) {
            (Some(command), _) => McpTransport::Stdio {
                command: command.clone(),
                env: self.env.clone(),
                sandbox: self.sandbox_spec(access, defaults),
            },
            (None, Some(url)) => McpTransport::Http { url: url.clone(), headers: self.headers.clone() },
            (None, None) => return None,
        };
        Some(McpServerSpec { name: name.to_owned(), transport, tools: self.tools.clone(), access })
    }

    /// How the server uses the workspace.
    pub(super) fn workspace_access(&self, defaults: &Sandbox) -> Access {
        self.spec("", defaults).map_or(Access::None, |spec| spec.workspace_access())
    }

    /// The sandbox of the program. A server gets only the files and hosts that its own settings list.
    fn sandbox_spec(&self, access: McpAccess, defaults: &Sandbox) -> Option<SandboxSpec> {
        let own = self.sandbox.clone().unwrap_or_default();
        let own = Sandbox {
            write: Some(own.write.unwrap_or_default()),
            network: Some(own.network.unwrap_or_default()),
            ..own
        };
        let access = match access {
            McpAccess::Read => Access::Read,
            McpAccess::Write => Access::Write,
        };
        SandboxSpec::resolve(&own, defaults, access)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Settings;
    use crate::model::SandboxNetwork;

    fn server(settings: Value) -> McpServerSettings {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn a_server_does_not_inherit_files_and_hosts_from_the_project() {
        let defaults: Sandbox = serde_json::from_value(json!({
            "write": [".", "~/.cache"], "network": "all", "deny_read": ["~/notes"], "min": "basic",
        }))
        .unwrap();
        let spec = server(json!({ "command": ["x"] })).spec("x", &defaults).unwrap();
        let McpTransport::Stdio { sandbox: Some(sandbox), .. } = &spec.transport else { panic!("{spec:?}") };
        assert_eq!((sandbox.write.len(), &sandbox.network), (0, &SandboxNetwork::None));
        assert_eq!((sandbox.deny_read.as_slice(), sandbox.min), (&["~/notes".to_owned()][..], defaults.min.unwrap()));
        assert_eq!(spec.workspace_access(), Access::Read);
        let writing = server(json!({ "command": ["x"], "sandbox": { "write": ["."] } }));
        assert_eq!(writing.workspace_access(&defaults), Access::Write);
        let disabled = server(json!({ "command": ["x"], "sandbox": { "enabled": false } }));
        assert_eq!(disabled.workspace_access(&defaults), Access::Write);
    }

    #[test]
    fn a_header_is_a_text_or_names_a_variable() {
        let settings =
            json!({ "url": "https://a.example", "headers": { "x-a": "b", "Authorization": { "env": "A" } } });
        let spec = server(settings).spec("docs", &Sandbox::default()).unwrap();
        assert_eq!((spec.variables(), spec.workspace_access()), (vec!["A"], Access::None));
        assert_eq!(server(json!({})).spec("docs", &Sandbox::default()), None);
        let two = json!({ "url": "u", "headers": { "a": { "env": "A", "b": 1 } } });
        assert!(serde_json::from_value::<McpServerSettings>(two).is_err());
    }
    #[test]
    fn variables_that_orch_sends_as_credentials_are_secret() {
        let settings: Settings = serde_json::from_value(json!({
            "secrets": ["LOGIN"],
            "mcp": {
                "docs": { "url": "https://a.example", "headers": { "x-team": "search", "x-who": { "env": "WHO" } } },
                "more": { "url": "https://b.example", "headers": { "x-who": { "env": "WHO" } } },
                "files": { "command": ["x"], "env": ["LOG_LEVEL"] },
            },
            "tracker": {
                "convex": { "url": "https://c.example", "auth": { "env": "DEPLOY" } },
                "webhook": { "url": "https://d.example", "secret": { "env": "SIGN" } },
            },
        }))
        .unwrap();
        assert_eq!(settings.secret_variables(), ["LOGIN", "WHO", "DEPLOY", "SIGN"]);
    }
}
