//! Checks that this machine can enforce the sandboxes of a run, and creates what all of them share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::Replay;
use crate::engine::{Plan, PlannedSandbox};
use crate::model::StepKey;
use crate::model::effect::CallKind;
use crate::process::SandboxContext;

use super::Runner;
use super::error::RunnerError;
use super::project_files::resolve_links;

impl Runner {
    /// Checks that this machine can enforce the sandbox of every step, and that orch can use its paths. The caller does
    /// this before any step runs, because earlier steps would cost money for nothing if a later step can't start. Steps
    /// whose programs `replay` replaces need no sandbox.
    ///
    /// # Errors
    /// This machine can't enforce a sandbox, or orch can't use a path of its settings. The error has the step, the
    /// reason and what the user can do.
    pub(crate) async fn ensure_sandboxes(
        &self,
        plan: &Plan,
        replay: Option<&Replay>,
        workspace: &Path,
    ) -> Result<(), RunnerError> {
        let is_replayed = |step: &StepKey, kind: CallKind| {
            replay.is_some_and(|replay| kind != CallKind::Command || replay.replays_command(step))
        };
        // The workspace may not exist yet.
        let workspace = resolve_links(workspace).unwrap_or_else(|| workspace.to_owned());
        let context = self.sandbox_host(workspace, None, Vec::new(), None);
        let sandboxes = plan.sandboxes(&is_replayed);
        for PlannedSandbox { step, sandbox, needs_hosts } in sandboxes {
            let machine = self.sandbox_probe.machine().await?;
            let checked = machine.check(sandbox, needs_hosts);
            checked.and_then(|()| context.check_paths(sandbox, machine.level())).map_err(|failure| {
                let error = RunnerError::usage(format!("step `{step}` can't be confined: {}", failure.message));
                failure.hint.into_iter().fold(error, RunnerError::with_hint)
            })?;
        }
        Ok(())
    }

    /// Creates the parts of a sandbox that all programs in a workspace share. The programs may read `project_root`, the
    /// folder of the project. `project_paths` contains the files and folders of the project that no program may change.
    /// `state_folder` is the folder with the journal.
    pub(crate) fn sandbox_host(
        &self,
        workspace: PathBuf,
        project_root: Option<PathBuf>,
        project_paths: Vec<PathBuf>,
        state_folder: Option<PathBuf>,
    ) -> Arc<SandboxContext> {
        let variables = self.environment.variable_lookup();
        Arc::new(SandboxContext {
            probe: self.sandbox_probe.clone(),
            workspace,
            home: variables("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            configuration: self.environment.config_dir().map(ToOwned::to_owned),
            project_root,
            project_paths,
            state_folder,
        })
    }
}
