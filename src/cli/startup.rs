//! What commands start with: the current folder, a runner and the async runtime.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::session::{Environment, Runner, SessionError};

use super::output::Ui;

/// The current folder.
pub(super) fn current_dir() -> Result<PathBuf, SessionError> {
    std::env::current_dir().map_err(|error| SessionError::usage(format!("the current folder can't be read: {error}")))
}

/// A runner that reports to this terminal and asks on it.
pub(super) fn runner(ui: &Ui) -> Result<Runner> {
    let runner = Runner::new(Environment::from_process()?);
    Ok(runner.with_reporter(Arc::new(ui.clone())).with_prompter(Arc::new(ui.clone())))
}

/// The async runtime. One thread is enough because a run mostly waits; embedded models and listings of many files have
/// threads of their own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the async runtime can't be started")
}
