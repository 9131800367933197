//! The last stage: gives up what the policy does not allow, starts the program, and waits for its end.

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
use super::super::wire::{InForce, Report, Request, Start, receive, send};
use super::cgroup::Cgroup;
use super::restrict::{drop_capabilities, hide_memory, is_exempt_from_process_limit, limit_ids, set_rlimits};
use super::usage::{INTERVAL, Watch, reaped_cpu_time};
use super::{landlock_rules, signals, syscalls};

/// The exit code when the program did not start, as of shells.
const NOT_STARTED: i32 = 127;
/// How often a program that reached a limit is killed again: it may start processes meanwhile.
const KILL_ROUNDS: usize = 40;

/// What the first stage knows and the last one needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) request: Request,
    /// Where the proxy listens inside.
    pub(super) proxy_port: Option<u16>,
    /// The folder of the control group that this process is in.
    pub(super) cgroup: Option<PathBuf>,
    /// Whether this only tries whether confinement works.
    pub(super) is_probe: bool,
    /// Whether this process may change `/proc`, because it is one of its own.
    pub(super) own_proc: bool,
}

/// The program to start.
pub(super) struct Program {
    pub(super) argv: Vec<OsString>,
    pub(super) input: Option<OwnedFd>,
    pub(super) control: Option<UnixStream>,
}

/// Confines this process, which has one thread, starts the program, and returns its exit code.
pub(super) fn run(setup: &Setup, program: Program) -> Result<i32, ConfineError> {
    let (policy, level) = (&setup.request.policy, setup.request.level);
    let limits = policy.limits;
    let cgroup = setup.cgroup.clone().map(|folder| Cgroup { folder });
    if setup.own_proc {
        limit_ids(&limits);
        super::make_proc_read_only()?;
    }
    // A control group counts the same together, and better.
    let for_each = if cgroup.is_some() { Limits { memory: None, processes: None, ..limits } } else { limits };
    set_rlimits(&for_each, level)?;
    let landlock = if level == Level::None {
        0
    } else {
        drop_capabilities()?;
        let version = landlock_rules::restrict(policy, level)?;
        check_version(version, setup)?;
        syscalls::restrict(policy, level, setup.request.own_processes)?;
        version
    };
    hide_memory()?;
    let watch = Watch {
        limits: if cgroup.is_some() { Limits { memory: None, processes: None, ..limits } } else { limits },
        processes_are_held: level == Level::Full && !is_exempt_from_process_limit(),
        own_processes: setup.request.own_processes,
        own_folders: level == Level::Full,
    };
    let in_force = InForce {
        level,
        landlock,
        own_processes: setup.request.own_processes,
        limits_by: (limits != Limits::default())
            .then(|| if cgroup.is_some() { "cgroup" } else { "rlimits" }.to_owned()),
        cgroup: setup.cgroup.clone(),
        gaps: gaps(setup, landlock),
    };
    start_and_wait(setup, program, in_force, (watch, cgroup))
}

/// Fails if the kernel's Landlock is too old for what no other layer holds.
fn check_version(version: u32, setup: &Setup) -> Result<(), ConfineError> {
    let request = &setup.request;
    let too_old = |needed: u32, what: &str| {
        Err(ConfineError::new(Step::Landlock, format!("{what} needs Landlock {needed}, and this kernel has {version}"))
            .advise("use a newer kernel with `landlock` in `CONFIG_LSM` or in its `lsm=` option"))
    };
    let needs_scopes = request.level == Level::Full
        && (!request.own_processes
            || (request.policy.unix_sockets && request.policy.network == super::super::policy::Network::All));
    if request.level == Level::Basic && version < landlock_rules::OLDEST_FOR_BASIC {
        return too_old(landlock_rules::OLDEST_FOR_BASIC, "the level `basic`");
    }
    if needs_scopes && version < landlock_rules::WITH_SCOPES {
        return too_old(landlock_rules::WITH_SCOPES, "this policy at the level `full`");
    }
    Ok(())
}

/// What the policy asks for and the level can't hold.
fn gaps(setup: &Setup, landlock: u32) -> Vec<String> {
    let Request { policy, level, own_processes, .. } = &setup.request;
    let mut gaps = Vec::new();
    let is_writable = |path: &PathBuf| policy.writable().any(|folder| path.starts_with(folder));
    if *level == Level::Basic {
        if landlock < landlock_rules::WITH_SCOPES {
            gaps.push("the program can signal other processes of the user: the kernel is older than 6.12".to_owned());
        }
        if policy.protect.iter().any(|protected| is_writable(&protected.path)) {
            gaps.push("protected paths inside writable folders are only checked afterwards".to_owned());
        }
        let denied = policy.deny_read.iter().filter(|path| is_writable(path));
        gaps.extend(denied.map(|path| format!("`{}` is inside a writable folder and can be read", path.display())));
        gaps.push("the program can change modes and times of the user's files everywhere".to_owned());
    }
    if !own_processes {
        gaps.push("the program can read the command lines of other processes".to_owned());
    }
    gaps
}

fn start_and_wait(
    setup: &Setup,
    program: Program,
    in_force: InForce,
    (watch, cgroup): (Watch, Option<Cgroup>),
) -> Result<i32, ConfineError> {
    if setup.is_probe {
        super::super::write_output(&Ok(in_force));
        return Ok(0);
    }
    let Program { mut argv, input, control } = program;
    let mut start = Start::default();
    if let Some(control) = &control {
        send(control, &Report::Confined(in_force), &[]).in_step(Step::Control)?;
        (start, _) = receive(control).in_step(Step::Control)?;
    }
    if let Some(replaced) = start.argv.take() {
        argv = replaced.into_iter().map(OsString::from).collect();
    }
    let Some((name, arguments)) = argv.split_first() else {
        return Err(ConfineError::new(Step::Start, "there is no program to start".to_owned()));
    };
    let mut command = Command::new(name);
    command.args(arguments).stdin(input.map_or_else(Stdio::null, Stdio::from));
    command.envs(environment::variables(&setup.request.policy, setup.request.level, setup.proxy_port));
    command.envs(start.env);
    let leader = match signals::unblocked(|| command.spawn()).in_step(Step::Start)? {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return Ok(not_started(control.as_ref(), &error)),
    };
    // Closes this process's copy of the program's input.
    drop(command);
    let limits = setup.request.policy.limits;
    let watched = Arc::new(Mutex::new(None));
    if watch.is_needed() {
        let (control, watched) = (control.as_ref().and_then(|control| control.try_clone().ok()), Arc::clone(&watched));
        thread::Builder::new()
            .spawn(move || watch_until_reached(&watch, control.as_ref(), &watched))
            .in_step(Step::Limits)?;
    }
    let status = wait_for(leader);
    let code = status.map_or(-1, exit_code);
    let watched = *watched.lock().unwrap_or_else(PoisonError::into_inner);
    let by_group = cgroup.filter(|_| code != 0).and_then(|cgroup| cgroup.reached(&limits));
    let limit = watched.or(by_group).or_else(|| limit_of_exit(code, &limits));
    if let Some(control) = control {
        // If orch has died, nobody needs the report.
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

/// Waits for the program, and for processes whose parents have exited.
fn wait_for(leader: Pid) -> Option<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => return Some(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// The exit code; for a signal, 128 plus its number, as in shells.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(-1)
}

/// The limit at which the kernel ended the program, or a child of the program whose exit code it passed on.
fn limit_of_exit(code: i32, limits: &Limits) -> Option<LimitReached> {
    let signal = |signal: Signal| 128 + signal.as_raw();
    let used_cpu = limits.cpu_duration().is_some_and(|limit| reaped_cpu_time() >= limit);
    match code {
        _ if code == signal(Signal::XCPU) => Limit::CpuTime.reached(limits, true),
        _ if code == signal(Signal::XFSZ) => Limit::FileSize.reached(limits, true),
        _ if code == signal(Signal::KILL) && used_cpu => Limit::CpuTime.reached(limits, true),
        _ => None,
    }
}

/// Looks at what the program uses until it reaches a limit, and then ends all of its processes.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn watch_until_reached(watch: &Watch, control: Option<&UnixStream>, reached: &Mutex<Option<LimitReached>>) {
    let limit = loop {
        thread::sleep(INTERVAL);
        if let Some(limit) = watch.reached() {
            break limit;
        }
    };
    *reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    if watch.own_processes {
        // The kernel ends all processes of the namespace with this one, its first, so that none can escape by forking.
        let code = 128 + Signal::KILL.as_raw();
        if let Some(control) = control {
            let _ = send(control, &Report::Ended { code, limit: Some(limit) }, &[]);
        }
        std::process::exit(code);
    }
    // The guard ends what is left: it goes on until there is nothing.
    for signal in std::iter::once(Signal::STOP).chain(std::iter::repeat_n(Signal::KILL, KILL_ROUNDS)) {
        for pid in watch.pids().into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, signal);
        }
    }
}
