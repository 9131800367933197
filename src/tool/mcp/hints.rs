//! Says what the user can do about a server that can't be used. The hints for failures of models do not fit a server.

use std::path::Path;

use crate::model::{Failure, FailureClass, McpServerSpec, McpTransport};
use crate::network::without_secrets;

/// Adds a hint that names the server, if the failure has no hint and comes from the server.
pub(super) fn with_server_hint(failure: Failure, server: &McpServerSpec) -> Failure {
    match server_hint(failure.class, server) {
        Some(hint) if failure.hint.is_none() => failure.with_hint(hint),
        Some(_) | None => failure,
    }
}

fn server_hint(class: FailureClass, server: &McpServerSpec) -> Option<String> {
    let name = &server.name;
    let look = format!("`orch tools list --server {name}` tries to reach it");
    Some(match (class, &server.transport) {
        (FailureClass::ProviderUnavailable, McpTransport::Http { url, .. }) => {
            let url = without_secrets(url);
            format!("check that the MCP server `{name}` runs and that `mcp.{name}.url` is its address ({url}); {look}")
        }
        (FailureClass::ProviderUnavailable, McpTransport::Stdio { .. }) => {
            format!("find out why the program in `mcp.{name}.command` ended; {look}")
        }
        (FailureClass::RateLimited, _) => format!("wait until the MCP server `{name}` accepts requests again; {look}"),
        (FailureClass::Timeout, _) => format!("find out why the MCP server `{name}` takes so long; {look}"),
        (FailureClass::Auth, _) => format!("check the credentials that `mcp.{name}` sends; {look}"),
        (FailureClass::AgentError | FailureClass::BadRequest, _) => {
            format!("see in the message what the MCP server `{name}` did; {look}")
        }
        _ => return None,
    })
}

/// What the user can do about the program of a server that does not exist. `program` is the program as orch starts it:
/// with the project's folder in place of `{{ project.root }}`.
pub fn missing_program_hint(server: &str, program: &str) -> String {
    let path = Path::new(program);
    if path.is_absolute() {
        return format!("install `{program}`, or correct the path in `mcp.{server}.command`");
    }
    if !program.contains(['/', '\\']) {
        return format!("install `{program}`, or give its full path in `mcp.{server}.command`");
    }
    let file = program.trim_start_matches("./");
    format!(
        "write `{{{{ project.root }}}}/{file}` in `mcp.{server}.command` if it is a file of the project: the server \
         starts in the workspace, in which its relative paths begin"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hint(class: FailureClass, transport: Value) -> Option<String> {
        let server = json!({ "name": "docs", "transport": transport, "access": "read" });
        let server: McpServerSpec = serde_json::from_value(server).unwrap();
        with_server_hint(Failure::new(class, "it failed"), &server).hint
    }

    #[test]
    fn a_failure_of_a_server_has_a_hint_about_the_server() {
        let http = || json!({ "http": { "url": "https://user:pass@docs.example/mcp?key=k", "headers": {} } });
        let unreachable = hint(FailureClass::ProviderUnavailable, http()).unwrap();
        assert_eq!(
            unreachable,
            "check that the MCP server `docs` runs and that `mcp.docs.url` is its address (https://docs.example/mcp); \
             `orch tools list --server docs` tries to reach it"
        );
        for class in FailureClass::ALL {
            let hint = hint(*class, http()).unwrap_or_default();
            assert!(!hint.contains("model"), "{class}: {hint}");
        }
        assert_eq!(hint(FailureClass::Cancelled, http()), None);
    }

    #[test]
    fn the_hint_for_a_missing_program_depends_on_its_path() {
        for (program, expected) in [
            ("docs-server", "install `docs-server`, or give its full path"),
            ("servers/docs", "write `{{ project.root }}/servers/docs` in `mcp.docs.command`"),
            ("./docs", "write `{{ project.root }}/docs` in `mcp.docs.command`"),
        ] {
            let hint = missing_program_hint("docs", program);
            assert!(hint.starts_with(expected), "{hint}");
        }
    }
}
