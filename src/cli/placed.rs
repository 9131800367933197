//! Where a run's project and workspace are now: the project may have been moved or copied since.

use std::path::{Path, PathBuf};

use crate::model::RunState;
use crate::store::inside;

use super::State;

/// Where a run's files are.
pub(super) struct Placed {
    /// The project's root.
    pub(super) root: PathBuf,
    /// The workspace.
    pub(super) workspace: PathBuf,
    /// Whether the project is elsewhere than when the run was last taken up.
    pub(super) moved: bool,
}

/// Where the project of a run is whose journal lies in `state` of `root`. A journal that lies in its project
/// tells where that is; of one that lies elsewhere (`--state`), and that several projects may share, the run
/// itself knows.
pub(super) fn placed(run: &RunState, state: &State, root: &Path) -> Placed {
    let (old, workspace) = (PathBuf::from(&run.root), PathBuf::from(&run.workspace));
    let here = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let has = |root: &Path| root.join(&run.file).is_file();
    let known = !run.root.is_empty();
    let lies = state.folder(root).canonicalize().ok();
    // A copy of the project has a journal of its own; whoever has this very one was not left.
    let stays = state.state.is_some() || (lies.is_some() && state.folder(&old).canonicalize().ok() == lies);
    let home = lies.as_deref().and_then(Path::parent).filter(|home| state.state.is_none() && has(home));
    let here = home.map_or(here, Path::to_owned);
    if old == here || (stays && known && has(&old)) || (!has(&here) && has(&old)) {
        return Placed { root: old, workspace, moved: false };
    }
    let moved = if known { inside(&workspace, &old, &here) } else { None };
    Placed { root: here, workspace: moved.unwrap_or(workspace), moved: known }
}
