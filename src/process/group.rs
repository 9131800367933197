//! Starts a program under a supervisor, waits for the program, and ends it with every process that it started.

use std::ffi::OsString;
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

use super::confined::ConfinedProgram;
use super::ending_groups::{EndingGroup, EndingGroups};
use super::report::{REPORT_BYTES, SupervisorReport};
use super::supervisor::{SUPERVISOR_COMMAND, WITH_INPUT, WITHOUT_INPUT};
use super::{ProcessError, ProgramSpec};

/// How many times orch starts another supervisor because a signal killed the previous one before it started its
/// program.
const MAX_STARTS: usize = 5;

/// A program with its supervisor. Dropping it ends the remaining processes, which [`EndingGroups`] then tracks.
pub(super) struct Group {
    supervisor: Option<(UnixStream, Child)>,
    ending_groups: EndingGroups,
    /// The bytes that the supervisor has sent and orch has not decoded yet.
    received: Vec<u8>,
    /// The process id of the program, after the supervisor has reported it.
    leader_pid: Option<i32>,
    exit_code: Option<i32>,
    /// Copies of the read ends of the program's outputs, for [`EndingGroup`].
    outputs: Vec<OwnedFd>,
    /// The session of the program, if orch confines it.
    confined: Option<ConfinedProgram>,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl Group {
    /// Starts a program under a supervisor. [`Group::wait_for_program`] returns the error if the program can't be
    /// started.
    ///
    /// Ctrl-C reaches every process in the terminal's process group, including a supervisor that has not yet left the
    /// group and not yet installed its signal handlers. Such a supervisor dies before it starts the program, so orch
    /// starts another one.
    pub(super) async fn start(spec: &ProgramSpec) -> Result<Self, ProcessError> {
        for _ in 0..MAX_STARTS {
            let mut group = spawn(spec)?;
            if group.has_reported().await || !group.is_interrupted().await {
                return group.confirm_sandbox(spec).await;
            }
        }
        spawn(spec)?.confirm_sandbox(spec).await
    }

    /// If orch confines the program, waits until the sandbox is in force, and then allows the program to start. An
    /// error drops the group, which ends its processes.
    async fn confirm_sandbox(mut self, spec: &ProgramSpec) -> Result<Self, ProcessError> {
        if let Some(confined) = &mut self.confined {
            let hold = spec.ending_process_groups.hold_virtual_time();
            confined.confirm_and_start(hold).await.map_err(|error| spec.confine_error(error))?;
        }
        Ok(self)
    }

    /// Reads the last report about a confined program that has exited. Returns the error of a program that never ran.
    pub(super) async fn read_sandbox_report(&mut self, spec: &ProgramSpec) -> Result<(), ProcessError> {
        let Some(confined) = &mut self.confined else { return Ok(()) };
        match confined.read_last_report().await {
            Ok(None) => Ok(()),
            Ok(Some(error_number)) => Err(spec.process_error(io::Error::from_raw_os_error(error_number))),
            Err(error) => Err(spec.confine_error(error)),
        }
    }

    /// Waits for the supervisor's first report. Returns false if the supervisor died before it sent a report.
    async fn has_reported(&mut self) -> bool {
        let Some((control, _)) = &mut self.supervisor else { return false };
        while self.received.len() < REPORT_BYTES {
            match control.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }

    /// Whether a signal killed the supervisor before the supervisor was ready to ignore that signal. The supervisor's
    /// socket is already closed.
    async fn is_interrupted(&mut self) -> bool {
        let Some((_, supervisor)) = &mut self.supervisor else { return false };
        for _ in 0..100 {
            if let Ok(Some(status)) = supervisor.try_wait() {
                let signal = status.signal().and_then(Signal::from_named_raw);
                return signal.is_some_and(|signal| [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal));
            }
            // The socket closes a moment before the process can be reaped.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Waits for the program itself, not for the processes that it started, and returns its exit code. The caller may
    /// drop the future and call the method again.
    pub(super) async fn wait_for_program(&mut self) -> io::Result<i32> {
        loop {
            if let Some(code) = self.exit_code {
                return Ok(code);
            }
            let Some((control, _)) = &mut self.supervisor else { return Err(io::ErrorKind::NotConnected.into()) };
            if self.received.len() < REPORT_BYTES && control.read_buf(&mut self.received).await? == 0 {
                return Err(self.kill_without_supervisor());
            }
            let Some((report, remaining)) = self.received.split_first_chunk::<REPORT_BYTES>() else { continue };
            let (report, remaining) = (SupervisorReport::decode(*report), remaining.to_vec());
            self.received = remaining;
            match report {
                Some(SupervisorReport::Started(pid)) => self.leader_pid = Some(pid),
                Some(SupervisorReport::Exited(code)) => self.exit_code = Some(code),
                Some(SupervisorReport::NotStarted(error)) => return Err(io::Error::from_raw_os_error(error)),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Kills the program's process group, whose supervisor was killed, and returns the error to report.
    fn kill_without_supervisor(&mut self) -> io::Error {
        if let Some(leader) = self.leader_pid.take().and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        io::Error::other("its supervisor process was killed")
    }

    /// Ends the remaining processes, and waits until they and the other groups in [`EndingGroups`] have ended.
    /// Meanwhile, the caller reads the outputs.
    pub(super) async fn end(&mut self) {
        if let Some(group) = self.start_ending() {
            self.ending_groups.add(group, self.confined.take());
        }
        self.ending_groups.wait_all_ended().await;
    }

    /// Makes the supervisor end its program, by closing orch's end of the socket for writing.
    fn start_ending(&mut self) -> Option<EndingGroup> {
        let (control, supervisor) = self.supervisor.take()?;
        // An error closes the socket completely, which has the same effect on the supervisor.
        let control = control.into_std().ok()?;
        drop(control.shutdown(std::net::Shutdown::Write));
        Some(EndingGroup { control, supervisor, outputs: std::mem::take(&mut self.outputs), drains_outputs: false })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.start_ending() {
            self.ending_groups.add(EndingGroup { drains_outputs: true, ..group }, self.confined.take());
        }
    }
}

fn spawn(spec: &ProgramSpec) -> Result<Group, ProcessError> {
    let supervisor_error = |source| spec.supervisor_error(source);
    let (input, stdin) = match &spec.stdin {
        Some(_) => {
            let (reader, writer) = io::pipe().map_err(supervisor_error)?;
            let writer = ChildStdin::from_std(std::process::ChildStdin::from(OwnedFd::from(writer)));
            (Some(OwnedFd::from(reader)), Some(writer.map_err(supervisor_error)?))
        }
        None => (None, None),
    };
    let Some(sandbox) = &spec.sandbox else {
        let argv = spec.argv.iter().map(OsString::from).collect();
        let mut group = spawn_supervisor(spec, argv, input).map_err(supervisor_error)?;
        group.stdin = stdin;
        return Ok(group);
    };
    let record = spec.ending_process_groups.sandbox_record();
    let (confined, confine_input) =
        ConfinedProgram::open(sandbox, &spec.cwd, input, record).map_err(|error| spec.confine_error(error))?;
    let argv = ConfinedProgram::confine_argv(&spec.supervisor.path, &spec.argv);
    let mut group = spawn_supervisor(spec, argv, Some(confine_input)).map_err(supervisor_error)?;
    (group.confined, group.stdin) = (Some(confined), stdin);
    Ok(group)
}

/// Starts a supervisor that runs this command line with this standard input.
fn spawn_supervisor(spec: &ProgramSpec, argv: Vec<OsString>, input: Option<OwnedFd>) -> io::Result<Group> {
    let (control, supervisor_socket) = Socket::pair()?;
    let mut command = Command::new(&spec.supervisor.path);
    command.arg0("orch").arg(SUPERVISOR_COMMAND).args(argv).current_dir(&spec.cwd).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (name, value))).process_group(0);
    command.stdin(OwnedFd::from(supervisor_socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut supervisor = command.spawn()?;
    let (stdout, stderr) = (supervisor.stdout.take(), supervisor.stderr.take());
    match send_files(&control, input.as_ref().map(OwnedFd::as_fd), spec.supervisor.locked_file.as_deref()) {
        // The supervisor has exited already. `wait_for_program` returns the error.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        result => result?,
    }
    let outputs = [stdout.as_ref().map(|pipe| pipe.as_fd()), stderr.as_ref().map(|pipe| pipe.as_fd())];
    let outputs = outputs.into_iter().flatten().map(|pipe| pipe.try_clone_to_owned());
    control.set_nonblocking(true)?;
    Ok(Group {
        supervisor: Some((UnixStream::from_std(control)?, supervisor)),
        ending_groups: spec.ending_process_groups.clone(),
        received: Vec::new(),
        leader_pid: None,
        exit_code: None,
        outputs: outputs.collect::<io::Result<_>>()?,
        confined: None,
        stdin: None,
        stdout: stdout.map(ChildStdout::from_std).transpose()?,
        stderr: stderr.map(ChildStderr::from_std).transpose()?,
    })
}

/// Sends the supervisor the standard input of its program and the locked file, if there are any.
fn send_files(control: &Socket, input: Option<BorrowedFd<'_>>, locked_file: Option<&File>) -> io::Result<()> {
    let files: Vec<BorrowedFd<'_>> = input.into_iter().chain(locked_file.map(File::as_fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    let byte = if input.is_some() { WITH_INPUT } else { WITHOUT_INPUT };
    sendmsg(control, &[IoSlice::new(&[byte])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
