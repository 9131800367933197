//! Rewrites the paths of findings for machine-readable formats, so that they are relative to the root of the git
//! repository.
//!
//! In messages for people, paths are relative to the current folder. A code host that shows findings beside changed
//! lines needs paths relative to the repository, independent of the current folder.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, SourceFile};
use crate::runner::RunnerError;

/// Converts paths relative to the current folder to paths relative to `root`.
pub(super) struct PathBase {
    root: PathBuf,
    current_dir: PathBuf,
}

impl PathBase {
    /// Creates the base for a folder that the user selected.
    pub(super) fn from_folder(folder: &Path, current_dir: &Path) -> Result<Self, RunnerError> {
        let display_path = folder.display();
        let root = current_dir.join(folder).canonicalize().map_err(|error| {
            RunnerError::usage(format!("`--relative-to {display_path}` is not a usable folder: {error}"))
        })?;
        if !root.is_dir() {
            return Err(RunnerError::usage(format!("`--relative-to {display_path}` is a file, not a folder")));
        }
        Ok(Self { root, current_dir: resolve_links(current_dir) })
    }

    /// Creates the base for the git repository that contains the current folder. Returns `None` outside of a
    /// repository.
    pub(super) fn from_repository(current_dir: &Path) -> Option<Self> {
        let current_dir = resolve_links(current_dir);
        let root = current_dir.ancestors().find(|folder| is_repository(folder))?.to_owned();
        Some(Self { root, current_dir })
    }

    /// Makes a path relative to the root. A path outside of the root stays unchanged.
    pub(super) fn rewrite_path(&self, display_path: &str) -> String {
        let absolute_path = normalize(&self.current_dir.join(display_path));
        match absolute_path.strip_prefix(&self.root) {
            Ok(relative_path) if !relative_path.as_os_str().is_empty() => {
                relative_path.to_string_lossy().replace('\\', "/")
            }
            Ok(_) | Err(_) => display_path.to_owned(),
        }
    }

    /// Makes the paths in findings relative to the root.
    pub(super) fn rewrite_findings(&self, findings: &mut [Diagnostic]) {
        let mut rewritten_files: HashMap<Arc<str>, Arc<SourceFile>> = HashMap::new();
        let mut rewrite_file = |file: &mut Arc<SourceFile>| {
            let key: Arc<str> = file.path.as_str().into();
            let rewritten = rewritten_files
                .entry(key)
                .or_insert_with(|| SourceFile::new(self.rewrite_path(&file.path), file.text.as_str()));
            *file = Arc::clone(rewritten);
        };
        for finding in findings {
            let labels = finding.related.iter_mut().map(|label| &mut label.file);
            for file in finding.file.iter_mut().chain(labels) {
                rewrite_file(file);
            }
        }
    }
}

/// Whether a folder is the root of a git repository. In a worktree or a submodule, `.git` is a file. A folder without
/// `HEAD` is no git folder for git either, such as the placeholder that orch creates while a confined program runs.
fn is_repository(folder: &Path) -> bool {
    let entry = folder.join(".git");
    entry.is_file() || entry.join("HEAD").symlink_metadata().is_ok()
}

/// Resolves the links in the path of a folder. Returns the path unchanged if orch can't resolve them.
fn resolve_links(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// Removes `.` and `..` from a path without reading the disk.
fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            component => out.push(component),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_git_folder_is_no_repository() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in [".git", "project/.git", "worktree"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(root.join("worktree/.git"), "gitdir: elsewhere\n").unwrap();
        let root_from = |name: &str| PathBase::from_repository(&root.join(name)).unwrap().root;
        assert_eq!(root_from("project"), root);
        assert_eq!(root_from("worktree"), root.join("worktree"));
    }

    #[test]
    fn paths_inside_the_root_become_relative_to_it() {
        let base = PathBase { root: "/repo".into(), current_dir: "/repo/sub".into() };
        for (display_path, expected) in [
            ("pipelines/a.yaml", "sub/pipelines/a.yaml"),
            ("./a.yaml", "sub/a.yaml"),
            ("../b/a.yaml", "b/a.yaml"),
            ("/repo/sub/a.yaml", "sub/a.yaml"),
            ("../../a.yaml", "../../a.yaml"),
            ("/elsewhere/a.yaml", "/elsewhere/a.yaml"),
            ("..", ".."),
        ] {
            assert_eq!(base.rewrite_path(display_path), expected, "{display_path}");
        }
    }
}
