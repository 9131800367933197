//! Child processes: a group of their own, a time limit, capped output.
//!
//! Promises that nothing that a child started in its group outlives the call: not after its
//! end, its time-out, when the call is given up, or when this process is killed. The environment is given whole by the
//! caller; nothing is inherited. Refuses to know what a program is for.

mod capture;
mod talk;

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;

use capture::capture;
pub use capture::{Captured, Stream};
pub use talk::{Pipes, Talked, talk};

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
    /// How much it may write to each output, in bytes: with more it is ended; any amount when absent.
    pub most: Option<u64>,
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
    /// It wrote more than it may, and was ended with its whole group.
    #[error("`{program}` wrote more than {} MiB", most >> 20)]
    TooMuch {
        /// The program.
        program: String,
        /// How much it may write to each output, in bytes.
        most: u64,
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
    let mut child = Group::start(spec, &program)?;
    let (stdin, stdout, stderr) =
        (child.child.stdin().take(), child.child.stdout().take(), child.child.stderr().take());
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
    let most = spec.most.unwrap_or(u64::MAX);
    let status = {
        let read = async {
            tokio::try_join!(
                capture(stdout, Stream::Out, &mut out, most, heard),
                capture(stderr, Stream::Err, &mut err, most, heard)
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
        Some(Err(source)) if source.kind() == io::ErrorKind::FileTooLarge => {
            Err(ProcessError::TooMuch { program, most })
        }
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

/// Ends a group when this process is gone, however it went: its pipe to the guard closes then.
#[cfg(unix)]
fn guard(leader: Option<u32>) -> io::Result<Option<Child>> {
    let Some(leader) = leader else { return Ok(None) };
    let script = "read -r _; kill -s KILL -- \"-$1\"";
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", script, "sh", &leader.to_string()]).env_clear().process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Some)
}

#[cfg(not(unix))]
fn guard(_: Option<u32>) -> io::Result<Option<Child>> {
    Ok(None)
}

fn code(status: ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap_or(-1)
}

/// A process group that ends with its owner.
struct Group {
    child: Box<dyn ChildWrapper>,
    guard: Option<Child>,
}

impl Group {
    fn start(spec: &Spec, program: &str) -> Result<Self, ProcessError> {
        let child = spawn(spec, program)?;
        let mut group = Self { child, guard: None };
        group.guard =
            guard(group.child.id()).map_err(|source| ProcessError::Spawn { program: "/bin/sh".to_owned(), source })?;
        Ok(group)
    }

    /// Waits for the program itself, not for the rest of its group.
    async fn leader(&mut self) -> io::Result<ExitStatus> {
        self.child.inner_mut().wait().await
    }

    /// Ends everything that is left of the group: politely first, if the program itself still runs.
    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The group may be gone by now, which is what is wanted.
            let mut left = PATIENCE;
            let asked = self.child.signal(TERM).is_ok();
            while asked && !left.is_zero() && matches!(self.child.try_wait(), Ok(None)) {
                let pause = Duration::from_millis(5);
                std::thread::sleep(pause);
                left = left.saturating_sub(pause);
            }
        }
        drop(self.child.start_kill());
        self.guard = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
