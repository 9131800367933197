//! What a confined program may do: the policy, which names no kernel feature.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{ConfineError, Step};
use super::host::Host;

/// How strongly the kernel holds a program to its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is enforced but the limits.
    None,
    /// Landlock and a filter of system calls, without namespaces.
    Basic,
    /// Namespaces of its own, Landlock and a filter of system calls; on macOS, Seatbelt.
    #[default]
    Full,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Full => "full",
        })
    }
}

/// What a program may do. All paths are absolute. The default reads everything, writes nothing, and has no network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The weakest level at which the program may run.
    pub min: Level,
    /// The folders and files that the program may change; each exists.
    pub write: Vec<PathBuf>,
    /// Folders and files that stay readable although they are below a folder that is replaced by an empty one at
    /// [`Level::Full`], such as `/tmp` and `/run`.
    pub read: Vec<PathBuf>,
    /// Paths below [`Policy::write`] that the program may not change.
    pub protect: Vec<Protected>,
    /// Folders and files that the program may not read.
    pub deny_read: Vec<PathBuf>,
    /// What the program may connect to.
    pub network: Network,
    /// Whether the program may create UNIX sockets; only at [`Level::Full`].
    pub unix_sockets: bool,
    /// How much the program may use.
    pub limits: Limits,
    /// The program's own folder for temporary files, which exists: `TMPDIR` names it.
    pub tmp: Option<PathBuf>,
}

/// A path that the program may not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// The path.
    pub path: PathBuf,
    /// What takes the place of the path while it does not exist.
    #[serde(default)]
    pub mask: Mask,
}

/// What takes the place of a protected path that does not exist, so that the program can't create it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// An empty folder.
    #[default]
    Folder,
    /// A file with this text.
    File(String),
    /// Nothing: the path is only protected if it exists.
    Nothing,
}

/// What a program may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing outside; at [`Level::Full`] the program has a loopback of its own.
    #[default]
    None,
    /// Everything, even services on this machine.
    All,
    /// These hosts, through a proxy that orch runs; only at [`Level::Full`].
    Hosts(Vec<Host>),
}

/// How much a program and the processes that it starts may use. An absent limit is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of all processes together, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads at the same time.
    pub processes: Option<u64>,
    /// Processor time of all processes together, in seconds.
    pub cpu_time: Option<u64>,
    /// The size of each file that a process writes, in bytes.
    pub file_size: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
}

impl Limits {
    /// The limit of processor time as a duration.
    pub(super) fn cpu_duration(&self) -> Option<Duration> {
        self.cpu_time.map(Duration::from_secs)
    }
}

/// Folders that no policy may make writable: programs could change the machine through them.
const NEVER_WRITABLE: &[&str] = &["/", "/proc", "/sys", "/dev"];

impl Policy {
    /// Checks what can be checked without looking at the disk.
    ///
    /// # Errors
    /// The policy asks for something that no level, or not this one, can give.
    pub fn check(&self, level: Level) -> Result<(), ConfineError> {
        if level < self.min {
            return Err(ConfineError::new(
                Step::Policy,
                format!("the level is `{level}`, and `min` is `{}`", self.min),
            )
            .advise("lower `min`, or run on a machine that can do more (`orch doctor` says what is missing)"));
        }
        self.check_paths()?;
        let refused = |what: &str, advice: &str| {
            Err(ConfineError::new(Step::Policy, format!("the level is `{level}`, which has no {what}")).advise(advice))
        };
        match level {
            Level::Basic if matches!(self.network, Network::Hosts(_)) => {
                refused("list of hosts", "write `network: none` or `network: all`, or require `min: full`")
            }
            Level::Basic if self.unix_sockets => {
                refused("UNIX sockets", "remove `unix_sockets`, or require `min: full`")
            }
            Level::None | Level::Basic | Level::Full => Ok(()),
        }
    }

    fn check_paths(&self) -> Result<(), ConfineError> {
        let refused = |path: &Path, why: &str, advice: &str| {
            Err(ConfineError::new(Step::Policy, why.to_owned()).at(path).advise(advice))
        };
        let protect = self.protect.iter().map(|protected| &protected.path);
        for path in self.write.iter().chain(&self.read).chain(protect).chain(&self.deny_read).chain(&self.tmp) {
            if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
                return refused(path, "the path is not absolute", "write it from `/` on, without `..`");
            }
        }
        for path in self.write.iter().chain(&self.tmp) {
            if NEVER_WRITABLE.iter().any(|never| path == Path::new(never)) {
                return refused(path, "the folder can't be writable", "name the folders below it that must be");
            }
        }
        Ok(())
    }

    /// The folders and files that the program may change, with that for temporary files.
    pub(super) fn writable(&self) -> impl Iterator<Item = &PathBuf> {
        self.write.iter().chain(&self.tmp)
    }

    /// The hosts that the program may reach through the proxy; `None` if there is no proxy.
    pub(super) fn hosts(&self) -> Option<&[Host]> {
        match &self.network {
            Network::Hosts(hosts) => Some(hosts),
            Network::None | Network::All => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_as_plain_json() {
        let text = r#"{"min": "basic", "write": ["/w"], "protect": [{"path": "/w/.git/hooks"},
            {"path": "/w/orch.yaml", "mask": {"file": ""}}], "network": {"hosts": ["example.org", "10.1.1.1:8080"]},
            "limits": {"memory": 1024}}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!((policy.min, policy.limits.memory), (Level::Basic, Some(1024)));
        assert_eq!(policy.protect[1].mask, Mask::File(String::new()));
        let again: Policy = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
        assert!(serde_json::from_str::<Policy>(r#"{"writes": []}"#).is_err());
    }

    #[test]
    fn a_level_refuses_what_it_cannot_enforce() {
        let hosts = Network::Hosts(vec!["example.org".parse().unwrap()]);
        let policy = Policy { min: Level::Basic, network: hosts, ..Policy::default() };
        assert!(policy.check(Level::Full).is_ok());
        let error = policy.check(Level::Basic).unwrap_err().to_string();
        assert!(error.contains("no list of hosts") && error.contains("min: full"), "{error}");
        let sockets = Policy { min: Level::Basic, unix_sockets: true, ..Policy::default() };
        assert!(sockets.check(Level::Basic).is_err());
        let error = Policy::default().check(Level::Basic).unwrap_err().to_string();
        assert!(error.contains("`min` is `full`"), "{error}");
    }

    #[test]
    fn paths_are_absolute_and_the_machine_is_never_writable() {
        for path in ["workspace", "/w/../etc", "/", "/proc"] {
            let policy = Policy { write: vec![path.into()], ..Policy::default() };
            assert!(policy.check(Level::Full).is_err(), "{path}");
        }
    }
}
