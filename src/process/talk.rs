//! A program that is talked to: its standard input and output are in the caller's hands.

use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Duration, timeout};

use super::{Captured, Group, ProcessError, Spec, Stream, capture, code};

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

/// Starts a program, has `work` talk to it, and ends it with its whole group.
///
/// `spec.stdin` is not used; `spec.timeout` bounds the work, `spec.most` standard error only.
///
/// # Errors
/// When it can't be started, takes too long, or floods standard error. What goes wrong in the
/// talk itself is the work's result.
pub async fn talk<T, F>(spec: &Spec, work: impl FnOnce(Pipes) -> F) -> Result<Talked<T>, ProcessError>
where
    F: Future<Output = T>,
{
    let program = spec.argv.first().cloned().unwrap_or_default();
    let spec = Spec { stdin: Some(Vec::new()), ..spec.clone() };
    let mut group = Group::start(&spec, &program)?;
    let (stdin, stdout) = (group.child.stdin().take(), group.child.stdout().take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(ProcessError::Io { program, source: std::io::ErrorKind::BrokenPipe.into() });
    };
    let pipe = group.child.stderr().take();
    let (mut stderr, most) = (Captured::new(spec.cap), spec.most.unwrap_or(u64::MAX));
    let (result, ended) = {
        let listen = capture(pipe, Stream::Err, &mut stderr, most, &|_, _| {});
        tokio::pin!(listen);
        let mut silent = false;
        let both = async {
            let work = work(Pipes { stdin, stdout });
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => Some(result),
                heard = &mut listen => {
                    silent = true;
                    match heard {
                        Ok(()) => Some(work.await),
                        Err(_) => None,
                    }
                }
            }
        };
        let result = match spec.timeout {
            None => Ok(both.await),
            Some(limit) => timeout(limit, both).await.map_err(|_| limit),
        };
        let ended = timeout(FAREWELL, group.leader()).await;
        if !silent && ended.is_ok() {
            // Its last words often say why it ended; what is more than is kept does not matter any more.
            drop(timeout(FAREWELL, listen).await);
        }
        (result, ended)
    };
    group.end();
    match result {
        Ok(Some(result)) => {
            let code = ended.ok().and_then(Result::ok).map(code);
            Ok(Talked { result, code, stderr })
        }
        Ok(None) => Err(ProcessError::TooMuch { program, most }),
        Err(limit) => Err(ProcessError::Timeout { program, limit, last: stderr.tail() }),
    }
}
