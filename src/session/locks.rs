//! The locks of a run.

use crate::model::RunId;
use crate::process::remove_leftover_masks;
use crate::store::{Journal, Lock, ProgramsLock, Workspace};

use super::error::SessionError;

/// The locks of a run that is about to start or continue, and of its workspace.
pub(crate) struct RunLocks {
    /// The lock of the run.
    pub(crate) run: Lock,
    /// The lock of the workspace that the run's programs hold too. Rust drops it before `_workspace`, because of the
    /// order of the fields.
    pub(crate) programs: ProgramsLock,
    _workspace: Lock,
}

impl RunLocks {
    /// Acquires the locks, or returns an error that names the owner. Waits for programs that a killed process left
    /// running.
    pub(crate) fn acquire(journal: &Journal, run: RunId, workspace: &Workspace) -> Result<Self, SessionError> {
        let owner = format!("process {} (run {run})", std::process::id());
        let run_lock = Lock::acquire(&journal.lock_file(run), &format!("run {run}"), &owner)?.removed_on_drop();
        let workspace_description = format!("the workspace `{}`", workspace.path_in_journal());
        let workspace_lock = Lock::acquire(&workspace.lock_file(), &workspace_description, &owner)?.without_history();
        let programs = ProgramsLock::acquire(&workspace.programs_lock_file(), &workspace_description, &owner)?;
        workspace.remove_temporary_files()?;
        remove_leftover_masks(workspace.folder());
        Ok(Self { run: run_lock, programs, _workspace: workspace_lock })
    }
}
