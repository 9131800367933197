//! The sandboxes of a run: whether this machine can enforce them, and what they have in common.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{Plan, PlannedSandbox};
use crate::process::SandboxHost;

use super::Runner;
use super::error::SessionError;

impl Runner {
    /// Checks that this machine can enforce the sandbox of every step, before any step runs. A run whose last step can't
    /// start would cost as much as one that completes.
    ///
    /// # Errors
    /// It can't; the error names the step, the reason and what the user can do.
    pub(crate) async fn ensure_sandboxes(&self, plan: &Plan, replays_agents: bool) -> Result<(), SessionError> {
        for PlannedSandbox { step, sandbox, needs_hosts } in plan.sandboxes(replays_agents) {
            let machine = self.sandbox_probe.machine().await?;
            machine.check(sandbox, needs_hosts).map_err(|failure| {
                let error = SessionError::usage(format!("step `{step}` can't be confined: {}", failure.message));
                failure.hint.into_iter().fold(error, |error, hint| error.with_hint(hint))
            })?;
        }
        Ok(())
    }

    /// What the sandboxes of the programs in a workspace have in common. `readable` are the folders that the programs
    /// read besides the workspace, such as that of the project.
    pub(crate) fn sandbox_host(
        &self,
        workspace: PathBuf,
        readable: Vec<PathBuf>,
        project_files: Vec<String>,
    ) -> Arc<SandboxHost> {
        let variables = self.environment.variable_lookup();
        Arc::new(SandboxHost {
            probe: self.sandbox_probe.clone(),
            workspace,
            home: variables("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            configuration: self.environment.config_dir().map(ToOwned::to_owned),
            readable,
            project_files,
        })
    }
}
