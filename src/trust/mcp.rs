//! Lists the disclosures of the MCP servers in `orch.yaml`.

use indexmap::IndexMap;

use crate::config::{McpServerSettings, Settings};
use crate::model::{Digest, McpAccess, McpHeader, McpTransport, SandboxSpec};
use crate::provider::{is_unencrypted_address, normalized_address};

use super::disclosure::{Destination, Disclosure, TrustReason};
use super::sandbox::{allows_more_than_reading, describe_sandbox, list};

/// Returns the disclosures of the MCP servers in settings. Each server needs an agreement: orch starts it or sends it
/// the arguments of calls, and models read its texts. A disclosure contains everything that the server may do, with the
/// defaults of the project filled in, so that the user agrees to it and a change needs another agreement.
pub(super) fn mcp_disclosures(settings: &Settings) -> impl Iterator<Item = Disclosure> {
    settings.mcp.iter().flat_map(|(name, server)| {
        let key = format!("mcp.{name}");
        match server.spec(name, &settings.sandbox).map(|spec| spec.transport) {
            Some(McpTransport::Stdio { command, env, sandbox }) => {
                vec![program_disclosure(key, server, starts_text(&command, &env, sandbox.as_ref()), sandbox.as_ref())]
            }
            Some(McpTransport::Http { url, headers }) => http_disclosures(&key, server, &url, &headers),
            None => Vec::new(),
        }
    })
}

/// Describes the start of a program: its variables and its sandbox.
fn starts_text(command: &[String], env: &[String], sandbox: Option<&SandboxSpec>) -> String {
    let variables = if env.is_empty() {
        "no variables beside the basic ones".to_owned()
    } else {
        format!("the variables {}", env.join(", "))
    };
    format!("starts the MCP server {command:?} with {variables}, {}", describe_sandbox(sandbox))
}

fn program_disclosure(
    key: String,
    server: &McpServerSettings,
    text: String,
    sandbox: Option<&SandboxSpec>,
) -> Disclosure {
    let mut reasons = vec![TrustReason::McpServer];
    if allows_more_than_reading(sandbox) {
        reasons.push(TrustReason::LoosensSandbox);
    }
    Disclosure {
        key,
        variable: None,
        destination: Destination::Programs(text),
        reasons,
        insecure: false,
        aws_region: None,
        terms: Some(callable_tools(server)),
    }
}

/// The tools that pipelines may call, and whether orch may repeat their calls.
fn callable_tools(server: &McpServerSettings) -> String {
    let tools = match &server.tools {
        None => "pipelines may call all its tools".to_owned(),
        Some(tools) => format!("pipelines may call only {}", list(tools)),
    };
    match server.access.unwrap_or_default() {
        McpAccess::Write => tools,
        McpAccess::Read => format!("{tools}; its calls change nothing, so orch may repeat them"),
    }
}

/// The address, with each secret that orch sends to it.
fn http_disclosures(
    key: &str,
    server: &McpServerSettings,
    url: &str,
    headers: &IndexMap<String, McpHeader>,
) -> Vec<Disclosure> {
    // A header may change what the server allows, such as whether its tools only read.
    let texts: Vec<String> = headers.iter().map(described_header).collect();
    let sent_headers = if texts.is_empty() { String::new() } else { format!("with {}; ", texts.join(", ")) };
    let disclosure = |variable: Option<String>| {
        let mut reasons = vec![TrustReason::McpServer];
        if is_unencrypted_address(url) || (server.insecure && variable.is_some()) {
            reasons.push(TrustReason::Unencrypted);
        }
        Disclosure {
            key: key.to_owned(),
            variable,
            destination: Destination::Url(normalized_address(url)),
            reasons,
            insecure: server.insecure,
            aws_region: None,
            terms: Some(format!("{sent_headers}{}", callable_tools(server))),
        }
    };
    let secrets = headers.values().filter_map(|header| match header {
        McpHeader::Variable(variable) => Some(disclosure(Some(variable.clone()))),
        McpHeader::Text(_) => None,
    });
    let secrets: Vec<Disclosure> = secrets.collect();
    if secrets.is_empty() { vec![disclosure(None)] } else { secrets }
}

/// Parts of the names of headers whose text may be a secret, which logs must not contain.
const SECRET_NAME_PARTS: [&str; 6] = ["auth", "cookie", "key", "pass", "secret", "token"];

/// A header with what it contains: the name of its variable, or its text. A text that may be a secret is shown as the
/// beginning of its digest, so that a change is visible.
fn described_header((name, header): (&String, &McpHeader)) -> String {
    let text = match header {
        McpHeader::Variable(variable) => return format!("the header {name} from {variable}"),
        McpHeader::Text(text) => text,
    };
    let lower_case = name.to_ascii_lowercase();
    if !SECRET_NAME_PARTS.iter().any(|part| lower_case.contains(part)) {
        return format!("the header {name}: {text:?}");
    }
    format!("the header {name}: … (digest {})", Digest::compute(text.as_bytes()).short())
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
    fn a_program_is_shown_with_its_variables_its_sandbox_and_its_tools() {
        let server = json!({
            "command": ["github-mcp-server", "stdio"], "env": ["GITHUB_TOKEN"], "tools": ["list_issues", "get_issue"],
            "sandbox": { "network": ["api.github.com"], "deny_read": ["~/notes"] },
        });
        assert_eq!(
            texts(json!({ "github": server, "files": { "command": ["files"] } })),
            [
                "`mcp.github` starts the MCP server [\"github-mcp-server\", \"stdio\"] with the variables GITHUB_TOKEN, in \
                 a sandbox that lets it reach api.github.com; it can't read ~/notes; pipelines may call only \
                 list_issues, get_issue",
                "`mcp.files` starts the MCP server [\"files\"] with no variables beside the basic ones, in a sandbox that \
                 lets it change no file and reach no host; pipelines may call all its tools",
            ]
        );
    }

    /// The digest of a project with this server, and this `sandbox` for all programs.
    fn digest(server: &Value, sandbox: &Value) -> Option<crate::model::Digest> {
        let settings = json!({ "mcp": { "files": server }, "sandbox": sandbox });
        crate::trust::Disclosures::from_settings(&serde_json::from_value(settings).unwrap()).digest()
    }

    #[test]
    fn everything_that_widens_what_a_server_may_do_needs_another_agreement() {
        let agreed = json!({
            "command": ["files"], "env": ["A"], "tools": ["read"], "access": "read",
            "sandbox": { "write": ["."], "deny_read": ["~/notes"] },
        });
        let project = json!({ "deny_read": ["~/mail"] });
        let before = digest(&agreed, &project);
        for (pointer, value) in [
            ("/env", json!(["A", "B"])),
            ("/tools", json!(["read", "delete"])),
            ("/tools", json!(null)),
            ("/access", json!("write")),
            ("/sandbox/deny_read", json!([])),
            ("/sandbox", json!({ "deny_read": ["~/notes"], "network": ["a.example"] })),
            ("/sandbox", json!({ "deny_read": ["~/notes"], "write": ["~/.cache"] })),
            ("/sandbox", json!({ "deny_read": ["~/notes"], "unix_sockets": true })),
            ("/sandbox", json!({ "deny_read": ["~/notes"], "min": "basic" })),
            ("/sandbox", json!({ "enabled": false })),
        ] {
            let mut changed = agreed.clone();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            assert_ne!(digest(&changed, &project), before, "{pointer} {value}");
        }
        assert_ne!(digest(&agreed, &json!({})), before, "the server reads what the project kept from it");
        let mut limited = agreed.clone();
        limited["sandbox"]["limits"] = json!({ "memory": "1GiB" });
        assert_eq!(digest(&limited, &project), before, "a limit allows nothing");
    }

    #[test]
    fn calls_that_orch_may_repeat_and_the_header_of_a_secret_need_an_agreement() {
        let server = |access: &str, header: &str| json!({ "url": "https://docs.example/mcp", "access": access, "headers": { header: { "env": "DOCS_AUTH" } } });
        let agreed = digest(&server("write", "Authorization"), &json!({}));
        assert_ne!(digest(&server("read", "Authorization"), &json!({})), agreed);
        assert_ne!(digest(&server("write", "X-Auth"), &json!({})), agreed);
        let shown = texts(json!({ "docs": server("read", "X-Auth") }));
        let expected = "; with the header X-Auth from DOCS_AUTH; pipelines may call all its tools; its calls change \
                        nothing, so orch may repeat them";
        assert!(shown[0].ends_with(expected), "{shown:?}");
        let program = |access: &str| digest(&json!({ "command": ["files"], "access": access }), &json!({}));
        assert_ne!(program("read"), program("write"));
    }

    #[test]
    fn a_server_that_may_change_the_workspace_is_shown_with_it() {
        let server = |access: &str| json!({ "command": ["files"], "access": access, "sandbox": { "write": ["."] } });
        let found = texts(json!({ "files": server("write") }));
        assert!(found[0].contains("in a sandbox that lets it change the workspace;"), "{found:?}");
        let found = texts(json!({ "files": server("read") }));
        assert!(found[0].contains("in a sandbox that lets it change no file and reach no host;"), "{found:?}");
        let reasons = |sandbox: Value| disclosures(json!({ "files": { "command": ["files"], "sandbox": sandbox } }));
        assert_eq!(
            reasons(json!({ "write": ["."] }))[0].reasons,
            [TrustReason::McpServer, TrustReason::LoosensSandbox]
        );
        assert_eq!(reasons(json!({}))[0].reasons, [TrustReason::McpServer]);
    }

    #[test]
    fn each_secret_header_is_shown_and_refused_without_encryption() {
        let server =
            |url: &str| json!({ "url": url, "headers": { "Authorization": { "env": "DOCS_AUTH" }, "x": "y" } });
        assert_eq!(
            texts(json!({ "docs": server("https://docs.example/mcp") })),
            ["`mcp.docs` sends the secret in DOCS_AUTH and the arguments of tool calls to the MCP server \
                 https://docs.example/mcp; with the header Authorization from DOCS_AUTH, the header x: \"y\"; pipelines \
                 may call all its tools"]
        );
        let unencrypted = disclosures(json!({ "docs": server("http://docs.example/mcp") }));
        assert!(unencrypted[0].is_refused(), "{unencrypted:?}");
        let literal = |text: &str| json!({ "url": "https://docs.example/mcp", "headers": { "X-Api-Key": text } });
        let shown = texts(json!({ "docs": literal("abc-123") }));
        assert!(shown[0].contains("; with the header X-Api-Key: … (digest ") && !shown[0].contains("abc"), "{shown:?}");
        assert_ne!(digest(&literal("a"), &json!({})), digest(&literal("b"), &json!({})));
        let read_only = |text: &str| json!({ "url": "https://docs.example/mcp", "headers": { "X-Read-Only": text } });
        assert_ne!(digest(&read_only("true"), &json!({})), digest(&read_only("false"), &json!({})));
        let url = |tools: Value| json!({ "url": "https://docs.example/mcp", "tools": tools });
        let all_tools = digest(&json!({ "url": "https://docs.example/mcp" }), &json!({}));
        assert_ne!(digest(&url(json!(["find"])), &json!({})), all_tools);
        assert_ne!(digest(&url(json!(["find", "edit"])), &json!({})), digest(&url(json!(["find"])), &json!({})));
        assert_eq!(
            texts(json!({ "docs": { "url": "https://docs.example/mcp", "tools": ["find"] } })),
            ["`mcp.docs` sends the arguments of tool calls to the MCP server https://docs.example/mcp; pipelines may \
                 call only find"]
        );
    }
}
