//! The MCP servers of an agent, in the form of the Agent Client Protocol.

use agent_client_protocol::Error;
use agent_client_protocol::v1::schema::{EnvVariable, ErrorCode, HttpHeader, McpServer, McpServerHttp, McpServerStdio};

use crate::agent::program::TurnJob;
use crate::model::{McpHeader, McpServerSpec, McpTransport};

/// The MCP servers for a session, with the values of their variables.
///
/// # Errors
/// A server is reached over HTTP, and the agent can't do that.
pub(super) fn mcp_servers(job: &TurnJob<'_>, has_http: bool) -> Result<Vec<McpServer>, Error> {
    let convert = |server: &McpServerSpec| match &server.transport {
        McpTransport::Stdio { command, env, .. } => {
            let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, rest)| (p.as_str(), rest));
            let variables =
                env.iter().filter_map(|name| Some(EnvVariable::new(name.as_str(), job.server_variable(name)?)));
            let stdio = McpServerStdio::new(server.name.as_str(), program);
            Ok(McpServer::Stdio(stdio.args(arguments.to_vec()).env(variables.collect())))
        }
        McpTransport::Http { url, headers } if has_http => {
            let headers = headers.iter().filter_map(|(name, value)| {
                let value = match value {
                    McpHeader::Text(text) => text.clone(),
                    McpHeader::Variable(variable) => job.server_variable(variable)?,
                };
                Some(HttpHeader::new(name.as_str(), value))
            });
            let http = McpServerHttp::new(server.name.as_str(), url.as_str());
            Ok(McpServer::Http(http.headers(headers.collect())))
        }
        McpTransport::Http { .. } => {
            let message = format!("the agent can't use the MCP server `{}`, because it knows no HTTP", server.name);
            Err(Error::new(i32::from(ErrorCode::InvalidParams), message))
        }
    };
    job.servers_in_project().iter().map(convert).collect()
}
