//! The policy: the rights of a confined program, independent of the kernel features that enforce them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{ConfineError, Step};
use super::host::Host;

/// The folders in whose place a program at [`Level::Full`] on Linux sees empty folders of its own, because they contain
/// sockets and files of other programs. `/var/run` often is a link to `/run`.
pub const PRIVATE_FOLDERS: &[&str] = &["/tmp", "/run", "/var/run", "/dev/shm"];

/// How much of a policy the kernel enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only the limits.
    None,
    /// Landlock and seccomp filters, without namespaces.
    Basic,
    /// Separate namespaces, Landlock and seccomp filters; on macOS, Seatbelt.
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

/// The rights of a program. All paths are absolute. By default, a program may read everything, write nothing, and has
/// no network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The weakest level at which the program may run.
    pub min: Level,
    /// The folders and files that the program may change; each must exist.
    pub write: Vec<PathBuf>,
    /// Folders and files below a private folder, such as `/tmp` or `/run`, that must stay readable. At [`Level::Full`],
    /// the program sees the rest of a private folder as empty.
    pub read: Vec<PathBuf>,
    /// Paths below [`Policy::write`] that the program may not change.
    pub protect: Vec<Protected>,
    /// Folders and files that the program may not read.
    pub deny_read: Vec<PathBuf>,
    /// The hosts that the program may connect to.
    pub network: Network,
    /// Whether the program may create UNIX sockets; only at [`Level::Full`].
    pub unix_sockets: bool,
    /// The limits on the resources of the program.
    pub limits: Limits,
    /// A folder for the temporary files of the program, to which `TMPDIR` is set; it must exist.
    pub tmp: Option<PathBuf>,
}

/// A path that the program may not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// The path.
    pub path: PathBuf,
    /// The placeholder that orch creates if the path does not exist.
    #[serde(default)]
    pub mask: Mask,
}

/// The placeholder for a protected path that does not exist, so that the program can't create the path itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// An empty folder.
    #[default]
    Folder,
    /// A file with this text.
    File(String),
    /// No placeholder: orch protects the path only if it exists.
    Nothing,
}

/// The hosts that a program may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No host; at [`Level::Full`], the program has a separate loopback interface.
    #[default]
    None,
    /// All hosts, including services on this machine.
    All,
    /// Only these hosts, through a proxy of orch; requires [`Level::Full`].
    Hosts(Vec<Host>),
}

/// The limits on the resources of a program and its descendants. `None` means no limit.
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
    /// The limit on processor time as a duration.
    pub(super) fn cpu_duration(&self) -> Option<Duration> {
        self.cpu_time.map(Duration::from_secs)
    }
}

/// Folders that no policy may make writable, because a program could change the machine through them.
const NEVER_WRITABLE: &[&str] = &["/", "/proc", "/sys", "/dev"];

impl Policy {
    /// Checks the policy without reading the disk.
    ///
    /// # Errors
    /// When the policy is invalid, or when this level can't enforce it.
    pub fn check(&self, level: Level) -> Result<(), ConfineError> {
        if level < self.min {
            return Err(ConfineError::new(
                Step::Policy,
                format!("the level is `{level}`, and `min` is `{}`", self.min),
            )
            .advise(
                "lower `min`, or use a machine that supports a higher level (`orch doctor` lists what is missing)",
            ));
        }
        self.check_paths()?;
        let unsupported = |what: &str, advice: &str| {
            Err(ConfineError::new(Step::Policy, format!("the level is `{level}`, which does not support {what}"))
                .advise(advice))
        };
        match level {
            Level::Basic if matches!(self.network, Network::Hosts(_)) => {
                unsupported("a list of hosts", "write `network: none` or `network: all`, or require `min: full`")
            }
            Level::Basic if self.unix_sockets => {
                unsupported("UNIX sockets", "remove `unix_sockets`, or require `min: full`")
            }
            Level::None | Level::Basic | Level::Full => Ok(()),
        }
    }

    fn check_paths(&self) -> Result<(), ConfineError> {
        let invalid_path = |path: &Path, reason: &str, advice: &str| {
            Err(ConfineError::new(Step::Policy, reason.to_owned()).at(path).advise(advice))
        };
        let protect = self.protect.iter().map(|protected| &protected.path);
        for path in self.write.iter().chain(&self.read).chain(protect).chain(&self.deny_read).chain(&self.tmp) {
            if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
                return invalid_path(path, "the path is not absolute", "write the whole path from `/`, without `..`");
            }
        }
        for path in self.write.iter().chain(&self.tmp) {
            if NEVER_WRITABLE.iter().any(|never| path == Path::new(never)) {
                return invalid_path(
                    path,
                    "the folder can't be writable",
                    "name the folders below it that must be writable",
                );
            }
        }
        Ok(())
    }

    /// The folders and files that the program may change, including the folder for temporary files.
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
        assert!(error.contains("does not support a list of hosts") && error.contains("min: full"), "{error}");
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
