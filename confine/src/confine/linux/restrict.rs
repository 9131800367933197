//! What a process gives up before it starts the program: capabilities, and resources beyond the limits.

use std::fs;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::super::error::{ConfineError, InStep as _, Step};
use super::super::policy::{Level, Limits};

/// Passes the capability to mount on to the second stage, which is another program to the kernel.
pub(super) fn pass_on_mounting() -> Result<(), ConfineError> {
    let mut own = capabilities(None).in_step(Step::Capabilities)?;
    own.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, own).in_step(Step::Capabilities)?;
    configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true).in_step(Step::Capabilities)
}

/// Gives up all capabilities. Even root gets none back by starting a program, because `no_new_privs` is set.
pub(super) fn drop_capabilities() -> Result<(), ConfineError> {
    // A container may have removed some from the set already, and a user may not remove any: both are fine, since
    // `no_new_privs` decides.
    for capability in CapabilitySet::all().iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true).in_step(Step::Capabilities)?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).in_step(Step::Capabilities)
}

/// Keeps the program from reading the memory of this process, or its open files in `/proc`.
pub(super) fn hide_memory() -> Result<(), ConfineError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).in_step(Step::Capabilities)
}

/// Sets the limits that the kernel counts for each process, and that of the user's processes.
///
/// The memory limit counts what a process can write. The size of its address space would not do: Node reserves many
/// gigabytes that it never uses.
pub(super) fn set_rlimits(limits: &Limits, level: Level) -> Result<(), ConfineError> {
    let set = |resource, soft, hard| {
        setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) }).in_step(Step::Limits)
    };
    // A core dump may be larger than every other file.
    set(Resource::Core, 0, 0)?;
    if let Some(bytes) = limits.memory {
        set(Resource::Data, bytes, bytes)?;
    }
    if let Some(seconds) = limits.cpu_time {
        // The first signal names the limit; a process that ignores it is killed.
        set(Resource::Cpu, seconds, seconds.saturating_add(2))?;
    }
    if let Some(bytes) = limits.file_size {
        set(Resource::Fsize, bytes, bytes)?;
    }
    if let Some(files) = limits.open_files {
        set(Resource::Nofile, files, files)?;
    }
    if let Some(processes) = limits.processes {
        let most = processes.saturating_add(tasks_of_user(level));
        set(Resource::Nproc, most, most)?;
    }
    Ok(())
}

/// How many threads count against the limit besides the program's: in a user namespace those of this process, otherwise
/// all of the user.
fn tasks_of_user(level: Level) -> u64 {
    const OWN_THREADS: u64 = 2;
    if level == Level::Full {
        return OWN_THREADS;
    }
    let user = rustix::process::getuid().as_raw();
    let count = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let uid = field(&status, "Uid:")?.split_ascii_whitespace().next()?.parse::<u32>().ok()?;
        if uid == user { field(&status, "Threads:")?.trim().parse::<u64>().ok() } else { None }
    });
    count.sum::<u64>() + OWN_THREADS
}

/// The value of a line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// The lowest number of process ids that the kernel lets a namespace have.
const FEWEST_IDS: u64 = 301;
/// Ids up to here are not used again after the first round.
const RESERVED_IDS: u64 = 300;

/// Limits the process ids of this process's own namespace, where the kernel can (Linux 6.14): it exempts root from the
/// limit of a user's processes. This only slows a program down until the watch ends it.
pub(super) fn limit_ids(limits: &Limits) {
    let Some(processes) = limits.processes else { return };
    let ids = processes.saturating_add(RESERVED_IDS).max(FEWEST_IDS);
    drop(fs::write("/proc/sys/kernel/pid_max", ids.to_string()));
}

/// Whether the kernel exempts this user from the limit of a user's processes.
pub(super) fn is_exempt_from_process_limit() -> bool {
    rustix::process::getuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_namespace_all_threads_of_the_user_count() {
        assert_eq!(tasks_of_user(Level::Full), 2);
        assert!(tasks_of_user(Level::Basic) > 2);
        assert_eq!(field("Name:\tx\nThreads:\t3\n", "Threads:").map(str::trim), Some("3"));
    }
}
