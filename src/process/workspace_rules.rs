//! The rules of a sandbox for the files of the workspace, which orch's own file tools observe.

use std::path::{Path, PathBuf};

use orch_confine::confine::resolve_links;

use crate::model::{Failure, SandboxSpec};

use super::sandbox::SandboxContext;

/// The rules of a sandbox for the files of the workspace. Each path is relative to the workspace, with `/`; an empty
/// path is the workspace itself. A rule for a folder also applies to everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceRules {
    /// The paths that may not be read.
    pub denied_reads: Vec<String>,
    /// The paths that may be changed.
    pub writable: Vec<String>,
    /// The paths that may not be changed, because git or orch reads or runs them later, and the places to which links
    /// on the way to them lead.
    pub protected: Vec<String>,
    /// The folders in which orch stores the records of runs, in addition to those with its usual names.
    pub own_folders: Vec<String>,
}

impl SandboxContext {
    /// The rules for orch's own file tools, which are the same as for a program in this sandbox. Without a sandbox,
    /// every path of the workspace may be changed, except for the protected ones.
    ///
    /// # Errors
    /// orch can't use a path of the settings.
    pub fn workspace_rules(&self, spec: Option<&SandboxSpec>) -> Result<WorkspaceRules, Failure> {
        let (roots, denied): (Vec<PathBuf>, Vec<PathBuf>) = match spec {
            // A tool can't create a missing path of `write`, as a program can't.
            Some(spec) => {
                let roots = spec.write.iter().filter_map(|path| self.writable_path(path).ok());
                let is_allowed = |root: &PathBuf| !spec.protects_workspace || !root.starts_with(&self.workspace);
                (roots.filter(is_allowed).collect(), self.denied_paths(spec)?)
            }
            None => (vec![self.workspace.clone()], self.secret_paths(&[])),
        };
        let protected = self.protected_paths(spec.is_some_and(|spec| spec.protects_workspace), &roots);
        let protected: Vec<PathBuf> = protected.into_iter().map(|protected| protected.path).collect();
        // As in a sandbox, a protected folder takes the workspace in it from each folder of `write` that contains both.
        let is_protected =
            |root: &PathBuf| protected.iter().any(|path| path.starts_with(root) && self.workspace.starts_with(path));
        let writable = roots.iter().filter(|root| !is_protected(root));
        let writable = writable.filter_map(|root| self.path_in_workspace(root)).collect();
        let mut protected = self.paths_in_workspace(&protected);
        // A rule for the workspace itself would apply to every file. `writable` says whether the workspace is
        // protected.
        protected.retain(|path| !path.is_empty());
        let own_folders = self.state_folder.iter().filter(|folder| !self.workspace.starts_with(folder));
        let own_folders = own_folders.filter_map(|folder| self.path_in_workspace(folder)).collect();
        Ok(WorkspaceRules { denied_reads: self.paths_in_workspace(&denied), writable, protected, own_folders })
    }

    /// The parts of these paths that are in the workspace, also of those that lead there through a link. A path need
    /// not exist: a tool could create it.
    fn paths_in_workspace(&self, paths: &[PathBuf]) -> Vec<String> {
        let mut relative_paths: Vec<String> = Vec::new();
        for path in paths {
            for path in [path.clone(), resolve_links(path).target] {
                if let Some(relative) = self.path_in_workspace(&path)
                    && !relative_paths.contains(&relative)
                {
                    relative_paths.push(relative);
                }
            }
        }
        relative_paths
    }

    /// A path relative to the workspace; empty for the workspace and for the folders that contain it. Returns `None`
    /// for any other path.
    fn path_in_workspace(&self, path: &Path) -> Option<String> {
        if self.workspace.starts_with(path) {
            return Some(String::new());
        }
        let names = path.strip_prefix(&self.workspace).ok()?.components();
        Some(names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"))
    }
}

#[cfg(test)]
mod tests {
    use crate::model::step::Access;
    use crate::process::sandbox_paths::tests::{host, project, spec};

    #[test]
    fn the_rules_contain_the_paths_of_the_sandbox_that_are_in_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src", "keys"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let settings = serde_json::json!({ "write": ["./src", "/"], "deny_read": ["keys", "~/notes", "/etc"] });
        let mut spec = spec(settings, Access::Write);
        let mut context = host(folder.path());
        let rules = context.workspace_rules(Some(&spec)).unwrap();
        assert_eq!((rules.denied_reads, rules.own_folders), (vec!["keys".to_owned()], Vec::new()));
        for (folder, expected) in [("state", vec!["state".to_owned()]), ("", Vec::new())] {
            context.state_folder = Some(context.workspace.join(folder).components().collect());
            assert_eq!(context.workspace_rules(Some(&spec)).unwrap().own_folders, expected, "{folder}");
        }
        assert_eq!(rules.writable, ["src", ""]);
        for path in [".orch", ".orch.lock", "orch.yaml", ".github", "pipelines/main.yaml"] {
            assert!(rules.protected.contains(&path.to_owned()), "{path}");
        }
        spec.write = vec!["missing".to_owned(), "src".to_owned()];
        assert_eq!(context.workspace_rules(Some(&spec)).unwrap().writable, ["src"]);
        context.home = Some(context.workspace.clone());
        let rules = context.workspace_rules(None).unwrap();
        for path in [".ssh", ".cargo/credentials.toml"] {
            assert!(rules.denied_reads.contains(&path.to_owned()), "{path}");
        }
        assert_eq!(rules.writable, [""]);
    }

    #[test]
    fn the_rules_protect_the_git_folder_and_not_the_folders_above_the_workspace() {
        let (_folder, mut context) = project();
        std::fs::create_dir(context.workspace.join(".git")).unwrap();
        std::fs::write(context.workspace.join(".git/config"), "[core]\n\thooksPath = tools/hooks\n").unwrap();
        context.project_paths.push(context.workspace.parent().unwrap().to_owned());
        let rules = |write: &str, access: Access| {
            context.workspace_rules(Some(&spec(serde_json::json!({ "write": [write] }), access))).unwrap()
        };
        for rules in [context.workspace_rules(None).unwrap(), rules(".", Access::Write)] {
            assert_eq!(rules.writable, [""]);
            for path in [".git/config", ".git/hooks", ".git/commondir", "tools/hooks"] {
                assert!(rules.protected.contains(&path.to_owned()), "{path}: {:?}", rules.protected);
            }
            assert!(!rules.protected.contains(&String::new()));
        }
        for (write, access) in [("~", Access::Write), ("~", Access::Read), (".", Access::Read)] {
            assert!(rules(write, access).writable.is_empty(), "{write}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_rules_protect_the_places_to_which_links_lead() {
        let (_folder, context) = project();
        let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, context.workspace.join(path)).unwrap();
        for name in [".git", "real-tools"] {
            std::fs::create_dir(context.workspace.join(name)).unwrap();
        }
        std::fs::write(context.workspace.join("real-tools/ext.sh"), "").unwrap();
        let settings = "[core]\n\thooksPath = hooks\n[diff]\n\texternal = tl/ext.sh\n";
        std::fs::write(context.workspace.join(".git/config"), settings).unwrap();
        link("real-tools", "tl");
        link("missing/hooks", "hooks");
        link(".", ".github");
        let rules = context.workspace_rules(None).unwrap();
        for path in ["hooks", "missing/hooks", "real-tools/ext.sh", ".github"] {
            assert!(rules.protected.contains(&path.to_owned()), "{path}: {:?}", rules.protected);
        }
        assert!(rules.writable == [""] && !rules.protected.contains(&String::new()));
    }

    #[cfg(unix)]
    #[test]
    fn a_denied_link_also_denies_the_folder_to_which_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("missing", folder.path().join("dangling")).unwrap();
        let spec = spec(serde_json::json!({ "deny_read": ["link", "dangling"] }), Access::Write);
        let rules = host(folder.path()).workspace_rules(Some(&spec)).unwrap();
        assert_eq!(rules.denied_reads, ["link", "real", "dangling", "missing"]);
    }
}
