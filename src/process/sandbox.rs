//! Turns the sandbox of a program into the policy that the kernel enforces. The crate `orch-confine` confines the
//! program; `confined.rs` starts it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use orch_confine::confine::{self, Host, Level, Limits, Mask, Network, Policy, Protected, usually_protected};
use tempfile::TempDir;

use crate::model::{
    AllowedHost, Failure, FailureClass, SandboxLevel, SandboxLimits, SandboxNetwork, SandboxSpec, is_outside_workspace,
};

use super::sandbox_probe::{MachineSandbox, SandboxProbe};

/// Where well-known programs keep keys and passwords, and the system its own. No confined program may read them.
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
];

/// What takes the place of an `orch.yaml` that does not exist in the workspace, so that a program can't create it.
/// orch reads a file with nothing but a comment like no file.
const SETTINGS_MASK: &str = "# orch keeps this place while a confined program runs, and removes this file afterwards\n";

/// What the sandboxes of all programs of a run have in common.
#[derive(Clone, Debug)]
pub struct SandboxHost {
    /// Finds out what this machine can do.
    pub probe: SandboxProbe,
    /// The workspace, absolute, with links resolved.
    pub workspace: PathBuf,
    /// The user's home, for paths that start with `~/`.
    pub home: Option<PathBuf>,
    /// The folder of the user's configuration of orch, which no program may read.
    pub configuration: Option<PathBuf>,
    /// Folders that stay readable although they may be below a folder that is private to a program, such as `/tmp`.
    pub readable: Vec<PathBuf>,
    /// The project's files in the workspace, relative to it, which no program may change.
    pub project_files: Vec<String>,
}

/// What a program needs besides the settings of its sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxNeeds {
    /// Its own folders, which it may change.
    pub writable: Vec<PathBuf>,
    /// Hosts that it reaches unless everything is reachable anyway.
    pub hosts: Vec<AllowedHost>,
    /// Files and folders that must stay readable.
    pub readable: Vec<PathBuf>,
    /// The folder for its temporary files, if it must be this one.
    pub temporary_folder: Option<PathBuf>,
    /// The command line to start once the kernel enforces the sandbox, if it differs.
    pub confirmed_argv: Option<Vec<String>>,
}

/// How a program is confined.
#[derive(Debug)]
pub struct ProgramSandbox {
    pub(super) policy: Policy,
    pub(super) machine: Arc<MachineSandbox>,
    /// The command line to start once the kernel enforces the policy, if it differs.
    pub(super) confirmed_argv: Option<Vec<String>>,
    /// The folder for temporary files, removed after the program.
    _temporary: Option<TempDir>,
}

impl SandboxHost {
    /// The sandboxes of programs in a workspace, without the folders of a user or a project.
    pub fn new(probe: SandboxProbe, workspace: PathBuf) -> Self {
        Self { probe, workspace, home: None, configuration: None, readable: Vec::new(), project_files: Vec::new() }
    }

    /// Prepares the sandbox of a program.
    ///
    /// # Errors
    /// This machine can't enforce the sandbox, or a path of it can't be used.
    pub async fn confine(&self, spec: &SandboxSpec, needs: SandboxNeeds) -> Result<ProgramSandbox, Failure> {
        let machine = self.probe.machine().await?;
        machine.check(spec, !needs.hosts.is_empty())?;
        let temporary = match &needs.temporary_folder {
            // At this level, the program gets an empty `/tmp` of its own.
            None if machine.level() == SandboxLevel::Full && cfg!(target_os = "linux") => None,
            Some(_) => None,
            None => Some(temporary_folder()?),
        };
        let mut policy = self.policy(spec, &needs)?;
        policy.tmp = needs.temporary_folder.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned()));
        Ok(ProgramSandbox { policy, machine, confirmed_argv: needs.confirmed_argv, _temporary: temporary })
    }

    fn policy(&self, spec: &SandboxSpec, needs: &SandboxNeeds) -> Result<Policy, Failure> {
        let named: Vec<PathBuf> =
            spec.write.iter().map(|path| self.writable_path(path)).collect::<Result<_, Failure>>()?;
        // The user asked for these by name, so a secret that one of them contains is not denied.
        let outside = spec.write.iter().zip(&named).filter(|(path, _)| is_outside_workspace(path));
        let outside: Vec<&PathBuf> = outside.map(|(_, resolved)| resolved).collect();
        let secrets = SECRET_PATHS.iter().filter_map(|path| self.expand(path)).chain(self.configuration.clone());
        let secrets = secrets.filter(|path| !outside.iter().any(|folder| path.starts_with(folder)));
        let denied = spec.deny_read.iter().filter_map(|path| self.expand(path));
        let deny_read = secrets.chain(denied).collect();
        Ok(Policy {
            min: confine_level(spec.min),
            write: named.into_iter().chain(needs.writable.iter().cloned()).collect(),
            read: self.readable.iter().chain(&needs.readable).filter_map(|path| path.canonicalize().ok()).collect(),
            protect: self.protected(),
            deny_read,
            network: network(&spec.network, &needs.hosts)?,
            unix_sockets: spec.unix_sockets,
            limits: confine_limits(&spec.limits),
            tmp: None,
        })
    }

    /// An absolute path for a path as written: relative to the workspace, or below the user's home. `None` without a
    /// home.
    fn expand(&self, path: &str) -> Option<PathBuf> {
        let absolute = match path.strip_prefix('~') {
            Some(rest) => self.home.as_ref()?.join(rest.trim_start_matches('/')),
            None => self.workspace.join(path),
        };
        // `.` would make paths differ that are the same.
        Some(absolute.components().filter(|part| *part != Component::CurDir).collect())
    }

    /// A path of `write`, which must exist.
    fn writable_path(&self, path: &str) -> Result<PathBuf, Failure> {
        let not_confined = |problem: String| Failure::new(FailureClass::NotConfined, problem);
        let Some(expanded) = self.expand(path) else {
            return Err(not_confined(format!("`{path}` of `sandbox.write` needs a home, and HOME is not set"))
                .with_hint("set HOME, or write the path from `/` on"));
        };
        expanded.canonicalize().map_err(|error| {
            not_confined(format!("`{path}` of `sandbox.write` can't be used: `{}`: {error}", expanded.display()))
                .with_hint("create it before the step, or remove it from `write`")
        })
    }

    /// The paths in the workspace that no program may change: what git and orch run or read later.
    fn protected(&self) -> Vec<Protected> {
        let is_settings = |path: &Path| path.file_name().is_some_and(|name| name == "orch.yaml");
        let usual = usually_protected(&self.workspace).into_iter();
        let usual = usual.map(|protected| match &protected.mask {
            Mask::File(_) if is_settings(&protected.path) => settings_mask(protected.path),
            Mask::File(_) | Mask::Folder | Mask::Nothing => protected,
        });
        let own = self.project_files.iter().map(|name| {
            let path = self.workspace.join(name);
            if is_settings(&path) { settings_mask(path) } else { Protected { path, mask: Mask::Nothing } }
        });
        let mut all: Vec<Protected> = usual.collect();
        for protected in own {
            if all.iter().all(|known| known.path != protected.path) {
                all.push(protected);
            }
        }
        all
    }
}

fn settings_mask(path: PathBuf) -> Protected {
    Protected { path, mask: Mask::File(SETTINGS_MASK.to_owned()) }
}

fn temporary_folder() -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix("orch-").tempdir().map_err(|error| {
        let message = format!("the folder for temporary files of a confined program can't be created: {error}");
        Failure::new(FailureClass::NotConfined, message)
    })
}

/// Removes what the sandboxes of a killed orch left in a workspace: empty folders, and files with the text of orch. Call
/// it when no program of the workspace is running.
pub fn remove_leftover_masks(workspace: &Path) {
    for name in [".git", ".orch", ".github"] {
        // This fails for a folder that is not empty.
        drop(std::fs::remove_dir(workspace.join(name)));
    }
    let git = workspace.join(".git");
    for (path, text) in [(workspace.join("orch.yaml"), SETTINGS_MASK), (git.join("commondir"), ".\n")] {
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) {
            drop(std::fs::remove_file(path));
        }
    }
}

/// The limit that a program with this output probably reached, as a sentence.
pub fn probable_limit(spec: &SandboxSpec, output: &str) -> Option<String> {
    confine::limit_in_output(output, &confine_limits(&spec.limits)).map(|limit| without_advice(&limit.to_string()))
}

/// The first part of a message; the second says what to do, which the hint of the failure says too.
pub(super) fn without_advice(text: &str) -> String {
    text.split_once("; ").map_or(text, |(first, _)| first).to_owned()
}

fn network(network: &SandboxNetwork, needed: &[AllowedHost]) -> Result<Network, Failure> {
    let listed: &[AllowedHost] = match network {
        SandboxNetwork::All => return Ok(Network::All),
        SandboxNetwork::None => &[],
        SandboxNetwork::Hosts(hosts) => hosts,
    };
    let parse = |host: &AllowedHost| {
        let problem = |reason: String| Failure::new(FailureClass::NotConfined, reason);
        host.parse().map_err(problem)
    };
    let hosts: Vec<Host> = listed.iter().chain(needed).map(parse).collect::<Result<_, Failure>>()?;
    Ok(if hosts.is_empty() { Network::None } else { Network::Hosts(hosts) })
}

fn confine_limits(limits: &SandboxLimits) -> Limits {
    Limits {
        memory: limits.memory.map(|bytes| bytes.0),
        processes: limits.processes,
        // A part of a second counts as a whole one.
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
    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;

    fn host(workspace: &Path) -> SandboxHost {
        SandboxHost {
            probe: SandboxProbe::new("/nowhere/orch".into()),
            workspace: workspace.canonicalize().unwrap(),
            home: Some("/home/u".into()),
            configuration: Some("/home/u/.config/orch".into()),
            readable: vec!["/project".into()],
            project_files: vec!["pipelines/main.yaml".to_owned(), "orch.yaml".to_owned()],
        }
    }

    fn policy(own: serde_json::Value) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let own: Sandbox = serde_json::from_value(own).unwrap();
        let spec = SandboxSpec::resolve(&own, &Sandbox::default(), Access::Write).unwrap();
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
    fn by_default_a_program_writes_in_the_workspace_and_reads_no_secrets() {
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
    fn a_secret_that_write_names_may_be_read_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().canonicalize().unwrap();
        let mut host = host(folder.path());
        host.home = Some(named.clone());
        std::fs::create_dir(named.join(".docker")).unwrap();
        let spec = |write: &[&str]| SandboxSpec {
            write: write.iter().map(|path| (*path).to_owned()).collect(),
            ..SandboxSpec::resolve(&Sandbox::default(), &Sandbox::default(), Access::Write).unwrap()
        };
        let policy = host.policy(&spec(&["~/.docker"]), &SandboxNeeds::default()).unwrap();
        assert!(policy.write.contains(&named.join(".docker")));
        assert!(!policy.deny_read.contains(&named.join(".docker")) && policy.deny_read.contains(&named.join(".ssh")));
        let failure = host.policy(&spec(&["missing"]), &SandboxNeeds::default()).unwrap_err();
        assert_eq!(failure.class, FailureClass::NotConfined);
        assert!(failure.message.contains("`missing` of `sandbox.write`"), "{}", failure.message);
    }

    #[test]
    fn the_hosts_of_a_program_are_added_to_a_list_and_none() {
        let needed = [AllowedHost { host: "api.anthropic.com".to_owned(), private: false }];
        let hosts = |written: &SandboxNetwork| network(written, &needed).unwrap();
        assert_eq!(hosts(&SandboxNetwork::All), Network::All);
        assert!(matches!(hosts(&SandboxNetwork::None), Network::Hosts(list) if list.len() == 1));
        let listed = SandboxNetwork::Hosts(vec![AllowedHost { host: "crates.io".to_owned(), private: true }]);
        assert!(matches!(hosts(&listed), Network::Hosts(list) if list.len() == 2));
        assert_eq!(network(&SandboxNetwork::None, &[]).unwrap(), Network::None);
    }

    #[test]
    fn leftovers_are_removed_and_files_of_the_user_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [".orch", ".github", ".git", ".git/hooks"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("orch.yaml"), SETTINGS_MASK).unwrap();
        std::fs::write(root.join(".git/commondir"), ".\n").unwrap();
        remove_leftover_masks(root);
        assert!(root.join(".git/hooks").exists() && !root.join(".git/commondir").exists());
        assert!(!root.join(".orch").exists() && !root.join(".github").exists() && !root.join("orch.yaml").exists());
        std::fs::write(root.join("orch.yaml"), "# mine\n").unwrap();
        remove_leftover_masks(root);
        assert!(root.join("orch.yaml").exists());
    }
}
