//! orch's side of a guarded program: starts it, waits for it, and ends it with every process that it started.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::ending::{EndingGroup, EndingGroups};
use super::guard::{COMMAND, WITH_INPUT, WITHOUT_INPUT};
use super::report::{GuardReport, LENGTH};
use super::{ProcessError, ProgramSpec};

/// How often a guard is started until one survives long enough to start its program.
const TRIES: usize = 5;

/// A program with its guard. Dropping it ends the processes that are left, which [`EndingGroups`] then tracks.
pub(super) struct Group {
    guard: Option<(UnixStream, Child)>,
    endings: EndingGroups,
    received: Vec<u8>,
    leader: Option<i32>,
    code: Option<i32>,
    outputs: Vec<OwnedFd>,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl Group {
    /// Starts a program under a guard. [`Group::exited`] returns the error when the program can't be started.
    ///
    /// Ctrl-C reaches every process in the terminal's process group, including a guard that has not yet left it and not
    /// yet installed its signal handlers. Such a guard dies before it starts the program, so another one is started.
    pub(super) async fn start(spec: &ProgramSpec) -> Result<Self, ProcessError> {
        for _ in 0..TRIES {
            let mut group = spawn(spec).map_err(|source| spec.not_guarded(source))?;
            if group.begun().await || !group.interrupted().await {
                return Ok(group);
            }
        }
        spawn(spec).map_err(|source| spec.not_guarded(source))
    }

    /// Waits for the guard's first report; false if the guard died before.
    async fn begun(&mut self) -> bool {
        let Some((control, _)) = &mut self.guard else { return false };
        while self.received.len() < LENGTH {
            match control.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }

    /// Whether this guard, whose socket is closed, was killed by a signal that guards ignore once they are ready.
    async fn interrupted(&mut self) -> bool {
        let Some((_, guard)) = &mut self.guard else { return false };
        for _ in 0..100 {
            if let Ok(Some(status)) = guard.try_wait() {
                let signal = status.signal().and_then(Signal::from_named_raw);
                return signal.is_some_and(|signal| [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal));
            }
            // The socket closes a moment before the process can be reaped.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Waits for the program itself, not for the processes that it started, and returns its exit code. The future may
    /// be dropped and the method called again.
    pub(super) async fn exited(&mut self) -> io::Result<i32> {
        loop {
            if let Some(code) = self.code {
                return Ok(code);
            }
            let Some((control, _)) = &mut self.guard else { return Err(io::ErrorKind::NotConnected.into()) };
            if self.received.len() < LENGTH && control.read_buf(&mut self.received).await? == 0 {
                return Err(self.unguarded());
            }
            let Some((report, rest)) = self.received.split_first_chunk::<LENGTH>() else { continue };
            let (report, rest) = (GuardReport::decode(*report), rest.to_vec());
            self.received = rest;
            match report {
                Some(GuardReport::Started(pid)) => self.leader = Some(pid),
                Some(GuardReport::Exited(code)) => self.code = Some(code),
                Some(GuardReport::NotStarted(error)) => return Err(io::Error::from_raw_os_error(error)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Handles a guard that was killed: kills the program's process group.
    fn unguarded(&mut self) -> io::Error {
        if let Some(leader) = self.leader.take().and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        io::Error::other("the process that guards it was ended")
    }

    /// Ends every process that is left, and waits for that and for the other groups in [`EndingGroups`]. The caller
    /// still reads the outputs.
    pub(super) async fn end(&mut self) {
        if let Some(ending) = self.let_go() {
            self.endings.add(ending);
        }
        self.endings.settled().await;
    }

    /// Tells the guard to end its program, by closing orch's end of the socket for writing.
    fn let_go(&mut self) -> Option<EndingGroup> {
        let (control, guard) = self.guard.take()?;
        // If this fails, the socket is closed, which the guard notices as well.
        let control = control.into_std().ok()?;
        drop(control.shutdown(std::net::Shutdown::Write));
        Some(EndingGroup { control, guard, outputs: std::mem::take(&mut self.outputs), drains: false })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(ending) = self.let_go() {
            self.endings.add(EndingGroup { drains: true, ..ending });
        }
    }
}

fn spawn(spec: &ProgramSpec) -> io::Result<Group> {
    let (control, theirs) = Socket::pair()?;
    let mut command = Command::new(&spec.guard.path);
    command.arg0("orch").arg(COMMAND).args(&spec.argv).current_dir(&spec.cwd).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (name, value))).process_group(0);
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guard = command.spawn()?;
    let (stdout, stderr) = (guard.stdout.take(), guard.stderr.take());
    let stdin = match send_files(&control, spec.stdin.is_some(), spec.guard.held.as_deref()) {
        // The guard has exited already; reading its reports returns the error.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => None,
        sent => sent?,
    };
    let outputs = [stdout.as_ref().map(|pipe| pipe.as_fd()), stderr.as_ref().map(|pipe| pipe.as_fd())];
    let outputs = outputs.into_iter().flatten().map(|pipe| pipe.try_clone_to_owned());
    control.set_nonblocking(true)?;
    Ok(Group {
        guard: Some((UnixStream::from_std(control)?, guard)),
        endings: spec.endings.clone(),
        received: Vec::new(),
        leader: None,
        code: None,
        outputs: outputs.collect::<io::Result<_>>()?,
        stdin,
        stdout: stdout.map(ChildStdout::from_std).transpose()?,
        stderr: stderr.map(ChildStderr::from_std).transpose()?,
    })
}

/// Sends the guard the program's input, if it has any, and the file that the guard keeps open. Returns orch's end of
/// the input.
fn send_files(control: &Socket, wanted: bool, held: Option<&File>) -> io::Result<Option<ChildStdin>> {
    let pipe = wanted.then(io::pipe).transpose()?;
    let input = pipe.as_ref().map(|(reader, _)| reader.as_fd());
    let files: Vec<BorrowedFd<'_>> = input.into_iter().chain(held.map(File::as_fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&files));
    }
    let byte = if wanted { WITH_INPUT } else { WITHOUT_INPUT };
    sendmsg(control, &[IoSlice::new(&[byte])], &mut beside, SendFlags::empty())?;
    let writer = pipe.map(|(_, writer)| std::process::ChildStdin::from(OwnedFd::from(writer)));
    writer.map(ChildStdin::from_std).transpose()
}
