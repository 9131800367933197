//! Runs a program with which the caller exchanges messages: the caller gets its standard input and output.

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Duration, timeout};

use super::{Captured, Group, ProcessError, ProgramSpec, Stream, capture, end_and_read};

/// How long the program may take to exit by itself after the conversation; orch wants its exit code.
const FAREWELL: Duration = Duration::from_millis(200);

/// The pipes of a conversation.
pub struct Pipes {
    /// The program's standard input.
    pub stdin: ChildStdin,
    /// The program's standard output.
    pub stdout: ChildStdout,
}

/// The result of a conversation.
#[derive(Debug)]
pub struct Talked<T> {
    /// The result of the caller's work.
    pub result: T,
    /// The program's exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Standard error.
    pub stderr: Captured,
}

/// Starts a program, runs `work` with its pipes, and ends the program with every process that it started.
///
/// `spec.stdin` is not used. `spec.timeout` limits the work, and `spec.most` limits standard error only.
///
/// # Errors
/// The program can't be started, takes too long, or writes too much to standard error. An error in the conversation is
/// part of the work's result.
pub async fn talk<T, F>(spec: &ProgramSpec, work: impl FnOnce(Pipes) -> F) -> Result<Talked<T>, ProcessError>
where
    F: Future<Output = T>,
{
    let spec = ProgramSpec { stdin: Some(Vec::new()), ..spec.clone() };
    let mut group = Group::start(&spec).await?;
    let (stdin, stdout) = (group.stdin.take(), group.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(spec.failed(std::io::ErrorKind::BrokenPipe.into()));
    };
    let pipe = group.stderr.take();
    let (mut stderr, most) = (Captured::new(spec.cap), spec.most.unwrap_or(u64::MAX));
    let (result, ended) = {
        let listen = capture(pipe, Stream::Err, &mut stderr, most, &|_, _| {}).fuse();
        tokio::pin!(listen);
        let both = async {
            let work = work(Pipes { stdin, stdout });
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => Ok(result),
                heard = &mut listen => match heard {
                    Ok(()) => Ok(work.await),
                    Err(error) => Err(error),
                },
            }
        };
        let result = match spec.timeout {
            None => Ok(both.await),
            Some(limit) => timeout(limit, both).await.map_err(|_| limit),
        };
        let ended = timeout(FAREWELL, group.exited()).await;
        if !listen.is_terminated() && ended.is_ok() {
            // The last lines often say why the program exited. An error here means too much output, which no longer
            // matters.
            drop(timeout(FAREWELL, &mut listen).await);
        }
        if !matches!(result, Ok(Ok(_))) {
            end_and_read(&mut group, listen).await;
        }
        (result, ended)
    };
    drop(group);
    match (result, ended) {
        // The program never ran, which explains any other error.
        (_, Ok(Err(source))) if source.raw_os_error().is_some() => Err(spec.failed(source)),
        (Ok(Ok(result)), ended) => Ok(Talked { result, code: ended.ok().and_then(Result::ok), stderr }),
        (Ok(Err(source)), _) => Err(spec.failed(source)),
        (Err(limit), _) => {
            let (program, stdout, stderr) = (spec.program().to_owned(), String::new(), stderr.last_lines());
            Err(ProcessError::Timeout { program, limit, stdout, stderr })
        }
    }
}
