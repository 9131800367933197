//! Why a command failed, with the exit code and what to do.

use std::path::Path;
use std::process::ExitCode;

use crate::diagnostic::Diagnostic;
use crate::model::Failure;
use crate::store::{LockError, StoreError};

/// The program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Everything went well.
    Ok = 0,
    /// The pipeline failed; for `extract`, no value was found.
    Failed = 1,
    /// It could not run as written.
    Usage = 2,
    /// It waits for a person.
    Waiting = 3,
    /// A budget or a limit was reached.
    Limit = 4,
    /// A defect of orch.
    Internal = 5,
    /// A person stopped it.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// A command that failed.
#[derive(Debug)]
pub(super) struct CliError {
    /// The exit code.
    pub(super) code: Code,
    /// What is wrong, lower case; empty when findings tell.
    pub(super) message: String,
    /// More lines of what is wrong.
    pub(super) lines: Vec<String>,
    /// What to do.
    pub(super) hints: Vec<String>,
    /// Findings in the user's files.
    pub(super) findings: Vec<Diagnostic>,
    broken_pipe: bool,
}

impl CliError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            lines: Vec::new(),
            hints: Vec::new(),
            findings: Vec::new(),
            broken_pipe: false,
        }
    }

    /// It could not run as written: exit code 2.
    pub(super) fn could_not(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file that the command line names and that can't be read: exit code 2.
    pub(super) fn unread(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let name = path.display();
        Self::could_not(match error.kind() {
            Kind::NotFound => format!("there is no file `{name}`"),
            Kind::PermissionDenied => format!("no permission to read `{name}`"),
            Kind::IsADirectory => format!("`{name}` is a folder, not a file"),
            Kind::InvalidData => format!("`{name}` is not UTF-8 text"),
            _ => format!("`{name}` can't be read: {error}"),
        })
    }

    /// A defect of orch: exit code 5.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The user's files have findings: exit code 2.
    pub(super) fn findings(findings: Vec<Diagnostic>) -> Self {
        Self { findings, ..Self::new(Code::Usage, "") }
    }

    /// The same with a hint.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with more lines of what is wrong.
    #[must_use]
    pub(super) fn listing(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(super) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    pub(super) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let mut lines = failure.message.lines();
        let error = Self::could_not(lines.next().unwrap_or_default()).listing(lines.map(str::to_owned));
        match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        error.failure().into()
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::could_not(error.to_string()).hint("wait for it to end, or stop it"),
            LockError::ProgramsLeft { .. } => Self::could_not(error.to_string())
                .hint("their guard, a process named `orch __guard`, can't end them; end them yourself, then try again"),
            LockError::Store(error) => error.into(),
        }
    }
}

impl From<Vec<Diagnostic>> for CliError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::findings(findings)
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        let broken_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::could_not(format!("the output can't be written: {error}")) }
    }
}
