//! The paths that a tool may read and change: those in the workspace that the grants and the sandbox allow.

use std::path::{Component, Path};

use crate::files::{fold_path, is_own_path};
use crate::model::visible::escape_line_breaks;
use crate::model::{BuiltinTool, FolderPattern, PathPattern, ToolGrant};
use crate::process::WorkspaceRules;

/// What a model can do about a change that it may not make.
pub(super) const DESCRIBE_CHANGE: &str =
    "if the change is necessary, describe it in your answer, so that the user can make it";

/// Converts the path in a call to a path relative to the workspace, with `/`. The workspace itself is an empty path.
/// Accepts the absolute path of a file in the workspace, since commands print such paths.
///
/// # Errors
/// The path leads out of the workspace. The error is a sentence for the model.
pub(super) fn relative_path(workspace: &Path, text: &str) -> Result<String, String> {
    let path = Path::new(text);
    let path = if path.is_absolute() { path.strip_prefix(workspace).map_err(|_| outside_message(text))? } else { path };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy()),
            Component::CurDir => {}
            Component::ParentDir => {
                return Err(format!(
                    "`{}` contains `..`, which could lead out of the workspace; write the path from the workspace, \
                     without `..`",
                    escape_line_breaks(text)
                ));
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside_message(text)),
        }
    }
    Ok(names.join("/"))
}

fn outside_message(text: &str) -> String {
    format!(
        "`{}` is outside the workspace, and the tools reach only the files in it; write a path relative to the \
         workspace",
        escape_line_breaks(text)
    )
}

/// Whether a path is a folder or in it. An empty folder is the workspace.
pub(super) fn is_in(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decides which paths a tool may read and change.
#[derive(Clone, Debug)]
pub(super) struct PathAccess {
    /// The patterns of the grants; `None` if a grant has no pattern.
    patterns: Option<Vec<PathPattern>>,
    /// The folders that can contain paths which the patterns match.
    folder_patterns: Vec<FolderPattern>,
    /// The patterns as the grants write them, for messages.
    pattern_texts: Vec<String>,
    /// The denied paths, folded, since a file system may ignore case and normal form.
    denied: Vec<(String, String)>,
    /// The folders of orch with unusual names, folded.
    own_folders: Vec<String>,
    writable: Vec<String>,
}

impl PathAccess {
    /// The paths that the grants for a tool and the sandbox allow.
    ///
    /// # Errors
    /// A pattern is not valid. The error is the reason.
    pub(super) fn new(tool: BuiltinTool, grants: &[ToolGrant], rules: &WorkspaceRules) -> Result<Self, String> {
        let grants: Vec<&ToolGrant> = grants.iter().filter(|grant| grant.tool == tool).collect();
        let pattern_texts: Vec<String> = grants.iter().filter_map(|grant| grant.pattern.clone()).collect();
        // Without any grant, nothing is allowed.
        let patterns = if grants.iter().any(|grant| grant.pattern.is_none()) {
            None
        } else {
            Some(pattern_texts.iter().map(|text| PathPattern::parse(text)).collect::<Result<Vec<_>, _>>()?)
        };
        let denied = rules.denied_reads.iter().map(|path| (fold_path(path), path.clone())).collect();
        let own_folders = rules.own_folders.iter().map(|path| fold_path(path)).collect();
        let folder_patterns = pattern_texts.iter().map(|text| FolderPattern::new(text)).collect();
        Ok(Self { patterns, folder_patterns, pattern_texts, denied, own_folders, writable: rules.writable.clone() })
    }

    /// Whether the tool may show a path without links.
    pub(super) fn allows_reading(&self, path: &str) -> bool {
        !self.is_denied(path) && self.is_granted(path)
    }

    /// Whether the tool may show that a folder without links exists: it may show the folder itself, or a path in it.
    pub(super) fn allows_entering(&self, folder: &str) -> bool {
        let may_contain_path = || self.folder_patterns.iter().any(|pattern| pattern.may_contain_match(folder));
        !self.is_denied(folder) && (self.is_granted(folder) || may_contain_path())
    }

    /// Whether no tool may read a path without links, and so nothing in it: the sandbox denies it, or it is orch's own.
    pub(super) fn is_denied(&self, path: &str) -> bool {
        self.denied_by(path).is_some() || self.is_own(path)
    }

    /// Whether a path belongs to orch, which stores the records of all runs there.
    fn is_own(&self, path: &str) -> bool {
        is_own_path(path) || self.own_folders.iter().any(|folder| is_in(&fold_path(path), folder))
    }

    /// Checks that the tool may read a path without links.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn check_reading(&self, path: &str) -> Result<(), String> {
        let shown = escape_line_breaks(path);
        if self.is_own(path) {
            return Err(format!(
                "`{shown}` belongs to orch, which stores the records of runs there, so no tool may read or change it; \
                 work with the other files of the workspace"
            ));
        }
        if let Some(denied) = self.denied_by(path) {
            let place = if denied.is_empty() { "the workspace".to_owned() } else { format!("`{denied}`") };
            return Err(format!(
                "`{shown}` may not be read: the sandbox of this agent denies {place}, and only the user can allow it; \
                 work without it"
            ));
        }
        if self.is_granted(path) {
            return Ok(());
        }
        let patterns = self.listed();
        if patterns.is_empty() {
            return Err(format!("`{shown}` is not allowed: this agent may not use the tool; use another tool"));
        }
        Err(format!(
            "`{shown}` is not allowed: this agent may use the tool only for paths that match {patterns}; choose such a \
             path"
        ))
    }

    /// Checks that the tool may change a path.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn check_writing(&self, path: &str) -> Result<(), String> {
        self.check_reading(path)?;
        if self.writable.iter().any(|folder| is_in(path, folder)) {
            return Ok(());
        }
        let folders: Vec<String> = self.writable.iter().map(|folder| format!("`{folder}`")).collect();
        let allowed = if folders.is_empty() {
            format!("nothing; {DESCRIBE_CHANGE}")
        } else {
            format!("only {}; change a file there", folders.join(", "))
        };
        let shown = escape_line_breaks(path);
        Err(format!("`{shown}` may not be changed: the sandbox of this agent allows it to change {allowed}"))
    }

    fn is_granted(&self, path: &str) -> bool {
        self.patterns.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(path)))
    }

    fn denied_by(&self, path: &str) -> Option<&str> {
        let folded = fold_path(path);
        self.denied.iter().find(|(denied, _)| is_in(&folded, denied)).map(|(_, path)| path.as_str())
    }

    fn listed(&self) -> String {
        let texts: Vec<String> = self.pattern_texts.iter().map(|text| format!("`{text}`")).collect();
        texts.join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(grants: &[&str], denied: &[&str], writable: &[&str]) -> PathAccess {
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let rules =
            WorkspaceRules { denied_reads: owned(denied), writable: owned(writable), ..WorkspaceRules::default() };
        PathAccess::new(BuiltinTool::Edit, &grants, &rules).unwrap()
    }

    #[test]
    fn paths_are_relative_to_the_workspace() {
        let workspace = Path::new("/srv/workspace");
        for (text, path) in
            [("./a//b/.", "a/b"), ("/srv/workspace/a", "a"), ("", ""), (".", ""), ("/srv/workspace", "")]
        {
            assert_eq!(relative_path(workspace, text).as_deref(), Ok(path), "{text}");
        }
        for text in ["/srv/workspaces/a", "/etc/passwd", "../a", "a/../../b", "/srv/workspace/../x"] {
            assert!(relative_path(workspace, text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_grants_of_the_tool_itself_count() {
        let narrowed = access(&["edit(src/**)", "read"], &[], &[""]);
        assert!(narrowed.check_writing("src/a").is_ok());
        let error = narrowed.check_writing("lib/a").unwrap_err();
        assert!(error.ends_with("only for paths that match `src/**`; choose such a path"), "{error}");
        assert!(access(&["edit", "edit(src/**)"], &[], &[""]).check_writing("lib/a").is_ok());
        let error = access(&["read"], &[], &[""]).check_writing("a").unwrap_err();
        assert!(error.contains("this agent may not use the tool"), "without a grant, nothing is allowed: {error}");
    }

    #[test]
    fn denied_paths_are_recognized_in_other_spellings() {
        let access = access(&["edit"], &["Keys", "a/b"], &[""]);
        for path in ["Keys", "keys/x", "KEYS/x", "a/b", "a/b/c"] {
            assert!(access.check_reading(path).is_err() && access.is_denied(path), "{path}");
        }
        assert!(access.allows_reading("keyst") && access.allows_reading("a/bc"));
    }

    #[test]
    fn only_the_paths_that_the_sandbox_lets_a_program_change_may_be_changed() {
        let partly = access(&["edit"], &[], &["src", "docs"]);
        assert!(partly.check_writing("src/a").is_ok());
        let refusal = |access: &PathAccess, path: &str| access.check_writing(path).unwrap_err();
        let error = refusal(&partly, "srcs/a");
        assert!(error.ends_with("allows it to change only `src`, `docs`; change a file there"), "{error}");
        let error = refusal(&access(&["edit"], &[], &[]), "a");
        assert!(error.contains("allows it to change nothing; if the change is necessary, describe it"), "{error}");
    }
}
