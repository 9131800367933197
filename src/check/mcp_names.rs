//! Checks the names of the tools of MCP servers, in the tools of agents and in the calls of steps. Whether a server has a
//! tool is known only to the server.

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::Access;
use crate::model::{Agent, McpGrant};

/// The finding for a tool of an MCP server that can't be called, because `orch.yaml` does not define the server or does
/// not allow the tool. `at` sets the location of a finding.
pub(super) fn unavailable_tool(
    project: &Project,
    grant: &McpGrant,
    at: impl FnOnce(Diagnostic) -> Diagnostic,
) -> Option<Diagnostic> {
    let servers = &project.settings.mcp;
    let Some(server) = servers.get(&grant.server) else {
        let message = format!("`orch.yaml` has no MCP server `{}`", grant.server);
        let diagnostic = at(Diagnostic::error(Code::UnknownMcpServer, message));
        let diagnostic = diagnostic.with_suggestion(&grant.server, servers.keys().map(String::as_str));
        if diagnostic.help.is_empty() {
            let example = format!("`mcp: {{ {}: {{ command: [PROGRAM] }} }}`", grant.server);
            return Some(diagnostic.with_help(format!("define the server in `orch.yaml`: {example}")));
        }
        return Some(diagnostic);
    };
    let tools = server.tools.as_deref()?;
    let tool = grant.tool.as_ref().filter(|tool| !tools.contains(*tool))?;
    let message = format!("`tools` of the MCP server `{}` does not list `{tool}`", grant.server);
    let diagnostic = at(Diagnostic::error(Code::McpToolNotAllowed, message));
    let diagnostic = diagnostic.with_suggestion(tool, tools.iter().map(String::as_str));
    let help = format!("`orch.yaml` allows only these tools of it: {}", tools.join(", "));
    Some(if diagnostic.help.is_empty() { diagnostic.with_help(help) } else { diagnostic })
}

/// The finding for the entry of an agent's `tools` at this index, if another entry allows the same tools. It has no
/// location yet.
pub(super) fn redundant_grant(agent: &Agent, grant: &McpGrant, index: usize) -> Option<Diagnostic> {
    let earlier = agent.tools.names().iter().take(index);
    let mut earlier = earlier.filter_map(|text| McpGrant::parse(text).ok().flatten());
    if earlier.any(|other| other == *grant) {
        return Some(Diagnostic::error(Code::DuplicateName, format!("the tool `{grant}` is listed twice")));
    }
    let wider = agent.mcp_grants().into_iter().find(|other| other != grant && other.includes(grant))?;
    let message = format!("`{grant}` has no effect, because the agent has `{wider}`");
    let diagnostic = Diagnostic::warning(Code::KeyNotApplicable, message);
    Some(diagnostic.with_help("remove one of the two entries"))
}

/// The finding for a tool in the `approve_tools` of an agent with this name that the agent does not have. It has no
/// location yet.
pub(super) fn missing_approved_tool(agent: &Agent, name: &str, grant: &McpGrant) -> Option<Diagnostic> {
    let grants = agent.mcp_grants();
    let has_tool = grants.iter().any(|other| other.includes(grant) || grant.includes(other));
    if agent.tools.names().is_empty() || has_tool {
        return None;
    }
    let message = format!("agent `{name}` does not have the tool `{grant}`");
    let diagnostic = Diagnostic::error(Code::UnknownTool, message);
    Some(diagnostic.with_help(format!("add `{grant}` to `tools`, or remove it here")))
}

/// The first tool of an agent that belongs to an MCP server and needs more than this access, with the access that it
/// needs.
pub(super) fn tool_above(project: &Project, agent: &Agent, access: Access) -> Option<(String, Access)> {
    let settings = &project.settings;
    let needed_access = |grant: McpGrant| {
        let spec = settings.mcp.get(&grant.server)?.spec(&grant.server, &settings.sandbox)?;
        Some((grant.to_string(), spec.workspace_access()))
    };
    agent.mcp_grants().into_iter().filter_map(needed_access).find(|(_, needed)| *needed > access)
}
