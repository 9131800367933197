//! Confinement on Linux.
//!
//! At `full` there are two stages, since a process enters a new process id namespace only by its next child: the first
//! stage enters the other namespaces and changes the mounts; the second is the first process of the process id
//! namespace. Otherwise one process does everything.

mod cgroup;
mod inside;
mod landlock_rules;
mod mountinfo;
mod mounts;
mod namespaces;
mod restrict;
mod signals;
mod syscalls;
mod usage;

use std::ffi::OsString;
use std::fs;
use std::io::BufRead as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, mount, mount_remount};
use serde::{Deserialize, Serialize};

use super::error::{ConfineError, InStep as _, Step};
use super::policy::{Level, Network};
use super::wire::{receive, send};
use super::{CONFINE_COMMAND, Job, listen};
use cgroup::Cgroup;
use inside::{Program, Setup};

/// The option of the second stage.
pub(super) const INNER: &str = "--inner";
/// This executable, even if the new mounts cover its path.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// What the first stage sends to the second, with the control socket and the program's input as files.
#[derive(Serialize, Deserialize)]
struct Inner {
    setup: Setup,
    has_control: bool,
    has_input: bool,
}

/// Confines this process and runs the program; returns its exit code.
pub(super) fn run(job: Job) -> Result<i32, ConfineError> {
    signals::block().in_step(Step::Control)?;
    let Job { mut request, argv, input, control, is_probe } = job;
    // Otherwise the watch would take all processes of the machine for the program's.
    request.own_processes &= request.level == Level::Full;
    let policy = request.policy.clone();
    let (level, own_processes) = (request.level, request.own_processes);
    let cwd = std::env::current_dir().in_step(Step::Mounts)?;
    let cgroup = Cgroup::join(&policy.limits).map(|cgroup| cgroup.folder);
    let mut setup = Setup { request, proxy_port: None, cgroup, is_probe, own_proc: false };
    let program = Program { argv, input, control };
    if level < Level::Full {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).in_step(Step::Start)?;
        return inside::run(&setup, program);
    }
    // The file shows the sockets of the network namespace, so this comes before a new one.
    let mut sockets = if policy.unix_sockets { unix_sockets() } else { Vec::new() };
    sockets.retain(|path| !policy.writable().any(|folder| path.starts_with(folder)));
    let own_network = policy.network != Network::All;
    namespaces::enter(namespaces::Wanted { network: own_network, processes: own_processes })?;
    setup.proxy_port = listen::listen(&policy, program.control.as_ref())?;
    mounts::set_up(&policy, &mounts::View { cwd: &cwd, sockets: &sockets, own_session: own_processes })?;
    // The folder may have a new mount over it.
    std::env::set_current_dir(&cwd).in_step_at(Step::Mounts, &cwd)?;
    if own_processes {
        return run_inner(setup, program);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).in_step(Step::Start)?;
    inside::run(&setup, program)
}

/// The paths of the UNIX sockets that exist.
fn unix_sockets() -> Vec<PathBuf> {
    let Ok(file) = fs::File::open("/proc/net/unix") else { return Vec::new() };
    let lines = std::io::BufReader::new(file).split(b'\n').map_while(Result::ok);
    // The path is the eighth field and may contain spaces; names that start with `@` are abstract.
    lines
        .filter_map(|line| {
            let start = line.iter().position(|byte| *byte == b'/')?;
            Some(PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(line.get(start..)?.to_vec())))
        })
        .collect()
}

/// Starts the second stage and waits for it.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn run_inner(mut setup: Setup, program: Program) -> Result<i32, ConfineError> {
    setup.own_proc = true;
    restrict::pass_on_mounting()?;
    let (here, there) = UnixStream::pair().in_step(Step::Control)?;
    let mut command = Command::new(OWN_EXECUTABLE);
    command.arg0("orch").args([CONFINE_COMMAND, INNER, "--"]).args(&program.argv).stdin(OwnedFd::from(there));
    let mut child = command.spawn().in_step_at(Step::Namespaces, OWN_EXECUTABLE)?;
    // Otherwise this process would keep the second stage's end of the socket open.
    drop(command);
    let inner = Inner { setup, has_control: program.control.is_some(), has_input: program.input.is_some() };
    let files: Vec<BorrowedFd<'_>> = program
        .control
        .iter()
        .map(std::os::fd::AsFd::as_fd)
        .chain(program.input.iter().map(std::os::fd::AsFd::as_fd))
        .collect();
    send(&here, &inner, &files).in_step(Step::Control)?;
    // The program's input ends when orch or the program closes it, so no copy may stay open here.
    drop(files);
    drop(program);
    let error: Result<(Option<ConfineError>, _), _> = receive(&here);
    let status = child.wait().in_step(Step::Start)?;
    match error {
        Ok((Some(error), _)) => Err(error),
        Ok((None, _)) | Err(_) => Ok(exit_code(status)),
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1)
}

/// Runs as the second stage, the first process of a namespace; returns the program's exit code. The first stage
/// reports errors.
pub(super) fn run_as_inner(argv: Vec<OsString>) -> Result<i32, ConfineError> {
    let outer = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().in_step(Step::Control)?);
    let result = prepare_inner(&outer)
        .and_then(|(inner, control, input)| inside::run(&inner.setup, Program { argv, input, control }));
    // The first stage waits for the program if this fails.
    let _ = send(&outer, &result.as_ref().err(), &[]);
    result
}

fn prepare_inner(outer: &UnixStream) -> Result<(Inner, Option<UnixStream>, Option<OwnedFd>), ConfineError> {
    use rustix::process::{Signal, set_parent_process_death_signal, setsid};
    set_parent_process_death_signal(Some(Signal::KILL)).in_step(Step::Control)?;
    let (inner, files): (Inner, _) = receive(outer).in_step(Step::Control)?;
    // If the first stage died before the signal was set, its end of the socket is closed.
    let mut ends = [PollFd::new(outer, PollFlags::HUP)];
    poll(&mut ends, Some(&Timespec::default())).in_step(Step::Control)?;
    if ends.iter().any(|end| end.revents().contains(PollFlags::HUP)) {
        return Err(ConfineError::new(Step::Control, "the first stage has died".to_owned()));
    }
    let mut files = files.into_iter();
    let control = if inner.has_control { files.next().map(UnixStream::from) } else { None };
    let input = if inner.has_input { files.next() } else { None };
    // A new session has no terminal that the program could read keys from.
    setsid().in_step(Step::Start)?;
    mount("proc", "/proc", "proc", PROC_FLAGS, c"").map_err(|error| {
        ConfineError::system(Step::Proc, error)
            .at("/proc")
            .advise("a container that masks parts of `/proc` does not allow this")
    })?;
    // The null device takes the place of the socket to the first stage, which the program must not inherit.
    let null = fs::File::open("/dev/null").in_step_at(Step::Start, "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).in_step(Step::Start)?;
    Ok((inner, control, input))
}

const PROC_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Makes the namespace's own `/proc` read-only: root could change the kernel's settings through it.
fn make_proc_read_only() -> Result<(), ConfineError> {
    let flags = PROC_FLAGS | MountFlags::BIND | MountFlags::RDONLY;
    mount_remount("/proc", flags, c"").in_step_at(Step::Proc, "/proc")
}

/// Closes the files that this process inherited, except its standard streams. Programs that started orch may have left
/// some open, and a confined program could use them.
pub(super) fn close_inherited_files() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    // The last one is the list itself, closed already; closing it again fails without harm, since nothing else is open.
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}
