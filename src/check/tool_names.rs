//! The names of tools that orch does not have, and the tools that their users may mean.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::BuiltinTool;

/// The names that other programs have for the tools.
const OTHER_NAMES: &[(&str, BuiltinTool)] = &[
    ("read_file", BuiltinTool::Read),
    ("cat", BuiltinTool::Read),
    ("view", BuiltinTool::Read),
    ("ls", BuiltinTool::List),
    ("glob", BuiltinTool::List),
    ("list_files", BuiltinTool::List),
    ("grep", BuiltinTool::Search),
    ("ripgrep", BuiltinTool::Search),
    ("search_files", BuiltinTool::Search),
    ("multiedit", BuiltinTool::Edit),
    ("edit_file", BuiltinTool::Edit),
    ("str_replace", BuiltinTool::Edit),
    ("apply_patch", BuiltinTool::Edit),
    ("write_file", BuiltinTool::Write),
    ("create_file", BuiltinTool::Write),
    ("bash", BuiltinTool::Shell),
    ("sh", BuiltinTool::Shell),
    ("run", BuiltinTool::Shell),
    ("exec", BuiltinTool::Shell),
    ("command", BuiltinTool::Shell),
    ("terminal", BuiltinTool::Shell),
    ("webfetch", BuiltinTool::Fetch),
    ("web_fetch", BuiltinTool::Fetch),
    ("http", BuiltinTool::Fetch),
    ("curl", BuiltinTool::Fetch),
];

/// The finding for the name of a tool that orch does not have. `at` sets its location.
pub(super) fn unknown_tool(name: &str, at: impl FnOnce(Diagnostic) -> Diagnostic) -> Diagnostic {
    let diagnostic = at(Diagnostic::error(Code::UnknownTool, format!("orch has no tool `{name}`")));
    let other_name = name.to_lowercase().replace('-', "_");
    if let Some((_, tool)) = OTHER_NAMES.iter().find(|(other, _)| *other == other_name) {
        let help = format!("orch's tool for this is `{tool}`");
        return diagnostic.with_help(help).with_replacement(name, Some(tool.as_str()));
    }
    let diagnostic = diagnostic.with_suggestion(name, BuiltinTool::ALL.map(BuiltinTool::as_str));
    if diagnostic.help.is_empty() {
        let names: Vec<String> = BuiltinTool::ALL.iter().map(|tool| format!("`{tool}`")).collect();
        return diagnostic.with_help(format!("the tools are {}", names.join(", ")));
    }
    diagnostic
}
