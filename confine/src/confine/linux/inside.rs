//! The last stage: gives up the rights that the policy does not grant, starts the program, and waits for it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use serde::{Deserialize, Serialize};

use super::super::environment;
use super::super::error::{ConfineError, InStep as _, Step};
use super::super::limits::{Limit, LimitReached};
use super::super::policy::{Level, Limits};
use super::super::wire::{AppliedSandbox, Report, Request, Start, receive, send};
use super::cgroup::Cgroup;
use super::restrict::{drop_capabilities, hide_memory, is_exempt_from_process_limit, limit_process_ids, set_rlimits};
use super::signals::BlockedSignals;
use super::spawn::spawn;
use super::usage::{POLL_INTERVAL, UsageMonitor, reaped_cpu_time};
use super::{landlock_rules, syscalls};

/// The exit code if there is no such program; shells use the same number.
const NOT_FOUND: i32 = 127;
/// The exit code if the program exists but can't start; shells use the same number.
const NOT_EXECUTABLE: i32 = 126;
/// The number that shells add to the number of a signal to get the exit code of a program that the signal ended.
const SIGNAL_BASE: i32 = 128;
/// The number of times to kill all processes of a program that reached a limit, because it may start new processes in
/// the meantime.
const KILL_ROUNDS: usize = 40;

/// The data that the first stage passes to the last stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) request: Request,
    /// The port of the proxy on the program's loopback.
    pub(super) proxy_port: Option<u16>,
    /// The folder of the control group of this process.
    pub(super) cgroup: Option<PathBuf>,
    /// Whether to test only whether confinement works, without a program.
    pub(super) is_probe: bool,
    /// Whether `/proc` belongs to the PID namespace of this process, so that this process may change it.
    pub(super) own_proc: bool,
}

/// The program to start.
pub(super) struct Program {
    pub(super) argv: Vec<OsString>,
    /// The standard input of the program.
    pub(super) input: Option<OwnedFd>,
    /// The socket to orch.
    pub(super) control: Option<UnixStream>,
}

/// Confines this process, starts the program, and returns its exit code. This process must have only one thread.
pub(super) fn run(setup: &Setup, program: Program) -> Result<i32, ConfineError> {
    let (policy, level) = (&setup.request.policy, setup.request.level);
    let limits = policy.limits;
    let cgroup = setup.cgroup.clone().map(|folder| Cgroup { folder });
    if setup.own_proc {
        limit_process_ids(&limits);
        super::make_proc_read_only()?;
    }
    // A control group enforces these two limits for all processes together, which is more accurate.
    let limits_without_cgroup =
        if cgroup.is_some() { Limits { memory: None, processes: None, ..limits } } else { limits };
    // Opened first, because the policy may limit the number of open files.
    let signals = BlockedSignals::open().in_step(Step::Control)?;
    set_rlimits(&limits_without_cgroup, level)?;
    let landlock = if level == Level::None {
        0
    } else {
        drop_capabilities()?;
        let version = landlock_rules::restrict(policy, level)?;
        check_version(version, setup)?;
        syscalls::restrict(policy, level, setup.request.has_pid_namespace)?;
        version
    };
    hide_memory()?;
    let monitor = UsageMonitor {
        limits: limits_without_cgroup,
        kernel_limits_processes: level == Level::Full && !is_exempt_from_process_limit(),
        has_pid_namespace: setup.request.has_pid_namespace,
        has_private_folders: level == Level::Full,
    };
    let applied = AppliedSandbox {
        level,
        landlock,
        has_pid_namespace: setup.request.has_pid_namespace,
        limits_by: (limits != Limits::default())
            .then(|| if cgroup.is_some() { "cgroup" } else { "rlimits" }.to_owned()),
        cgroup: setup.cgroup.clone(),
        unenforced: unenforced_restrictions(setup, landlock),
    };
    start_and_wait(setup, program, applied, Supervision { monitor, cgroup, signals })
}

/// What `orch __confine` uses while the program runs.
struct Supervision {
    monitor: UsageMonitor,
    cgroup: Option<Cgroup>,
    signals: BlockedSignals,
}

/// Fails if the kernel's Landlock version is too old for a restriction that no other layer enforces.
fn check_version(version: u32, setup: &Setup) -> Result<(), ConfineError> {
    let request = &setup.request;
    let too_old = |needed: u32, subject: &str| {
        Err(ConfineError::new(
            Step::Landlock,
            format!("{subject} needs Landlock {needed}, and this kernel has {version}"),
        )
        .advise("use a newer kernel with `landlock` in `CONFIG_LSM` or in its `lsm=` option"))
    };
    let needs_scopes = request.level == Level::Full
        && (!request.has_pid_namespace
            || (request.policy.unix_sockets && request.policy.network == super::super::policy::Network::All));
    if request.level == Level::Basic && version < landlock_rules::OLDEST_FOR_BASIC {
        return too_old(landlock_rules::OLDEST_FOR_BASIC, "the level `basic`");
    }
    if needs_scopes && version < landlock_rules::WITH_SCOPES {
        return too_old(landlock_rules::WITH_SCOPES, "this policy at the level `full`");
    }
    Ok(())
}

/// The restrictions that the policy requests and that orch can't enforce at this level, each as a sentence.
fn unenforced_restrictions(setup: &Setup, landlock: u32) -> Vec<String> {
    let Request { policy, level, has_pid_namespace, .. } = &setup.request;
    let mut sentences = Vec::new();
    let is_writable = |path: &PathBuf| policy.writable().any(|folder| path.starts_with(folder));
    if *level == Level::Basic {
        if landlock < landlock_rules::WITH_SCOPES {
            let sentence = "the program can signal other processes of the user: the kernel is older than 6.12";
            sentences.push(sentence.to_owned());
        }
        if policy.protect.iter().any(|protected| is_writable(&protected.path)) {
            sentences.push("orch only checks afterwards whether the program changed protected paths".to_owned());
        }
        let denied = policy.deny_read.iter().filter(|path| is_writable(path)).map(|path| path.display());
        sentences.extend(denied.map(|path| format!("`{path}` is inside a writable folder and can be read")));
        sentences.push("the program can change the modes and times of all files of the user".to_owned());
    }
    if policy.limits.file_size.is_some() {
        sentences.push(Limit::FileSize.undetected_in_children());
    }
    if policy.limits.memory.is_some() && setup.cgroup.is_none() {
        sentences.push(Limit::Memory.undetected_in_children());
    }
    if !has_pid_namespace {
        sentences.push("the program can read the command lines of other processes".to_owned());
    }
    sentences
}

fn start_and_wait(
    setup: &Setup,
    program: Program,
    applied: AppliedSandbox,
    supervision: Supervision,
) -> Result<i32, ConfineError> {
    if setup.is_probe {
        super::super::write_probe_result(&Ok(applied));
        return Ok(0);
    }
    let Program { mut argv, input, control } = program;
    let Supervision { monitor, cgroup, signals } = supervision;
    let mut start = Start::default();
    if let Some(control) = &control {
        send(control, &Report::Confined(applied), &[]).in_step(Step::Control)?;
        (start, _) = receive(control).in_step(Step::Control)?;
    }
    if let Some(replacement) = start.argv.take() {
        argv = replacement.into_iter().map(OsString::from).collect();
    }
    let Some(name) = argv.first() else {
        return Err(ConfineError::new(Step::Start, "the command line names no program".to_owned()));
    };
    let input = match input {
        Some(input) => input,
        None => File::open("/dev/null").in_step_at(Step::Start, "/dev/null")?.into(),
    };
    let own_variables = environment::variables(&setup.request.policy, setup.request.level, setup.proxy_port);
    let own_variables = own_variables.into_iter().map(|(name, value)| (OsString::from(name), value));
    let started_variables = start.env.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let variables: Vec<(OsString, OsString)> = own_variables.chain(started_variables).collect();
    // The last fallible work comes before the start of the program: an error would say that the program did not start.
    let findings = start_monitor(monitor, control.as_ref())?;
    if let Some(signal) = signals.take().in_step(Step::Control)? {
        let ending = Ending { code: SIGNAL_BASE + signal as i32, ..Ending::default() };
        return Ok(report_end(control.as_ref(), ending));
    }
    let program_pid = match spawn(&argv, variables, input.as_fd()) {
        Ok(pid) => pid,
        Err(errno) => return Ok(not_started(control.as_ref(), name, errno)),
    };
    // This fails if the program runs as another user, because of a set-uid file. The supervisor can't signal it either.
    let _ = signals.pass_on(program_pid);
    // Close this process's copy of the program's input.
    drop(input);
    let status = wait_for(program_pid);
    let code = status.map_or(-1, exit_code);
    let limits = setup.request.policy.limits;
    let MonitorFindings { limit: monitored_limit, failure } = lock(&findings).clone();
    // orch reads the counters of the group too, and reports those that it can't read.
    let cgroup_limit = cgroup.and_then(|cgroup| cgroup.reached(&limits, code != 0).limit);
    let limit = monitored_limit.or(cgroup_limit).or_else(|| limit_from_exit_code(code, &limits));
    Ok(report_end(control.as_ref(), Ending { code, limit, unknown: failure.into_iter().collect() }))
}

/// The end of the program.
#[derive(Debug, Default)]
struct Ending {
    code: i32,
    limit: Option<LimitReached>,
    /// What is not known about the program's limits, each as a sentence.
    unknown: Vec<String>,
}

/// Reports the end of the program to orch, and returns the exit code.
fn report_end(control: Option<&UnixStream>, ending: Ending) -> i32 {
    let Ending { code, limit, unknown } = ending;
    if let Some(control) = control {
        // Sending fails only if orch has died, and then no process needs the report.
        let _ = send(control, &Report::Ended { code, limit, unknown }, &[]);
    }
    code
}

/// Reports to orch, or without orch to the user, that the program did not start. Returns the exit code.
fn not_started(control: Option<&UnixStream>, name: &OsStr, errno: Errno) -> i32 {
    let error = io::Error::from(errno);
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let program = name.display();
    if let Some(control) = control {
        // Sending fails only if orch has died, and then no process needs the report.
        let _ = send(control, &Report::NotStarted(errno as i32), &[]);
    } else if is_missing {
        let cause = "or the interpreter in its first line is missing";
        let _ = writeln!(io::stderr(), "error: there is no program `{program}`, {cause}");
    } else {
        let _ = writeln!(io::stderr(), "error: `{program}` can't be started: {error}");
    }
    if is_missing { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// Waits for the program. Reaps orphaned descendants in the meantime.
fn wait_for(program_pid: Pid) -> Option<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program_pid => return Some(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// The exit code; after a signal, 128 plus its number, as in shells.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| Some(SIGNAL_BASE + status.terminating_signal()?)).unwrap_or(-1)
}

/// The limit because of which the kernel killed the program, or a child whose exit code the program returned.
fn limit_from_exit_code(code: i32, limits: &Limits) -> Option<LimitReached> {
    let code_of = |signal: Signal| SIGNAL_BASE + signal.as_raw();
    let is_cpu_time_used = limits.cpu_duration().is_some_and(|limit| reaped_cpu_time() >= limit);
    match code {
        _ if code == code_of(Signal::XCPU) => Limit::CpuTime.reached(limits, true),
        _ if code == code_of(Signal::XFSZ) => Limit::FileSize.reached(limits, true),
        _ if code == code_of(Signal::KILL) && is_cpu_time_used => Limit::CpuTime.reached(limits, true),
        _ => None,
    }
}

/// What the usage monitor found out.
#[derive(Clone, Debug, Default)]
struct MonitorFindings {
    limit: Option<LimitReached>,
    /// Why the usage is not known, as a sentence.
    failure: Option<String>,
}

type SharedFindings = Arc<Mutex<MonitorFindings>>;

fn lock(findings: &SharedFindings) -> MutexGuard<'_, MonitorFindings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that measures the usage of the program, if a limit needs it.
fn start_monitor(monitor: UsageMonitor, control: Option<&UnixStream>) -> Result<SharedFindings, ConfineError> {
    let findings = SharedFindings::default();
    if monitor.is_needed() {
        let control = control.map(UnixStream::try_clone).transpose().in_step(Step::Limits)?;
        let shared = Arc::clone(&findings);
        thread::Builder::new()
            .spawn(move || monitor_until_limit(&monitor, control.as_ref(), &shared))
            .in_step(Step::Limits)?;
    }
    Ok(findings)
}

/// Measures the usage of the program until it reaches a limit, and then kills all of its processes.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn monitor_until_limit(monitor: &UsageMonitor, control: Option<&UnixStream>, findings: &SharedFindings) {
    let limit = loop {
        thread::sleep(POLL_INTERVAL);
        match monitor.reached_limit() {
            Ok(Some(limit)) => break limit,
            Ok(None) => {}
            Err(error) => {
                let sentence = "orch could not measure the usage of the program, which may have exceeded its limits";
                lock(findings).failure = Some(format!("{sentence}: {error}"));
            }
        }
    };
    lock(findings).limit = Some(limit);
    if monitor.has_pid_namespace {
        // This process is the first one of its namespace. When it exits, the kernel kills all processes of the
        // namespace, so that no process can escape by forking.
        let ending = Ending { code: SIGNAL_BASE + Signal::KILL.as_raw(), limit: Some(limit), unknown: Vec::new() };
        std::process::exit(report_end(control, ending));
    }
    // If processes remain after these rounds, the supervisor of orch kills them.
    for signal in std::iter::once(Signal::STOP).chain(std::iter::repeat_n(Signal::KILL, KILL_ROUNDS)) {
        // Without a list of the processes, the supervisor of orch kills them too.
        for pid in monitor.pids().unwrap_or_default() {
            let _ = kill_process(pid, signal);
        }
    }
}
