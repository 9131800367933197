//! Where a run's project and workspace are now: the project may have been moved or copied since.

use std::path::{Component, Path, PathBuf};

use crate::config;
use crate::model::{RunId, RunState};
use crate::store::{Journal, StoreError, inside};

use super::error::CliError;
use super::{State, session};

/// Where a run's files are.
pub(super) struct Placed {
    /// The project's root.
    pub(super) root: PathBuf,
    /// The workspace.
    pub(super) workspace: PathBuf,
    /// Whether the project is elsewhere than when the run was last taken up.
    pub(super) moved: bool,
}

/// The workspace of a run whose files are about to be written: the one that the user names, else the recorded one. The
/// record of a run from elsewhere may name any folder.
pub(super) fn workspace(
    (journal, run): (&Journal, RunId),
    named: Option<&PathBuf>,
    Placed { root, workspace: recorded, .. }: &Placed,
    here: &Path,
) -> Result<PathBuf, CliError> {
    if named.is_some() {
        return Ok(session::workspace(named, here));
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
    Err(CliError::could_not(why).hint(format!("name a workspace with --workspace; it was `{}`", recorded.display())))
}

/// Whether a path below a root lies elsewhere, links resolved.
fn leads_out(root: &Path, path: &Path) -> bool {
    path.starts_with(root) && config::escapes(root, path)
}

/// Where the project of a run is whose journal lies in `state` of `root`. A journal that lies in its project
/// tells where that is; of one that lies elsewhere (`--state`), and that several projects may share, the run
/// itself knows.
pub(super) fn placed(journal: &Journal, run: &RunState, state: &State, root: &Path) -> Result<Placed, StoreError> {
    let foreign = journal.is_foreign(run.run)?;
    Ok(place(run, state, root, foreign))
}

/// The pipeline file of a run, in its project. The record of a run from elsewhere may name any file, also one of a
/// project that the user trusts with keys.
pub(super) fn file(journal: &Journal, run: &RunState, root: &Path) -> Result<PathBuf, CliError> {
    let path = root.join(&run.file);
    let plain = Path::new(&run.file).components().all(|part| matches!(part, Component::Normal(_)));
    if !journal.is_foreign(run.run)? || (plain && !config::escapes(root, &path)) {
        return Ok(path);
    }
    let why = format!("the record of run {} came from elsewhere, and its pipeline `{}`", run.run, run.file);
    Err(CliError::could_not(format!("{why} is not in this project")).hint("run the pipeline that you mean anew"))
}

/// The project of a run from elsewhere is this one, whatever it says.
fn place(run: &RunState, state: &State, root: &Path, foreign: bool) -> Placed {
    let (old, workspace) = (PathBuf::from(&run.root), PathBuf::from(&run.workspace));
    let here = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let known = !run.root.is_empty();
    if foreign {
        let moved = if known { inside(&workspace, &old, &here) } else { None };
        return Placed { workspace: moved.unwrap_or(workspace), moved: old != here, root: here };
    }
    let has = |root: &Path| root.join(&run.file).is_file();
    let lies = state.folder(root).canonicalize().ok();
    // A copy of the project has a journal of its own; whoever has this very one was not left.
    let stays = state.state.is_some() || (lies.is_some() && state.folder(&old).canonicalize().ok() == lies);
    let home = lies.as_deref().and_then(Path::parent).filter(|home| state.state.is_none() && has(home));
    let here = home.map_or(here, Path::to_owned);
    let moved = if known { inside(&workspace, &old, &here) } else { None };
    if old == here || (stays && known && has(&old)) || (!has(&here) && has(&old)) {
        return Placed { root: old, workspace, moved: false };
    }
    Placed { root: here, workspace: moved.unwrap_or(workspace), moved: known }
}
