//! Checks that this machine can enforce the sandboxes of a run, and creates what all of them share.

use std::path::PathBuf;
use std::sync::Arc;

use crate::agent::Replay;
use crate::engine::{Plan, PlannedSandbox};
use crate::model::StepKey;
use crate::model::effect::CallKind;
use crate::process::SandboxContext;

use super::Runner;
use super::error::SessionError;

impl Runner {
    /// Checks that this machine can enforce the sandbox of every step. The caller does this before any step runs,
    /// because earlier steps would cost money for nothing if a later step can't start. A step whose program `replay`
    /// replaces needs no sandbox.
    ///
    /// # Errors
    /// This machine can't enforce a sandbox. The error has the step, the reason and what the user can do.
    pub(crate) async fn ensure_sandboxes(&self, plan: &Plan, replay: Option<&Replay>) -> Result<(), SessionError> {
        let is_replayed = |step: &StepKey, kind: CallKind| {
            replay.is_some_and(|replay| kind != CallKind::Command || replay.replays_command(step))
        };
        for PlannedSandbox { step, sandbox, needs_hosts } in plan.sandboxes(&is_replayed) {
            let machine = self.sandbox_probe.machine().await?;
            machine.check(sandbox, needs_hosts).map_err(|failure| {
                let error = SessionError::usage(format!("step `{step}` can't be confined: {}", failure.message));
                failure.hint.into_iter().fold(error, SessionError::with_hint)
            })?;
        }
        Ok(())
    }

    /// Creates the parts of a sandbox that all programs in a workspace share. `readable` contains the folders that the
    /// programs read in addition to the workspace, such as the project.
    pub(crate) fn sandbox_host(
        &self,
        workspace: PathBuf,
        readable: Vec<PathBuf>,
        project_files: Vec<String>,
    ) -> Arc<SandboxContext> {
        let variables = self.environment.variable_lookup();
        Arc::new(SandboxContext {
            probe: self.sandbox_probe.clone(),
            workspace,
            home: variables("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            configuration: self.environment.config_dir().map(ToOwned::to_owned),
            readable,
            project_files,
        })
    }
}
