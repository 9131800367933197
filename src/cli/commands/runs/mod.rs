//! `orch runs`: commands for past runs, and for runs that wait for an approval.

mod approval;
mod artifact;
mod budget;
mod cancel;
mod compare;
mod delete;
mod diff;
mod events;
mod export;
mod gc;
mod import;
mod list;
mod revert;
mod show;
mod track;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::args::StateArgs;
use crate::cli::output::Ui;
use crate::runner::project_state::find_run;
use crate::runner::{ExitStatus, RunnerError};
use crate::store::{Journal, RunRow};

/// Inspect, approve, stop, revert, export and delete runs
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RunsCommand {
    /// List runs, the latest first
    List(list::RunsListArgs),
    /// Show a run: its steps, their usage and their artifacts
    Show(show::RunsShowArgs),
    /// Print the recorded events of a run, one per line
    Events(events::RunsEventsArgs),
    /// Print an artifact as orch recorded it
    Artifact(artifact::RunsArtifactArgs),
    /// Show the file changes of a run, or the differences between two runs
    Diff(diff::RunsDiffArgs),
    /// Revert the file changes of a run
    Revert(revert::RunsRevertArgs),
    #[command(about = "Approve the waiting step of a run")]
    Approve(approval::AnswerArgs),
    #[command(about = "Reject the waiting step of a run")]
    Reject(approval::AnswerArgs),
    /// Stop a run that another process executes
    Cancel(cancel::RunsCancelArgs),
    /// Raise the budget of a run that is in progress or waits
    Budget(budget::RunsBudgetArgs),
    /// Deliver runs to the trackers of orch.yaml
    Track(track::TrackArgs),
    /// Export a run as one JSON file
    Export(export::RunsExportArgs),
    /// Import a run from a file of `orch runs export`
    Import(import::RunsImportArgs),
    /// Delete the records of runs
    Delete(delete::RunsDeleteArgs),
    /// Delete old runs and unused data
    Gc(gc::RunsGcArgs),
}

/// Runs a command of `orch runs`.
pub(in crate::cli) fn dispatch(command: &RunsCommand, ui: &mut Ui) -> Result<ExitStatus> {
    match command {
        RunsCommand::List(args) => list::run(args, ui),
        RunsCommand::Show(args) => show::run(args, ui),
        RunsCommand::Events(args) => events::run(args, ui),
        RunsCommand::Artifact(args) => artifact::run(args, ui),
        RunsCommand::Diff(args) => diff::run(args, ui),
        RunsCommand::Revert(args) => revert::run(args, ui),
        RunsCommand::Approve(args) => approval::run(args, true, ui),
        RunsCommand::Reject(args) => approval::run(args, false, ui),
        RunsCommand::Cancel(args) => cancel::run(args, ui),
        RunsCommand::Budget(args) => budget::run(args, ui),
        RunsCommand::Track(args) => track::run(args, ui),
        RunsCommand::Export(args) => export::run(args, ui),
        RunsCommand::Import(args) => import::run(args, ui),
        RunsCommand::Delete(args) => delete::run(args, ui),
        RunsCommand::Gc(args) => gc::run(args, ui),
    }
}

/// Opens the existing journal of a project.
fn open_journal(state: &StateArgs, root: &Path) -> Result<Journal, RunnerError> {
    state.state_folder().open_journal(root)
}

/// Finds a run by its ID, or by default the latest run.
fn find_run_or_latest(journal: &Journal, id: Option<&str>) -> Result<RunRow, RunnerError> {
    match id {
        Some(id) => find_run(journal, id),
        None => journal.runs(1)?.into_iter().next().ok_or_else(|| RunnerError::usage("there are no runs yet")),
    }
}
