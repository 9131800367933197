//! Runs a program with which the caller exchanges messages over the program's standard input and output.

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Duration, timeout};

use super::{CapturedOutput, Group, OutputStream, ProcessError, ProgramSpec, capture_stream, end_and_read};

/// How long the program may take to exit by itself after the conversation, so that orch gets its exit code.
const EXIT_TIMEOUT: Duration = Duration::from_millis(200);

/// The pipes of a conversation.
pub struct Pipes {
    /// The program's standard input.
    pub stdin: ChildStdin,
    /// The program's standard output.
    pub stdout: ChildStdout,
}

/// The result of a conversation.
#[derive(Debug)]
pub struct InteractiveExit<T> {
    /// The result of the `work` that [`run_interactive`] ran.
    pub result: T,
    /// The program's exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Standard error.
    pub stderr: CapturedOutput,
}

/// Starts a program, runs `work` with its pipes, and ends the program with every process that it started.
///
/// The time limit of `spec` applies to the work, and the output limit to standard error only. The input of `spec` has
/// no effect.
///
/// # Errors
/// The program can't be started, takes too long, or writes too much to standard error. `result` contains the errors of
/// the conversation.
pub async fn run_interactive<T, F>(
    spec: &ProgramSpec,
    work: impl FnOnce(Pipes) -> F,
) -> Result<InteractiveExit<T>, ProcessError>
where
    F: Future<Output = T>,
{
    let spec = ProgramSpec { stdin: Some(Vec::new()), ..spec.clone() };
    let mut group = Group::start(&spec).await?;
    let (stdin, stdout) = (group.stdin.take(), group.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(spec.process_error(std::io::ErrorKind::BrokenPipe.into()));
    };
    let stderr_pipe = group.stderr.take();
    let (mut stderr, max_bytes) =
        (CapturedOutput::new(spec.max_captured_bytes), spec.max_output_bytes.unwrap_or(u64::MAX));
    let (result, exit, sandbox_report) = {
        let read_stderr = capture_stream(stderr_pipe, OutputStream::Stderr, &mut stderr, max_bytes, &|_, _| {}).fuse();
        tokio::pin!(read_stderr);
        let work_and_read = async {
            let work = work(Pipes { stdin, stdout });
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => Ok(result),
                captured = &mut read_stderr => match captured {
                    Ok(()) => Ok(work.await),
                    Err(error) => Err(error),
                },
            }
        };
        let result = match spec.timeout {
            None => Ok(work_and_read.await),
            Some(limit) => timeout(limit, work_and_read).await.map_err(|_| limit),
        };
        let exit = timeout(EXIT_TIMEOUT, group.wait_for_program()).await;
        let sandbox_report = if matches!(exit, Ok(Ok(_))) { group.read_sandbox_report(&spec).await } else { Ok(()) };
        if !read_stderr.is_terminated() && exit.is_ok() {
            // The last lines often explain the exit. Too much output is no longer an error.
            drop(timeout(EXIT_TIMEOUT, &mut read_stderr).await);
        }
        if !matches!(result, Ok(Ok(_))) {
            end_and_read(&mut group, read_stderr).await;
        }
        (result, exit, sandbox_report)
    };
    drop(group);
    // This error means that the program never ran, which explains every other error.
    sandbox_report?;
    match (result, exit) {
        // The program never ran, which explains every other error.
        (_, Ok(Err(source))) if source.raw_os_error().is_some() => Err(spec.process_error(source)),
        (Ok(Ok(result)), exit) => Ok(InteractiveExit { result, code: exit.ok().and_then(Result::ok), stderr }),
        (Ok(Err(source)), _) => Err(spec.process_error(source)),
        (Err(limit), _) => {
            let (program, stdout, stderr) = (spec.program().to_owned(), String::new(), stderr.last_lines());
            Err(ProcessError::Timeout { program, limit, stdout, stderr })
        }
    }
}
