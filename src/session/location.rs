//! Where a run's project and workspace are now: the project may have been moved or copied since.

use std::path::{Component, Path, PathBuf};

use crate::config;
use crate::model::{RunId, RunState};
use crate::store::{Journal, StoreError, inside};

use super::error::SessionError;
use super::execute::workspace as named_workspace;
use super::project_state::StateFolder;

/// Where a run's files are.
pub(crate) struct Location {
    /// The project's root.
    pub(crate) root: PathBuf,
    /// The workspace.
    pub(crate) workspace: PathBuf,
    /// Whether the project is in another folder than in the run's last session.
    pub(crate) moved: bool,
}

/// The workspace of a run that is about to be written: the one that the user names, or the recorded one. The record of
/// a run from elsewhere is not trusted, since it may name any folder.
pub(crate) fn run_workspace(
    journal: &Journal,
    run: RunId,
    named: Option<&PathBuf>,
    Location { root, workspace: recorded, .. }: &Location,
    here: &Path,
) -> Result<PathBuf, SessionError> {
    if named.is_some() {
        return Ok(named_workspace(named, here));
    }
    let why = if let Some(why) = journal.why_all_foreign() {
        format!("{why}, so the workspace of run {run} is not taken from its record")
    } else if journal.is_foreign(run)? {
        format!("the record of run {run} came from elsewhere, so its workspace is not taken from it")
    } else if leads_out(root, recorded) {
        format!("the workspace of run {run} is reached by a link that leads out of the project")
    } else {
        return Ok(recorded.clone());
    };
    Err(SessionError::usage(why).hint(format!("name a workspace with --workspace; it was `{}`", recorded.display())))
}

/// Whether a path below a root leads outside of it, with links resolved.
fn leads_out(root: &Path, path: &Path) -> bool {
    path.starts_with(root) && config::escapes(root, path)
}

/// Where the project and the workspace of a run are; `root` is the project of the current folder. A journal inside a
/// project shows where the project is. A journal elsewhere (`--state`) may be shared by several projects, so the run's
/// record decides.
pub(crate) fn locate(
    journal: &Journal,
    run: &RunState,
    state: &StateFolder,
    root: &Path,
) -> Result<Location, StoreError> {
    let foreign = journal.is_foreign(run.run)?;
    Ok(location(run, state, root, foreign))
}

/// The pipeline file of a run. The record of a run from elsewhere may name any file, even one of a project that the
/// user trusts with keys, so only files inside this project are accepted.
pub(crate) fn pipeline_file(journal: &Journal, run: &RunState, root: &Path) -> Result<PathBuf, SessionError> {
    let path = root.join(&run.file);
    let plain = Path::new(&run.file).components().all(|part| matches!(part, Component::Normal(_)));
    if !journal.is_foreign(run.run)? || (plain && !config::escapes(root, &path)) {
        return Ok(path);
    }
    let why = format!("the record of run {} came from elsewhere, and its pipeline `{}`", run.run, run.file);
    Err(SessionError::usage(format!("{why} is not in this project")).hint("run the pipeline that you mean again"))
}

/// The location of a run. A run from elsewhere belongs to the current project, whatever its record says.
fn location(run: &RunState, state: &StateFolder, root: &Path, foreign: bool) -> Location {
    let (old, workspace) = (PathBuf::from(&run.root), PathBuf::from(&run.workspace));
    let here = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let known = !run.root.is_empty();
    if foreign {
        let moved = if known { inside(&workspace, &old, &here) } else { None };
        return Location { workspace: moved.unwrap_or(workspace), moved: old != here, root: here };
    }
    let has = |root: &Path| root.join(&run.file).is_file();
    let lies = state.folder(root).canonicalize().ok();
    // A copied project has a journal of its own, so the project did not move if its old root has this journal.
    let stays = state.is_named() || (lies.is_some() && state.folder(&old).canonicalize().ok() == lies);
    let home = lies.as_deref().and_then(Path::parent).filter(|home| !state.is_named() && has(home));
    let here = home.map_or(here, Path::to_owned);
    let moved = if known { inside(&workspace, &old, &here) } else { None };
    if old == here || (stays && known && has(&old)) || (!has(&here) && has(&old)) {
        return Location { root: old, workspace, moved: false };
    }
    Location { root: here, workspace: moved.unwrap_or(workspace), moved: known }
}
