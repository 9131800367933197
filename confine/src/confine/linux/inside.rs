//! The last stage: gives up the rights that the policy does not grant, starts the program, and waits for it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use serde::{Deserialize, Serialize};

use super::super::environment;
use super::super::error::{ConfineError, InStep as _, Step};
use super::super::limits::{Limit, LimitReached};
use super::super::policy::{Level, Limits};
use super::super::wire::{AppliedSandbox, Report, Request, Start, receive, send};
use super::cgroup::Cgroup;
use super::restrict::{drop_capabilities, hide_memory, is_exempt_from_process_limit, limit_process_ids, set_rlimits};
use super::usage::{POLL_INTERVAL, UsageMonitor, reaped_cpu_time};
use super::{landlock_rules, signals, syscalls};

/// The exit code if the program could not start; shells use the same number.
const NOT_STARTED: i32 = 127;
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
    start_and_wait(setup, program, applied, (monitor, cgroup))
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
    (monitor, cgroup): (UsageMonitor, Option<Cgroup>),
) -> Result<i32, ConfineError> {
    if setup.is_probe {
        super::super::write_probe_result(&Ok(applied));
        return Ok(0);
    }
    let Program { mut argv, input, control } = program;
    let mut start = Start::default();
    if let Some(control) = &control {
        send(control, &Report::Confined(applied), &[]).in_step(Step::Control)?;
        (start, _) = receive(control).in_step(Step::Control)?;
    }
    if let Some(replacement) = start.argv.take() {
        argv = replacement.into_iter().map(OsString::from).collect();
    }
    let Some((name, arguments)) = argv.split_first() else {
        return Err(ConfineError::new(Step::Start, "the command line names no program".to_owned()));
    };
    let mut command = Command::new(name);
    command.args(arguments).stdin(input.map_or_else(Stdio::null, Stdio::from));
    command.envs(environment::variables(&setup.request.policy, setup.request.level, setup.proxy_port));
    command.envs(start.env);
    let program_pid = match signals::with_unblocked(|| command.spawn()).in_step(Step::Start)? {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return Ok(not_started(control.as_ref(), &error)),
    };
    // Close this process's copy of the program's input.
    drop(command);
    let limits = setup.request.policy.limits;
    let monitored_limit = Arc::new(Mutex::new(None));
    if monitor.is_needed() {
        let control = control.as_ref().and_then(|control| control.try_clone().ok());
        let monitored_limit = Arc::clone(&monitored_limit);
        thread::Builder::new()
            .spawn(move || monitor_until_limit(&monitor, control.as_ref(), &monitored_limit))
            .in_step(Step::Limits)?;
    }
    let status = wait_for(program_pid);
    let code = status.map_or(-1, exit_code);
    let monitored_limit = *monitored_limit.lock().unwrap_or_else(PoisonError::into_inner);
    let cgroup_limit = cgroup.and_then(|cgroup| cgroup.reached(&limits, code != 0));
    let limit = monitored_limit.or(cgroup_limit).or_else(|| limit_from_exit_code(code, &limits));
    if let Some(control) = control {
        // Sending fails only if orch has died, and then no process needs the report.
        let _ = send(&control, &Report::Ended { code, limit }, &[]);
    }
    Ok(code)
}

fn not_started(control: Option<&UnixStream>, error: &io::Error) -> i32 {
    if let Some(control) = control {
        let _ = send(control, &Report::NotStarted(error.raw_os_error().unwrap_or_default()), &[]);
    }
    NOT_STARTED
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
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(-1)
}

/// The limit because of which the kernel killed the program, or a child whose exit code the program returned.
fn limit_from_exit_code(code: i32, limits: &Limits) -> Option<LimitReached> {
    let code_of = |signal: Signal| 128 + signal.as_raw();
    let is_cpu_time_used = limits.cpu_duration().is_some_and(|limit| reaped_cpu_time() >= limit);
    match code {
        _ if code == code_of(Signal::XCPU) => Limit::CpuTime.reached(limits, true),
        _ if code == code_of(Signal::XFSZ) => Limit::FileSize.reached(limits, true),
        _ if code == code_of(Signal::KILL) && is_cpu_time_used => Limit::CpuTime.reached(limits, true),
        _ => None,
    }
}

/// Measures the usage of the program until it reaches a limit, and then kills all of its processes.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn monitor_until_limit(
    monitor: &UsageMonitor,
    control: Option<&UnixStream>,
    reached_limit: &Mutex<Option<LimitReached>>,
) {
    let limit = loop {
        thread::sleep(POLL_INTERVAL);
        if let Some(limit) = monitor.reached_limit() {
            break limit;
        }
    };
    *reached_limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    if monitor.has_pid_namespace {
        // This process is the first one of its namespace. When it exits, the kernel kills all processes of the
        // namespace, so that no process can escape by forking.
        let code = 128 + Signal::KILL.as_raw();
        if let Some(control) = control {
            let _ = send(control, &Report::Ended { code, limit: Some(limit) }, &[]);
        }
        std::process::exit(code);
    }
    // If processes remain after these rounds, the guard of orch kills them.
    for signal in std::iter::once(Signal::STOP).chain(std::iter::repeat_n(Signal::KILL, KILL_ROUNDS)) {
        for pid in monitor.pids().into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, signal);
        }
    }
}
