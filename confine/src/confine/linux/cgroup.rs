//! A control group that enforces the limits of a program, if the user may create one with the necessary controllers.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::limits::{Limit, LimitReached};
use super::super::policy::Limits;

/// The mount point of control groups, version 2.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The maximum number of threads in the group that belong to orch: those of both stages of `orch __confine`.
const OWN_TASKS: u64 = 4;

/// The control group of a program. orch removes the folder of the group after the processes have ended.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    pub(super) folder: PathBuf,
}

impl Cgroup {
    /// Creates a group with the limits and moves this process into it. Returns `None` if no limit needs a group, or if
    /// the user may not create one.
    pub(super) fn join(limits: &Limits) -> Option<Self> {
        if limits.memory.is_none() && limits.processes.is_none() {
            return None;
        }
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own_group = parse_own_group(&groups)?;
        let own_folder = Path::new(CGROUP_ROOT).join(own_group.trim_start_matches('/'));
        // A group that contains processes can't pass its controllers on to a child, so the new group is usually a
        // sibling.
        [own_folder.as_path(), own_folder.parent()?].into_iter().find_map(|parent| Self::create(parent, limits))
    }

    fn create(parent: &Path, limits: &Limits) -> Option<Self> {
        if !parent.starts_with(CGROUP_ROOT) || !has_controllers(parent, limits) {
            return None;
        }
        let group = Self { folder: parent.join(format!("orch-{}", std::process::id())) };
        fs::create_dir(&group.folder).ok()?;
        if group.set(limits).is_none() || group.write("cgroup.procs", "0").is_none() {
            drop(fs::remove_dir(&group.folder));
            return None;
        }
        Some(group)
    }

    fn set(&self, limits: &Limits) -> Option<()> {
        if let Some(bytes) = limits.memory {
            self.write("memory.max", &bytes.to_string())?;
            // Some kernels lack these files. The program can then use swap space, and the kernel kills one process
            // instead of all when the group runs out of memory.
            let _ = self.write("memory.swap.max", "0");
            let _ = self.write("memory.oom.group", "1");
        }
        if let Some(processes) = limits.processes {
            self.write("pids.max", &processes.saturating_add(OWN_TASKS).to_string())?;
        }
        Some(())
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.folder.join(file), text).ok()
    }

    /// The limit because of which the kernel killed a process or, if the program failed, refused a new process.
    ///
    /// A program that succeeds may have started the process later, but it can't undo the end of a process. So this
    /// counts even if only a process in the middle of a pipe has ended.
    pub(super) fn reached(&self, limits: &Limits, has_failed: bool) -> Option<LimitReached> {
        let event_count = |file: &str, event: &str| {
            let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix(event)?.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        if event_count("memory.events", "oom_kill ") > 0 {
            return Limit::Memory.reached(limits, true);
        }
        if has_failed && event_count("pids.events", "max ") > 0 {
            return Limit::Processes.reached(limits, true);
        }
        None
    }
}

/// Finds the version 2 group of this process in the text of `/proc/self/cgroup`.
fn parse_own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Whether child groups of `parent` have the controllers that the limits need.
fn has_controllers(parent: &Path, limits: &Limits) -> bool {
    let text = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |controller: &str| text.split_ascii_whitespace().any(|name| name == controller);
    (limits.memory.is_none() || has("memory")) && (limits.processes.is_none() || has("pids"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_2_group_is_found() {
        assert_eq!(parse_own_group("4:memory:/x\n0::/user.slice/a.scope\n"), Some("/user.slice/a.scope"));
        assert_eq!(parse_own_group("4:memory:/x\n"), None);
    }

    #[test]
    fn the_events_of_a_group_name_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
        assert!(has_controllers(folder.path(), &limits));
        assert!(!has_controllers(folder.path(), &Limits { processes: Some(1), ..limits }));
        let group = Cgroup { folder: folder.path().to_owned() };
        group.set(&limits).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("memory.max")).unwrap(), "1048576");
        assert_eq!(group.reached(&limits, true), None);
        let limits = Limits { processes: Some(9), ..limits };
        fs::write(folder.path().join("pids.events"), "max 1\n").unwrap();
        assert_eq!(group.reached(&limits, true).unwrap().limit, Limit::Processes);
        assert_eq!(group.reached(&limits, false), None);
        fs::write(folder.path().join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert_eq!(group.reached(&limits, false).unwrap().limit, Limit::Memory);
    }
}
