//! Monitors the total usage of all processes of a program, if no control group does.
//!
//! The kernel enforces the limits of a single process immediately, but a program can start many processes. This module
//! therefore adds up the usage of all of them several times a second.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use super::super::limits::{Limit, LimitReached};
use super::super::policy::Limits;
use super::mounts::existing_private_folders;

/// The time between two measurements.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The number of clock ticks per second in `/proc`; it is the same on every Linux system.
const TICKS_PER_SECOND: u32 = 100;

/// Compares the usage of a program with its limits.
#[derive(Clone, Debug)]
pub(super) struct UsageMonitor {
    pub(super) limits: Limits,
    /// Whether the kernel already enforces the limit on processes.
    pub(super) kernel_limits_processes: bool,
    /// Whether `/proc` shows only the processes of the program.
    pub(super) has_pid_namespace: bool,
    /// Whether the program has private folders, whose files are in memory.
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
    ///
    /// # Errors
    /// When a part of the usage can't be measured: it does not count as zero.
    pub(super) fn reached_limit(&self) -> io::Result<Option<LimitReached>> {
        let processes = self.processes()?;
        let usage = processes.iter().fold(Usage::default(), |sum, (_, usage)| Usage {
            tasks: sum.tasks + usage.tasks,
            cpu_ticks: sum.cpu_ticks + usage.cpu_ticks,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
        });
        let exceeds = |used: u64, limit: Limit| limit.value_in(&self.limits).is_some_and(|max| used > max);
        if !self.kernel_limits_processes && exceeds(usage.tasks, Limit::Processes) {
            return Ok(Limit::Processes.reached(&self.limits, true));
        }
        let cpu_time = Duration::from_secs(usage.cpu_ticks) / TICKS_PER_SECOND + reaped_cpu_time();
        if self.limits.cpu_duration().is_some_and(|max| cpu_time >= max) {
            return Ok(Limit::CpuTime.reached(&self.limits, true));
        }
        let file_bytes = if self.has_private_folders { bytes_in_memory_folders()? } else { 0 };
        // The sum counts memory that several processes share more than once. The exact size takes longer to compute, so
        // compute it only if the sum exceeds the limit.
        if exceeds(usage.resident_bytes + file_bytes, Limit::Memory) {
            let exact_bytes = |(pid, usage): &(u32, Usage)| {
                memory_of(fs::read_to_string(format!("/proc/{pid}/smaps_rollup")), usage.resident_bytes)
            };
            let exact_bytes: u64 = processes.iter().map(exact_bytes).sum();
            if exceeds(exact_bytes + file_bytes, Limit::Memory) {
                return Ok(Limit::Memory.reached(&self.limits, true));
            }
        }
        Ok(None)
    }

    /// The processes of the program with their usage, without this process.
    fn processes(&self) -> io::Result<Vec<(u32, Usage)>> {
        let own = std::process::id();
        let processes = read_processes(Path::new("/proc"))?;
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
        Ok(processes.into_iter().filter(|(pid, ..)| is_of_program(pid)).map(|(pid, _, usage)| (pid, usage)).collect())
    }

    /// The ids of the program's processes.
    pub(super) fn pids(&self) -> io::Result<Vec<Pid>> {
        let ids = self.processes()?.into_iter().map(|(pid, _)| pid);
        Ok(ids.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect())
    }
}

/// The id, the parent's id and the usage of each process in a folder such as `/proc`.
fn read_processes(proc_folder: &Path) -> io::Result<Vec<(u32, u32, Usage)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir(proc_folder)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = match fs::read_to_string(entry.path().join("stat")) {
            Ok(stat) => stat,
            Err(error) if is_other_process(&error) => continue,
            Err(error) => return Err(error),
        };
        let invalid = || io::Error::other(format!("the kernel describes the process {pid} in an unknown format"));
        let (parent, usage) = parse_stat(&stat).ok_or_else(invalid)?;
        processes.push((pid, parent, usage));
    }
    Ok(processes)
}

/// Whether an error shows that a process has ended in the meantime, or that it belongs to another user and the machine
/// hides such processes (mount option `hidepid`).
fn is_other_process(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) || has_ended(error)
}

/// Whether an error shows that a process has ended since its file was opened.
fn has_ended(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Parses the parent's id and the usage from the text of `/proc/PID/stat`. The time includes that of reaped children.
fn parse_stat(stat: &str) -> Option<(u32, Usage)> {
    // The name of the program is in parentheses and may contain any characters, even parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let cpu_ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    let resident_bytes = number(21)?.saturating_mul(rustix::param::page_size() as u64);
    Some((u32::try_from(number(1)?).ok()?, Usage { tasks: number(17)?, cpu_ticks, resident_bytes }))
}

/// The memory of a process (PSS) according to its file `smaps_rollup`: its private memory, and its share of the memory
/// that several processes share. A process can forbid other processes to read this file, so its whole resident memory
/// counts if the file can't be read.
fn memory_of(smaps_rollup: io::Result<String>, resident_bytes: u64) -> u64 {
    match smaps_rollup {
        Ok(text) => proportional_bytes(&text).unwrap_or(resident_bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound || has_ended(&error) => 0,
        Err(_) => resident_bytes,
    }
}

/// The size in the text of `smaps_rollup`. The text of a process that is ending is empty.
fn proportional_bytes(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(value.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The size of all files in the private folders. A machine may lack one of these folders.
fn bytes_in_memory_folders() -> io::Result<u64> {
    let mut sum = 0;
    for folder in existing_private_folders().map_err(|(_, error)| error)? {
        match rustix::fs::statvfs(folder.as_path()) {
            Ok(stat) => sum += stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
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
        assert_eq!(parse_stat(&line.replacen(" 100 ", " x ", 1)), None, "an unknown time is not zero");
    }

    #[test]
    fn a_process_that_cannot_be_measured_is_an_error_and_one_that_has_ended_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_processes(&folder.path().join("missing")).is_err());
        fs::create_dir_all(folder.path().join("7")).unwrap();
        assert!(read_processes(folder.path()).unwrap().is_empty());
        let stat = "7 (a) S 1 7 7 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 1 0 100 1000000 10";
        fs::write(folder.path().join("7/stat"), stat).unwrap();
        let (pid, parent, usage) = read_processes(folder.path()).unwrap()[0];
        assert_eq!((pid, parent, usage.cpu_ticks), (7, 1, 10));
        fs::write(folder.path().join("7/stat"), "7 (a").unwrap();
        let error = read_processes(folder.path()).unwrap_err().to_string();
        assert!(error.contains("the process 7"), "{error}");
    }

    #[test]
    fn memory_that_a_process_hides_counts_completely() {
        let error = |errno: rustix::io::Errno| Err(io::Error::from(errno));
        assert_eq!(memory_of(Ok("Rss:  9 kB\nPss:  3 kB\n".to_owned()), 9 << 10), 3 << 10);
        assert_eq!(memory_of(error(rustix::io::Errno::ACCESS), 9 << 10), 9 << 10);
        assert_eq!(memory_of(Ok("Rss:  9 kB\n".to_owned()), 9 << 10), 9 << 10);
        assert_eq!(memory_of(error(rustix::io::Errno::NOENT), 9 << 10), 0);
        assert_eq!(memory_of(error(rustix::io::Errno::SRCH), 9 << 10), 0);
        assert_eq!(memory_of(Ok(String::new()), 9 << 10), 0);
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
        assert_eq!(monitor.reached_limit().unwrap(), None);
    }
}
