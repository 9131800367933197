//! The paths of a sandbox that a program may change and may not read, as its settings describe them.

use std::path::{Component, PathBuf};

use crate::model::{Failure, FailureClass, SandboxLevel, SandboxSpec, is_outside_workspace};

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

impl SandboxContext {
    /// Checks the paths of a sandbox before a run. A path in the workspace may be missing, because an earlier step may
    /// create it.
    ///
    /// # Errors
    /// orch can't use a path, or the level can't protect the workspace.
    pub fn check_paths(&self, spec: &SandboxSpec, level: SandboxLevel) -> Result<(), Failure> {
        let mut roots = Vec::new();
        for path in &spec.write {
            let exists = || self.expand(path).is_some_and(|path| path.exists());
            if is_outside_workspace(path) || exists() {
                roots.push(self.writable_path(path)?);
            }
        }
        self.denied_by_settings(spec)?;
        self.check_workspace_access(spec, &roots, level)
    }

    /// Checks that a program without write access to the workspace can't change it through a folder above it.
    pub(super) fn check_workspace_access(
        &self,
        spec: &SandboxSpec,
        writable: &[PathBuf],
        level: SandboxLevel,
    ) -> Result<(), Failure> {
        let root = writable.iter().find(|root| self.workspace.starts_with(root) && **root != self.workspace);
        match root {
            Some(root) if spec.protects_workspace && level == SandboxLevel::Basic => {
                let message = format!(
                    "`sandbox.write` lists `{}`, which contains the workspace, and without `access: write` the program \
                     may not change the workspace; only the level `full` can enforce this, and this machine reaches \
                     `{level}`",
                    root.display()
                );
                Err(Failure::new(FailureClass::NotConfined, message).with_hint(
                    "list folders under `write` that do not contain the workspace, or write `access: write`",
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The paths that the program may change according to its settings, with links resolved.
    ///
    /// # Errors
    /// orch can't use a path.
    pub(super) fn writable_paths(&self, spec: &SandboxSpec) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for path in &spec.write {
            let resolved = self.writable_path(path)?;
            // The whole path of a folder may lead into the workspace.
            if !spec.protects_workspace || !resolved.starts_with(&self.workspace) {
                paths.push(resolved);
            }
        }
        Ok(paths)
    }

    /// The paths that the program may not read.
    ///
    /// # Errors
    /// orch can't use a path of the settings.
    pub(super) fn denied_paths(&self, spec: &SandboxSpec) -> Result<Vec<PathBuf>, Failure> {
        // A user who allows a program to change a path outside the workspace also allows it to read the secrets there.
        let outside_paths = spec.write.iter().filter(|path| is_outside_workspace(path));
        let outside_paths: Vec<PathBuf> =
            outside_paths.map(|path| self.writable_path(path)).collect::<Result<_, _>>()?;
        let mut denied = self.secret_paths(&outside_paths);
        denied.extend(self.denied_by_settings(spec)?);
        Ok(denied)
    }

    /// The paths with keys and passwords, and the user's configuration of orch, without those in `readable_folders`.
    pub(super) fn secret_paths(&self, readable_folders: &[PathBuf]) -> Vec<PathBuf> {
        let is_readable = |path: &PathBuf| {
            let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
            readable_folders.iter().any(|folder| path.starts_with(folder) || resolved.starts_with(folder))
        };
        let secrets = SECRET_PATHS.iter().filter_map(|path| self.expand(path)).chain(self.configuration.clone());
        secrets.filter(|path| !is_readable(path)).collect()
    }

    /// The paths of `deny_read`.
    fn denied_by_settings(&self, spec: &SandboxSpec) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for path in &spec.deny_read {
            let expanded = self.expand(path).ok_or_else(|| unknown_home("deny_read", path))?;
            let resolved = expanded.canonicalize().unwrap_or_else(|_| expanded.clone());
            if self.workspace.starts_with(&resolved) {
                let message =
                    format!("`{path}` of `sandbox.deny_read` contains the workspace, in which the program runs");
                return Err(Failure::new(FailureClass::NotConfined, message)
                    .with_hint("list the folders and files below it that the program must not read"));
            }
            paths.push(expanded);
        }
        Ok(paths)
    }

    /// Converts a path in the settings to an absolute path. After `~`, the path is relative to the user's home,
    /// otherwise to the workspace. Returns `None` if the home is unknown.
    fn expand(&self, path: &str) -> Option<PathBuf> {
        let absolute = match path.strip_prefix('~') {
            Some(path_in_home) => self.home.as_ref()?.join(path_in_home.trim_start_matches('/')),
            None => self.workspace.join(path),
        };
        // Removes `.`, so that different spellings of a path compare as equal.
        Some(absolute.components().filter(|component| *component != Component::CurDir).collect())
    }

    /// Resolves the links in a path of `write`.
    ///
    /// # Errors
    /// The path does not exist or can't be resolved, or it is a path in the workspace with a link that leads out of it. A
    /// confined program could have created such a link for a later step.
    pub(super) fn writable_path(&self, path: &str) -> Result<PathBuf, Failure> {
        let not_confined = |message: String| Failure::new(FailureClass::NotConfined, message);
        let expanded = self.expand(path).ok_or_else(|| unknown_home("write", path))?;
        let resolved = expanded.canonicalize().map_err(|error| {
            not_confined(format!("`{path}` of `sandbox.write` can't be used: `{}`: {error}", expanded.display()))
                .with_hint("create it before the step, or remove it from `write`")
        })?;
        if !is_outside_workspace(path) && !resolved.starts_with(&self.workspace) {
            let resolved = resolved.display();
            return Err(not_confined(format!(
                "`{path}` of `sandbox.write` leads out of the workspace, to `{resolved}`"
            ))
            .with_hint("remove the link, or write the whole path from `~/` or `/`"));
        }
        Ok(resolved)
    }
}

fn unknown_home(key: &str, path: &str) -> Failure {
    let message = format!("`{path}` of `sandbox.{key}` is in your home, and HOME is not set");
    Failure::new(FailureClass::NotConfined, message).with_hint("set HOME, or write the whole path from `/`")
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;
    use crate::process::sandbox::SandboxNeeds;
    use crate::process::sandbox_probe::SandboxProbe;

    pub(in crate::process) fn host(workspace: &Path) -> SandboxContext {
        let workspace = workspace.canonicalize().unwrap();
        SandboxContext {
            probe: SandboxProbe::new("/nowhere/orch".into()),
            home: Some("/home/u".into()),
            configuration: Some("/home/u/.config/orch".into()),
            project_root: Some("/project".into()),
            project_paths: ["pipelines/main.yaml", "orch.yaml"].map(|name| workspace.join(name)).into(),
            state_folder: None,
            workspace,
        }
    }

    pub(in crate::process) fn spec(settings: serde_json::Value, access: Access) -> SandboxSpec {
        let settings: Sandbox = serde_json::from_value(settings).unwrap();
        SandboxSpec::resolve(&settings, &Sandbox::default(), access).unwrap()
    }

    #[test]
    fn a_program_may_read_a_secret_that_write_names_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let mut host = host(folder.path());
        host.home = Some(home.clone());
        std::fs::create_dir(home.join(".docker")).unwrap();
        let spec = |write: &str| spec(serde_json::json!({ "write": [write] }), Access::Write);
        let policy = host.policy(&spec("~/.docker"), &SandboxNeeds::default()).unwrap();
        assert!(policy.write.contains(&home.join(".docker")));
        assert!(!policy.deny_read.contains(&home.join(".docker")) && policy.deny_read.contains(&home.join(".ssh")));
        let failure = host.policy(&spec("missing"), &SandboxNeeds::default()).unwrap_err();
        assert_eq!(failure.class, FailureClass::NotConfined);
        assert!(failure.message.contains("`missing` of `sandbox.write`"), "{}", failure.message);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_workspace_does_not_make_its_target_writable() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(outside.path().join("sub")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("inside")).unwrap();
        let policy = |path: &str| {
            let spec = spec(serde_json::json!({ "write": [path] }), Access::Write);
            host(folder.path()).policy(&spec, &SandboxNeeds::default())
        };
        for path in ["link", "link/sub", "./link/sub/"] {
            let failure = policy(path).unwrap_err();
            assert_eq!(failure.class, FailureClass::NotConfined);
            assert!(failure.message.contains("leads out of the workspace"), "{}", failure.message);
        }
        assert_eq!(policy("inside").unwrap().write, [folder.path().canonicalize().unwrap().join("real")]);
    }

    /// A project with a workspace in a home.
    pub(in crate::process) fn project() -> (tempfile::TempDir, SandboxContext) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        for name in ["project/workspace/src", "project/.orch", ".config/orch"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
        }
        let context = SandboxContext {
            home: Some(home.clone()),
            configuration: Some(home.join(".config/orch")),
            project_paths: ["pipelines/main.yaml", "orch.yaml", ".orch"]
                .map(|name| home.join("project").join(name))
                .into(),
            ..host(&home.join("project/workspace"))
        };
        (folder, context)
    }

    #[test]
    fn paths_outside_the_workspace_are_checked_before_a_run_and_name_their_key() {
        let (_folder, context) = project();
        let message = |settings: serde_json::Value| {
            let checked = context.check_paths(&spec(settings, Access::Write), SandboxLevel::Full);
            checked.map_or_else(|failure| failure.message, |()| String::new())
        };
        for (settings, expected) in [
            (serde_json::json!({ "write": ["/nonexistent/orch"] }), "`/nonexistent/orch` of `sandbox.write`"),
            (serde_json::json!({ "write": [".", "~/missing"] }), "`~/missing` of `sandbox.write`"),
            (serde_json::json!({ "deny_read": ["~"] }), "`~` of `sandbox.deny_read` contains the workspace"),
            (serde_json::json!({ "deny_read": ["."] }), "`.` of `sandbox.deny_read` contains the workspace"),
            (serde_json::json!({ "deny_read": ["/"] }), "`/` of `sandbox.deny_read` contains the workspace"),
        ] {
            let message = message(settings.clone());
            assert!(message.contains(expected), "{settings}: {message}");
        }
        // An earlier step may create this folder.
        assert_eq!(message(serde_json::json!({ "write": ["out"], "deny_read": ["src", "~/x"] })), "");
        let homeless = SandboxContext { home: None, ..context.clone() };
        let spec = spec(serde_json::json!({ "deny_read": ["~/x"] }), Access::Write);
        let failure = homeless.check_paths(&spec, SandboxLevel::Full).unwrap_err();
        assert!(failure.message.contains("`~/x` of `sandbox.deny_read` is in your home"), "{}", failure.message);
    }
}
