//! Converts the errors of commands to session errors.
//!
//! Commands return their errors as [`anyhow::Error`]. A function that finds a mistake in the user's request or files
//! returns a [`RunnerError`] with an exit code and hints. Callers add no context to a session error.

use std::io;

use crate::model::Failure;
use crate::runner::RunnerError;
use crate::store::{LockError, StoreError};

/// Converts the error of a command to a session error, which has an exit code and hints.
///
/// The session module converts the errors of lower modules, such as [`StoreError`]. Any other error is a bug in orch.
pub(super) fn to_runner_error(error: anyhow::Error) -> RunnerError {
    error
        .downcast::<RunnerError>()
        .or_else(|error| error.downcast::<StoreError>().map(RunnerError::from))
        .or_else(|error| error.downcast::<LockError>().map(RunnerError::from))
        .or_else(|error| error.downcast::<Failure>().map(RunnerError::from))
        .or_else(|error| {
            if is_output_error(&error) { error.downcast::<io::Error>().map(RunnerError::from) } else { Err(error) }
        })
        .unwrap_or_else(|error| RunnerError::internal(format!("{error:#}")))
}

/// Whether orch could not write its output: whether the error is an I/O error without context, or a broken pipe. All
/// other I/O errors have context that names the operation.
fn is_output_error(error: &anyhow::Error) -> bool {
    let has_no_context = error.chain().next().is_some_and(<dyn std::error::Error>::is::<io::Error>);
    let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    has_no_context || error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Error;

    use super::*;
    use crate::runner::ExitStatus;

    fn status_and_message(error: Error) -> (ExitStatus, String) {
        let error = to_runner_error(error);
        (error.status(), error.message().to_owned())
    }

    #[test]
    fn a_runner_error_keeps_its_exit_code_and_hints() {
        let error = RunnerError::usage("used up").with_status(ExitStatus::Limit).with_hint("raise it");
        let error = to_runner_error(error.into());
        assert_eq!((error.status(), error.message()), (ExitStatus::Limit, "used up"));
        assert_eq!(error.hints(), ["raise it".to_owned()]);
    }

    #[test]
    fn a_store_error_converts_as_in_the_runner() {
        let error = || StoreError::TooOld { path: "journal.db".into(), found: 1, known: 2 };
        let (expected, printed) = (RunnerError::from(error()), to_runner_error(error().into()));
        assert_eq!((printed.status(), printed.to_string()), (expected.status(), expected.to_string()));
        assert_eq!(printed.hints(), expected.hints());
        let printed = to_runner_error(LockError::Store(error()).into());
        assert_eq!((printed.status(), printed.to_string()), (expected.status(), expected.to_string()));
    }

    #[test]
    fn only_an_io_error_without_context_is_an_output_error() {
        let error = || io::Error::other("disk full");
        let output_message = "the output can't be written: disk full".to_owned();
        assert_eq!(status_and_message(error().into()), (ExitStatus::Usage, output_message));
        let with_context = Error::new(error()).context("the runtime can't be started");
        let runtime_message = "the runtime can't be started: disk full".to_owned();
        assert_eq!(status_and_message(with_context), (ExitStatus::Internal, runtime_message));
    }

    #[test]
    fn a_broken_pipe_is_an_output_error_even_with_context() {
        let error = || Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(to_runner_error(error()).is_broken_pipe());
        assert!(to_runner_error(error().context("the list can't be printed")).is_broken_pipe());
    }
}
