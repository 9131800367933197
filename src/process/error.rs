//! The reasons why a program has no result.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::model::{Failure, FailureClass};

use super::hidden_program::HiddenProgram;

/// The reason why a program has no result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program does not exist.
    #[error("there is no program `{0}`")]
    NotFound(String),
    /// The program exists on this machine, and its sandbox hides it.
    #[error("there is no program `{program}` in its sandbox: {hidden}")]
    Hidden {
        /// The name of the program.
        program: String,
        /// What the sandbox hides.
        hidden: Box<HiddenProgram>,
    },
    /// The program could not be started.
    #[error("`{program}` can't be started: {source}")]
    Spawn {
        /// The name of the program.
        program: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The supervisor could not be started.
    #[error("the supervisor of `{program}`, which is orch itself (`{supervisor}`), can't be started: {source}")]
    Supervisor {
        /// The name of the program.
        program: String,
        /// The executable of orch.
        supervisor: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// orch could not confine the program, so the program did not start.
    #[error("`{program}` was not started, because orch could not confine it: {problem}")]
    NotConfined {
        /// The name of the program.
        program: String,
        /// The step of the confinement that failed, and the reason.
        problem: String,
        /// What the user can do.
        advice: Option<String>,
    },
    /// The program exceeded its time limit, so orch ended it and every process that it started.
    #[error("`{program}` took longer than {limit:?}")]
    Timeout {
        /// The name of the program.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The last lines of standard output.
        stdout: String,
        /// The last lines of standard error.
        stderr: String,
    },
    /// The program wrote too much, so orch ended it and every process that it started.
    #[error("`{program}` wrote more than {} MiB", max_bytes >> 20)]
    TooMuchOutput {
        /// The name of the program.
        program: String,
        /// The maximum number of bytes that the program may write to each output.
        max_bytes: u64,
    },
    /// The program's pipes or its supervisor failed.
    #[error("the connection to `{program}` failed: {source}")]
    Io {
        /// The name of the program.
        program: String,
        /// The error of the pipe or the supervisor.
        source: io::Error,
    },
}

/// What the user can do if the system could not start a program because too many files are open; `None` for other
/// errors.
pub(super) fn too_many_files_hint(error_number: i32) -> Option<&'static str> {
    if error_number == Errno::MFILE.raw_os_error() {
        return Some(
            "too many files are open in one process: raise `limits.open_files` of the sandbox, or the limit of your \
             shell with `ulimit -n`",
        );
    }
    (error_number == Errno::NFILE.raw_os_error()).then_some(
        "too many files are open on this machine: end other programs, or raise the limit with `sysctl fs.file-max`",
    )
}

impl ProcessError {
    /// What the user can do if the system could not start the program or its supervisor; `None` if the error does not
    /// show it.
    pub fn start_hint(&self) -> Option<&'static str> {
        match self {
            Self::Spawn { source, .. } | Self::Supervisor { source, .. } => too_many_files_hint(source.raw_os_error()?),
            Self::NotFound(_)
            | Self::Hidden { .. }
            | Self::NotConfined { .. }
            | Self::Timeout { .. }
            | Self::TooMuchOutput { .. }
            | Self::Io { .. } => None,
        }
    }

    /// The failure of a program that its sandbox hides; `None` for other errors. `allow` is the argument of
    /// [`HiddenProgram::hint`].
    pub fn hidden_failure(&self, allow: impl Fn(&str) -> String) -> Option<Failure> {
        let Self::Hidden { hidden, .. } = self else { return None };
        Some(Failure::new(FailureClass::NotInstalled, self.to_string()).with_hint(hidden.hint(allow)))
    }

    /// The failure of a program that orch could not confine; `None` for other errors.
    pub fn not_confined_failure(&self) -> Option<Failure> {
        let Self::NotConfined { advice, .. } = self else { return None };
        let hint = advice.as_deref().unwrap_or("`orch doctor` shows which level of sandboxes works on this machine");
        Some(Failure::new(FailureClass::NotConfined, self.to_string()).with_hint(hint))
    }
}
