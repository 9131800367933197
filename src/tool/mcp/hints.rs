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
    Some(match (class, &server.transport) {
        (FailureClass::ProviderUnavailable, McpTransport::Http { url, .. }) => {
            let url = without_secrets(url);
            format!("check that the MCP server `{name}` runs and that `mcp.{name}.url` is its address ({url})")
        }
        (FailureClass::ProviderUnavailable, McpTransport::Stdio { .. }) => {
            format!(
                "find out why the program in `mcp.{name}.command` ended, for example by running it in a terminal, in the \
                 workspace"
            )
        }
        (FailureClass::RateLimited, _) => format!("wait until the MCP server `{name}` accepts requests again"),
        (FailureClass::Timeout, _) => format!("find out why the MCP server `{name}` takes so long"),
        (FailureClass::Auth, _) => format!("check the credentials that `mcp.{name}` sends"),
        (FailureClass::AgentError | FailureClass::BadRequest, _) => {
            format!("check `mcp.{name}` in `orch.yaml`; if it is right, report this to the author of the server")
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
    // A file of the project is below its folder, and the workspace may be, too.
    let mut file = program;
    while let Some(rest) = ["./", "../"].into_iter().find_map(|start| file.strip_prefix(start)) {
        file = rest;
    }
    format!(
        "write `{{{{ project.root }}}}/{file}` in `mcp.{server}.command` if it is a file of the project, whose \
         folder `{{{{ project.root }}}}` is: the server starts in the workspace, in which its relative paths begin"
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
            "check that the MCP server `docs` runs and that `mcp.docs.url` is its address (https://docs.example/mcp)"
        );
        let with_hint = [
            FailureClass::RateLimited,
            FailureClass::ProviderUnavailable,
            FailureClass::Timeout,
            FailureClass::Auth,
            FailureClass::BadRequest,
            FailureClass::AgentError,
        ];
        for class in FailureClass::ALL {
            let hint = hint(*class, http());
            assert_eq!(hint.is_some(), with_hint.contains(class), "{class}: {hint:?}");
            assert!(hint.is_none_or(|hint| hint.contains("docs") && !hint.contains("model")), "{class}");
        }
    }

    #[test]
    fn the_hint_for_a_missing_program_depends_on_its_path() {
        for (program, expected) in [
            ("docs-server", "install `docs-server`, or give its full path"),
            ("servers/docs", "write `{{ project.root }}/servers/docs` in `mcp.docs.command`"),
            ("../servers/docs", "write `{{ project.root }}/servers/docs` in `mcp.docs.command`"),
            (".././../docs", "write `{{ project.root }}/docs` in `mcp.docs.command`"),
            ("./docs", "write `{{ project.root }}/docs` in `mcp.docs.command`"),
        ] {
            let hint = missing_program_hint("docs", program);
            assert!(hint.starts_with(expected), "{hint}");
        }
    }
}
