//! The guard of a program: a process between orch and the program that ends every process which the program started.
//!
//! The guard is orch itself, started with [`COMMAND`] and the program's arguments, in the program's folder and
//! environment. It adopts processes whose parents have exited (on Linux, as a child subreaper), even those that left
//! the process group. When orch closes the socket or dies, the guard sends TERM to all of them, waits, and then sends
//! KILL until none is left. It exits when the program and all of its processes have exited. Until then it keeps a
//! locked file open, if orch sent one, so that other processes can wait for that.

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

use super::report::GuardReport;

/// The first argument of an orch process that is a guard; the program to guard follows.
pub const COMMAND: &str = "__guard";
/// The byte that orch sends when the first file sent with it is the program's input.
pub(super) const WITH_INPUT: u8 = b'i';
/// The byte that orch sends when the program has no input.
pub(super) const WITHOUT_INPUT: u8 = b'n';
/// How long processes have between TERM, which they can handle, and KILL, which they can't.
const PATIENCE: Duration = Duration::from_millis(500);
/// The shortest and the longest pause between two rounds of KILL. More than one round may be needed: a process may
/// start others meanwhile, and one that is blocked on a disk ends only after that.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// Runs as the guard of a program; `argv` is the program and its arguments.
pub fn guard(argv: &[OsString]) -> ExitCode {
    match watch(argv) {
        Ok(()) => ExitCode::SUCCESS,
        // orch sees that the control socket is closed, and reports it.
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch(argv: &[OsString]) -> io::Result<()> {
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    heed_no_signal()?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let (stdin, _held) = receive(&control)?;
    let Some((program, arguments)) = argv.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    // Everything that may fail is done before the start: after an error here, nothing would end the program.
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    let (told, leader_known) = mpsc::channel();
    let owner = control.try_clone()?;
    let ending = thread::Builder::new().spawn(move || {
        if let Ok(leader) = leader_known.recv() {
            end_when_asked(owner, leader);
        }
    })?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    let leader = match command.spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(error) => return control.write_all(&GuardReport::NotStarted(error.raw_os_error().unwrap_or(0)).encode()),
    };
    // If orch has died, the report is lost; the program is ended anyway.
    drop(control.write_all(&GuardReport::Started(leader.as_raw_pid()).encode()));
    // Drops the guard's copies of the program's input and outputs, so that each closes when orch or the program closes
    // it.
    drop(command);
    // The thread starts its work only when it knows the leader.
    let _ = told.send(leader);
    if rustix::stdio::dup2_stdout(&null).and_then(|()| rustix::stdio::dup2_stderr(&null)).is_err() {
        // The thread then reads the end of the socket and ends everything.
        drop(control.shutdown(Shutdown::Both));
    }
    // The current folder may be removed, or be on a disk that is unmounted.
    drop(std::env::set_current_dir("/"));
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => {
                drop(control.write_all(&GuardReport::Exited(code(status)).encode()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child is left.
            Err(_) => break,
        }
    }
    // Without a subreaper, processes may be left that are not children of the guard.
    if cfg!(not(target_os = "linux")) {
        drop(ending.join());
    }
    Ok(())
}

/// Installs handlers that do nothing. A signal that is meant for orch, or for all processes of a service, must not end
/// the guard before its program. And if the guard inherited an ignored SIGCHLD, the system would discard the program's
/// exit status. The program does not inherit these handlers.
fn heed_no_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::child()] {
        // The handler stays installed after the stream is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}

/// The files that orch sends with one byte: the program's input, and the file that the guard keeps open.
fn receive(control: &UnixStream) -> io::Result<(Option<OwnedFd>, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::empty())?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let files = beside.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => files.collect(),
        _ => Vec::new(),
    });
    // Not every system can set this flag on receipt. This is early enough, since this thread starts the program later.
    let files: io::Result<Vec<OwnedFd>> =
        files.map(|file| fcntl_setfd(&file, FdFlags::CLOEXEC).map(|()| file).map_err(Into::into)).collect();
    let mut files = files?.into_iter();
    let input = if byte == [WITH_INPUT] { files.next() } else { None };
    Ok((input, files.collect()))
}

/// The exit code; for a signal, 128 plus its number, as in shells.
fn code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(-1)
}

/// Waits until orch closes its end of the socket, and then ends everything.
#[expect(clippy::disallowed_methods, reason = "in the guard, which is a process of its own")]
fn end_when_asked(mut owner: UnixStream, leader: Pid) {
    let mut nothing = [0; 16];
    while owner.read(&mut nothing).is_ok_and(|count| count > 0) {}
    signal_all(leader, Signal::TERM);
    // The main thread exits as soon as no process is left, and that ends this loop.
    let mut left = PATIENCE;
    while !left.is_zero() && any(leader) {
        let pause = Duration::from_millis(5);
        thread::sleep(pause);
        left = left.saturating_sub(pause);
    }
    let mut pause = PAUSES.0;
    while any(leader) {
        signal_all(leader, Signal::KILL);
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Sends a signal to every process of the program that is left. Errors are ignored: the process may have exited
/// already.
#[cfg(target_os = "linux")]
fn signal_all(leader: Pid, signal: Signal) {
    let Some(descendants) = super::descendants::of(std::process::id()) else {
        // Without `/proc`, only the processes in the program's group are known.
        let _ = rustix::process::kill_process_group(leader, signal);
        return;
    };
    for (pid, is_stopped) in descendants {
        let _ = rustix::process::kill_process(pid, signal);
        if is_stopped {
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn signal_all(leader: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(leader, signal);
}

/// Whether any process is left. On Linux the guard exits by itself when none is, so this is always true.
#[cfg(target_os = "linux")]
fn any(_: Pid) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
fn any(leader: Pid) -> bool {
    rustix::process::test_kill_process_group(leader).is_ok()
}
