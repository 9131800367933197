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
pub(super) mod written;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::config;
use crate::diagnostic::Diagnostic;
use crate::store::{Journal, RunRow};

use super::error::{CliError, Code};
use super::ui::Ui;
use super::{State, answer, track};

/// List past runs, show what they did, take it back, keep or delete it
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List runs, the latest first
    List(list::Args),
    /// Show a run: its steps, what they used and where their artifacts are
    Show(show::Args),
    /// Print what was recorded of a run, one event a line
    Events(events::Args),
    /// Print an artifact as it was recorded
    Artifact(artifact::Args),
    /// Show what a run changed in the workspace, or how two runs differ
    Diff(diff::Args),
    /// Take back what a run's `write:` steps changed in the workspace
    Revert(revert::Args),
    /// Say yes to what a run asks
    Approve(answer::Args),
    /// Say no to what a run asks
    Reject(answer::Args),
    /// Deliver runs to the trackers of orch.yaml
    Track(track::Args),
    /// Write a run into one JSON file
    Export(export::Args),
    /// Read a run from a file that `orch runs export` wrote
    Import(import::Args),
    /// Delete what was recorded of runs
    Delete(delete::Args),
    /// Delete old runs, and what no run uses any more
    Gc(gc::Args),
}

pub(super) fn run(command: &Runs, ui: &mut Ui) -> Result<Code, CliError> {
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

/// The root of the project that the current folder belongs to.
pub(super) fn root(here: &Path) -> PathBuf {
    // A folder that can't be reached is one all the same: whoever looks into it says why it can't be.
    let has_pipelines = |folder: &Path| match std::fs::metadata(folder.join("pipelines")) {
        Ok(about) => about.is_dir(),
        Err(_) => folder.join("pipelines").is_symlink(),
    };
    let marked = here.ancestors().find(|folder| folder.join("orch.yaml").is_file() || has_pipelines(folder));
    marked.map_or_else(|| config::find_root(&here.join("pipeline.yaml")), Path::to_owned)
}

/// The pipeline files of a root, absolute, and what of `pipelines/` was not looked at.
pub(super) fn pipelines(root: &Path, here: &Path) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let found = config::look_for_pipelines(&super::session::given(root, here));
    (found.names.iter().map(|name| root.join(name)).collect(), found.into_problems())
}

/// The journal of a project, which must be there.
pub(super) fn journal(state: &State, root: &Path) -> Result<Journal, CliError> {
    let folder = state.folder(root);
    Journal::open_existing(&folder)?.ok_or_else(|| {
        CliError::could_not(format!("there are no runs in `{}`", folder.display()))
            .hint("go to the project's folder, or give its journal with --state")
    })
}

/// The one run of a name.
pub(super) fn find(journal: &Journal, name: &str) -> Result<RunRow, CliError> {
    let mut rows = journal.find(name)?;
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(CliError::could_not(format!("there is no run `{name}`")).hint("`orch runs list` shows past runs")),
        _ => {
            let names: Vec<String> = rows.iter().map(|row| row.run.to_string()).collect();
            Err(CliError::could_not(format!("`{name}` may be {}", names.join(" or "))).hint("give more of the id"))
        }
    }
}

/// The run of a name, or the latest one.
fn pick(journal: &Journal, name: Option<&str>) -> Result<RunRow, CliError> {
    match name {
        Some(name) => find(journal, name),
        None => journal.runs(1)?.into_iter().next().ok_or_else(|| CliError::could_not("there are no runs yet")),
    }
}
