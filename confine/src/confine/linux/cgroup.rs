//! A control group that enforces the limits of a program, if the user may create one with the necessary controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::limits::{CounterFindings, Limit};
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
            self.write_if_present("memory.swap.max", "0")?;
            self.write_if_present("memory.oom.group", "1")?;
        }
        if let Some(processes) = limits.processes {
            self.write("pids.max", &processes.saturating_add(OWN_TASKS).to_string())?;
        }
        Some(())
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.folder.join(file), text).ok()
    }

    fn write_if_present(&self, file: &str, text: &str) -> Option<()> {
        let opened = fs::OpenOptions::new().write(true).open(self.folder.join(file));
        match opened.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => None,
            Ok(()) | Err(_) => Some(()),
        }
    }

    /// The limit because of which the kernel killed a process or, if the program failed, refused a new process.
    ///
    /// A program that succeeds may have started the process later, but it can't undo the end of a process. So this
    /// counts even if only a process in the middle of a pipe has ended.
    pub(super) fn reached(&self, limits: &Limits, has_failed: bool) -> CounterFindings {
        let memory = limits.memory.map(|_| (Limit::Memory, "memory.events", "oom_kill"));
        let processes = limits.processes.filter(|_| has_failed).map(|_| (Limit::Processes, "pids.events", "max"));
        let mut findings = CounterFindings::default();
        for (limit, file, event) in memory.into_iter().chain(processes) {
            match self.event_count(file, event) {
                Ok(0) => {}
                Ok(_) => findings.limit = findings.limit.or_else(|| limit.reached(limits, true)),
                Err(error) => {
                    let (key, path) = (limit.key(), self.folder.join(file));
                    let path = path.display();
                    findings.unknown.push(format!(
                        "orch could not read in `{path}` how often the program reached `{key}`: {error}"
                    ));
                }
            }
        }
        findings
    }

    /// Reads how often an event occurred in the group.
    fn event_count(&self, file: &str, event: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix(event)?.strip_prefix(' ')?.trim().parse().ok());
        count.ok_or_else(|| io::Error::other(format!("the file has no number for `{event}`")))
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
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        let reached = |limits: &Limits, has_failed: bool| {
            let findings = group.reached(limits, has_failed);
            assert_eq!(findings.unknown, Vec::<String>::new());
            findings.limit.map(|reached| reached.limit)
        };
        write("memory.events", "low 0\noom 0\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(reached(&limits, true), None);
        let limits = Limits { processes: Some(9), ..limits };
        write("pids.events", "max 1\n");
        assert_eq!(reached(&limits, true), Some(Limit::Processes));
        assert_eq!(reached(&limits, false), None);
        write("memory.events", "low 0\noom 1\noom_kill 1\n");
        assert_eq!(reached(&limits, true), Some(Limit::Memory));
    }

    #[test]
    fn an_unreadable_counter_is_unknown_and_not_zero() {
        let folder = tempfile::tempdir().unwrap();
        let group = Cgroup { folder: folder.path().to_owned() };
        let limits = Limits { memory: Some(1 << 20), processes: Some(9), ..Limits::default() };
        let findings = group.reached(&limits, true);
        assert_eq!((findings.limit, findings.unknown.len()), (None, 2));
        assert!(findings.unknown[0].contains("memory.events` how often the program reached `memory`: No such file"));
        assert!(findings.unknown[1].contains("pids.events` how often the program reached `processes`: No such file"));
        // An old kernel does not count this event.
        fs::write(folder.path().join("memory.events"), "low 0\noom 1\n").unwrap();
        fs::write(folder.path().join("pids.events"), "max 1\n").unwrap();
        let findings = group.reached(&limits, true);
        assert_eq!(findings.limit.map(|reached| reached.limit), Some(Limit::Processes));
        assert!(findings.unknown[0].ends_with("the file has no number for `oom_kill`"), "{findings:?}");
        assert_eq!(group.reached(&Limits::default(), true), CounterFindings::default());
    }

    #[test]
    fn a_setting_that_the_kernel_lacks_is_left_out_and_one_that_fails_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let group = Cgroup { folder: folder.path().to_owned() };
        assert_eq!(group.write_if_present("memory.swap.max", "0"), Some(()));
        assert!(!folder.path().join("memory.swap.max").exists());
        fs::create_dir(folder.path().join("memory.swap.max")).unwrap();
        assert_eq!(group.write_if_present("memory.swap.max", "0"), None);
    }
}
