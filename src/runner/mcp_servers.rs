//! The MCP servers of a session. They start when a step needs them, and end with the session.

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::folder::NoFollowFile;
use crate::network::Network;
use crate::process::{EndingGroups, SandboxContext, SupervisorSpec};
use crate::secret::Redactor;
use crate::tool::mcp::{McpContext, McpServers, StartLimits};

use super::Runner;

/// What servers share with the other programs of a run.
pub(crate) struct ServerParts {
    /// The parts of a sandbox that all programs share.
    pub(crate) sandbox: Arc<SandboxContext>,
    /// How to start the supervisor of a program.
    pub(crate) supervisor: SupervisorSpec,
    /// Removes secrets from what servers send.
    pub(crate) redactor: Arc<Redactor>,
    /// The file in which orch remembers the servers that do not say which protocol they speak; `None` for no such file.
    pub(crate) legacy_servers: Option<NoFollowFile>,
    /// Whether calls that may change something can answer the questions of servers of the old protocol.
    pub(crate) can_ask: bool,
}

/// Creates the servers of a session, none of which runs yet.
pub(crate) fn mcp_servers(parts: ServerParts, runner: &Runner) -> Arc<McpServers> {
    let ServerParts { sandbox, supervisor, redactor, legacy_servers, can_ask } = parts;
    let variables = runner.environment.variable_lookup();
    Arc::new(McpServers::new(McpContext {
        sandbox,
        variables: variables.clone(),
        supervisor,
        ending_process_groups: EndingGroups::new(Arc::new(SystemClock)),
        network: Arc::new(Network::from_variables(|name| variables(name))),
        redactor,
        legacy_servers,
        start_limits: StartLimits::default(),
        can_ask,
    }))
}
