//! Runs child processes with a time limit and bounded output, and ends every process that they started.
//!
//! A program and the processes that it started end with the call, even if the program exits or times out, the caller
//! drops the call, or orch is killed. A supervisor process ensures this (`supervisor.rs`). Its executable is orch
//! itself, whose path the caller passes. The kernel confines a program that has a sandbox (`sandbox.rs`,
//! `confined.rs`). This module never blocks the calling thread, unless the system can't start another thread. The
//! caller passes the whole environment: the program inherits none of orch's variables.

mod capped;
mod capture;
mod confined;
#[cfg(target_os = "linux")]
mod descendants;
mod ending_groups;
mod environment;
mod error;
mod group;
mod hidden_program;
mod installed;
mod interactive;
mod missing_files;
mod program_start;
mod report;
mod sandbox;
mod sandbox_paths;
mod sandbox_probe;
mod sandbox_protection;
mod supervisor;
mod workspace_rules;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture;
use orch_confine::confine::ConfineError;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

pub use capped::CappedReader;
use capture::capture_stream;
pub use capture::{CapturedOutput, OutputStream, join_with_marker, last_lines, shorten_middle};
pub use confined::{CONFINE_COMMAND, run_confine};
pub use ending_groups::EndingGroups;
pub use environment::{CERTIFICATE_VARIABLES, command_environment};
pub use error::ProcessError;
use group::Group;
pub use hidden_program::HiddenProgram;
pub use installed::ProgramPlace;
pub use interactive::{InteractiveExit, Pipes, run_interactive};
pub use missing_files::{hidden_file_hint, mentions_missing_file};
pub use program_start::{ProgramStart, StartRecorder};
pub use sandbox::{ProgramSandbox, SandboxContext, SandboxNeeds, probable_limit};
pub use sandbox_probe::{MachineSandbox, SandboxProbe};
pub use sandbox_protection::{remove_leftover_placeholders, remove_leftover_settings};
pub use supervisor::{SUPERVISOR_COMMAND, run_supervisor};
pub use workspace_rules::WorkspaceRules;

/// How long orch reads the output after the program has exited. Processes that the program left running may keep the
/// pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a program may take to exit by itself after its reply is complete.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How to start the supervisor of a program: the process between orch and the program. The supervisor starts the
/// program, and ends it with every process that it started when the call ends or orch dies (`supervisor.rs`).
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    /// The path of orch's executable.
    pub path: PathBuf,
    /// A locked file that the supervisor keeps open until no process of its program is left.
    pub locked_file: Option<Arc<File>>,
}

impl From<PathBuf> for SupervisorSpec {
    fn from(path: PathBuf) -> Self {
        Self { path, locked_file: None }
    }
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// The program and its arguments; at least one entry.
    pub argv: Vec<String>,
    /// The working directory of the program.
    pub cwd: PathBuf,
    /// The program's whole environment.
    pub env: Vec<(String, String)>,
    /// The program's standard input; `None` for an empty input.
    pub stdin: Option<Vec<u8>>,
    /// How long the program may run; `None` for no limit.
    pub timeout: Option<Duration>,
    /// The maximum size of each captured output, in bytes. Of a longer output, orch captures the beginning and the end,
    /// each up to half of this size.
    pub max_captured_bytes: usize,
    /// The maximum number of bytes that the program may write to each output before orch ends it; `None` for no limit.
    pub max_output_bytes: Option<u64>,
    /// How to start the supervisor, which ends all processes of the program.
    pub supervisor: SupervisorSpec,
    /// Tracks the processes that remain when the caller drops the call, until they have ended.
    pub ending_process_groups: EndingGroups,
    /// The sandbox of the program; `None` if orch does not confine it.
    pub sandbox: Option<Arc<ProgramSandbox>>,
}

impl ProgramSpec {
    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Converts an error that the supervisor reported to the program's error. ENOENT means that the program is missing,
    /// because the supervisor has already entered the working directory. Its sandbox may hide a program that exists.
    fn process_error(&self, source: io::Error) -> ProcessError {
        let program = self.program().to_owned();
        match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::FileTooLarge, None) => {
                ProcessError::TooMuchOutput { program, max_bytes: self.max_output_bytes.unwrap_or(u64::MAX) }
            }
            (io::ErrorKind::NotFound, _) => self.hidden_error().unwrap_or(ProcessError::NotFound(program)),
            // At `basic`, the kernel refuses a file that the program may not read.
            (io::ErrorKind::PermissionDenied, Some(_)) => {
                self.hidden_error().unwrap_or(ProcessError::Spawn { program, source })
            }
            (_, Some(_)) => ProcessError::Spawn { program, source },
            (_, None) => ProcessError::Io { program, source },
        }
    }
}

impl ProgramSpec {
    /// Converts an error of the confinement to the program's error.
    fn confine_error(&self, error: ConfineError) -> ProcessError {
        let ConfineError { step, place, cause, errno, advice } = error;
        let has_place = place.is_some();
        let place = place.map(|place| format!(" at `{place}`")).unwrap_or_default();
        let problem = format!("{step} failed{place}: {cause}");
        let advice = advice.or_else(|| {
            let is_missing = has_place && errno == Some(rustix::io::Errno::NOENT.raw_os_error());
            let missing_hint = is_missing.then_some("create this path, or remove it from `write` of the sandbox");
            missing_hint.or_else(|| error::too_many_files_hint(errno?)).map(str::to_owned)
        });
        ProcessError::NotConfined { program: self.program().to_owned(), problem, advice }
    }

    /// Converts an error from the start of the supervisor to the program's error. The supervisor gets the program's
    /// arguments and folder, so they may be the cause.
    fn supervisor_error(&self, source: io::Error) -> ProcessError {
        let program = self.program().to_owned();
        if source.kind() == io::ErrorKind::ArgumentListTooLong || !self.cwd.is_dir() {
            return ProcessError::Spawn { program, source };
        }
        ProcessError::Supervisor { program, supervisor: self.supervisor.path.display().to_string(), source }
    }
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct ProgramExit {
    /// The exit code. For a signal, it is 128 plus the number of the signal, as in shells. `None` if orch ended the
    /// program after its reply was complete.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: CapturedOutput,
    /// Standard error.
    pub stderr: CapturedOutput,
}

/// Runs a program to its end, and passes its output to `on_output` as it arrives. Processes that the program left
/// running may not have ended when this function returns, so wait for the [`EndingGroups`] before you read the
/// program's changes.
///
/// # Errors
/// The program can't be started, takes too long, or its pipes fail. An exit code other than 0 is not an error.
pub async fn run(
    spec: &ProgramSpec,
    on_output: &(dyn Fn(OutputStream, &[u8]) + Send + Sync),
) -> Result<ProgramExit, ProcessError> {
    run_until(spec, on_output, std::future::pending()).await
}

/// Runs a program to its end, or until its reply is complete: when `reply_complete` resolves, the time limit no longer
/// applies, and orch ends the program unless it exits by itself within a short time.
///
/// # Errors
/// The same errors as [`run`].
pub async fn run_until(
    spec: &ProgramSpec,
    on_output: &(dyn Fn(OutputStream, &[u8]) + Send + Sync),
    reply_complete: impl Future<Output = ()>,
) -> Result<ProgramExit, ProcessError> {
    let mut group = Group::start(spec).await?;
    let (stdin, stdout, stderr) = (group.stdin.take(), group.stdout.take(), group.stderr.take());
    let (mut captured_stdout, mut captured_stderr) =
        (CapturedOutput::new(spec.max_captured_bytes), CapturedOutput::new(spec.max_captured_bytes));
    let max_bytes = spec.max_output_bytes.unwrap_or(u64::MAX);
    let result = {
        let read = async {
            tokio::try_join!(
                capture_stream(stdout, OutputStream::Stdout, &mut captured_stdout, max_bytes, on_output),
                capture_stream(stderr, OutputStream::Stderr, &mut captured_stderr, max_bytes, on_output)
            )
        }
        .fuse();
        tokio::pin!(read);
        let result = {
            let write = write_input(stdin, spec.stdin.as_deref().unwrap_or_default());
            let exit = wait_for_exit(&mut group, write, &mut read);
            tokio::pin!(exit, reply_complete);
            let time_limit = async {
                match spec.timeout {
                    None => std::future::pending().await,
                    Some(limit) => tokio::time::sleep(limit).await,
                }
            };
            tokio::select! {
                biased;
                code = &mut exit => Some(match code {
                    // The reply was complete before the supervisor or the pipes failed.
                    Err(_) if reply_complete.as_mut().now_or_never().is_some() => Ok(None),
                    code => code.map(Some),
                }),
                () = &mut reply_complete => {
                    Some(Ok(tokio::time::timeout(EXIT_TIMEOUT, &mut exit).await.ok().and_then(Result::ok)))
                }
                () = time_limit => None,
            }
        };
        if !matches!(result, Some(Ok(_))) {
            end_and_read(&mut group, read).await;
        }
        result
    };
    let sandbox_report = match &result {
        Some(Ok(Some(_))) => group.read_sandbox_report(spec).await,
        Some(Ok(None) | Err(_)) | None => Ok(()),
    };
    // Ends the remaining processes without waiting for them. They can't change the result, and if the caller dropped
    // this future during the wait, the result would be lost.
    drop(group);
    sandbox_report?;
    match result {
        Some(Ok(code)) => Ok(ProgramExit { code, stdout: captured_stdout, stderr: captured_stderr }),
        Some(Err(source)) => Err(spec.process_error(source)),
        None => {
            let (program, limit) = (spec.program().to_owned(), spec.timeout.unwrap_or_default());
            let (stdout, stderr) = (captured_stdout.last_lines(), captured_stderr.last_lines());
            Err(ProcessError::Timeout { program, limit, stdout, stderr })
        }
    }
}

/// Ends a group, and reads the output of its processes while they end.
async fn end_and_read(group: &mut Group, read: impl FusedFuture) {
    let end = group.end();
    tokio::pin!(end, read);
    tokio::select! {
        () = &mut end => {}
        // Errors of the reading no longer matter.
        _ = &mut read, if !read.is_terminated() => end.await,
    }
}

/// Writes the program's input.
async fn write_input(pipe: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let result = pipe.write_all(input).await;
    let result = if result.is_ok() { pipe.shutdown().await } else { result };
    // A program may exit without reading all of its input; that is not an error.
    result.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Waits until the program exits, and returns its exit code. If processes that the program left running keep its pipes
/// open, this function waits for them only briefly.
async fn wait_for_exit(
    group: &mut Group,
    write: impl Future<Output = io::Result<()>>,
    read: impl Future<Output = io::Result<((), ())>>,
) -> io::Result<i32> {
    tokio::pin!(write, read);
    let (mut is_written, mut is_read) = (false, false);
    let code = loop {
        tokio::select! {
            result = &mut write, if !is_written => { result?; is_written = true; }
            result = &mut read, if !is_read => { result?; is_read = true; }
            code = group.wait_for_program() => break code,
        }
    };
    if !is_read && let Ok(result) = tokio::time::timeout(DRAIN_TIMEOUT, &mut read).await {
        result?;
    }
    code
}

#[cfg(test)]
pub(crate) use program_start::tests::start_in;

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ProgramSpec {
        ProgramSpec {
            argv: vec!["true".to_owned()],
            cwd: "/".into(),
            env: Vec::new(),
            stdin: None,
            timeout: None,
            max_captured_bytes: 1,
            max_output_bytes: None,
            supervisor: PathBuf::from("/nowhere/orch").into(),
            ending_process_groups: EndingGroups::default(),
            sandbox: None,
        }
    }

    #[tokio::test]
    async fn the_error_of_a_supervisor_that_cannot_be_started_names_the_supervisor() {
        let error = run(&spec(), &|_, _| {}).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the supervisor of `true`, which is orch itself (`/nowhere/orch`), can't be"),
            "{error}"
        );
    }

    #[test]
    fn an_error_from_the_start_of_a_program_has_a_hint_for_its_cause() {
        use rustix::io::Errno;
        let source = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for (errno, expected_text) in [(Errno::MFILE, "`limits.open_files`"), (Errno::NFILE, "`sysctl fs.file-max`")] {
            let hint = spec().process_error(source(errno)).start_hint().unwrap();
            assert!(hint.contains(expected_text), "{hint}");
        }
        assert_eq!(spec().process_error(source(Errno::ACCESS)).start_hint(), None);
        let confine_error = |errno: Errno| ConfineError {
            step: orch_confine::confine::Step::Mounts,
            place: Some("/gone".to_owned()),
            cause: source(errno).to_string(),
            errno: Some(errno.raw_os_error()),
            advice: None,
        };
        for (errno, expected_text) in [(Errno::NOENT, "create this path"), (Errno::MFILE, "`limits.open_files`")] {
            let failure = spec().confine_error(confine_error(errno)).not_confined_failure().unwrap();
            assert!(failure.message.contains("at `/gone`"), "{}", failure.message);
            let hint = failure.hint.unwrap();
            assert!(hint.contains(expected_text), "{hint}");
        }
    }
}
