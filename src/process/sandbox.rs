//! Converts the sandbox settings of a program to a policy for the crate `orch-confine`, which confines the program.

use std::path::PathBuf;
use std::sync::Arc;

use orch_confine::confine::{self, Host, Level, Limits, Network, Policy};
use tempfile::TempDir;

use crate::model::{AllowedHost, Failure, FailureClass, SandboxLevel, SandboxLimits, SandboxNetwork, SandboxSpec};

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
    /// The project's folder, which the commands of MCP servers may name; `None` if the programs belong to no project. It
    /// stays readable, even if it is below a folder that the sandbox hides, such as `/tmp`.
    pub project_root: Option<PathBuf>,
    /// The files of the project that no program may change, and the folder with the journal; absolute, with links
    /// resolved. Some of the files may not exist.
    pub project_paths: Vec<PathBuf>,
    /// The folder with the journal, with links resolved. The file tools of models neither read nor change it.
    pub state_folder: Option<PathBuf>,
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
        Self {
            probe,
            workspace,
            home: None,
            configuration: None,
            project_root: None,
            project_paths: Vec::new(),
            state_folder: None,
        }
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
        self.check_workspace_access(spec, &policy.write, machine.level())?;
        policy.tmp =
            needs.temporary_folder.or_else(|| new_temporary_folder.as_ref().map(|folder| folder.path().to_owned()));
        let argv_in_sandbox = needs.argv_in_sandbox;
        Ok(ProgramSandbox { policy, machine, argv_in_sandbox, _temporary_folder: new_temporary_folder })
    }

    pub(super) fn policy(&self, spec: &SandboxSpec, needs: &SandboxNeeds) -> Result<Policy, Failure> {
        let write = self.writable_paths(spec)?;
        Ok(Policy {
            min: confine_level(spec.min),
            protect: self.protected_paths(spec.protects_workspace, &write),
            deny_read: self.denied_paths(spec)?,
            write: write.into_iter().chain(needs.writable.iter().cloned()).collect(),
            read: self.project_root.iter().chain(&needs.readable).filter_map(|path| path.canonicalize().ok()).collect(),
            network: policy_network(&spec.network, &needs.hosts)?,
            unix_sockets: spec.unix_sockets,
            limits: confine_limits(&spec.limits),
            tmp: None,
        })
    }
}

fn create_temporary_folder() -> Result<TempDir, Failure> {
    tempfile::Builder::new().prefix("orch-").tempdir().map_err(|error| {
        let message = format!("orch can't create a folder for the temporary files of a confined program: {error}");
        Failure::new(FailureClass::NotConfined, message)
    })
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
    use super::*;

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
}
