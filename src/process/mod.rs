//! Child processes with a time limit and bounded output, ended together with every process that they started.
//!
//! No process that a child started outlives the call: whether the child exits or times out, the caller drops the call,
//! or orch is killed. A guard ensures that (`guard.rs`): orch itself, whose path the caller passes. Nothing here blocks
//! the calling thread, unless the system can't start another thread. The caller passes the whole environment; nothing
//! is inherited. This module does not know what a program is for.

mod capture;
#[cfg(target_os = "linux")]
mod descendants;
mod ending;
mod group;
mod guard;
mod report;
mod talk;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use capture::capture;
pub use capture::{Captured, Stream, beginning_and_end, joined, last_lines};
pub use ending::EndingGroups;
use group::Group;
pub use guard::{COMMAND, guard};
pub use talk::{Pipes, Talked, talk};

/// How long the output is still read after the program has exited: processes that it left running may hold the pipe
/// open.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a program may take to exit by itself after its answer is complete.
const GRACE: Duration = Duration::from_secs(2);

/// How to start a guard.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// The path of orch's executable.
    pub path: PathBuf,
    /// A locked file that the guard keeps open until no process of its program is left.
    pub held: Option<Arc<File>>,
}

impl From<PathBuf> for GuardProgram {
    fn from(path: PathBuf) -> Self {
        Self { path, held: None }
    }
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// The program and its arguments; at least one entry.
    pub argv: Vec<String>,
    /// The folder in which the program runs.
    pub cwd: PathBuf,
    /// The program's whole environment.
    pub env: Vec<(String, String)>,
    /// The program's standard input; empty if absent.
    pub stdin: Option<Vec<u8>>,
    /// How long the program may run.
    pub timeout: Option<Duration>,
    /// How much of each output is kept, in bytes: half of that from the beginning and half from the end if there is
    /// more.
    pub cap: usize,
    /// How much the program may write to each output, in bytes, before orch ends it; no limit if absent.
    pub most: Option<u64>,
    /// How to start the guard: an orch process that runs [`guard`].
    pub guard: GuardProgram,
    /// Tracks the processes that are left when the call is dropped, until they have ended.
    pub endings: EndingGroups,
}

impl ProgramSpec {
    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Turns an error from the guard into the program's error. ENOENT means that the program is missing, since the
    /// guard has already entered the folder.
    fn failed(&self, source: io::Error) -> ProcessError {
        let program = self.program().to_owned();
        match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::FileTooLarge, None) => {
                ProcessError::TooMuch { program, most: self.most.unwrap_or(u64::MAX) }
            }
            (io::ErrorKind::NotFound, _) => ProcessError::NotFound(program),
            (_, Some(_)) => ProcessError::Spawn { program, source },
            (_, None) => ProcessError::Io { program, source },
        }
    }
}

impl ProgramSpec {
    /// Turns an error while starting the guard into the program's error: the guard gets the program's arguments and
    /// folder, so the cause may be there.
    fn not_guarded(&self, source: io::Error) -> ProcessError {
        let program = self.program().to_owned();
        if source.kind() == io::ErrorKind::ArgumentListTooLong || !self.cwd.is_dir() {
            return ProcessError::Spawn { program, source };
        }
        ProcessError::Guard { program, guard: self.guard.path.display().to_string(), source }
    }
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; 128 plus the number of the signal that ended the program, as in shells. `None` when orch ended
    /// the program after its answer was complete.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// Why a program has no result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program does not exist.
    #[error("there is no program `{0}`")]
    NotFound(String),
    /// The program could not be started.
    #[error("`{program}` can't be started: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// The guard could not be started.
    #[error("the guard of `{program}`, which is orch itself (`{guard}`), can't be started: {source}")]
    Guard {
        /// The program.
        program: String,
        /// The executable of orch.
        guard: String,
        /// Why not.
        source: io::Error,
    },
    /// The program took too long, so orch ended it and every process that it started.
    #[error("`{program}` took longer than {limit:?}")]
    Timeout {
        /// The program.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The last lines of standard output.
        stdout: String,
        /// The last lines of standard error.
        stderr: String,
    },
    /// The program wrote too much, so orch ended it and every process that it started.
    #[error("`{program}` wrote more than {} MiB", most >> 20)]
    TooMuch {
        /// The program.
        program: String,
        /// How much it may write to each output, in bytes.
        most: u64,
    },
    /// The program's pipes or its guard failed.
    #[error("`{program}` can't be followed: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program to its end and passes its output to `heard` as it arrives. Processes that the program left running
/// are being ended when this returns: wait for the [`EndingGroups`] before you read what the program did.
///
/// # Errors
/// The program can't be started, takes too long, or its pipes fail. An exit code other than 0 is not an error.
pub async fn run(spec: &ProgramSpec, heard: &(dyn Fn(Stream, &[u8]) + Send + Sync)) -> Result<Ended, ProcessError> {
    run_until(spec, heard, std::future::pending()).await
}

/// Runs a program to its end, or until its answer is complete: when `said` resolves, the time limit ends, and the
/// program has only a short time left to exit by itself.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    spec: &ProgramSpec,
    heard: &(dyn Fn(Stream, &[u8]) + Send + Sync),
    said: impl Future<Output = ()>,
) -> Result<Ended, ProcessError> {
    let mut group = Group::start(spec).await?;
    let (stdin, stdout, stderr) = (group.stdin.take(), group.stdout.take(), group.stderr.take());
    let (mut out, mut err) = (Captured::new(spec.cap), Captured::new(spec.cap));
    let most = spec.most.unwrap_or(u64::MAX);
    let ended = {
        let read = async {
            tokio::try_join!(
                capture(stdout, Stream::Out, &mut out, most, heard),
                capture(stderr, Stream::Err, &mut err, most, heard)
            )
        }
        .fuse();
        tokio::pin!(read);
        let ended = {
            let work = follow(&mut group, feed(stdin, spec.stdin.as_deref().unwrap_or_default()), &mut read);
            tokio::pin!(work, said);
            let over = async {
                match spec.timeout {
                    None => std::future::pending().await,
                    Some(limit) => tokio::time::sleep(limit).await,
                }
            };
            tokio::select! {
                biased;
                ended = &mut work => Some(match ended {
                    // The answer was complete before the guard or the pipes failed.
                    Err(_) if said.as_mut().now_or_never().is_some() => Ok(None),
                    ended => ended.map(Some),
                }),
                () = &mut said => Some(Ok(tokio::time::timeout(GRACE, &mut work).await.ok().and_then(Result::ok))),
                () = over => None,
            }
        };
        if !matches!(ended, Some(Ok(_))) {
            end_and_read(&mut group, read).await;
        }
        ended
    };
    // Ends the processes that are left without waiting for them: they can't change the result, and a caller that drops
    // this future during the wait would lose it.
    drop(group);
    match ended {
        Some(Ok(code)) => Ok(Ended { code, stdout: out, stderr: err }),
        Some(Err(source)) => Err(spec.failed(source)),
        None => {
            let (program, limit) = (spec.program().to_owned(), spec.timeout.unwrap_or_default());
            Err(ProcessError::Timeout { program, limit, stdout: out.last_lines(), stderr: err.last_lines() })
        }
    }
}

/// Ends a group, and reads what its programs write while they end.
async fn end_and_read(group: &mut Group, read: impl FusedFuture) {
    let end = group.end();
    tokio::pin!(end, read);
    tokio::select! {
        () = &mut end => {}
        // The output no longer matters: the program was ended or had exited.
        _ = &mut read, if !read.is_terminated() => end.await,
    }
}

/// Writes the input.
async fn feed(pipe: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let fed = pipe.write_all(input).await;
    let fed = if fed.is_ok() { pipe.shutdown().await } else { fed };
    // A program may exit without reading all of its input; that is not an error.
    fed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Waits for the program. Processes that it left running may delay this only briefly by holding its pipes open.
async fn follow(
    group: &mut Group,
    feed: impl Future<Output = io::Result<()>>,
    read: impl Future<Output = io::Result<((), ())>>,
) -> io::Result<i32> {
    tokio::pin!(feed, read);
    let (mut fed, mut done) = (false, false);
    let code = loop {
        tokio::select! {
            result = &mut feed, if !fed => { result?; fed = true; }
            result = &mut read, if !done => { result?; done = true; }
            code = group.exited() => break code,
        }
    };
    if !done && let Ok(result) = tokio::time::timeout(DRAIN, &mut read).await {
        result?;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guard_that_cannot_be_started_is_not_taken_for_the_program() {
        let spec = ProgramSpec {
            argv: vec!["true".to_owned()],
            cwd: "/".into(),
            env: Vec::new(),
            stdin: None,
            timeout: None,
            cap: 1,
            most: None,
            guard: PathBuf::from("/nowhere/orch").into(),
            endings: EndingGroups::default(),
        };
        let error = run(&spec, &|_, _| {}).await.unwrap_err().to_string();
        assert!(error.starts_with("the guard of `true`, which is orch itself (`/nowhere/orch`), can't be"), "{error}");
    }
}
