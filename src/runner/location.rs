//! Finds the current location of a run's project and workspace, since the user may have moved or copied the project.

use std::path::{Component, Path, PathBuf};

use crate::config;
use crate::model::{RunId, RunState};
use crate::store::{Journal, StoreError, relocate_path};

use super::error::RunnerError;
use super::execute::workspace_path as requested_workspace;
use super::project_state::StateFolder;

/// The current location of a run's files.
pub(crate) struct Location {
    /// The project's root.
    pub(crate) root: PathBuf,
    /// The workspace.
    pub(crate) workspace: PathBuf,
    /// Whether the project's root differs from the root in the run's last session.
    pub(crate) has_moved: bool,
}

/// The workspace of the run: the folder that the user requests, or the recorded folder. If the record of the run came
/// from another machine or folder, orch does not use the recorded workspace, because the record may name any folder.
pub(crate) fn run_workspace(
    journal: &Journal,
    run: RunId,
    requested: Option<&PathBuf>,
    Location { root, workspace: recorded, .. }: &Location,
    current_dir: &Path,
) -> Result<PathBuf, RunnerError> {
    if requested.is_some() {
        return Ok(requested_workspace(requested, current_dir));
    }
    let reason = if let Some(reason) = journal.unknown_origin_reason() {
        format!("{reason}, so orch does not use the recorded workspace of run {run}")
    } else if journal.is_foreign(run)? {
        format!("the record of run {run} came from elsewhere, so orch does not use its workspace")
    } else if leads_outside(root, recorded) {
        format!("the workspace of run {run} is reached by a link that leads out of the project")
    } else {
        return Ok(recorded.clone());
    };
    Err(RunnerError::usage(reason)
        .with_hint(format!("name a workspace with --workspace; it was `{}`", recorded.display())))
}

/// Whether a path inside `root` leads out of it through a link.
fn leads_outside(root: &Path, path: &Path) -> bool {
    path.starts_with(root) && config::is_outside_folder(root, path)
}

/// Finds the location of a run's project and workspace. `root` is the project of the current folder. A run in the
/// journal of a project belongs to that project. With `--state`, several projects may share a journal, so the record of
/// the run determines its project.
pub(crate) fn locate(
    journal: &Journal,
    run: &RunState,
    state: &StateFolder,
    root: &Path,
) -> Result<Location, StoreError> {
    let is_foreign = journal.is_foreign(run.run)?;
    Ok(resolve_location(run, state, root, is_foreign))
}

/// The pipeline file of a run. A record from another machine or folder may name any file, even a file of another
/// project that the user trusts, so orch accepts only a file inside this project.
pub(crate) fn pipeline_file(journal: &Journal, run: &RunState, root: &Path) -> Result<PathBuf, RunnerError> {
    let path = root.join(&run.file);
    let has_only_normal_components =
        Path::new(&run.file).components().all(|component| matches!(component, Component::Normal(_)));
    if !journal.is_foreign(run.run)? || (has_only_normal_components && !config::is_outside_folder(root, &path)) {
        return Ok(path);
    }
    let error = format!(
        "the record of run {} came from elsewhere, and its pipeline `{}` is not in this project",
        run.run, run.file
    );
    Err(RunnerError::usage(error).with_hint("start a new run of the pipeline"))
}

/// Determines the location of a run. If the record of the run came from another machine or folder (`is_foreign`), the
/// run always belongs to the current project.
fn resolve_location(run: &RunState, state: &StateFolder, root: &Path, is_foreign: bool) -> Location {
    let (old_root, workspace) = (PathBuf::from(&run.root), PathBuf::from(&run.workspace));
    let current_root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let has_old_root = !run.root.is_empty();
    let relocated_workspace =
        |root: &Path| if has_old_root { relocate_path(&workspace, &old_root, root) } else { None };
    if is_foreign {
        let workspace = relocated_workspace(&current_root).unwrap_or_else(|| workspace.clone());
        return Location { workspace, has_moved: old_root != current_root, root: current_root };
    }
    let has_pipeline = |root: &Path| root.join(&run.file).is_file();
    let state_folder = state.path_for(root).canonicalize().ok();
    // A copied project has a journal of its own. So if this journal is in the old root, the project has not moved.
    let is_journal_of_old_root = state.is_explicit()
        || (state_folder.is_some() && state.path_for(&old_root).canonicalize().ok() == state_folder);
    let journal_root =
        state_folder.as_deref().and_then(Path::parent).filter(|root| !state.is_explicit() && has_pipeline(root));
    let new_root = journal_root.map_or(current_root, Path::to_owned);
    if old_root == new_root
        || (is_journal_of_old_root && has_old_root && has_pipeline(&old_root))
        || (!has_pipeline(&new_root) && has_pipeline(&old_root))
    {
        return Location { root: old_root, workspace, has_moved: false };
    }
    let workspace = relocated_workspace(&new_root).unwrap_or_else(|| workspace.clone());
    Location { root: new_root, workspace, has_moved: has_old_root }
}
