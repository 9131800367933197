//! Logs the starts and the ends of MCP servers: their names in `orch.yaml`, exit codes and classes of failures. Never logs
//! a command, an address or what a server prints.

use tracing::{Instrument as _, info, info_span, warn};

use crate::model::{Failure, McpServerSpec, McpTransport};

use super::stdio::ProgramExit;

/// Starts a server, or connects to it, in a span.
pub(super) async fn log_start<T>(
    server: &McpServerSpec,
    is_restart: bool,
    start: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let transport = match &server.transport {
        McpTransport::Stdio { .. } => "program",
        McpTransport::Http { .. } => "http",
    };
    let logged = async {
        info!(restart = is_restart, "orch starts the MCP server");
        let result = start.await;
        match &result {
            Ok(_) => info!("the MCP server is ready"),
            Err(failure) => warn!(class = failure.class.as_str(), "the MCP server did not start"),
        }
        result
    };
    logged.instrument(info_span!("server_start", server = server.name.as_str(), transport)).await
}

/// Logs the end of a server. `exit` is how its program ended, if it has one.
pub(super) fn log_end(server: &str, ended_by_itself: bool, exit: Option<&ProgramExit>) {
    let exit_code = exit.and_then(|exit| exit.as_ref().ok()).and_then(|exit| exit.code);
    if ended_by_itself {
        warn!(server, exit_code, "the MCP server ended by itself");
    } else {
        info!(server, exit_code, "orch ended the MCP server");
    }
}
