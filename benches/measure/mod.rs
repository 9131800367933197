//! Measures what a process uses, and prints tables in Markdown; for the benches.
//!
//! A bench starts itself for each measurement, because the kernel adds up what all children of a process used. So every
//! `main` calls [`run_as_helper`] first.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that can't go on fails")]
#![allow(dead_code, reason = "no bench uses everything")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage as KernelUsage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// The argument with which a bench starts itself.
const HELPER: &str = "--measure-one-process";

/// What a process used, with the processes that it started and waited for.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// The page faults that needed no disk.
    pub(crate) faults: u64,
    /// The largest memory of one process in bytes; 0 if it was smaller than that of the helper.
    pub(crate) memory: u64,
    /// The bytes that the process itself wrote to files, pipes and sockets. Only Linux counts them.
    pub(crate) written: u64,
    /// The bytes that its writes made the file system store; 0 on a file system in memory.
    pub(crate) stored: u64,
}

/// Measures a process once. It must succeed.
pub(crate) fn measure(command: &Command) -> Usage {
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.arg(HELPER).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        helper.current_dir(folder);
    }
    let output = helper.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [wall, cpu, faults, memory, written, stored]: [u64; 6] = numbers.try_into().unwrap();
    let (wall, cpu) = (Duration::from_nanos(wall), Duration::from_micros(cpu));
    Usage { wall, cpu, faults, memory, written, stored }
}

/// Whether this process was started to measure another one; then it has done so.
pub(crate) fn run_as_helper() -> bool {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != HELPER) {
        return false;
    }
    let mut command = Command::new(args.next().unwrap());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    // Until `wait`, `/proc` still has the counts of a process that has ended.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let wall = start.elapsed().as_nanos();
    let counts = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let count = |name: &str| counts.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    let children = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let cpu = children.user_time().num_microseconds() + children.system_time().num_microseconds();
    // Before it becomes another program, a process counts the memory of the one that started it.
    let own_memory = max_memory(&getrusage(UsageWho::RUSAGE_SELF).unwrap());
    let memory = Some(max_memory(&children)).filter(|memory| *memory > own_memory).unwrap_or(0);
    let faults = children.minor_page_faults();
    println!("{wall} {cpu} {faults} {memory} {} {}", count("wchar:"), count("write_bytes:"));
    true
}

fn max_memory(usage: &KernelUsage) -> i64 {
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    usage.max_rss() * unit
}

/// Several measurements of one command.
#[derive(Default)]
pub(crate) struct Samples(Vec<Usage>);

impl Samples {
    /// Measures a command so many times.
    pub(crate) fn of(command: &Command, count: usize) -> Self {
        Self((0..count).map(|_| measure(command)).collect())
    }

    pub(crate) fn add(&mut self, usage: Usage) {
        self.0.push(usage);
    }

    /// The time that so many tenths of the measurements did not exceed.
    pub(crate) fn wall(&self, tenths: usize) -> Duration {
        self.quantile(tenths, |usage| usage.wall)
    }

    pub(crate) fn median<T: Ord + Copy>(&self, value: impl Fn(&Usage) -> T) -> T {
        self.quantile(5, value)
    }

    fn quantile<T: Ord + Copy>(&self, tenths: usize, value: impl Fn(&Usage) -> T) -> T {
        let mut values: Vec<T> = self.0.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() * tenths / 10]
    }
}

/// How many times a command makes files durable; `None` if `strace` is not installed or may not trace.
pub(crate) fn count_syncs(command: &Command) -> Option<usize> {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]).arg(trace.path());
    strace.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    let text = std::fs::read_to_string(trace.path()).unwrap();
    status.success().then(|| text.lines().filter(|line| line.contains("fsync(") || line.contains("fdatasync(")).count())
}

/// Compiles a program of `benches/programs` into a folder, with the standard library alone.
pub(crate) fn compile(name: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs").join(name).with_extension("rs");
    let program = folder.join(name);
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "-O", "-o"]).arg(&program).arg(source);
    assert!(command.status().unwrap().success(), "{command:?}");
    program
}

/// Prints the head of a table.
pub(crate) fn print_head(columns: &[&str]) {
    println!("\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

/// Prints a row of a table.
pub(crate) fn print_row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// A duration with about three digits.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        10.0.. => format!("{seconds:.0} s"),
        1.0.. => format!("{seconds:.2} s"),
        0.1.. => format!("{:.0} ms", seconds * 1e3),
        0.01.. => format!("{:.1} ms", seconds * 1e3),
        0.001.. => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// A number of bytes; a dash for 0.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0 => "–".to_owned(),
        1..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// The exponent with which a value grows between two counts: 1 if it is proportional to the count, 2 if it is
/// proportional to the square.
pub(crate) fn exponent(counts: [usize; 2], values: [Duration; 2]) -> String {
    let counts = counts.map(|count| f64::from(u32::try_from(count).unwrap()));
    let values = values.map(|value| value.as_secs_f64());
    format!("{:.2}", (values[1] / values[0]).ln() / (counts[1] / counts[0]).ln())
}
