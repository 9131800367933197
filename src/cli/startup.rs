//! What commands start with: the current folder, a runner and the async runtime.

use std::path::PathBuf;
use std::sync::Arc;

use crate::session::{Environment, Runner, SessionError};

use super::output::Ui;

/// The current folder.
pub(super) fn current_dir() -> Result<PathBuf, SessionError> {
    std::env::current_dir().map_err(|error| SessionError::usage(format!("the current folder can't be read: {error}")))
}

/// A runner that reports to this terminal and asks on it.
pub(super) fn runner(ui: &Ui) -> Result<Runner, SessionError> {
    let runner = Runner::new(Environment::from_process()?);
    Ok(runner.with_reporter(Arc::new(ui.clone())).with_prompter(Arc::new(ui.clone())))
}

/// The async runtime. One thread is enough because a run mostly waits; embedded models and listings of many files have
/// threads of their own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, SessionError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SessionError::internal(format!("the async runtime can't be started: {error}")))
}
