//! Finds out before a call whether orch would refuse it, from the arguments and the settings alone. So the user has to
//! decide only about calls that can run.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::files::{PathIndex, ReservedFiles, refusals};
use crate::model::{BuiltinTool, SandboxNetwork, SandboxSpec, ToolGrant};
use crate::process::WorkspaceRules;

use super::arguments::{
    EditArguments, FetchArguments, ListArguments, ReadArguments, ShellArguments, WriteArguments, typed_arguments,
};
use super::fetch::check_address;
use super::paths::{PathAccess, relative_path};
use super::shell::command_argv;

/// The paths that orch protects in every workspace, besides `.git` and `.orch`.
const PROTECTED_PATHS: [&str; 2] = ["orch.yaml", ".github"];

/// What decides about a call besides its arguments and the files of the workspace.
#[derive(Clone, Copy, Debug)]
pub struct CallRules<'a> {
    /// All grants of the agent.
    pub grants: &'a [ToolGrant],
    /// The sandbox of the agent.
    pub sandbox: Option<&'a SandboxSpec>,
    /// The `sandbox.network` of `orch.yaml`, if it is set.
    pub project_network: Option<&'a SandboxNetwork>,
    /// The files of the run's artifacts, as paths relative to the workspace.
    pub artifact_files: &'a PathIndex,
    /// The files of the project in the workspace, as relative paths.
    pub project_files: &'a PathIndex,
}

/// Returns the message for the model if orch would refuse a call with these arguments, which
/// [`read_arguments`](super::read_arguments) has accepted, whatever files the workspace contains. `None` if orch would
/// perform the call, or if this depends on the workspace.
pub fn refusal(tool: BuiltinTool, arguments: &Value, rules: CallRules<'_>) -> Option<String> {
    let checked = match tool {
        BuiltinTool::Shell => with_arguments(tool, arguments, |shell: ShellArguments| {
            command_argv(&shell.command, rules.grants).map(drop)
        }),
        BuiltinTool::Fetch => with_arguments(tool, arguments, |fetch: FetchArguments| {
            check_address(&fetch.url, rules.grants, rules.sandbox, rules.project_network)
        }),
        BuiltinTool::Edit => {
            with_arguments(tool, arguments, |edit: EditArguments| check_changed_path(tool, &edit.path, rules))
        }
        BuiltinTool::Write => {
            with_arguments(tool, arguments, |write: WriteArguments| check_changed_path(tool, &write.path, rules))
        }
        // Whether a grant allows to read a path depends on the links in the workspace.
        BuiltinTool::Read => {
            with_arguments(tool, arguments, |read: ReadArguments| path_in_workspace(&read.path).map(drop))
        }
        BuiltinTool::List => {
            with_arguments(tool, arguments, |list: ListArguments| path_in_workspace(&list.path).map(drop))
        }
        BuiltinTool::Search => Ok(()),
    };
    checked.err()
}

fn with_arguments<T: DeserializeOwned>(
    tool: BuiltinTool,
    arguments: &Value,
    check: impl FnOnce(T) -> Result<(), String>,
) -> Result<(), String> {
    typed_arguments(tool, arguments).and_then(check)
}

/// The path relative to the workspace; `None` for an absolute path, which may lead into the workspace.
fn path_in_workspace(text: &str) -> Result<Option<String>, String> {
    if Path::new(text).is_absolute() {
        return Ok(None);
    }
    relative_path(Path::new(""), text).map(Some)
}

/// Checks the path of a file that a tool would change.
fn check_changed_path(tool: BuiltinTool, text: &str, rules: CallRules<'_>) -> Result<(), String> {
    let Some(path) = path_in_workspace(text)? else { return Ok(()) };
    if path.is_empty() {
        return Err(format!("`{text}` is the folder of the workspace, not a file"));
    }
    // The folders that the sandbox allows depend on the machine.
    let whole_workspace = WorkspaceRules { writable: vec![String::new()], ..WorkspaceRules::default() };
    PathAccess::new(tool, rules.grants, &whole_workspace)?.check_writing(&path)?;
    let protected = PathIndex::new(PROTECTED_PATHS.map(str::to_owned));
    let reserved =
        ReservedFiles { artifacts: rules.artifact_files, project: rules.project_files, protected: &protected };
    match refusals(&json!([{ "path": path, "content": "" }]), reserved).into_iter().next() {
        Some(message) => Err(message),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tool: BuiltinTool, grants: &[&str], arguments: &Value) -> Option<String> {
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        let [artifact_files, project_files] =
            ["plan.json", "prompts/a.md"].map(|path| PathIndex::new([path.to_owned()]));
        let rules = CallRules {
            grants: &grants,
            sandbox: None,
            project_network: None,
            artifact_files: &artifact_files,
            project_files: &project_files,
        };
        refusal(tool, arguments, rules)
    }

    #[test]
    fn a_call_outside_of_its_grants_is_refused() {
        let shell = |command: &str| message(BuiltinTool::Shell, &["shell(git:*)"], &json!({ "command": command }));
        assert_eq!(shell("git status"), None);
        let too_long = format!("git {}", "x".repeat(400 << 10));
        for command in ["rm -rf x", "git status; rm x", "git \0", &too_long] {
            assert!(shell(command).is_some(), "{}", command.len());
        }
        let fetch = |url: &str| message(BuiltinTool::Fetch, &["fetch(docs.rs)"], &json!({ "url": url }));
        assert_eq!(fetch("https://docs.rs/serde"), None);
        for url in ["https://example.com/", "ftp://docs.rs/"] {
            assert!(fetch(url).is_some(), "{url}");
        }
        let arguments = |path: &str| json!({ "path": path, "content": "x", "old": "a", "new": "b" });
        for (tool, grant) in [(BuiltinTool::Write, "write(src/**)"), (BuiltinTool::Edit, "edit(src/**)")] {
            assert_eq!(message(tool, &[grant], &arguments("./src/a.rs")), None);
            for path in ["docs/a.md", "src/../docs/a.md", "."] {
                assert!(message(tool, &[grant], &arguments(path)).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn a_path_that_no_tool_may_change_is_refused() {
        let write = |path: &str| message(BuiltinTool::Write, &["write"], &json!({ "path": path, "content": "x" }));
        for path in ["orch.yaml", ".github/workflows/ci.yml", ".git/config", "PLAN.json", "prompts/a.md", "../a"] {
            assert!(write(path).is_some(), "{path}");
        }
        // An absolute path may lead into the workspace.
        for path in ["a.md", "prompts/b.md", "/srv/workspace/a.md"] {
            assert_eq!(write(path), None, "{path}");
        }
        let read = |path: &str| message(BuiltinTool::Read, &["read"], &json!({ "path": path }));
        assert!(read("../a").is_some() && read("orch.yaml").is_none());
        let list = message(BuiltinTool::List, &["list"], &json!({ "path": "a/../.." }));
        assert!(list.is_some() && message(BuiltinTool::Search, &["search"], &json!({ "regex": "x" })).is_none());
    }

    #[test]
    fn the_protected_paths_are_those_of_a_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let paths = orch_confine::confine::usually_protected(folder.path());
        for name in PROTECTED_PATHS {
            assert!(paths.iter().any(|protected| protected.path == folder.path().join(name)), "{name}");
        }
    }
}
