//! Checks the pipelines that the models of agents may call as tools: each has a name of its own among the tools of the
//! agent. The loader reports files that do not exist and cycles of calls.

use crate::config::{Project, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::pipeline::pipeline_tool_name;
use crate::model::step::Access;
use crate::model::{Agent, BuiltinTool};

/// The maximum length of the name of a tool, in bytes. It is the smallest limit of all APIs.
const MAX_TOOL_NAME_BYTES: usize = 64;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    // `cli_agents::check` reports the key of a CLI agent, which has no such tools.
    for (name, agent) in project.pipeline.agents.iter().filter(|(_, agent)| agent.cli_kind().is_none()) {
        let list_pointer = child_pointer(&child_pointer("/agents", name), "pipelines");
        for (index, file) in agent.pipelines.iter().enumerate() {
            let Some(diagnostic) = unusable_name(agent, index, file) else { continue };
            let span = project.document.spans.value(&item_pointer(&list_pointer, index));
            diagnostics.push(diagnostic.with_span(&project.document.file, span));
        }
    }
    diagnostics
}

/// The finding for a pipeline whose tool can't have its name. It has no location yet.
fn unusable_name(agent: &Agent, index: usize, file: &str) -> Option<Diagnostic> {
    let tool = pipeline_tool_name(file);
    let mut earlier = agent.pipelines.iter().take(index);
    if let Some(other) = earlier.find(|other| pipeline_tool_name(other) == tool) {
        if other == file {
            return Some(Diagnostic::error(Code::DuplicateName, format!("`{file}` is listed twice")));
        }
        let message = format!("`{other}` and `{file}` are the same tool `{tool}` for the model");
        return Some(Diagnostic::error(Code::DuplicateName, message).with_help("rename one of the two files"));
    }
    if BuiltinTool::from_name(&tool).is_some() {
        let message = format!("the model would call `{file}` as `{tool}`, which is the name of a tool of orch");
        return Some(Diagnostic::error(Code::DuplicateName, message).with_help("rename the file"));
    }
    let is_of_server = |server: &str| tool.strip_prefix(server).is_some_and(|rest| rest.starts_with("__"));
    if let Some(grant) = agent.mcp_grants().iter().find(|grant| is_of_server(&grant.server)) {
        let server = &grant.server;
        let message =
            format!("the model would call `{file}` as `{tool}`, as it calls tools of the MCP server `{server}`");
        return Some(Diagnostic::error(Code::DuplicateName, message).with_help("rename the file"));
    }
    if tool.len() > MAX_TOOL_NAME_BYTES {
        let message = format!("the name of the tool for `{file}` is longer than {MAX_TOOL_NAME_BYTES} characters");
        return Some(Diagnostic::error(Code::InvalidName, message).with_help("give the file a shorter name"));
    }
    None
}

/// The first pipeline that the model of an agent may call and that needs more than this access, with the access that it
/// needs.
pub(super) fn pipeline_above(project: &Project, agent: &Agent, access: Access) -> Option<(String, Access)> {
    let called = agent.pipelines.iter().filter_map(|file| Some((file, project.called_projects.get(file)?)));
    let mut needs = called.map(|(file, called)| (file.clone(), called.workspace_access()));
    needs.find(|(_, needed)| *needed > access)
}

/// An access as in the pipeline file.
pub(super) fn access_name(access: Access) -> &'static str {
    match access {
        Access::None => "none",
        Access::Read => "read",
        Access::Write => "write",
    }
}
