//! The locks of a run.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::model::RunId;
use crate::process::{remove_leftover_placeholders, remove_leftover_settings};
use crate::store::{Journal, Lock, ProgramsLock, Workspace};

use super::error::RunnerError;
use super::project_files::settings_paths;

/// The locks of a run and of its workspace. A process holds them while it executes the run.
pub(crate) struct RunLocks {
    /// The lock of the run, which also stores the owner's heartbeat.
    pub(crate) run: Lock,
    /// A lock of the workspace that the run's programs also hold. Rust drops fields in order, so this process releases
    /// it before `_workspace`.
    pub(crate) programs: ProgramsLock,
    _workspace: Lock,
    /// When this process acquired the lock of the run.
    pub(crate) acquired_at: Timestamp,
}

impl RunLocks {
    /// Acquires the locks, and waits for programs that a killed process left running. If another process holds a lock,
    /// returns an error that names this process.
    pub(crate) fn acquire(journal: &Journal, run: RunId, workspace: &Workspace) -> Result<Self, RunnerError> {
        let owner = format!("process {} (run {run})", std::process::id());
        let run_lock = Lock::acquire(&journal.lock_file(run), &format!("run {run}"), &owner)?.removed_on_drop();
        let acquired_at = Timestamp::now();
        let WorkspaceLocks { programs, _workspace: workspace_lock } = WorkspaceLocks::acquire(workspace, &owner)?;
        Ok(Self { run: run_lock, programs, _workspace: workspace_lock, acquired_at })
    }
}

/// The locks of a workspace without a run.
pub(crate) struct WorkspaceLocks {
    /// A lock of the workspace that programs also hold. It is released before `_workspace`.
    pub(crate) programs: ProgramsLock,
    _workspace: Lock,
}

impl WorkspaceLocks {
    /// Acquires the locks, and waits for programs that a killed process left running. `owner` describes this process in
    /// the messages of others. If another process holds a lock, returns an error that names that process.
    pub(crate) fn acquire(workspace: &Workspace, owner: &str) -> Result<Self, RunnerError> {
        let description = format!("the workspace `{}`", workspace.path_in_journal());
        let workspace_lock = Lock::acquire(&workspace.lock_file(), &description, owner)?.ignoring_former_owner();
        let programs = ProgramsLock::acquire(&workspace.programs_lock_file(), &description, owner)?;
        workspace.remove_temporary_files()?;
        remove_leftover_placeholders(workspace.folder());
        Ok(Self { programs, _workspace: workspace_lock })
    }
}

/// Removes the placeholders for a missing `orch.yaml` that a killed process left in a project, also outside of the
/// workspace: in the root and in the folders of `files` and of all pipelines. The caller holds the locks of a run in
/// `workspace`. `root` and `files` are absolute, with links resolved.
///
/// Removes none while the programs of another run may still use the root as their workspace.
pub(crate) fn remove_project_placeholders(
    workspace: &Workspace,
    root: &Path,
    files: &[PathBuf],
) -> Result<(), RunnerError> {
    // The programs of a killed process run a little longer than the process, and the locks on their placeholders end
    // with the process.
    let is_used = match Workspace::open_existing(root)? {
        Some(other) if other.folder() != workspace.folder() => Lock::is_held(&other.programs_lock_file()),
        Some(_) | None => false,
    };
    if !is_used {
        remove_leftover_settings(root, settings_paths(root, files));
    }
    Ok(())
}
