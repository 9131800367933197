//! Monitors the total usage of all processes of a program, if no control group does.
//!
//! The kernel enforces the limits of a single process immediately, but a program can start many processes. This module
//! therefore adds up the usage of all of them several times a second.

use std::fs;
use std::time::Duration;

use super::super::limits::{Limit, LimitReached};
use super::super::policy::Limits;

/// The time between two measurements.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The number of clock ticks per second in `/proc`; it is the same on every Linux system.
const TICKS_PER_SECOND: u32 = 100;
/// The private folders of the program, whose files are in memory.
const MEMORY_FOLDERS: &[&str] = &["/tmp", "/run", "/dev/shm"];

/// Compares the usage of a program with its limits.
#[derive(Clone, Debug)]
pub(super) struct UsageMonitor {
    pub(super) limits: Limits,
    /// Whether the kernel already enforces the limit on processes.
    pub(super) kernel_limits_processes: bool,
    /// Whether `/proc` shows only the processes of the program.
    pub(super) has_pid_namespace: bool,
    /// Whether [`MEMORY_FOLDERS`] are private folders of the program.
    pub(super) has_private_folders: bool,
}

/// The usage of one or more processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    tasks: u64,
    cpu_ticks: u64,
    resident_bytes: u64,
}

impl UsageMonitor {
    /// Whether the policy sets a limit that this monitor must enforce.
    pub(super) fn is_needed(&self) -> bool {
        let Limits { memory, processes, cpu_time, .. } = self.limits;
        memory.is_some() || cpu_time.is_some() || (processes.is_some() && !self.kernel_limits_processes)
    }

    /// The limit that the program has reached, if any.
    pub(super) fn reached_limit(&self) -> Option<LimitReached> {
        let processes = self.processes();
        let usage = processes.iter().fold(Usage::default(), |sum, (_, usage)| Usage {
            tasks: sum.tasks + usage.tasks,
            cpu_ticks: sum.cpu_ticks + usage.cpu_ticks,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
        });
        let exceeds = |used: u64, limit: Limit| limit.value_in(&self.limits).is_some_and(|max| used > max);
        if !self.kernel_limits_processes && exceeds(usage.tasks, Limit::Processes) {
            return Limit::Processes.reached(&self.limits, true);
        }
        let cpu_time = Duration::from_secs(usage.cpu_ticks) / TICKS_PER_SECOND + reaped_cpu_time();
        if self.limits.cpu_duration().is_some_and(|max| cpu_time >= max) {
            return Limit::CpuTime.reached(&self.limits, true);
        }
        let file_bytes = if self.has_private_folders { bytes_in_memory_folders() } else { 0 };
        // The sum counts memory that several processes share more than once. The exact size takes longer to compute, so
        // compute it only if the sum exceeds the limit.
        if exceeds(usage.resident_bytes + file_bytes, Limit::Memory) {
            let exact_bytes: u64 = processes.iter().filter_map(|(pid, _)| proportional_bytes(*pid)).sum();
            if exceeds(exact_bytes + file_bytes, Limit::Memory) {
                return Limit::Memory.reached(&self.limits, true);
            }
        }
        None
    }

    /// The processes of the program with their usage, without this process.
    fn processes(&self) -> Vec<(u32, Usage)> {
        let own = std::process::id();
        let mut processes: Vec<(u32, u32, Usage)> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // Skip a process that has ended in the meantime.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some((parent, usage)) = parse_stat(&stat) {
                processes.push((pid, parent, usage));
            }
        }
        let mut family = vec![own];
        if self.has_pid_namespace {
            family.extend(processes.iter().map(|(pid, ..)| *pid));
        } else {
            let mut next = 0;
            while let Some(parent) = family.get(next).copied() {
                family.extend(processes.iter().filter(|(_, ppid, _)| *ppid == parent).map(|(pid, ..)| *pid));
                next += 1;
            }
        }
        let is_of_program = |pid: &u32| *pid != own && family.contains(pid);
        processes.into_iter().filter(|(pid, ..)| is_of_program(pid)).map(|(pid, _, usage)| (pid, usage)).collect()
    }

    /// The ids of the program's processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes().into_iter().map(|(pid, _)| pid).collect()
    }
}

/// Parses the parent's id and the usage from the text of `/proc/PID/stat`. The time includes that of reaped children.
fn parse_stat(stat: &str) -> Option<(u32, Usage)> {
    // The name of the program is in parentheses and may contain any characters, even parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let cpu_ticks = (11..=14).filter_map(number).sum();
    let resident_bytes = number(21)?.saturating_mul(rustix::param::page_size() as u64);
    Some((u32::try_from(number(1)?).ok()?, Usage { tasks: number(17)?, cpu_ticks, resident_bytes }))
}

/// The memory of a process (PSS): its private memory, and its share of the memory that several processes share.
fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(value.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn bytes_in_memory_folders() -> u64 {
    let used_bytes = |folder: &&str| {
        let stat = rustix::fs::statvfs(*folder).ok()?;
        Some(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
    };
    MEMORY_FOLDERS.iter().filter_map(used_bytes).sum()
}

/// The processor time of the children that this process has reaped, and of their reaped descendants.
pub(super) fn reaped_cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
            Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_has_the_parent_and_the_usage() {
        let line =
            "42 (a) R 1) S 7 42 42 0 -1 4194304 1 0 0 0 100 50 25 25 20 0 3 0 100 1000000 10 18446744073709551615";
        let (parent, usage) = parse_stat(line).unwrap();
        let page = rustix::param::page_size() as u64;
        assert_eq!((parent, usage), (7, Usage { tasks: 3, cpu_ticks: 200, resident_bytes: 10 * page }));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn a_limit_that_is_not_set_is_not_reached() {
        let limits = Limits::default();
        let monitor = UsageMonitor {
            limits,
            kernel_limits_processes: false,
            has_pid_namespace: false,
            has_private_folders: false,
        };
        assert!(!monitor.is_needed());
        assert_eq!(monitor.reached_limit(), None);
    }
}
