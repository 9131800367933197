//! Errors of a session, with exit codes and hints.

use std::fmt;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::model::Failure;
use crate::store::{LockError, StoreError};

/// The exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The command succeeded.
    Success = 0,
    /// The pipeline failed; for `orch extract`: the text contains no matching value.
    Failed = 1,
    /// The command line or a file of the user has an error.
    Usage = 2,
    /// The run waits for the user.
    Waiting = 3,
    /// The run reached a budget or another limit.
    Limit = 4,
    /// A bug in orch.
    Internal = 5,
    /// The user stopped the command.
    Interrupted = 130,
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

/// An error with an exit code, hints, and findings in the user's files.
#[derive(Debug)]
pub struct RunnerError {
    status: ExitStatus,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    findings: Vec<Diagnostic>,
    broken_pipe: bool,
}

impl RunnerError {
    fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        let (details, hints, findings) = (Vec::new(), Vec::new(), Vec::new());
        Self { status, message: message.into(), details, hints, findings, broken_pipe: false }
    }

    /// Creates an error in the user's request or files (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// Creates the error for an unreadable file that the user named (exit code 2).
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let name = path.display();
        Self::usage(match error.kind() {
            Kind::NotFound => format!("there is no file `{name}`"),
            Kind::PermissionDenied => format!("no permission to read `{name}`"),
            Kind::IsADirectory => format!("`{name}` is a folder, not a file"),
            Kind::InvalidData => format!("`{name}` is not UTF-8 text"),
            _ => format!("`{name}` can't be read: {error}"),
        })
    }

    /// Creates the error for a bug in orch (exit code 5).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Internal, message)
    }

    /// Creates the error for findings in the user's files (exit code 2).
    pub fn with_findings(findings: Vec<Diagnostic>) -> Self {
        Self { findings, ..Self::new(ExitStatus::Usage, "") }
    }

    /// Adds a hint about what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Replaces the hints.
    #[must_use]
    pub fn with_hints(mut self, hints: Vec<String>) -> Self {
        self.hints = hints;
        self
    }

    /// Adds lines below the message.
    #[must_use]
    pub fn with_details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// Replaces the message.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Replaces the exit code.
    #[must_use]
    pub fn with_status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }

    /// The exit code.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The message, in lower case and without a full stop. Empty if the error consists of findings.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The lines below the message.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// Hints about what the user can do.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The findings in the user's files.
    pub fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// Whether the reader of standard output closed the pipe. orch does not report this as a failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }
}

impl fmt::Display for RunnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let findings = self.findings.iter().map(|finding| format!("{}: {}", finding.code, finding.message));
        let message = std::iter::once(self.message.clone()).filter(|message| !message.is_empty());
        let lines: Vec<String> = message.chain(self.details.iter().cloned()).chain(findings).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for RunnerError {}

impl From<Failure> for RunnerError {
    fn from(failure: Failure) -> Self {
        let mut lines = failure.message.lines();
        let error = Self::usage(lines.next().unwrap_or_default()).with_details(lines.map(str::to_owned));
        match failure.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<StoreError> for RunnerError {
    fn from(error: StoreError) -> Self {
        error.failure().into()
    }
}

impl From<LockError> for RunnerError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { ref holder, .. } => {
                let cancel = holder.run().map(|run| format!(" with `orch runs cancel {run}`")).unwrap_or_default();
                Self::usage(error.to_string()).with_hint(format!("wait for it to end, or stop it{cancel}"))
            }
            LockError::ProgramsStillRunning { .. } => Self::usage(error.to_string()).with_hint(
                "their supervisor, a process named `orch __supervise`, can't end them: end them yourself, then try again",
            ),
            LockError::Store(error) => error.into(),
        }
    }
}

impl From<Vec<Diagnostic>> for RunnerError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::with_findings(findings)
    }
}

impl From<std::io::Error> for RunnerError {
    fn from(error: std::io::Error) -> Self {
        let broken_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::usage(format!("the output can't be written: {error}")) }
    }
}
