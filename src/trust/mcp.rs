//! Lists the disclosures of the MCP servers in `orch.yaml`.

use crate::config::{McpServerSettings, Settings};
use crate::model::McpHeader;
use crate::provider::{is_unencrypted_address, normalized_address};

use super::disclosure::{Destination, Disclosure, TrustReason};
use super::sandbox::sandbox_disclosures;

/// Returns the disclosures of the MCP servers in settings. Each server needs an agreement: orch starts it or sends it
/// the arguments of calls, and models read its texts.
pub(super) fn mcp_disclosures(settings: &Settings) -> impl Iterator<Item = Disclosure> {
    settings.mcp.iter().flat_map(|(name, server)| match (&server.command, &server.url) {
        (Some(command), _) => stdio_disclosures(name, server, command),
        (None, Some(url)) => http_disclosures(name, server, url),
        (None, None) => Vec::new(),
    })
}

/// The program with its variables, and the keys of its sandbox that allow more than the default.
fn stdio_disclosures(name: &str, server: &McpServerSettings, command: &[String]) -> Vec<Disclosure> {
    let variables = if server.env.is_empty() {
        "no variables beside the basic ones".to_owned()
    } else {
        format!("the variables {}", server.env.join(", "))
    };
    let key = format!("mcp.{name}");
    let start = Disclosure {
        key: key.clone(),
        variable: None,
        destination: Destination::Programs(format!("starts the MCP server {command:?} with {variables}")),
        reasons: vec![TrustReason::McpServer],
        insecure: false,
        aws_region: None,
    };
    let sandbox = server.sandbox.iter().flat_map(|sandbox| sandbox_disclosures(&key, sandbox));
    std::iter::once(start).chain(sandbox).collect()
}

/// The address, with each secret that orch sends to it.
fn http_disclosures(name: &str, server: &McpServerSettings, url: &str) -> Vec<Disclosure> {
    let disclosure = |variable: Option<String>| {
        let mut reasons = vec![TrustReason::McpServer];
        if is_unencrypted_address(url) || (server.insecure && variable.is_some()) {
            reasons.push(TrustReason::Unencrypted);
        }
        let (key, destination) = (format!("mcp.{name}"), Destination::Url(normalized_address(url)));
        Disclosure { key, variable, destination, reasons, insecure: server.insecure, aws_region: None }
    };
    let secrets = server.headers.values().filter_map(|header| match header {
        McpHeader::Variable(variable) => Some(disclosure(Some(variable.clone()))),
        McpHeader::Text(_) => None,
    });
    let secrets: Vec<Disclosure> = secrets.collect();
    if secrets.is_empty() { vec![disclosure(None)] } else { secrets }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn disclosures(mcp: Value) -> Vec<Disclosure> {
        let settings: Settings = serde_json::from_value(json!({ "mcp": mcp })).unwrap();
        mcp_disclosures(&settings).collect()
    }

    fn texts(mcp: Value) -> Vec<String> {
        disclosures(mcp).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_server_needs_an_agreement() {
        let all = disclosures(json!({
            "files": { "command": ["mcp-server-filesystem", "."], "sandbox": { "write": ["."] } },
            "docs": { "url": "http://127.0.0.1:9/mcp" },
        }));
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(Disclosure::needs_trust));
    }

    #[test]
    fn a_program_is_shown_with_its_variables_and_its_looser_keys() {
        let server = json!({
            "command": ["github-mcp-server", "stdio"], "env": ["GITHUB_TOKEN"],
            "sandbox": { "network": ["api.github.com"] },
        });
        assert_eq!(
            texts(json!({ "github": server })),
            [
                "`mcp.github` starts the MCP server [\"github-mcp-server\", \"stdio\"] with the variables GITHUB_TOKEN",
                "`mcp.github.sandbox.network` lets confined programs reach api.github.com",
            ]
        );
    }

    #[test]
    fn each_secret_header_is_shown_and_refused_without_encryption() {
        let server =
            |url: &str| json!({ "url": url, "headers": { "Authorization": { "env": "DOCS_AUTH" }, "x": "y" } });
        assert_eq!(
            texts(json!({ "docs": server("https://docs.example/mcp") })),
            ["`mcp.docs` sends the secret in DOCS_AUTH and the arguments of tool calls to the MCP server \
                 https://docs.example/mcp"]
        );
        let unencrypted = disclosures(json!({ "docs": server("http://docs.example/mcp") }));
        assert!(unencrypted[0].is_refused(), "{unencrypted:?}");
        assert_eq!(
            texts(json!({ "docs": { "url": "https://docs.example/mcp" } })),
            ["`mcp.docs` sends the arguments of tool calls to the MCP server https://docs.example/mcp"]
        );
    }
}
