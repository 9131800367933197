//! What the MCP servers of a run need, and what a caller says about a call.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::folder::NoFollowFile;
use crate::model::{InputAnswers, InputQuestion, McpServerSpec};
use crate::network::Network;
use crate::process::{EndingGroups, SandboxContext, SupervisorSpec};
use crate::secret::Redactor;
use crate::tool::VariableLookup;

/// What the MCP servers of a run need.
#[derive(Clone)]
pub struct McpContext {
    /// The workspace, and the parts of a sandbox that all programs of the run share.
    pub sandbox: Arc<SandboxContext>,
    /// Looks up variables in the environment of this process.
    pub variables: VariableLookup,
    /// How to start the supervisor of a server, which ends all its processes.
    pub supervisor: SupervisorSpec,
    /// The clock of the run. Each server gets groups of its own.
    pub ending_process_groups: EndingGroups,
    /// The proxies and certificates for servers over HTTP.
    pub network: Arc<Network>,
    /// Removes secrets from what servers send.
    pub redactor: Arc<Redactor>,
    /// The file in which orch remembers the servers that do not say which protocol they speak; `None` for no such file.
    pub legacy_servers: Option<NoFollowFile>,
    /// How long servers may take to get ready.
    pub start_limits: StartLimits,
    /// Whether calls that may change something have an [`Answerer`]. If not, orch tells their servers of the old protocol
    /// that they can't ask.
    pub can_ask: bool,
}

/// How long servers may take to get ready.
#[derive(Clone, Copy, Debug)]
pub struct StartLimits {
    /// Until a server is ready, in all protocols and all starts of its program together.
    pub total: Duration,
    /// Until a program says whether it speaks the new protocol, before orch tries the old one.
    pub program_discovery: Duration,
    /// The same for a server over HTTP, including the old protocol if the server asks for it.
    pub http_discovery: Duration,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self {
            total: Duration::from_mins(1),
            program_discovery: Duration::from_secs(3),
            http_discovery: Duration::from_secs(10),
        }
    }
}

/// Answers a question of a server of the old protocol, which waits for the answer during the call: an object, `true` for
/// an address, or `null` if the user declines.
///
/// # Errors
/// There is no answer. The error is the reason.
pub type Answerer = Arc<dyn Fn(InputQuestion) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// A call of a tool.
#[derive(Clone, Copy)]
pub struct McpCall<'a> {
    /// The server.
    pub server: &'a McpServerSpec,
    /// The server's name for the tool.
    pub tool: &'a str,
    /// The arguments, which fit the schema of the tool: an object.
    pub arguments: &'a Value,
    /// The answers to the questions that the server asked when the same call was made before: one for each question.
    pub answers: Option<&'a InputAnswers>,
    /// Answers the questions of a server of the old protocol while the call is open; `None` if no person can. A call that
    /// only reads then ends with the question, so that the caller can make it again with the answer.
    pub answerer: Option<&'a Answerer>,
    /// The time limit. It does not include the start of the server.
    pub timeout: Duration,
    /// Receives the progress that the server reports, as short texts without known secrets.
    pub on_progress: &'a (dyn Fn(&str) + Send + Sync),
}
