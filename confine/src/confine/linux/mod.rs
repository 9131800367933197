//! Confinement on Linux.
//!
//! At `full` there are two stages, because only a child of a process can enter a new PID namespace. The first stage
//! enters the other namespaces and changes the mounts. The second stage is the first process of the new PID namespace.
//! At other levels, or without this namespace, one process does everything.

mod cgroup;
mod inside;
mod landlock_rules;
mod mountinfo;
mod mounts;
mod namespaces;
mod restrict;
mod signals;
mod spawn;
mod syscalls;
mod usage;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, mount, mount_remount};
use serde::{Deserialize, Serialize};

use super::error::{ConfineError, InStep as _, Step};
use super::limits::CounterFindings;
use super::policy::{Level, Limits, Network};
use super::wire::{receive, send};
use super::{CONFINE_COMMAND, Job, listen};
use cgroup::Cgroup;
use inside::{Program, Setup};

/// The argument that starts the second stage.
pub(super) const SECOND_STAGE: &str = "--inner";
/// The path of this executable, which works even if the new mounts hide the executable's own path.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The message from the first stage to the second. The socket to orch and the program's input follow as file
/// descriptors.
#[derive(Serialize, Deserialize)]
struct SecondStage {
    setup: Setup,
    has_control: bool,
    has_input: bool,
}

/// Confines this process and runs the program; returns its exit code.
pub(super) fn run(job: Job) -> Result<i32, ConfineError> {
    signals::block().in_step(Step::Control)?;
    let Job { mut request, argv, input, control, is_probe } = job;
    // Without a separate `/proc`, the usage monitor would count all processes of the machine.
    request.has_pid_namespace &= request.level == Level::Full;
    let policy = request.policy.clone();
    let (level, has_pid_namespace) = (request.level, request.has_pid_namespace);
    let cwd = std::env::current_dir().in_step(Step::Mounts)?;
    let cgroup = Cgroup::join(&policy.limits).map(|cgroup| cgroup.folder);
    let mut setup = Setup { request, proxy_port: None, cgroup, is_probe, own_proc: false };
    let program = Program { argv, input, control };
    if level < Level::Full {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).in_step(Step::Start)?;
        return inside::run(&setup, program);
    }
    // `/proc/net/unix` lists the sockets of the current network namespace, so read it before entering a new one.
    let mut sockets = if policy.unix_sockets { unix_sockets()? } else { Vec::new() };
    sockets.retain(|path| !policy.writable().any(|folder| path.starts_with(folder)));
    let own_network = policy.network != Network::All;
    namespaces::enter(namespaces::OptionalNamespaces { network: own_network, processes: has_pid_namespace })?;
    setup.proxy_port = listen::listen(&policy, program.control.as_ref())?;
    mounts::set_up(&policy, &mounts::MountContext { cwd: &cwd, sockets: &sockets, own_session: has_pid_namespace })?;
    // A new mount may cover the folder, so enter it again by its path.
    std::env::set_current_dir(&cwd).in_step_at(Step::Mounts, &cwd)?;
    if has_pid_namespace {
        return start_second_stage(setup, program);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).in_step(Step::Start)?;
    inside::run(&setup, program)
}

/// The limit because of which the kernel ended a process in a control group. orch reads this itself: the kernel may have
/// ended `orch __confine` together with the program.
pub(super) fn limit_of_cgroup(folder: &Path, limits: &Limits, has_failed: bool) -> CounterFindings {
    Cgroup { folder: folder.to_owned() }.reached(limits, has_failed)
}

/// The file with the UNIX sockets of a network namespace.
const UNIX_SOCKETS: &str = "/proc/net/unix";

/// The paths of all UNIX sockets in this network namespace. Without this list, orch could not hide the sockets from the
/// program.
fn unix_sockets() -> Result<Vec<PathBuf>, ConfineError> {
    let text = fs::read(UNIX_SOCKETS).map_err(|error| {
        ConfineError::system(Step::Mounts, error)
            .at(UNIX_SOCKETS)
            .advise("without this list of sockets, `unix_sockets: true` is not possible at the level `full`")
    })?;
    Ok(socket_paths(&text))
}

/// The paths in the text of [`UNIX_SOCKETS`].
fn socket_paths(text: &[u8]) -> Vec<PathBuf> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            // The path is the eighth field and may contain spaces. A name that starts with `@` is abstract.
            let start = line.windows(2).position(|bytes| bytes == b" /")? + 1;
            let (fields, path) = line.split_at(start);
            let path = PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(path.to_vec()));
            (!fields.contains(&b'@')).then_some(path)
        })
        .collect()
}

/// Starts the second stage and waits for it.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn start_second_stage(mut setup: Setup, program: Program) -> Result<i32, ConfineError> {
    setup.own_proc = true;
    restrict::inherit_mount_capability()?;
    let (own_socket, stage_socket) = UnixStream::pair().in_step(Step::Control)?;
    let mut command = Command::new(OWN_EXECUTABLE);
    command
        .arg0("orch")
        .args([CONFINE_COMMAND, SECOND_STAGE, "--"])
        .args(&program.argv)
        .stdin(OwnedFd::from(stage_socket));
    let mut child = command.spawn().in_step_at(Step::Namespaces, OWN_EXECUTABLE)?;
    // Close this process's copy of the second stage's socket.
    drop(command);
    let message = SecondStage { setup, has_control: program.control.is_some(), has_input: program.input.is_some() };
    let fds: Vec<BorrowedFd<'_>> = program
        .control
        .iter()
        .map(std::os::fd::AsFd::as_fd)
        .chain(program.input.iter().map(std::os::fd::AsFd::as_fd))
        .collect();
    send(&own_socket, &message, &fds).in_step(Step::Control)?;
    // Close this process's copy of the program's input, so that orch and the program see when the other side closes it.
    drop(fds);
    drop(program);
    let error: Result<(Option<ConfineError>, _), _> = receive(&own_socket);
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

/// Runs as the second stage, the first process of a PID namespace; returns the program's exit code. The first stage
/// reports errors.
pub(super) fn run_as_second_stage(argv: Vec<OsString>) -> Result<i32, ConfineError> {
    let first_stage = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().in_step(Step::Control)?);
    let result = prepare_second_stage(&first_stage)
        .and_then(|(message, control, input)| inside::run(&message.setup, Program { argv, input, control }));
    // If sending fails, the first stage still has the exit code of this process.
    let _ = send(&first_stage, &result.as_ref().err(), &[]);
    result
}

fn prepare_second_stage(
    first_stage: &UnixStream,
) -> Result<(SecondStage, Option<UnixStream>, Option<OwnedFd>), ConfineError> {
    use rustix::process::{Signal, set_parent_process_death_signal, setsid};
    set_parent_process_death_signal(Some(Signal::KILL)).in_step(Step::Control)?;
    let (message, fds): (SecondStage, _) = receive(first_stage).in_step(Step::Control)?;
    // If the first stage died before the call above, no signal arrives, but its end of the socket is closed.
    let mut poll_fds = [PollFd::new(first_stage, PollFlags::HUP)];
    poll(&mut poll_fds, Some(&Timespec::default())).in_step(Step::Control)?;
    if poll_fds.iter().any(|poll_fd| poll_fd.revents().contains(PollFlags::HUP)) {
        return Err(ConfineError::new(Step::Control, "the first stage has died".to_owned()));
    }
    let mut fds = fds.into_iter();
    let control = if message.has_control { fds.next().map(UnixStream::from) } else { None };
    let input = if message.has_input { fds.next() } else { None };
    // In a new session, the program has no controlling terminal from which it could read keys.
    setsid().in_step(Step::Start)?;
    mount("proc", "/proc", "proc", PROC_FLAGS, c"").map_err(|error| {
        ConfineError::system(Step::Proc, error)
            .at("/proc")
            .advise("a container that masks parts of `/proc` does not allow this")
    })?;
    mounts::hide_proc_files().map_err(|error| ConfineError { step: Step::Proc, ..error })?;
    // Replace the socket to the first stage with the null device, because the program must not inherit the socket.
    let null = fs::File::open("/dev/null").in_step_at(Step::Start, "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).in_step(Step::Start)?;
    Ok((message, control, input))
}

const PROC_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Makes the separate `/proc` of this namespace read-only: root could change kernel settings through it.
fn make_proc_read_only() -> Result<(), ConfineError> {
    let flags = PROC_FLAGS | MountFlags::BIND | MountFlags::RDONLY;
    mount_remount("/proc", flags, c"").in_step_at(Step::Proc, "/proc")
}

/// The maximum number of file descriptors to close if this process can't list its open files.
const MAX_UNLISTED_FILES: u64 = 1 << 20;

/// Closes the files that this process inherited, except the standard streams. The program that started orch may have
/// left files open, and a confined program could use them.
pub(super) fn close_inherited_files() {
    // The descriptor of the directory listing is also in the list. It is closed already, so closing it again fails,
    // which is harmless. This is also true for numbers without a file.
    for number in listed_files(Path::new("/proc/self/fd")).unwrap_or_else(|_| possible_files()) {
        let _ = nix::unistd::close(number);
    }
}

/// The descriptors of this process in a folder such as `/proc/self/fd`, except the standard streams.
fn listed_files(folder: &Path) -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: i32 = name.to_str().and_then(|name| name.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        numbers.push(number);
    }
    numbers.retain(|number| *number > 2);
    Ok(numbers)
}

/// The descriptors that this process may have, except the standard streams. `/proc` may not be mounted.
fn possible_files() -> Vec<i32> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let count = limit.unwrap_or(MAX_UNLISTED_FILES).min(MAX_UNLISTED_FILES);
    (3..i32::try_from(count).unwrap_or(i32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_files_are_listed_or_else_all_possible_ones_are_closed() {
        let file = fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        let listed = listed_files(Path::new("/proc/self/fd")).unwrap();
        assert!(listed.contains(&number) && listed.iter().all(|number| *number > 2), "{listed:?}");
        assert!(listed_files(Path::new("/missing")).is_err());
        let possible = possible_files();
        assert!(possible.contains(&number) && possible[0] == 3, "{}", possible.len());
    }

    #[test]
    fn the_paths_of_sockets_are_found() {
        let text = b"Num RefCount Protocol Flags Type St Inode Path\n\
            0: 2 0 10000 0001 01     7 /run/a /b\n1: 2 0 10000 0001 01     8 @/a\n2: 2 0 10000 0001 01     9 @a /b\n\
            3: 2 0 10000 0001 01 10\n";
        assert_eq!(socket_paths(text), [Path::new("/run/a /b")]);
    }
}
