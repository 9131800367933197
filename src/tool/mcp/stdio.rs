//! Starts a server, and connects to its standard input and output.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::model::{Failure, SandboxSpec, with_project_root};
use crate::process::{
    CERTIFICATE_VARIABLES, CappedReader, CapturedOutput, EndingGroups, HiddenProgram, InteractiveExit, Pipes,
    ProcessError, ProgramSpec, SandboxContext, SandboxNeeds, command_environment, run_interactive,
};

use super::lines::LineTransport;
use super::text_worker::TextWorker;
use super::{MAX_MESSAGE_BYTES, McpContext};

/// The part of standard error that orch keeps for messages, in bytes.
const MAX_STDERR_BYTES: usize = 64 << 10;

/// A connection over pipes.
pub(super) type PipeTransport = LineTransport<CappedReader<ChildStdout>, ChildStdin>;
/// How a server ended.
pub(super) type ProgramExit = Result<ServerExit, ProcessError>;

/// The end of a server that ran.
#[derive(Debug)]
pub(super) struct ServerExit {
    /// The exit code, if the server ended by itself.
    pub(super) code: Option<i32>,
    pub(super) stderr: CapturedOutput,
    /// A file that an argument of a failed server names and that its sandbox hides.
    pub(super) hidden_argument: Option<HiddenProgram>,
}

impl ServerExit {
    fn new(exit: InteractiveExit<()>, spec: &ProgramSpec) -> Self {
        let has_failed = exit.code.is_some_and(|code| code != 0);
        let hidden_argument = if has_failed { spec.hidden_argument() } else { None };
        Self { code: exit.code, stderr: exit.stderr, hidden_argument }
    }
}

/// What orch starts.
#[derive(Clone, Copy)]
pub(super) struct ServerCommand<'a> {
    pub(super) command: &'a [String],
    pub(super) env: &'a [String],
    pub(super) sandbox: Option<&'a SandboxSpec>,
}

/// The processes of one server over all of its starts.
pub(super) struct ServerProcesses {
    groups: EndingGroups,
    /// The tasks of programs that were dropped, until they have ended.
    dropped: Mutex<Vec<JoinHandle<ProgramExit>>>,
}

impl ServerProcesses {
    /// No processes. They will belong to `groups`.
    pub(super) fn new(groups: EndingGroups) -> Self {
        Self { groups, dropped: Mutex::default() }
    }

    pub(super) fn groups(&self) -> &EndingGroups {
        &self.groups
    }

    /// Waits until no process is left of the programs that orch ended or dropped.
    pub(super) async fn wait_ended(&self) {
        loop {
            let task = self.dropped.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(task) = task else { break };
            // How a dropped program ended does not matter.
            drop(task.await);
        }
        self.groups.wait_all_ended().await;
    }
}

/// A server that orch started. Dropping it ends the server with every process that it started.
pub(super) struct ServerProgram {
    processes: Arc<ServerProcesses>,
    running: Mutex<Option<RunningProgram>>,
    is_message_too_long: Arc<AtomicBool>,
}

impl Drop for ServerProgram {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(RunningProgram { stop, task }) = running {
            drop(stop);
            self.processes.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        }
    }
}

/// The task that runs a server. Dropping `stop` ends the server.
struct RunningProgram {
    stop: oneshot::Sender<()>,
    task: JoinHandle<ProgramExit>,
}

/// Why a server did not start.
pub(super) enum StartError {
    /// orch could not prepare its sandbox.
    Failure(Failure),
    /// It could not be started.
    Process(ProcessError),
}

impl ServerProgram {
    /// Starts a server.
    pub(super) async fn start(
        server: ServerCommand<'_>,
        context: &McpContext,
        processes: &Arc<ServerProcesses>,
    ) -> Result<(Self, PipeTransport), StartError> {
        let spec = program_spec(server, context, &processes.groups).await.map_err(StartError::Failure)?;
        let (pipe_sender, pipe_receiver) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let work = move |pipes: Pipes| async move {
                // If the caller is gone, the server ends at once.
                if pipe_sender.send(pipes).is_ok() {
                    // An error means that the caller has dropped the server, which ends it too.
                    drop(stopped.await);
                }
            };
            let exit = run_interactive(&spec, work).await?;
            // An exit because of a program that the sandbox hides is an error of the start.
            match spec.hidden_error_of_exit(exit.code) {
                Some(error) => Err(error),
                None => Ok(ServerExit::new(exit, &spec)),
            }
        });
        let program = Self {
            processes: processes.clone(),
            running: Mutex::new(Some(RunningProgram { stop, task })),
            is_message_too_long: Arc::default(),
        };
        let Ok(pipes) = pipe_receiver.await else {
            return Err(match program.end().await {
                Some(Err(error)) => StartError::Process(error),
                // The task ends without an exit only if the process of orch ends.
                Some(Ok(_)) | None => {
                    StartError::Process(ProcessError::Io { program: program_name(server), source: closed() })
                }
            });
        };
        let stdout = CappedReader::new(pipes.stdout, MAX_MESSAGE_BYTES, program.is_message_too_long.clone());
        Ok((program, LineTransport::new(stdout, pipes.stdin, TextWorker::new(&processes.groups))))
    }

    /// Whether the connection ended because a message of the server was too long.
    pub(super) fn is_message_too_long(&self) -> bool {
        self.is_message_too_long.load(Ordering::Relaxed)
    }

    /// Ends the server, and waits until no process of it is left. Returns how it ended, unless another caller got this.
    pub(super) async fn end(&self) -> Option<ProgramExit> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let exit = match running {
            Some(RunningProgram { stop, task }) => {
                drop(stop);
                task.await.ok()
            }
            None => None,
        };
        self.processes.wait_ended().await;
        exit
    }
}

fn program_name(server: ServerCommand<'_>) -> String {
    server.command.first().cloned().unwrap_or_default()
}

fn closed() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

/// The command with the project's folder in it.
fn command_line(command: &[String], sandbox: &SandboxContext) -> Vec<String> {
    match &sandbox.project_root {
        Some(root) => command.iter().map(|argument| with_project_root(argument, root)).collect(),
        None => command.to_vec(),
    }
}

async fn program_spec(
    server: ServerCommand<'_>,
    context: &McpContext,
    groups: &EndingGroups,
) -> Result<ProgramSpec, Failure> {
    let sandbox = match server.sandbox {
        None => None,
        Some(sandbox) => {
            let certificates = CERTIFICATE_VARIABLES.iter().filter_map(|name| (context.variables)(name));
            let readable = certificates.map(PathBuf::from).collect();
            let needs = SandboxNeeds { readable, ..SandboxNeeds::default() };
            Some(Arc::new(context.sandbox.prepare(sandbox, needs).await?))
        }
    };
    Ok(ProgramSpec {
        argv: command_line(server.command, &context.sandbox),
        cwd: context.sandbox.workspace.clone(),
        env: command_environment(&*context.variables, server.env.iter().map(String::as_str)),
        stdin: None,
        timeout: None,
        max_captured_bytes: MAX_STDERR_BYTES,
        max_output_bytes: None,
        supervisor: context.supervisor.clone(),
        ending_process_groups: groups.clone(),
        sandbox,
    })
}
