//! Child processes: ended with all that they started, a time limit, bounded output.
//!
//! Promises that nothing that a child started outlives the call: not after its end, its time-out, when the call is
//! given up, or when this process is killed. A guard sees to that (`guard.rs`), which is this program again; the
//! caller says where it is. Nothing here blocks the thread that it runs on, unless the system has no thread left. The environment is given whole by the
//! caller; nothing is inherited. Refuses to know what a program is for.

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

/// How long output is still read after the program itself has ended: what it left running may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a program that has said all may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// How a guard is started.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// The path of orch.
    pub path: PathBuf,
    /// A locked file that the guard keeps open until nothing of its program is left.
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
    /// The folder in which it runs.
    pub cwd: PathBuf,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// What it reads on standard input; nothing when absent.
    pub stdin: Option<Vec<u8>>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How much of each output is kept, in bytes: half of it of the beginning and half of the end when there is more.
    pub cap: usize,
    /// How much it may write to each output, in bytes: with more it is ended; any amount when absent.
    pub most: Option<u64>,
    /// Its guard: orch, as [`guard`] starts it.
    pub guard: GuardProgram,
    /// Where what is left of it goes when the call is dropped.
    pub endings: EndingGroups,
}

impl ProgramSpec {
    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// What an error of the child means. ENOENT means the program: the guard has already entered the folder.
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
    /// What an error at the start of the guard means. The guard has the program's arguments and folder.
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
    /// Its exit code; 128 and the number of the signal that ended it, as shells say it. Absent when it had said all
    /// and was ended.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// Why there is no end to speak of.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not there.
    #[error("there is no program `{0}`")]
    NotFound(String),
    /// It could not be started.
    #[error("`{program}` can't be started: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Its guard could not be started.
    #[error("the guard of `{program}`, which is orch itself (`{guard}`), can't be started: {source}")]
    Guard {
        /// The program.
        program: String,
        /// The executable of orch.
        guard: String,
        /// Why not.
        source: io::Error,
    },
    /// It took too long, and was ended with all that it started.
    #[error("`{program}` took longer than {limit:?}")]
    Timeout {
        /// The program.
        program: String,
        /// How long it was given.
        limit: Duration,
        /// The last lines of standard output.
        stdout: String,
        /// The last lines of standard error.
        stderr: String,
    },
    /// It wrote more than it may, and was ended with all that it started.
    #[error("`{program}` wrote more than {} MiB", most >> 20)]
    TooMuch {
        /// The program.
        program: String,
        /// How much it may write to each output, in bytes.
        most: u64,
    },
    /// Its pipes or its guard failed.
    #[error("`{program}` can't be followed: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program to its end; `heard` is told of output as it comes. What it left running is being ended then: wait for
/// the [`Endings`] before looking at what it did.
///
/// # Errors
/// When it can't be started, takes too long, or its pipes fail. An exit code is no error.
pub async fn run(spec: &ProgramSpec, heard: &(dyn Fn(Stream, &[u8]) + Send + Sync)) -> Result<Ended, ProcessError> {
    run_until(spec, heard, std::future::pending()).await
}

/// Runs a program to its end, or until it has said all: a program whose `said` has resolved is not waited for much
/// longer, and its time is not over any more.
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
                    // It had said all before its guard or its pipes failed.
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
    // What is left of one that has ended can't change what it gave, which must not be lost while that is waited for.
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

/// Ends a group, and reads what its programs write when they are asked to end.
async fn end_and_read(group: &mut Group, read: impl FusedFuture) {
    let end = group.end();
    tokio::pin!(end, read);
    tokio::select! {
        () = &mut end => {}
        // What it wrote can't matter any more: it was ended, or had ended.
        _ = &mut read, if !read.is_terminated() => end.await,
    }
}

/// Writes the input.
async fn feed(pipe: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let fed = pipe.write_all(input).await;
    let fed = if fed.is_ok() { pipe.shutdown().await } else { fed };
    // A program that does not read its input to the end is its own affair.
    fed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Waits for the program; what it left running may hold its pipes open only for a moment.
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
