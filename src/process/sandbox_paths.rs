//! The paths that a sandbox protects and denies, for the policies of programs and for orch's own file tools.

use std::path::{Component, Path, PathBuf};

use orch_confine::confine::{Mask, Protected, usually_protected};

use crate::model::{SandboxSpec, is_outside_workspace};

use super::sandbox::SandboxContext;

/// The paths at which common programs and the operating system store keys and passwords. No confined program may read
/// such a path, unless `write` allows the program to change it.
const SECRET_PATHS: &[&str] = &[
    "~/.ssh",
    "~/.gnupg",
    "~/.aws",
    "~/.azure",
    "~/.config/gcloud",
    "~/.kube",
    "~/.docker",
    "~/.netrc",
    "~/.git-credentials",
    "~/.config/git/credentials",
    "~/.config/gh",
    "~/.config/hub",
    "~/.npmrc",
    "~/.yarnrc.yml",
    "~/.pypirc",
    "~/.cargo/credentials",
    "~/.cargo/credentials.toml",
    "~/.gem/credentials",
    "~/.config/op",
    "~/.password-store",
    "~/.local/share/keyrings",
    "~/.mozilla",
    "~/.config/google-chrome",
    "~/.config/chromium",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/shadow-",
    "/etc/gshadow-",
];

/// The content of the placeholder for a missing `orch.yaml` in the workspace. The content is only a comment, so another
/// orch process that reads the file uses the default settings.
pub(super) const SETTINGS_PLACEHOLDER: &str =
    "# A placeholder: orch creates this file while a confined program runs, and removes it afterwards\n";

/// The rules of a sandbox for the files of the workspace. Each path is relative to the workspace, with `/`; an empty
/// path is the workspace itself. A rule for a folder also applies to everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceRules {
    /// The paths that may not be read.
    pub denied_reads: Vec<String>,
    /// The paths that may be changed.
    pub writable: Vec<String>,
    /// The paths that may not be changed, because git or orch reads or runs them later.
    pub protected: Vec<String>,
}

impl SandboxContext {
    /// The rules for orch's own file tools, which are the same as for a program in this sandbox. Without a sandbox,
    /// every path of the workspace may be changed, except for the protected ones.
    pub fn workspace_rules(&self, spec: Option<&SandboxSpec>) -> WorkspaceRules {
        let protected = self.protected_paths();
        let protected = protected.iter().filter_map(|protected| self.path_in_workspace(&protected.path)).collect();
        let Some(spec) = spec else {
            let denied_reads = self.paths_in_workspace(&self.denied_reads(&[], &[]));
            return WorkspaceRules { denied_reads, writable: vec![String::new()], protected };
        };
        let resolve = |path: &String| self.writable_path(path).ok().map(|resolved| (path, resolved));
        let writable: Vec<(&String, PathBuf)> = spec.write.iter().filter_map(resolve).collect();
        let outside_paths = writable.iter().filter(|(path, _)| is_outside_workspace(path));
        let outside_paths: Vec<&PathBuf> = outside_paths.map(|(_, resolved)| resolved).collect();
        let denied_reads = self.paths_in_workspace(&self.denied_reads(&spec.deny_read, &outside_paths));
        let writable = writable.iter().filter_map(|(_, resolved)| self.path_in_workspace(resolved)).collect();
        WorkspaceRules { denied_reads, writable, protected }
    }

    /// The paths that may not be read: those with keys and passwords, and those in the settings. A user who allows a
    /// program to change a path outside the workspace (`writable_outside`) also allows it to read the secrets there.
    pub(super) fn denied_reads(&self, deny_read: &[String], writable_outside: &[&PathBuf]) -> Vec<PathBuf> {
        let secrets = SECRET_PATHS.iter().filter_map(|path| self.expand(path)).chain(self.configuration.clone());
        let secrets = secrets.filter(|path| !writable_outside.iter().any(|folder| path.starts_with(folder)));
        secrets.chain(deny_read.iter().filter_map(|path| self.expand(path))).collect()
    }

    /// The parts of these paths that are in the workspace, also of those that lead there through a link.
    fn paths_in_workspace(&self, paths: &[PathBuf]) -> Vec<String> {
        let mut relative_paths: Vec<String> = Vec::new();
        for path in paths {
            for path in [Some(path.clone()), path.canonicalize().ok()].into_iter().flatten() {
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

    /// Converts a path in the settings to an absolute path. After `~`, the path is relative to the user's home,
    /// otherwise to the workspace. Returns `None` if the home is unknown.
    pub(super) fn expand(&self, path: &str) -> Option<PathBuf> {
        let absolute = match path.strip_prefix('~') {
            Some(path_in_home) => self.home.as_ref()?.join(path_in_home.trim_start_matches('/')),
            None => self.workspace.join(path),
        };
        // Removes `.`, so that different spellings of a path compare as equal.
        Some(absolute.components().filter(|component| *component != Component::CurDir).collect())
    }

    /// The paths in the workspace that no program may change, because git or orch reads or runs them later.
    pub(super) fn protected_paths(&self) -> Vec<Protected> {
        let is_settings = |path: &Path| path.file_name().is_some_and(|name| name == "orch.yaml");
        let defaults = usually_protected(&self.workspace).into_iter();
        let defaults = defaults.map(|protected| match &protected.mask {
            Mask::File(_) if is_settings(&protected.path) => protected_settings(protected.path),
            Mask::File(_) | Mask::Folder | Mask::Nothing => protected,
        });
        let project_files = self.project_files.iter().map(|name| {
            let path = self.workspace.join(name);
            if is_settings(&path) { protected_settings(path) } else { Protected { path, mask: Mask::Nothing } }
        });
        let mut paths: Vec<Protected> = defaults.collect();
        for protected in project_files {
            if paths.iter().all(|existing| existing.path != protected.path) {
                paths.push(protected);
            }
        }
        paths
    }
}

/// Protects an `orch.yaml`, with a placeholder if it does not exist.
fn protected_settings(path: PathBuf) -> Protected {
    Protected { path, mask: Mask::File(SETTINGS_PLACEHOLDER.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;
    use crate::process::SandboxProbe;

    fn context(workspace: &Path) -> SandboxContext {
        let probe = SandboxProbe::new("/nowhere/orch".into());
        let project_files = vec!["pipelines/main.yaml".to_owned()];
        SandboxContext { project_files, ..SandboxContext::new(probe, workspace.canonicalize().unwrap()) }
    }

    #[test]
    fn the_rules_contain_the_paths_of_the_sandbox_that_are_in_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src", "keys"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let settings = json!({ "write": ["./src", "/"], "deny_read": ["keys", "~/notes", "/etc"] });
        let settings: Sandbox = serde_json::from_value(settings).unwrap();
        let mut spec = SandboxSpec::resolve(&settings, &Sandbox::default(), Access::Write).unwrap();
        let mut context = context(folder.path());
        let rules = context.workspace_rules(Some(&spec));
        assert_eq!(rules.denied_reads, ["keys"]);
        assert_eq!(rules.writable, ["src", ""]);
        for path in [".orch", "orch.yaml", ".github", "pipelines/main.yaml"] {
            assert!(rules.protected.contains(&path.to_owned()), "{path}");
        }
        spec.write = vec!["missing".to_owned(), "src".to_owned()];
        assert_eq!(context.workspace_rules(Some(&spec)).writable, ["src"]);
        context.home = Some(context.workspace.clone());
        let rules = context.workspace_rules(None);
        for path in [".ssh", ".cargo/credentials.toml"] {
            assert!(rules.denied_reads.contains(&path.to_owned()), "{path}");
        }
        assert_eq!(rules.writable, [""]);
    }

    #[cfg(unix)]
    #[test]
    fn a_denied_link_also_denies_the_folder_to_which_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let settings: Sandbox = serde_json::from_value(json!({ "deny_read": ["link"] })).unwrap();
        let spec = SandboxSpec::resolve(&settings, &Sandbox::default(), Access::Write).unwrap();
        assert_eq!(context(folder.path()).workspace_rules(Some(&spec)).denied_reads, ["link", "real"]);
    }
}
