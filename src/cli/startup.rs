//! Creates the objects that most commands need: the current folder, a runner and the async runtime.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::runner::{Environment, Runner, RunnerError};

use super::output::Ui;

/// The current folder.
pub(super) fn current_dir() -> Result<PathBuf, RunnerError> {
    std::env::current_dir().map_err(|error| RunnerError::usage(format!("the current folder can't be read: {error}")))
}

/// Creates a runner that shows progress and asks questions on the terminal.
pub(super) fn runner(ui: &Ui) -> Result<Runner> {
    let runner = Runner::new(Environment::from_process()?);
    Ok(runner.with_reporter(Arc::new(ui.clone())).with_prompter(Arc::new(ui.clone())))
}

/// Creates the async runtime. One thread is enough, because a run mostly waits. Embedded models and listings of many
/// files use threads of their own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the async runtime can't be started")
}
