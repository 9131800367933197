//! A program that is talked to: its standard input and output are in the caller's hands.

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Duration, timeout};

use super::{Captured, Group, ProcessError, ProgramSpec, Stream, capture, end_and_read};

/// How long a program has to end by itself once the talk is over: its exit code is worth knowing.
const FAREWELL: Duration = Duration::from_millis(200);

/// The two ends of a talk.
pub struct Pipes {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it writes.
    pub stdout: ChildStdout,
}

/// How a talk ended.
#[derive(Debug)]
pub struct Talked<T> {
    /// What came of it.
    pub result: T,
    /// The program's exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Standard error.
    pub stderr: Captured,
}

/// Starts a program, has `work` talk to it, and ends it with all that it started.
///
/// `spec.stdin` is not used; `spec.timeout` bounds the work, `spec.most` standard error only.
///
/// # Errors
/// When it can't be started, takes too long, or floods standard error. What goes wrong in the
/// talk itself is the work's result.
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
            // Its last words often say why it ended; what is more than is kept does not matter any more.
            drop(timeout(FAREWELL, &mut listen).await);
        }
        if !matches!(result, Ok(Ok(_))) {
            end_and_read(&mut group, listen).await;
        }
        (result, ended)
    };
    drop(group);
    match (result, ended) {
        // It never ran: whatever came of the talk came of that.
        (_, Ok(Err(source))) if source.raw_os_error().is_some() => Err(spec.failed(source)),
        (Ok(Ok(result)), ended) => Ok(Talked { result, code: ended.ok().and_then(Result::ok), stderr }),
        (Ok(Err(source)), _) => Err(spec.failed(source)),
        (Err(limit), _) => {
            let (program, stdout, stderr) = (spec.program().to_owned(), String::new(), stderr.last_lines());
            Err(ProcessError::Timeout { program, limit, stdout, stderr })
        }
    }
}
