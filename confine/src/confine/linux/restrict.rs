//! Drops capabilities and sets resource limits before the program starts.

use std::fs;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::super::error::{ConfineError, InStep as _, Step};
use super::super::policy::{Level, Limits};

/// Lets the second stage inherit the capability to mount: without this, starting an executable removes it.
pub(super) fn inherit_mount_capability() -> Result<(), ConfineError> {
    let mut sets = capabilities(None).in_step(Step::Capabilities)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets).in_step(Step::Capabilities)?;
    configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true).in_step(Step::Capabilities)
}

/// Drops all capabilities. Even root does not regain any by starting a program, because this sets `no_new_privs`.
pub(super) fn drop_capabilities() -> Result<(), ConfineError> {
    // These calls may fail: a container may have removed some capabilities already, and an ordinary user may not remove
    // any. `no_new_privs` is sufficient without them.
    for capability in CapabilitySet::all().iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).in_step(Step::Capabilities)?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).in_step(Step::Capabilities)
}

/// Prevents the program from reading the memory of this process and its open files in `/proc`.
pub(super) fn hide_memory() -> Result<(), ConfineError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).in_step(Step::Capabilities)
}

/// Sets the limits that the kernel enforces for each process, and the limit on the number of the user's processes.
///
/// The memory limit counts only private writable memory. It does not limit the address space, because Node reserves
/// many gigabytes of it that it never uses.
pub(super) fn set_rlimits(limits: &Limits, level: Level) -> Result<(), ConfineError> {
    let set = |resource, soft, hard| {
        setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) }).in_step(Step::Limits)
    };
    // A core dump could be much larger than the other files of the program.
    set(Resource::Core, 0, 0)?;
    if let Some(bytes) = limits.memory {
        set(Resource::Data, bytes, bytes)?;
    }
    if let Some(seconds) = limits.cpu_time {
        // At the soft limit, the kernel sends `SIGXCPU`, which shows the cause. It kills a process that ignores this
        // signal at the hard limit.
        set(Resource::Cpu, seconds, seconds.saturating_add(2))?;
    }
    if let Some(bytes) = limits.file_size {
        set(Resource::Fsize, bytes, bytes)?;
    }
    if let Some(files) = limits.open_files {
        set(Resource::Nofile, files, files)?;
    }
    if let Some(processes) = limits.processes {
        let max = processes.saturating_add(other_tasks(level, Path::new("/proc"))?);
        set(Resource::Nproc, max, max)?;
    }
    Ok(())
}

/// The number of threads outside the program that count towards the process limit: in a user namespace, the threads of
/// this process; otherwise, all threads of the user. `proc_folder` is `/proc`.
fn other_tasks(level: Level, proc_folder: &Path) -> Result<u64, ConfineError> {
    const OWN_THREADS: u64 = 2;
    if level == Level::Full {
        return Ok(OWN_THREADS);
    }
    let user = rustix::process::getuid().as_raw();
    let mut count = OWN_THREADS;
    for entry in fs::read_dir(proc_folder).in_step_at(Step::Limits, proc_folder)? {
        let entry = entry.in_step_at(Step::Limits, proc_folder)?;
        // The folder has other entries too, and a process may have ended in the meantime.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        count += threads_of_user(&status, user).unwrap_or(0);
    }
    Ok(count)
}

/// The number of threads of a process according to `/proc/PID/status`; `None` if it belongs to another user.
fn threads_of_user(status: &str, user: u32) -> Option<u64> {
    let uid = field(status, "Uid:")?.split_ascii_whitespace().next()?.parse::<u32>().ok()?;
    if uid == user { field(status, "Threads:")?.trim().parse().ok() } else { None }
}

/// The value of a field in `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// The minimum value that the kernel accepts for `pid_max`.
const MIN_PID_MAX: u64 = 301;
/// The kernel does not reuse process ids up to this one.
const RESERVED_PIDS: u64 = 300;

/// Limits the process ids of the namespace of this process, if the kernel supports this (Linux 6.14). Necessary for
/// root, whom the kernel exempts from the limit on a user's processes. This only slows a program down until the usage
/// monitor kills it.
pub(super) fn limit_process_ids(limits: &Limits) {
    let Some(processes) = limits.processes else { return };
    let pid_max = processes.saturating_add(RESERVED_PIDS).max(MIN_PID_MAX);
    drop(fs::write("/proc/sys/kernel/pid_max", pid_max.to_string()));
}

/// Whether the kernel exempts this user from the limit on a user's processes.
pub(super) fn is_exempt_from_process_limit() -> bool {
    rustix::process::getuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_user_namespace_all_threads_of_the_user_count() {
        let proc_folder = Path::new("/proc");
        assert_eq!(other_tasks(Level::Full, proc_folder).unwrap(), 2);
        assert!(other_tasks(Level::Basic, proc_folder).unwrap() > 2);
        let status = "Name:\tx\nUid:\t7\t7\t7\t7\nThreads:\t3\n";
        assert_eq!((threads_of_user(status, 7), threads_of_user(status, 8)), (Some(3), None));
    }

    #[test]
    fn unknown_processes_of_the_user_do_not_count_as_none() {
        let error = other_tasks(Level::Basic, Path::new("/missing")).unwrap_err().to_string();
        assert!(error.contains("setting limits failed at `/missing`"), "{error}");
    }
}
