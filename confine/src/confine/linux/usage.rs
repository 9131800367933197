//! Watches what the processes of a program use together, where no cgroup does.
//!
//! The kernel's limits of a process hold at once, but a program can start many processes. So this looks at all of them
//! several times a second.

use std::fs;
use std::time::Duration;

use super::super::limits::{Limit, LimitReached};
use super::super::policy::Limits;

/// How often to look.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
/// Clock ticks per second in `/proc`, which Linux has fixed for programs.
const TICKS_PER_SECOND: u32 = 100;
/// Folders of the program's own whose files are in memory.
const MEMORY_FOLDERS: &[&str] = &["/tmp", "/run", "/dev/shm"];

/// What to watch.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) limits: Limits,
    /// Whether the kernel holds the limit of processes already.
    pub(super) processes_are_held: bool,
    /// Whether `/proc` shows the processes of the program only.
    pub(super) own_processes: bool,
    /// Whether `/tmp` and others are in memory and the program's own.
    pub(super) own_folders: bool,
}

/// What processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    tasks: u64,
    cpu_ticks: u64,
    resident_bytes: u64,
}

impl Watch {
    /// Whether there is something to watch.
    pub(super) fn is_needed(&self) -> bool {
        let Limits { memory, processes, cpu_time, .. } = self.limits;
        memory.is_some() || cpu_time.is_some() || (processes.is_some() && !self.processes_are_held)
    }

    /// The limit that the program has reached, if any.
    pub(super) fn reached(&self) -> Option<LimitReached> {
        let processes = self.processes();
        let usage = processes.iter().fold(Usage::default(), |sum, (_, usage)| Usage {
            tasks: sum.tasks + usage.tasks,
            cpu_ticks: sum.cpu_ticks + usage.cpu_ticks,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
        });
        let exceeds = |used: u64, limit: Limit| limit.value_in(&self.limits).is_some_and(|most| used > most);
        if !self.processes_are_held && exceeds(usage.tasks, Limit::Processes) {
            return Limit::Processes.reached(&self.limits, true);
        }
        let cpu_time = Duration::from_secs(usage.cpu_ticks) / TICKS_PER_SECOND + reaped_cpu_time();
        if self.limits.cpu_duration().is_some_and(|most| cpu_time >= most) {
            return Limit::CpuTime.reached(&self.limits, true);
        }
        let in_folders = if self.own_folders { bytes_in_folders() } else { 0 };
        // Processes that share memory each count it, so a suspicion needs the exact figure.
        if exceeds(usage.resident_bytes + in_folders, Limit::Memory) {
            let exact: u64 = processes.iter().filter_map(|(pid, _)| proportional_bytes(*pid)).sum();
            if exceeds(exact + in_folders, Limit::Memory) {
                return Limit::Memory.reached(&self.limits, true);
            }
        }
        None
    }

    /// The processes of the program, without this one.
    fn processes(&self) -> Vec<(u32, Usage)> {
        let own = std::process::id();
        let mut processes: Vec<(u32, u32, Usage)> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // The process may have ended meanwhile.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some((parent, usage)) = parse_stat(&stat) {
                processes.push((pid, parent, usage));
            }
        }
        let mut family = vec![own];
        if self.own_processes {
            family.extend(processes.iter().map(|(pid, ..)| *pid));
        } else {
            let mut next = 0;
            while let Some(parent) = family.get(next).copied() {
                family.extend(processes.iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid));
                next += 1;
            }
        }
        let is_ours = |pid: &u32| *pid != own && family.contains(pid);
        processes.into_iter().filter(|(pid, ..)| is_ours(pid)).map(|(pid, _, usage)| (pid, usage)).collect()
    }

    /// The numbers of the program's processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes().into_iter().map(|(pid, _)| pid).collect()
    }
}

/// The parent and the usage in the text of `/proc/PID/stat`; the time includes that of children that were waited for.
fn parse_stat(stat: &str) -> Option<(u32, Usage)> {
    // The name before may contain any characters, even brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let cpu_ticks = (11..=14).filter_map(number).sum();
    let resident_bytes = number(21)?.saturating_mul(rustix::param::page_size() as u64);
    Some((u32::try_from(number(1)?).ok()?, Usage { tasks: number(17)?, cpu_ticks, resident_bytes }))
}

/// The memory of a process, with its part of what it shares with others.
fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(value.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn bytes_in_folders() -> u64 {
    let used = |folder: &&str| {
        let stat = rustix::fs::statvfs(*folder).ok()?;
        Some(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
    };
    MEMORY_FOLDERS.iter().filter_map(used).sum()
}

/// The processor time of the processes that this one has waited for, with theirs.
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
    fn a_line_of_stat_gives_the_parent_and_what_a_process_uses() {
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
        let watch = Watch { limits, processes_are_held: false, own_processes: false, own_folders: false };
        assert!(!watch.is_needed());
        assert_eq!(watch.reached(), None);
    }
}
