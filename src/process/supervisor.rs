//! The supervisor of a program: a process between orch and the program that ends every process of the program.
//!
//! The supervisor is orch itself, started with a hidden command and the program's arguments, in the program's working
//! directory and environment. Its standard input is a socket to orch. The supervisor starts the program as the leader
//! of a process group. On Linux it is a child subreaper: it adopts processes whose parents have exited, even if they
//! left the group. When orch closes the socket or dies, the supervisor sends TERM to all of these processes, waits, and
//! then sends KILL until no process is left. The supervisor exits when the program and all of its processes have
//! exited. If orch sent a locked file (`store/programs_lock.rs`), the supervisor keeps the file open until then, so
//! that other processes can wait for the lock.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};

use super::report::SupervisorReport;

/// The first argument of an orch process that is a supervisor. The program and its arguments follow.
pub const SUPERVISOR_COMMAND: &str = "__supervise";
/// The byte that orch sends if the first of the files that it sends is the program's input.
pub(super) const WITH_INPUT: u8 = b'i';
/// The byte that orch sends if the program has no input.
pub(super) const WITHOUT_INPUT: u8 = b'n';
/// The time between TERM, which a process can handle, and KILL, which it can't handle.
const TERM_TIMEOUT: Duration = Duration::from_millis(500);
/// The shortest and the longest pause between two rounds of KILL. More than one round may be necessary: a process may
/// start another one between two rounds, and a process that waits for a disk does not end until the wait is over.
const KILL_PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// Runs as the supervisor of a program; `argv` is the program and its arguments.
pub fn run_supervisor(argv: &[OsString]) -> ExitCode {
    match supervise_program(argv) {
        Ok(()) => ExitCode::SUCCESS,
        // orch notices that the control socket is closed, and reports an error.
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise_program(argv: &[OsString]) -> io::Result<()> {
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    install_signal_handlers()?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let (stdin, _locked_files) = receive_files(&control)?;
    let Some((program, arguments)) = argv.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    // All fallible work comes before the start of the program: after an error, no process would end the program.
    let dev_null = OpenOptions::new().write(true).open("/dev/null")?;
    let (leader_sender, leader_receiver) = mpsc::channel();
    let orch_socket = control.try_clone()?;
    let ending_thread = thread::Builder::new().spawn(move || {
        if let Ok(leader) = leader_receiver.recv() {
            end_when_closed(orch_socket, leader);
        }
    })?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    let leader = match command.spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            // The only error without a number is about a NUL character in the command line or in the environment.
            let number = error.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error());
            return control.write_all(&SupervisorReport::NotStarted(number).encode());
        }
    };
    // If orch has died, the report is lost, but the supervisor ends the program anyway.
    drop(control.write_all(&SupervisorReport::Started(leader.as_raw_pid()).encode()));
    // Closes the supervisor's copy of the program's input, so that the pipe closes when orch or the program closes it.
    // `dup2` below does the same for the outputs.
    drop(command);
    // The thread waits for the leader's process id.
    let _ = leader_sender.send(leader);
    if rustix::stdio::dup2_stdout(&dev_null).and_then(|()| rustix::stdio::dup2_stderr(&dev_null)).is_err() {
        // The thread then reads the end of the socket, and ends all processes.
        drop(control.shutdown(Shutdown::Both));
    }
    // Leaves the current folder, so that a user can remove it or unmount its disk.
    drop(std::env::set_current_dir("/"));
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => {
                drop(control.write_all(&SupervisorReport::Exited(exit_code(status)).encode()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child is left.
            Err(_) => break,
        }
    }
    // Without a subreaper, processes may remain that are not children of the supervisor.
    if cfg!(not(target_os = "linux")) {
        drop(ending_thread.join());
    }
    Ok(())
}

/// Installs handlers that ignore signals, because a signal for orch or for all processes of a service must not end the
/// supervisor before its program. The handler for SIGCHLD is necessary because the system would discard the program's
/// exit status if the supervisor inherited an ignored SIGCHLD. The program does not inherit these handlers.
fn install_signal_handlers() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::child()] {
        // The handler stays installed after the stream is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}

/// Receives the files that orch sends with one byte: the program's input, and the locked file.
fn receive_files(control: &UnixStream) -> io::Result<(Option<OwnedFd>, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty())?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let files = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => files.collect(),
        _ => Vec::new(),
    });
    // The program must not inherit these files. Not every system can set the flag while it receives them.
    let files: io::Result<Vec<OwnedFd>> =
        files.map(|file| fcntl_setfd(&file, FdFlags::CLOEXEC).map(|()| file).map_err(Into::into)).collect();
    let mut files = files?.into_iter();
    let input = if byte == [WITH_INPUT] { files.next() } else { None };
    Ok((input, files.collect()))
}

/// The exit code. For a signal, it is 128 plus the number of the signal, as in shells.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(-1)
}

/// Waits until orch closes its end of the socket, and then ends all processes of the program. `leader` is the process
/// of the program itself.
#[expect(clippy::disallowed_methods, reason = "runs in the supervisor, which is a separate process")]
fn end_when_closed(mut orch_socket: UnixStream, leader: Pid) {
    let mut buffer = [0; 16];
    while orch_socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
    signal_all(leader, Signal::TERM);
    // On Linux, the main thread exits as soon as no process is left, which ends these loops.
    let mut remaining = TERM_TIMEOUT;
    while !remaining.is_zero() && is_process_left(leader) {
        let pause = Duration::from_millis(5);
        thread::sleep(pause);
        remaining = remaining.saturating_sub(pause);
    }
    let mut pause = KILL_PAUSES.0;
    while is_process_left(leader) {
        signal_all(leader, Signal::KILL);
        thread::sleep(pause);
        pause = (pause * 2).min(KILL_PAUSES.1);
    }
}

/// Sends a signal to every remaining process of the program. Ignores errors, since a process may have exited already.
#[cfg(target_os = "linux")]
fn signal_all(leader: Pid, signal: Signal) {
    let Some(descendants) = super::descendants::live_descendants(std::process::id()) else {
        // Without `/proc`, only the processes in the program's group are known.
        let _ = rustix::process::kill_process_group(leader, signal);
        return;
    };
    for (pid, is_suspended) in descendants {
        let _ = rustix::process::kill_process(pid, signal);
        // A suspended process would handle TERM only after it continues.
        if is_suspended {
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn signal_all(leader: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(leader, signal);
}

/// Whether a process is left. Always true on Linux, where the supervisor exits when no process is left.
#[cfg(target_os = "linux")]
fn is_process_left(_: Pid) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
fn is_process_left(leader: Pid) -> bool {
    rustix::process::test_kill_process_group(leader).is_ok()
}
