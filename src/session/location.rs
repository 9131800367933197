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
    /// Whether the project is elsewhere than when the run was last taken up.
    pub(crate) moved: bool,
}

/// The workspace of a run whose files are about to be written: the one that the user names, else the recorded one. The
/// record of a run from elsewhere may name any folder.
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

/// Whether a path below a root lies elsewhere, links resolved.
fn leads_out(root: &Path, path: &Path) -> bool {
    path.starts_with(root) && config::escapes(root, path)
}

/// Where the project of a run is whose journal lies in `state` of `root`. A journal that lies in its project
/// tells where that is; of one that lies elsewhere (`--state`), and that several projects may share, the run
/// itself knows.
pub(crate) fn locate(
    journal: &Journal,
    run: &RunState,
    state: &StateFolder,
    root: &Path,
) -> Result<Location, StoreError> {
    let foreign = journal.is_foreign(run.run)?;
    Ok(location(run, state, root, foreign))
}

/// The pipeline file of a run, in its project. The record of a run from elsewhere may name any file, also one of a
/// project that the user trusts with keys.
pub(crate) fn pipeline_file(journal: &Journal, run: &RunState, root: &Path) -> Result<PathBuf, SessionError> {
    let path = root.join(&run.file);
    let plain = Path::new(&run.file).components().all(|part| matches!(part, Component::Normal(_)));
    if !journal.is_foreign(run.run)? || (plain && !config::escapes(root, &path)) {
        return Ok(path);
    }
    let why = format!("the record of run {} came from elsewhere, and its pipeline `{}`", run.run, run.file);
    Err(SessionError::usage(format!("{why} is not in this project")).hint("run the pipeline that you mean again"))
}

/// The project of a run from elsewhere is this one, whatever it says.
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
    // A copy of the project has a journal of its own; whoever has this very one was not left.
    let stays = state.is_named() || (lies.is_some() && state.folder(&old).canonicalize().ok() == lies);
    let home = lies.as_deref().and_then(Path::parent).filter(|home| !state.is_named() && has(home));
    let here = home.map_or(here, Path::to_owned);
    let moved = if known { inside(&workspace, &old, &here) } else { None };
    if old == here || (stays && known && has(&old)) || (!has(&here) && has(&old)) {
        return Location { root: old, workspace, moved: false };
    }
    Location { root: here, workspace: moved.unwrap_or(workspace), moved: known }
}
