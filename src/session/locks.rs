//! The locks of a run.

use crate::model::RunId;
use crate::store::{Journal, Lock, ProgramsLock, WorkspaceView};

use super::error::SessionError;

/// The locks of a run that is about to start or continue: those of the run and of its workspace.
pub(crate) struct RunLocks {
    /// The lock of the run.
    pub(crate) run: Lock,
    /// The lock of the workspace that the run's programs hold too. It is declared, and so released, before
    /// `_workspace`.
    pub(crate) programs: ProgramsLock,
    _workspace: Lock,
}

impl RunLocks {
    /// Takes the locks, or returns an error that names the owner. Waits for programs that a killed process left
    /// running.
    pub(crate) fn take(journal: &Journal, run: RunId, view: &WorkspaceView) -> Result<Self, SessionError> {
        let me = format!("process {} (run {run})", std::process::id());
        let run_lock = Lock::take(&journal.lock_file(run), &format!("run {run}"), &me)?.disposable();
        let what = format!("the workspace `{}`", view.name());
        let workspace = Lock::take(&view.lock_file(), &what, &me)?.obsolete();
        let programs = ProgramsLock::take(&view.programs_lock_file(), &what, &me)?;
        view.sweep()?;
        Ok(Self { run: run_lock, programs, _workspace: workspace })
    }
}
