//! `orch runs`: past runs, what they did, and what one can do with what they recorded.

mod artifact;
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

use std::path::Path;

use clap::Subcommand;

use crate::store::{Journal, RunRow};

use crate::session::{ExitStatus, SessionError};

use super::ui::Ui;
use super::{State, answer, track};
pub(super) use crate::session::project_state::{find_run as find, pipeline_files as pipelines, project_root as root};

/// List past runs, show what they did, take it back, keep or delete it
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List runs, the latest first
    List(list::RunsListArgs),
    /// Show a run: its steps, what they used and where their artifacts are
    Show(show::RunsShowArgs),
    /// Print what was recorded of a run, one event a line
    Events(events::RunsEventsArgs),
    /// Print an artifact as it was recorded
    Artifact(artifact::RunsArtifactArgs),
    /// Show what a run changed in the workspace, or how two runs differ
    Diff(diff::RunsDiffArgs),
    /// Take back what a run's `write:` steps changed in the workspace
    Revert(revert::RunsRevertArgs),
    /// Say yes to what a run asks
    Approve(answer::AnswerArgs),
    /// Say no to what a run asks
    Reject(answer::AnswerArgs),
    /// Deliver runs to the trackers of orch.yaml
    Track(track::TrackArgs),
    /// Write a run into one JSON file
    Export(export::RunsExportArgs),
    /// Read a run from a file that `orch runs export` wrote
    Import(import::RunsImportArgs),
    /// Delete what was recorded of runs
    Delete(delete::RunsDeleteArgs),
    /// Delete old runs, and what no run uses any more
    Gc(gc::RunsGcArgs),
}

pub(super) fn run(command: &Runs, ui: &mut Ui) -> Result<ExitStatus, SessionError> {
    match command {
        Runs::List(args) => list::run(args, ui),
        Runs::Show(args) => show::run(args, ui),
        Runs::Events(args) => events::run(args, ui),
        Runs::Artifact(args) => artifact::run(args, ui),
        Runs::Diff(args) => diff::run(args, ui),
        Runs::Revert(args) => revert::run(args, ui),
        Runs::Approve(args) => answer::run(args, true, ui),
        Runs::Reject(args) => answer::run(args, false, ui),
        Runs::Track(args) => track::run(args, ui),
        Runs::Export(args) => export::run(args, ui),
        Runs::Import(args) => import::run(args, ui),
        Runs::Delete(args) => delete::run(args, ui),
        Runs::Gc(args) => gc::run(args, ui),
    }
}

/// The journal of a project, which must be there.
pub(super) fn journal(state: &State, root: &Path) -> Result<Journal, SessionError> {
    state.named().journal(root)
}

/// The run of a name, or the latest one.
fn pick(journal: &Journal, name: Option<&str>) -> Result<RunRow, SessionError> {
    match name {
        Some(name) => find(journal, name),
        None => journal.runs(1)?.into_iter().next().ok_or_else(|| SessionError::usage("there are no runs yet")),
    }
}
