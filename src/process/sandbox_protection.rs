//! The paths that no confined program may change, because git or orch reads or runs them later.

use std::path::{Path, PathBuf};

use orch_confine::confine::{
    Mask, Protected, protected_repositories, remove_leftover_masks, resolve_links, usually_protected,
};

use crate::model::SETTINGS_PLACEHOLDER;

use super::sandbox::SandboxContext;

impl SandboxContext {
    /// The paths that no program may change, because git or orch reads or runs them later: in the workspace, in the
    /// project, in the repositories of the writable folders, and the places to which links on the way to these paths
    /// lead. The sandbox protects those that are inside a writable folder.
    pub(super) fn protected_paths(&self, protects_workspace: bool, writable: &[PathBuf]) -> Vec<Protected> {
        let protect = |path: PathBuf| Protected { path, mask: Mask::Nothing };
        let mut paths: Vec<Protected> = if protects_workspace {
            std::iter::once(protect(self.workspace.clone())).chain(protected_repositories(&self.workspace)).collect()
        } else {
            default_protection(&self.workspace)
        };
        paths.extend(writable.iter().flat_map(|root| protected_repositories(root)));
        let project = self.project_paths.iter().cloned();
        paths.extend(project.map(|path| if is_settings(&path) { protected_settings(path) } else { protect(path) }));
        // The configuration contains the record of the user's agreements. A program may change it only if `write` names
        // it, not a folder above it. If it does not exist, the program must not create it.
        let configuration = self.configuration.iter().map(|path| with_links_resolved(path));
        let is_listed = |path: &PathBuf| writable.iter().any(|root| root.starts_with(path));
        let configuration = configuration.filter(|path| !is_listed(path));
        paths.extend(configuration.map(|path| Protected { path, mask: Mask::Folder }));
        // At `full`, a link at a protected path is an error. At `basic`, orch compares what is behind the link. Leave
        // out the workspace and the folders above it: a program could otherwise change no file.
        let targets = paths.iter().map(|protected| (&protected.path, resolve_links(&protected.path).target));
        let targets = targets.filter(|(path, target)| target != *path && !self.workspace.starts_with(target));
        let targets: Vec<Protected> = targets.map(|(_, target)| protect(target)).collect();
        paths.extend(targets);
        let mut unique: Vec<Protected> = Vec::new();
        for protected in paths {
            // If the workspace itself is protected, it needs no placeholders.
            let is_covered =
                protects_workspace && protected.path != self.workspace && protected.path.starts_with(&self.workspace);
            if !is_covered && unique.iter().all(|known| known.path != protected.path) {
                unique.push(protected);
            }
        }
        unique
    }
}

/// Resolves the links in the part of a path that exists.
fn with_links_resolved(path: &Path) -> PathBuf {
    let resolve = |part: &Path| Some(part.canonicalize().ok()?.join(path.strip_prefix(part).ok()?));
    path.ancestors().find_map(resolve).unwrap_or_else(|| path.to_owned()).components().collect()
}

/// The paths that orch protects in every workspace.
fn default_protection(workspace: &Path) -> Vec<Protected> {
    let paths = usually_protected(workspace).into_iter();
    let paths = paths.map(|protected| match &protected.mask {
        Mask::File(_) if is_settings(&protected.path) => protected_settings(protected.path),
        Mask::File(_) | Mask::Folder | Mask::Nothing => protected,
    });
    paths.collect()
}

fn is_settings(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "orch.yaml")
}

/// Protects an `orch.yaml`, with a placeholder if it does not exist.
fn protected_settings(path: PathBuf) -> Protected {
    Protected { path, mask: Mask::File(SETTINGS_PLACEHOLDER.to_owned()) }
}

/// Removes the placeholders for protected paths that a killed orch process left in a workspace. The caller makes sure
/// that no program of the workspace is running.
pub fn remove_leftover_placeholders(workspace: &Path) {
    remove_leftover_masks(workspace, &default_protection(workspace));
}

/// Removes the placeholders for a missing `orch.yaml` that a killed orch process left at these paths in the root of a
/// project or below it. Keeps those that a program of another orch process needs.
pub fn remove_leftover_settings(root: &Path, paths: impl IntoIterator<Item = PathBuf>) {
    let protect: Vec<Protected> = paths.into_iter().map(protected_settings).collect();
    remove_leftover_masks(root, &protect);
}

#[cfg(test)]
mod tests {
    use orch_confine::confine::{Level, Network, Policy};

    use super::*;
    use crate::model::SandboxLevel;
    use crate::model::step::Access;
    use crate::process::sandbox::SandboxNeeds;
    use crate::process::sandbox_paths::tests::{host, project, spec};

    fn policy(settings: serde_json::Value) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let mut policy = host(folder.path()).policy(&spec(settings, Access::Write), &SandboxNeeds::default()).unwrap();
        let root = folder.path().canonicalize().unwrap();
        let relative = |path: &PathBuf| path.strip_prefix(&root).map(|path| Path::new("ws").join(path)).ok();
        policy.write.iter_mut().for_each(|path| *path = relative(path).unwrap_or_else(|| path.clone()));
        policy.protect.iter_mut().for_each(|protected| {
            protected.path = relative(&protected.path).unwrap_or_else(|| protected.path.clone());
        });
        policy
    }

    #[test]
    fn by_default_a_program_may_write_in_the_workspace_and_may_not_read_secrets() {
        let policy = policy(serde_json::json!({ "deny_read": ["~/notes", "src"] }));
        assert_eq!(policy.write, [PathBuf::from("ws/")]);
        assert_eq!((&policy.network, policy.min), (&Network::None, Level::Full));
        for path in ["/home/u/.ssh", "/home/u/.config/orch", "/etc/shadow", "/home/u/notes"] {
            assert!(policy.deny_read.contains(&PathBuf::from(path)), "{path}");
        }
        let protected = |path: &str| policy.protect.iter().find(|protected| protected.path == Path::new(path));
        assert_eq!(protected("ws/pipelines/main.yaml").map(|found| &found.mask), Some(&Mask::Nothing));
        assert!(
            matches!(protected("ws/orch.yaml").map(|found| &found.mask), Some(Mask::File(text)) if text.starts_with("# "))
        );
        assert_eq!(policy.protect.iter().filter(|found| found.path == Path::new("ws/orch.yaml")).count(), 1);
    }

    #[test]
    fn a_workspace_without_write_access_is_protected_in_every_writable_folder() {
        let (folder, context) = project();
        let home = folder.path().canonicalize().unwrap();
        let whole_path = home.join("project/workspace/src").display().to_string();
        let spec = spec(serde_json::json!({ "write": [".", "~", whole_path] }), Access::Read);
        let policy = context.policy(&spec, &SandboxNeeds::default()).unwrap();
        assert_eq!(policy.write, [home]);
        assert!(policy.protect.iter().any(|protected| protected.path == context.workspace));
        assert!(!policy.protect.iter().any(|protected| protected.path.starts_with(context.workspace.join(".git"))));
        let failure = context.check_workspace_access(&spec, &policy.write, SandboxLevel::Basic).unwrap_err();
        assert!(failure.message.contains("which contains the workspace"), "{}", failure.message);
        for level in [SandboxLevel::None, SandboxLevel::Full] {
            assert!(context.check_workspace_access(&spec, &policy.write, level).is_ok());
        }
    }

    #[test]
    fn the_project_and_the_configuration_are_protected_outside_of_the_workspace_too() {
        let (folder, context) = project();
        let home = folder.path().canonicalize().unwrap();
        let protected = |write: &[&str]| {
            let spec = spec(serde_json::json!({ "write": write }), Access::Write);
            context.policy(&spec, &SandboxNeeds::default()).unwrap().protect
        };
        let paths = protected(&[".", "~"]);
        for name in ["project/orch.yaml", "project/pipelines/main.yaml", "project/.orch", ".config/orch"] {
            assert!(paths.iter().any(|protected| protected.path == home.join(name)), "{name}");
        }
        let listed = protected(&[".", "~/.config/orch"]);
        assert!(!listed.iter().any(|protected| protected.path == home.join(".config/orch")));
        // A missing configuration gets a placeholder, also below a link.
        std::fs::remove_dir(home.join(".config/orch")).unwrap();
        std::fs::rename(home.join(".config"), home.join("settings")).unwrap();
        std::os::unix::fs::symlink("settings", home.join(".config")).unwrap();
        let missing = Protected { path: home.join("settings/orch"), mask: Mask::Folder };
        assert!(protected(&[".", "~"]).contains(&missing));
    }

    #[test]
    fn the_git_folders_of_writable_folders_are_protected() {
        let (folder, context) = project();
        let home = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("other/.git/hooks")).unwrap();
        let spec = spec(serde_json::json!({ "write": [".", "~/other"] }), Access::Write);
        let policy = context.policy(&spec, &SandboxNeeds::default()).unwrap();
        assert!(policy.protect.iter().any(|protected| protected.path == home.join("other/.git/hooks")));
    }

    #[test]
    fn the_places_to_which_links_lead_are_protected_except_for_the_workspace() {
        let (_folder, context) = project();
        std::fs::create_dir_all(context.workspace.join(".git")).unwrap();
        for (target, link) in [("../my-hooks", ".git/hooks"), ("..", ".github")] {
            std::os::unix::fs::symlink(target, context.workspace.join(link)).unwrap();
        }
        let paths = context.protected_paths(false, std::slice::from_ref(&context.workspace));
        let has = |path: &Path| paths.iter().any(|protected| protected.path == path);
        assert!(has(&context.workspace.join(".git/hooks")) && has(&context.workspace.join("my-hooks")));
        assert!(has(&context.workspace.join(".github")) && !has(context.workspace.parent().unwrap()));
    }

    #[test]
    fn leftover_placeholders_are_removed_and_files_of_the_user_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        // Without the modification time of a placeholder, even an empty folder is the user's.
        for name in [".orch", ".github", ".git", ".git/hooks"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("orch.yaml"), SETTINGS_PLACEHOLDER).unwrap();
        std::fs::write(root.join(".git/commondir"), ".\n").unwrap();
        remove_leftover_placeholders(root);
        for name in [".orch", ".github", ".git/hooks", ".git/commondir", "orch.yaml"] {
            assert!(root.join(name).exists(), "{name}");
        }
    }
}
