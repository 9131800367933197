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
/// tells where that is; of one that lies elsewhere (`--state`) the run itself knows.
pub(super) fn placed(run: &RunState, state: &State, root: &Path) -> Placed {
    let (old, workspace) = (PathBuf::from(&run.root), PathBuf::from(&run.workspace));
    let here = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let has = |root: &Path| root.join(&run.file).is_file();
    let known = !run.root.is_empty();
    if old == here || (state.state.is_some() && known && has(&old)) || (!has(&here) && has(&old)) {
        return Placed { root: old, workspace, moved: false };
    }
    let moved = if known { inside(&workspace, &old, &here) } else { None };
    Placed { root: here, workspace: moved.unwrap_or(workspace), moved: known }
}
