//! The guard of a program: a process between orch and the program that ends all that the program started.
//!
//! It is orch itself, started with [`COMMAND`] and the program's arguments in the program's folder and environment. It
//! adopts every process that the program's processes leave behind (on Linux: a child subreaper), also those that left
//! the process group. When its owner asks for the end, or is gone, it sends TERM to all of them, waits, and then KILL
//! until none is left. It ends when the program has ended and nothing that it started is left. Until then it keeps
//! a locked file open that its owner may send, so that others can wait for that.

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

/// The argument after which orch is the guard of the program that the other arguments name.
pub const COMMAND: &str = "__guard";
/// The byte that the owner sends when the first file beside it is the program's input.
pub(super) const WITH_INPUT: u8 = b'i';
/// The byte that the owner sends when the program has no input.
pub(super) const WITHOUT_INPUT: u8 = b'n';
/// How long processes have between the signal that they may handle and the one that they can't.
const PATIENCE: Duration = Duration::from_millis(500);
/// The pauses between two rounds of KILL, from the first to the longest: a process may start others meanwhile, and one
/// that waits for a disk ends when it has waited.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// Is the guard of a program: its name and its arguments.
pub fn guard(argv: &[OsString]) -> ExitCode {
    match watch(argv) {
        Ok(()) => ExitCode::SUCCESS,
        // Its owner sees that the control socket is closed, and says so.
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
    // What may fail comes first: after an error here no process would end the program.
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
    // If orch is gone, the report is lost; the program is ended anyway.
    drop(control.write_all(&GuardReport::Started(leader.as_raw_pid()).encode()));
    // Its input must end when its owner closes it, and its outputs when the program does.
    drop(command);
    // The thread waits for it.
    let _ = told.send(leader);
    if rustix::stdio::dup2_stdout(&null).and_then(|()| rustix::stdio::dup2_stderr(&null)).is_err() {
        // The thread reads the end of the socket and ends everything.
        drop(control.shutdown(Shutdown::Both));
    }
    // The folder may be removed, or be on a disk that goes.
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
    // Where the system has no subreaper, processes may be left that are no children of this one.
    if cfg!(not(target_os = "linux")) {
        drop(ending.join());
    }
    Ok(())
}

/// A signal that is meant for orch, or for all of a service, must not end the guard before what it guards. Where SIGCHLD
/// was ignored, the system would keep no exit status of the program. The program starts without these handlers.
fn heed_no_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::child()] {
        // The handler stays installed after its stream is dropped.
        drop(signal(kind)?);
    }
    Ok(())
}

/// The files that the owner sends beside one byte: the program's input, and the file that the guard keeps open.
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
    // Not on receipt, which not every system can; the program is started later, by this thread.
    let files: io::Result<Vec<OwnedFd>> =
        files.map(|file| fcntl_setfd(&file, FdFlags::CLOEXEC).map(|()| file).map_err(Into::into)).collect();
    let mut files = files?.into_iter();
    let input = if byte == [WITH_INPUT] { files.next() } else { None };
    Ok((input, files.collect()))
}

/// The exit code; of a signal, as shells say it.
fn code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(-1)
}

/// Waits for the owner's wish, which is the end of its side of the socket, and ends everything.
#[expect(clippy::disallowed_methods, reason = "in the guard, which is a process of its own")]
fn end_when_asked(mut owner: UnixStream, leader: Pid) {
    let mut nothing = [0; 16];
    while owner.read(&mut nothing).is_ok_and(|count| count > 0) {}
    signal_all(leader, Signal::TERM);
    // The guard itself ends as soon as none is left.
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

/// Sends a signal to all that is left of the program. A process may end before it is sent, which is what is wanted.
#[cfg(target_os = "linux")]
fn signal_all(leader: Pid, signal: Signal) {
    let Some(descendants) = super::descendants::of(std::process::id()) else {
        // Without `/proc` the processes of its group are all that is known.
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

/// Whether anything is left to be ended. On Linux the guard is over by itself when nothing is.
#[cfg(target_os = "linux")]
fn any(_: Pid) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
fn any(leader: Pid) -> bool {
    rustix::process::test_kill_process_group(leader).is_ok()
}
