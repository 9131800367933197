//! Child processes: a group of their own, a time limit, capped output.
//!
//! Promises that nothing that a child started in its group outlives the call: not after its
//! end, its time-out, or when the call is given up. The environment is given whole by the
//! caller; nothing is inherited. Refuses to know what a program is for.

mod capture;

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::AsyncWriteExt as _;

use capture::capture;
pub use capture::{Captured, Stream};

/// How long a group has between the polite signal and the one that it can't refuse.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long output is still read after the program itself has ended: what it left running may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);
const TERM: i32 = 15;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Spec {
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
    /// How much of each output is kept, in bytes.
    pub cap: usize,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; 128 and the number of the signal that ended it, as shells say it.
    pub code: i32,
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
    /// It took too long, and was ended with its whole group.
    #[error("`{program}` took longer than {limit:?}")]
    Timeout {
        /// The program.
        program: String,
        /// How long it was given.
        limit: Duration,
        /// The end of what it wrote to standard error, else to standard output.
        last: String,
    },
    /// Its pipes failed.
    #[error("`{program}` can't be followed: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program to its end; `heard` is told of output as it comes.
///
/// # Errors
/// When it can't be started, takes too long, or its pipes fail. An exit code is no error.
pub async fn run(spec: &Spec, heard: &(dyn Fn(Stream, &[u8]) + Send + Sync)) -> Result<Ended, ProcessError> {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let mut child = Group(spawn(spec, &program)?);
    let (stdin, stdout, stderr) = (child.0.stdin().take(), child.0.stdout().take(), child.0.stderr().take());
    let input = spec.stdin.as_deref().unwrap_or_default();
    let feed = async move {
        if let Some(mut pipe) = stdin {
            // A program that does not read its input to the end is its own affair.
            let fed = pipe.write_all(input).await;
            if fed.is_ok() { pipe.shutdown().await } else { fed }.or_else(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error),
            })
        } else {
            Ok(())
        }
    };
    let (mut out, mut err) = (Captured::new(spec.cap), Captured::new(spec.cap));
    let status = {
        let read = async {
            tokio::try_join!(
                capture(stdout, Stream::Out, &mut out, heard),
                capture(stderr, Stream::Err, &mut err, heard)
            )
        };
        let work = follow(&mut child, feed, read);
        match spec.timeout {
            None => Some(work.await),
            Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        }
    };
    child.end();
    match status {
        Some(Ok(status)) => Ok(Ended { code: code(status), stdout: out, stderr: err }),
        Some(Err(source)) => Err(ProcessError::Io { program, source }),
        None => {
            let last = if err.bytes.is_empty() { out.tail() } else { err.tail() };
            Err(ProcessError::Timeout { program, limit: spec.timeout.unwrap_or_default(), last })
        }
    }
}

fn spawn(spec: &Spec, program: &str) -> Result<Box<dyn ChildWrapper>, ProcessError> {
    let mut command = CommandWrap::with_new(program, |command| {
        command.args(spec.argv.iter().skip(1)).current_dir(&spec.cwd).env_clear();
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        let stdin = if spec.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    command.wrap(KillOnDrop).wrap(ProcessGroup::leader());
    command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if spec.cwd.is_dir() => ProcessError::NotFound(program.to_owned()),
        _ => ProcessError::Spawn { program: program.to_owned(), source },
    })
}

/// Waits for the program; what it left running may hold its pipes open only for a moment.
async fn follow(
    child: &mut Group,
    feed: impl Future<Output = io::Result<()>>,
    read: impl Future<Output = io::Result<((), ())>>,
) -> io::Result<ExitStatus> {
    tokio::pin!(feed, read);
    let (mut fed, mut done) = (false, false);
    let status = loop {
        tokio::select! {
            result = &mut feed, if !fed => { result?; fed = true; }
            result = &mut read, if !done => { result?; done = true; }
            status = child.leader() => break status?,
        }
    };
    if !done {
        match tokio::time::timeout(DRAIN, &mut read).await {
            Ok(result) => drop(result?),
            Err(_) => child.end(),
        }
    }
    Ok(status)
}

fn code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap_or(-1)
}

/// A process group that ends with its owner.
struct Group(Box<dyn ChildWrapper>);

impl Group {
    /// Waits for the program itself, not for the rest of its group.
    async fn leader(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.inner_mut().try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends everything that is left of the group: politely first, if the program itself still runs.
    fn end(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // The group may be gone by now, which is what is wanted.
            let mut left = PATIENCE;
            let asked = self.0.signal(TERM).is_ok();
            while asked && !left.is_zero() && matches!(self.0.try_wait(), Ok(None)) {
                let pause = Duration::from_millis(5);
                std::thread::sleep(pause);
                left = left.saturating_sub(pause);
            }
        }
        drop(self.0.start_kill());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
