//! `orch tools`: looks at tools and tries them, without a run.

mod call;
mod list;
mod progress;
mod show;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::args::{StateArgs, TrustArgs};
use crate::cli::interrupt::wait_for_signal;
use crate::cli::output::Ui;
use crate::runner::tools::{ProjectTools, ToolsRequest};
use crate::runner::{ExitStatus, Runner, RunnerError};

/// List, show and call tools of orch and of MCP servers
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ToolsCommand {
    List(list::ToolsListArgs),
    Show(show::ToolsShowArgs),
    Call(call::ToolsCallArgs),
}

/// The options of all commands that may start an MCP server.
#[derive(Clone, Debug, clap::Args)]
struct ToolServerArgs {
    /// The workspace of the tools [default: `workspace` in the current folder, as for a run]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

impl ToolServerArgs {
    /// Opens the tools of the project of the current folder.
    fn open(&self, runner: &Runner) -> Result<ProjectTools, RunnerError> {
        self.open_with_answer(runner, None)
    }

    /// Like [`ToolServerArgs::open`], with an answer to the questions of servers.
    fn open_with_answer(&self, runner: &Runner, answer: Option<String>) -> Result<ProjectTools, RunnerError> {
        let (root, settings) = runner.project_settings()?;
        let request = ToolsRequest {
            workspace: self.workspace.clone(),
            state: self.state.state_folder(),
            trusted_digest: self.trust.digest(),
            answer,
        };
        runner.open_tools(&root, settings, &request)
    }
}

/// Waits for work that a signal may end.
async fn until_signal<T>(work: impl Future<Output = Result<T, RunnerError>>) -> Result<T, RunnerError> {
    tokio::select! {
        biased;
        result = work => result,
        () = wait_for_signal() => Err(interrupted()),
    }
}

/// The error after a signal.
fn interrupted() -> RunnerError {
    RunnerError::usage("the command was stopped").with_status(ExitStatus::Interrupted)
}

pub(in crate::cli) fn dispatch(command: &ToolsCommand, ui: &Ui) -> Result<ExitStatus> {
    match command {
        ToolsCommand::List(args) => list::run(args, ui),
        ToolsCommand::Show(args) => show::run(args, ui),
        ToolsCommand::Call(args) => call::run(args, ui),
    }
}
