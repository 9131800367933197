//! Compares the tools of MCP servers that a project names with those that the servers list.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{McpGrant, McpToolName};

/// The maximum number of names in a finding.
const MAX_NAMED_TOOLS: usize = 20;

/// The tools of each server, by the name of the server.
pub type ServerTools = BTreeMap<String, Vec<String>>;

/// The MCP servers of `orch.yaml` whose tools the agents and steps of a pipeline name.
pub fn named_servers(project: &Project) -> BTreeSet<String> {
    let names = named_tools(project).into_iter().map(|(_, grant)| grant.server);
    names.filter(|name| project.settings.mcp.contains_key(name)).collect()
}

/// The findings for tools that agents and steps of a pipeline name and that their servers do not list. Skips the servers
/// that `listed` does not contain.
pub fn unlisted_tools(project: &Project, listed: &ServerTools) -> Vec<Diagnostic> {
    let missing = named_tools(project).into_iter().filter_map(|(pointer, grant)| {
        let (tools, tool) = (listed.get(&grant.server)?, grant.tool?);
        // Another finding reports a tool that `orch.yaml` does not allow.
        let allowed = project.settings.mcp.get(&grant.server)?.tools.as_ref();
        if tools.contains(&tool) || allowed.is_some_and(|allowed| !allowed.contains(&tool)) {
            return None;
        }
        let message = format!("the MCP server `{}` has no tool `{tool}`", grant.server);
        let document = &project.document;
        let diagnostic = Diagnostic::error(Code::UnknownTool, message);
        let diagnostic = diagnostic.with_span(&document.file, document.spans.value(&pointer));
        let diagnostic = diagnostic.with_suggestion(&tool, tools.iter().map(String::as_str));
        Some(if diagnostic.help.is_empty() { diagnostic.with_help(tools_help(tools)) } else { diagnostic })
    });
    missing.collect()
}

fn tools_help(tools: &[String]) -> String {
    let named: Vec<&str> = tools.iter().take(MAX_NAMED_TOOLS).map(String::as_str).collect();
    match tools.len() - named.len() {
        _ if tools.is_empty() => "it lists no tools that orch can offer".to_owned(),
        0 => format!("its tools are {}", named.join(", ")),
        more => format!("its tools are {} and {more} more", named.join(", ")),
    }
}

/// Every entry of an agent's `tools` and `approve_tools` and every `call` of a step that names a tool of an MCP server,
/// with its position. A misspelt name in `approve_tools` would let the model call the tool without an approval.
fn named_tools(project: &Project) -> Vec<(String, McpGrant)> {
    let mut named = Vec::new();
    for (name, agent) in &project.pipeline.agents {
        let agent_pointer = child_pointer("/agents", name);
        for (key, names) in [("tools", agent.tools.names()), ("approve_tools", agent.approve_tools.as_slice())] {
            let pointer = child_pointer(&agent_pointer, key);
            for (index, text) in names.iter().enumerate() {
                if let Ok(Some(grant)) = McpGrant::parse(text) {
                    named.push((item_pointer(&pointer, index), grant));
                }
            }
        }
    }
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        if let Some(McpToolName { server, tool }) = step.called_mcp_tool() {
            named.push((child_pointer(&pointer, "call"), McpGrant { server, tool: Some(tool) }));
        }
    }
    named
}
