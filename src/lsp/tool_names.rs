//! The names of tools that an agent or a step can use: those of orch, and those of the MCP servers in `orch.yaml`. Only
//! the servers know their tools, so this module offers the ones that `orch.yaml` lists.

use super::completion::{Completion, CompletionKind, new_completion};
use super::cursor::{EditorCursor, YamlPosition, step_path};
use super::documents::Documents;
use super::lookups;
use super::outline::Outline;
use super::outline_entry::PathSegment;
use crate::config::SETTINGS_FILE;
use crate::model::BuiltinTool;

/// The maximum number of tools of a server that completion offers. For each tool, it searches the text.
const MAX_TOOLS: usize = 512;

/// Whether a path leads to the tools of an agent, to those that the user approves, or to the tool that a step calls.
pub(super) fn names_tool(path: &[PathSegment]) -> bool {
    if is_step_call(path) {
        return true;
    }
    let [PathSegment::Key(agents), PathSegment::Key(_), PathSegment::Key(list), ..] = path else { return false };
    agents == "agents" && matches!(list.as_str(), "tools" | "approve_tools")
}

/// Whether a path leads to the tool that a step calls.
fn is_step_call(path: &[PathSegment]) -> bool {
    let in_step = step_path(path).map(|step| path.get(step.len()..).unwrap_or_default());
    matches!(in_step, Some([PathSegment::Key(key)]) if key == "call")
}

/// The names that are valid at the cursor.
pub(super) fn tool_completions(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Vec<Completion> {
    let completion =
        |name: &str, detail: &str| new_completion(name, CompletionKind::Value, detail, None, &field.word_range);
    let mut completions: Vec<Completion> =
        BuiltinTool::ALL.into_iter().map(|tool| completion(tool.as_str(), tool_detail(tool))).collect();
    let settings = lookups::current_file(&cursor.project_file.root.join(SETTINGS_FILE), documents);
    let text = settings.as_ref().map(|file| file.text.as_str()).unwrap_or_default();
    let outline = Outline::parse(text, None);
    let key = |name: &str| PathSegment::Key(name.to_owned());
    let servers = [key("mcp")];
    for (server, _) in outline.mapping_entries(&servers) {
        if !is_step_call(&field.path) {
            completions.push(completion(&format!("{server}.*"), "all tools of an MCP server"));
        }
        let item = |index| outline.find(&[key("mcp"), key(server), key("tools"), PathSegment::Item(index)]);
        for entry in (0..MAX_TOOLS).map_while(item) {
            let tool = text.get(entry.value_range.clone()).unwrap_or_default().trim();
            if !tool.is_empty() {
                completions.push(completion(&format!("{server}.{tool}"), "tool of an MCP server"));
            }
        }
    }
    completions
}

fn tool_detail(tool: BuiltinTool) -> &'static str {
    match tool {
        BuiltinTool::Read => "reads files",
        BuiltinTool::List => "lists folders",
        BuiltinTool::Search => "searches files",
        BuiltinTool::Edit => "changes a text in a file",
        BuiltinTool::Write => "writes files",
        BuiltinTool::Shell => "runs commands in a sandbox",
        BuiltinTool::Fetch => "reads pages of allowed hosts",
    }
}
