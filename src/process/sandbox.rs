//! Converts the sandbox settings of a program to a policy for the crate `orch-confine`, which confines the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orch_confine::confine::{self, Host, Level, Limits, Network, Policy};
use tempfile::TempDir;

use crate::model::{
    AllowedHost, Failure, FailureClass, SandboxLevel, SandboxLimits, SandboxNetwork, SandboxSpec, is_outside_workspace,
};

use super::sandbox_paths::SETTINGS_PLACEHOLDER;
use super::sandbox_probe::{MachineSandbox, SandboxProbe};

/// The parts of a sandbox that all programs of a run share.
#[derive(Clone, Debug)]
pub struct SandboxContext {
    /// Finds out which sandboxes this machine can enforce.
    pub probe: SandboxProbe,
    /// The workspace, absolute, with links resolved.
    pub workspace: PathBuf,
    /// The user's home, for paths that start with `~/`.
    pub home: Option<PathBuf>,
    /// The folder of the user's configuration of orch, which no program may read.
    pub configuration: Option<PathBuf>,
    /// Folders that stay readable, even if they are below a folder that the sandbox hides, such as `/tmp`.
    pub readable: Vec<PathBuf>,
    /// The files of the project that no program may change, relative to the workspace.
    pub project_files: Vec<String>,
}

/// What a program needs in addition to the settings of its sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxNeeds {
    /// Folders of the program that it may change.
    pub writable: Vec<PathBuf>,
    /// Hosts that the program may connect to, even with `network: none`.
    pub hosts: Vec<AllowedHost>,
    /// Files and folders that stay readable, even if they are below a folder that the sandbox hides.
    pub readable: Vec<PathBuf>,
    /// The folder for temporary files; `None` if orch may choose it.
    pub temporary_folder: Option<PathBuf>,
    /// The command line to start if the level in force is `basic` or `full`; `None` for the same command line as
    /// without a sandbox.
    pub argv_in_sandbox: Option<Vec<String>>,
}

/// The sandbox of a program, ready to be enforced.
#[derive(Debug)]
pub struct ProgramSandbox {
    pub(super) policy: Policy,
    pub(super) machine: Arc<MachineSandbox>,
    /// See [`SandboxNeeds::argv_in_sandbox`].
    pub(super) argv_in_sandbox: Option<Vec<String>>,
    /// The folder for temporary files. Dropping this value removes it.
    _temporary_folder: Option<TempDir>,
}

impl SandboxContext {
    /// Creates a value for programs in this workspace. The other fields are empty.
    pub fn new(probe: SandboxProbe, workspace: PathBuf) -> Self {
        Self { probe, workspace, home: None, configuration: None, readable: Vec::new(), project_files: Vec::new() }
    }

    /// Prepares the sandbox of a program.
    ///
    /// # Errors
    /// This machine can't enforce the sandbox, or orch can't use one of its paths.
    pub async fn prepare(&self, spec: &SandboxSpec, needs: SandboxNeeds) -> Result<ProgramSandbox, Failure> {
        let machine = self.probe.machine().await?;
        machine.check(spec, !needs.hosts.is_empty())?;
        let new_temporary_folder = match &needs.temporary_folder {
            // At this level, the program has its own `/tmp`.
            None if machine.level() == SandboxLevel::Full && cfg!(target_os = "linux") => None,
            Some(_) => None,
            None => Some(create_temporary_folder()?),
        };
        let mut policy = self.policy(spec, &needs)?;
        policy.tmp =
            needs.temporary_folder.or_else(|| new_temporary_folder.as_ref().map(|folder| folder.path().to_owned()));
        let argv_in_sandbox = needs.argv_in_sandbox;
        Ok(ProgramSandbox { policy, machine, argv_in_sandbox, _temporary_folder: new_temporary_folder })
    }

    fn policy(&self, spec: &SandboxSpec, needs: &SandboxNeeds) -> Result<Policy, Failure> {
        let writable: Vec<PathBuf> =
            spec.write.iter().map(|path| self.writable_path(path)).collect::<Result<_, Failure>>()?;
        let outside_paths = spec.write.iter().zip(&writable).filter(|(path, _)| is_outside_workspace(path));
        let outside_paths: Vec<&PathBuf> = outside_paths.map(|(_, resolved)| resolved).collect();
        let deny_read = self.denied_reads(&spec.deny_read, &outside_paths);
        Ok(Policy {
            min: confine_level(spec.min),
            write: writable.into_iter().chain(needs.writable.iter().cloned()).collect(),
            read: self.readable.iter().chain(&needs.readable).filter_map(|path| path.canonicalize().ok()).collect(),
            protect: self.protected_paths(),
            deny_read,
            network: policy_network(&spec.network, &needs.hosts)?,
            unix_sockets: spec.unix_sockets,
            limits: confine_limits(&spec.limits),
            tmp: None,
        })
    }

    /// Resolves the links in a path of `write`.
    ///
    /// # Errors
    /// The path does not exist or can't be resolved, or it is a path in the workspace with a link that leads out of it. A
    /// confined program could have created such a link for a later step.
    pub(super) fn writable_path(&self, path: &str) -> Result<PathBuf, Failure> {
        let not_confined = |message: String| Failure::new(FailureClass::NotConfined, message);
        let Some(expanded) = self.expand(path) else {
            return Err(not_confined(format!("`{path}` of `sandbox.write` is in your home, and HOME is not set"))
                .with_hint("set HOME, or write the whole path from `/`"));
        };
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

fn create_temporary_folder() -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix("orch-").tempdir().map_err(|error| {
        let message = format!("orch can't create a folder for the temporary files of a confined program: {error}");
        Failure::new(FailureClass::NotConfined, message)
    })
}

/// Removes the placeholders for protected paths that a killed orch process left in a workspace: empty folders, and
/// files that still have the content of the placeholder. The caller makes sure that no program of the workspace is
/// running.
pub fn remove_leftover_placeholders(workspace: &Path) {
    for name in [".git", ".orch", ".github"] {
        // Removing a folder that is not empty fails.
        drop(std::fs::remove_dir(workspace.join(name)));
    }
    let git = workspace.join(".git");
    for (path, text) in [(workspace.join("orch.yaml"), SETTINGS_PLACEHOLDER), (git.join("commondir"), ".\n")] {
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Finds the limit that a failed program probably reached, from the end of its output. Returns a sentence.
pub fn probable_limit(spec: &SandboxSpec, output: &str) -> Option<String> {
    confine::limit_in_output(output, &confine_limits(&spec.limits)).map(|limit| without_advice(&limit.to_string()))
}

/// Removes the advice after the semicolon from a message, because the hint of the failure contains the advice.
pub(super) fn without_advice(text: &str) -> String {
    text.split_once("; ").map_or(text, |(first, _)| first).to_owned()
}

/// The network of the policy: the hosts that the settings allow, and the hosts that the program needs.
fn policy_network(network: &SandboxNetwork, needed: &[AllowedHost]) -> Result<Network, Failure> {
    let listed: &[AllowedHost] = match network {
        SandboxNetwork::All => return Ok(Network::All),
        SandboxNetwork::None => &[],
        SandboxNetwork::Hosts(hosts) => hosts,
    };
    let parse = |host: &AllowedHost| host.parse().map_err(|reason| Failure::new(FailureClass::NotConfined, reason));
    let hosts: Vec<Host> = listed.iter().chain(needed).map(parse).collect::<Result<_, Failure>>()?;
    Ok(if hosts.is_empty() { Network::None } else { Network::Hosts(hosts) })
}

fn confine_limits(limits: &SandboxLimits) -> Limits {
    Limits {
        memory: limits.memory.map(|bytes| bytes.0),
        processes: limits.processes,
        // Rounds up, because the policy counts whole seconds.
        cpu_time: limits.cpu_time.map(|time| time.0.as_millis().div_ceil(1000)).and_then(|time| time.try_into().ok()),
        file_size: limits.file_size.map(|bytes| bytes.0),
        open_files: limits.open_files,
    }
}

pub(super) fn confine_level(level: SandboxLevel) -> Level {
    match level {
        SandboxLevel::None => Level::None,
        SandboxLevel::Basic => Level::Basic,
        SandboxLevel::Full => Level::Full,
    }
}

pub(super) fn sandbox_level(level: Level) -> SandboxLevel {
    match level {
        Level::None => SandboxLevel::None,
        Level::Basic => SandboxLevel::Basic,
        Level::Full => SandboxLevel::Full,
    }
}

#[cfg(test)]
mod tests {
    use orch_confine::confine::Mask;

    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;

    fn host(workspace: &Path) -> SandboxContext {
        SandboxContext {
            probe: SandboxProbe::new("/nowhere/orch".into()),
            workspace: workspace.canonicalize().unwrap(),
            home: Some("/home/u".into()),
            configuration: Some("/home/u/.config/orch".into()),
            readable: vec!["/project".into()],
            project_files: vec!["pipelines/main.yaml".to_owned(), "orch.yaml".to_owned()],
        }
    }

    fn policy(settings: serde_json::Value) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let settings: Sandbox = serde_json::from_value(settings).unwrap();
        let spec = SandboxSpec::resolve(&settings, &Sandbox::default(), Access::Write).unwrap();
        let mut policy = host(folder.path()).policy(&spec, &SandboxNeeds::default()).unwrap();
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
    fn a_program_may_read_a_secret_that_write_names_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let mut host = host(folder.path());
        host.home = Some(home.clone());
        std::fs::create_dir(home.join(".docker")).unwrap();
        let spec = |write: &[&str]| SandboxSpec {
            write: write.iter().map(|path| (*path).to_owned()).collect(),
            ..SandboxSpec::resolve(&Sandbox::default(), &Sandbox::default(), Access::Write).unwrap()
        };
        let policy = host.policy(&spec(&["~/.docker"]), &SandboxNeeds::default()).unwrap();
        assert!(policy.write.contains(&home.join(".docker")));
        assert!(!policy.deny_read.contains(&home.join(".docker")) && policy.deny_read.contains(&home.join(".ssh")));
        let failure = host.policy(&spec(&["missing"]), &SandboxNeeds::default()).unwrap_err();
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
            let spec = SandboxSpec {
                write: vec![path.to_owned()],
                ..SandboxSpec::resolve(&Sandbox::default(), &Sandbox::default(), Access::Write).unwrap()
            };
            host(folder.path()).policy(&spec, &SandboxNeeds::default())
        };
        for path in ["link", "link/sub", "./link/sub/"] {
            let failure = policy(path).unwrap_err();
            assert_eq!(failure.class, FailureClass::NotConfined);
            assert!(failure.message.contains("leads out of the workspace"), "{}", failure.message);
        }
        assert_eq!(policy("inside").unwrap().write, [folder.path().canonicalize().unwrap().join("real")]);
    }

    #[test]
    fn the_hosts_that_a_program_needs_are_added_to_a_list_and_to_none() {
        let needed = [AllowedHost { host: "api.anthropic.com".to_owned(), private: false }];
        let hosts = |network: &SandboxNetwork| policy_network(network, &needed).unwrap();
        assert_eq!(hosts(&SandboxNetwork::All), Network::All);
        assert!(matches!(hosts(&SandboxNetwork::None), Network::Hosts(list) if list.len() == 1));
        let listed = SandboxNetwork::Hosts(vec![AllowedHost { host: "crates.io".to_owned(), private: true }]);
        assert!(matches!(hosts(&listed), Network::Hosts(list) if list.len() == 2));
        assert_eq!(policy_network(&SandboxNetwork::None, &[]).unwrap(), Network::None);
    }

    #[test]
    fn leftover_placeholders_are_removed_and_files_of_the_user_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [".orch", ".github", ".git", ".git/hooks"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("orch.yaml"), SETTINGS_PLACEHOLDER).unwrap();
        std::fs::write(root.join(".git/commondir"), ".\n").unwrap();
        remove_leftover_placeholders(root);
        assert!(root.join(".git/hooks").exists() && !root.join(".git/commondir").exists());
        assert!(!root.join(".orch").exists() && !root.join(".github").exists() && !root.join("orch.yaml").exists());
        std::fs::write(root.join("orch.yaml"), "# mine\n").unwrap();
        remove_leftover_placeholders(root);
        assert!(root.join("orch.yaml").exists());
    }
}
