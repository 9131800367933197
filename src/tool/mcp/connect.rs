//! Begins a connection with a server, in the protocol that the server speaks.
//!
//! There are two: the old one, in which a connection begins with `initialize`, and the new one, in which every request
//! stands for itself. orch asks for the new one first.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::ProtocolVersion;
use rmcp::service::{ClientInitializeError, RunningService};
use rmcp::transport::{Transport, TransportAdapterIdentity};
use rmcp::{ClientLifecycleMode, RoleClient, serve_client_with_lifecycle};
use tokio::time::{Instant, timeout_at};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use crate::model::{Failure, FailureClass, McpServerSpec, McpTransport};
use crate::offload::run_on_thread;

use super::McpContext;
use super::connection::{Connection, ServerEnd};
use super::failures::{handshake_failure, is_final, start_failure, too_large_failure, version_failure, with_exit};
use super::handler::Handler;
use super::http;
use super::legacy::LegacyServers;
use super::probe::{Discovery, ProbedTransport};
use super::redacted::RedactedTransport;
use super::stdio::{ServerCommand, ServerProcesses, ServerProgram};
use super::waiting_answers::{AnswerLimitTransport, WaitingAnswers};

/// The versions of the new protocol that orch speaks.
const NEW_VERSIONS: [ProtocolVersion; 1] = [ProtocolVersion::V_2026_07_28];
/// The version of the old protocol that orch asks for.
const OLD_VERSION: ProtocolVersion = ProtocolVersion::V_2025_11_25;
/// The older versions with which a server may answer.
const OLDER_VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_03_26, ProtocolVersion::V_2024_11_05];

/// The versions of the protocol that orch speaks, from the newest to the oldest.
pub(super) fn spoken_versions() -> Vec<ProtocolVersion> {
    NEW_VERSIONS.into_iter().chain([OLD_VERSION]).chain(OLDER_VERSIONS).collect()
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtocolChoice {
    /// With the new protocol, or with the old one if the server does not know the new one.
    Either,
    /// With the new protocol.
    New,
    /// With the old protocol.
    Old,
}

/// Why a connection did not begin.
struct ConnectError {
    failure: Failure,
    /// Whether another beginning would fail for the same reason.
    is_final: bool,
}

impl ConnectError {
    fn last(failure: Failure) -> Self {
        Self { failure, is_final: true }
    }
}

/// Connects to a server, and starts it if orch has to. Returns the connection, and a note if orch could not remember
/// which protocol the server speaks.
pub(super) async fn connect(
    server: &McpServerSpec,
    context: &McpContext,
    processes: &Arc<ServerProcesses>,
) -> Result<(Connection, Option<String>), Failure> {
    let deadline = Instant::now() + context.start_limits.total;
    let connector = Connector { server, context, processes, deadline };
    let was_silent = connector.is_known_as_silent().await;
    if was_silent {
        match connector.begin(ProtocolChoice::Old, &Discovery::default()).await {
            Ok(connection) => return Ok((connection, None)),
            Err(error) if error.is_final => return Err(error.failure),
            // The server may speak the new protocol only by now.
            Err(_) => {}
        }
    }
    let (connection, is_silent) = connector.find_protocol().await?;
    let note = if is_silent == was_silent { None } else { connector.remember(is_silent).await };
    Ok((connection, note))
}

/// Begins connections with one server.
struct Connector<'a> {
    server: &'a McpServerSpec,
    context: &'a McpContext,
    processes: &'a Arc<ServerProcesses>,
    /// Until when the server has to be ready.
    deadline: Instant,
}

impl Connector<'_> {
    /// Finds out which protocol a server speaks. Returns the connection, and whether the server speaks the old protocol
    /// and does not answer the question for the new one.
    async fn find_protocol(&self) -> Result<(Connection, bool), Failure> {
        let discovery = Discovery::default();
        let first = self.begin(ProtocolChoice::Either, &discovery).await;
        match first {
            Err(error) if error.is_final => Err(error.failure),
            // The server speaks the new protocol, and takes long to start.
            first if discovery.is_answered_late() => {
                if let Ok(connection) = first {
                    // How this start of the server ends does not matter.
                    drop(connection.close().await);
                }
                Ok((self.begin(ProtocolChoice::New, &discovery).await.map_err(|error| error.failure)?, false))
            }
            Ok(connection) => Ok((connection, discovery.is_silent())),
            // The question may be the reason, for example if the server ends because of it.
            Err(error) => {
                let connection = self.begin(ProtocolChoice::Old, &discovery).await.map_err(|error| error.failure)?;
                // A server over HTTP may only have been overloaded.
                let is_program = matches!(self.server.transport, McpTransport::Stdio { .. });
                Ok((connection, is_program || error.failure.class == FailureClass::Timeout))
            }
        }
    }

    async fn begin(&self, choice: ProtocolChoice, discovery: &Discovery) -> Result<Connection, ConnectError> {
        match &self.server.transport {
            McpTransport::Stdio { command, env, sandbox } => {
                let command = ServerCommand { command, env, sandbox: sandbox.as_ref() };
                self.begin_program(command, choice, discovery).await
            }
            McpTransport::Http { url, headers } => {
                let name = &self.server.name;
                let (transport, events) = http::open(name, url, headers, self.context).map_err(ConnectError::last)?;
                let limit = (choice == ProtocolChoice::Either).then_some(self.context.start_limits.http_discovery);
                let answers = WaitingAnswers::default();
                let transport = self.guarded(transport, &answers);
                let transport = ProbedTransport::new(transport, None, discovery.clone());
                match self.serve(transport, choice, limit).await {
                    Ok(service) => {
                        let redactor = self.context.redactor.clone();
                        Ok(Connection::new(name, service, ServerEnd::Http(events), answers, redactor))
                    }
                    Err(_) if events.is_too_large() => Err(ConnectError::last(too_large_failure(name))),
                    Err(error) => Err(self.describe(error)),
                }
            }
        }
    }

    async fn begin_program(
        &self,
        command: ServerCommand<'_>,
        choice: ProtocolChoice,
        discovery: &Discovery,
    ) -> Result<Connection, ConnectError> {
        let name = &self.server.name;
        let started = ServerProgram::start(command, self.context, self.processes).await;
        let (program, pipes) = started.map_err(|error| ConnectError::last(start_failure(name, error)))?;
        let limit = (choice == ProtocolChoice::Either).then_some(self.context.start_limits.program_discovery);
        let answers = WaitingAnswers::default();
        let transport = ProbedTransport::new(self.guarded(pipes, &answers), limit, discovery.clone());
        match self.serve(transport, choice, None).await {
            Ok(service) => {
                let redactor = self.context.redactor.clone();
                Ok(Connection::new(name, service, ServerEnd::Program(program), answers, redactor))
            }
            Err(error @ ServeError::UnknownVersion(_)) => {
                // How this start of the server ends does not matter.
                drop(program.end().await);
                Err(self.describe(error))
            }
            Err(error) => {
                let ConnectError { failure, is_final } = self.describe(error);
                let exit = program.end().await;
                let failure = if program.is_message_too_long() { too_large_failure(name) } else { failure };
                let failure = with_exit(name, failure, exit.as_ref(), &self.context.redactor);
                // A program that never ran does not run the next time either.
                let never_ran = matches!(failure.class, FailureClass::NotInstalled | FailureClass::NotConfined);
                Err(ConnectError { failure, is_final: is_final || never_ran })
            }
        }
    }

    /// A transport that removes secrets from what the server sends, and limits the answers to its requests.
    fn guarded<T>(&self, transport: T, answers: &WaitingAnswers) -> RedactedTransport<AnswerLimitTransport<T>> {
        let transport = AnswerLimitTransport::new(transport, answers.clone());
        RedactedTransport::new(transport, self.context.redactor.clone(), self.processes.clone())
    }

    /// Begins the conversation with a server. It has to be ready until the deadline, and within `limit` if there is one.
    async fn serve<T: Transport<RoleClient> + 'static>(
        &self,
        transport: ProbedTransport<T>,
        choice: ProtocolChoice,
        limit: Option<Duration>,
    ) -> Result<RunningService<RoleClient, Handler>, ServeError> {
        // A call that only reads ends with the question, and is made again with the answer.
        let may_ask = self.context.can_ask || self.server.call_kind().only_reads();
        let transport = transport.may_ask(may_ask);
        let limit = limit.map(|limit| Instant::now() + limit);
        let deadline = limit.map_or(self.deadline, |limit| limit.min(self.deadline));
        // The crate holds the current span of the log until the connection ends. Without a subscriber, it does not find
        // the span of the call that needs the server first, which ends earlier.
        serve(Handler::new(), transport, choice, deadline).with_subscriber(Dispatch::none()).await
    }

    /// Why a connection did not begin. After the deadline, no other beginning has time left.
    fn describe(&self, error: ServeError) -> ConnectError {
        let name = &self.server.name;
        let is_over = Instant::now() >= self.deadline;
        match error {
            ServeError::Handshake(error) => {
                let failure = handshake_failure(name, &error, &self.context.redactor);
                ConnectError { failure, is_final: is_over || is_final(&error) }
            }
            ServeError::UnknownVersion(version) => {
                ConnectError::last(version_failure(name, &[version], &self.context.redactor))
            }
            ServeError::TimedOut => {
                let message =
                    format!("the MCP server `{name}` was not ready within {:?}", self.context.start_limits.total);
                let failure = Failure::new(FailureClass::Timeout, message).with_hint(slow_start_hint(self.server));
                ConnectError { failure, is_final: is_over }
            }
        }
    }

    /// Whether the server did not answer the question for its protocol before.
    async fn is_known_as_silent(&self) -> bool {
        let (legacy_servers, server) = (LegacyServers(self.context.legacy_servers.clone()), self.server.clone());
        let hold = self.processes.groups().hold_virtual_time();
        run_on_thread(hold, move || legacy_servers.contains(&server)).await
    }

    /// Remembers whether the server answered. Returns a note if this failed.
    async fn remember(&self, is_silent: bool) -> Option<String> {
        let (legacy_servers, server) = (LegacyServers(self.context.legacy_servers.clone()), self.server.clone());
        let hold = self.processes.groups().hold_virtual_time();
        let error = run_on_thread(hold, move || legacy_servers.set(&server, is_silent)).await.err()?;
        Some(format!(
            "orch could not save which protocol the MCP server `{}` speaks, so its next start may take longer: {error}",
            self.server.name
        ))
    }
}

/// What the user can do about a server that does not get ready.
fn slow_start_hint(server: &McpServerSpec) -> String {
    let name = &server.name;
    match &server.transport {
        McpTransport::Stdio { .. } => format!(
            "run the command of `mcp.{name}` in a terminal, in the workspace, and see whether it answers on standard \
             output; a server that downloads itself at its start needs to be installed first"
        ),
        McpTransport::Http { .. } => format!("check that the address in `mcp.{name}.url` is that of an MCP server"),
    }
}

/// Why a handshake failed.
enum ServeError {
    Handshake(Box<ClientInitializeError>),
    /// The server answered `initialize` with a version that orch does not speak.
    UnknownVersion(ProtocolVersion),
    TimedOut,
}

/// The version of a connection that has begun, if orch does not speak it.
fn unknown_version(service: &RunningService<RoleClient, Handler>) -> Option<ProtocolVersion> {
    let version = service.peer().peer_info()?.protocol_version.clone();
    let is_known = spoken_versions().contains(&version);
    (!is_known).then_some(version)
}

/// Begins the conversation with a server.
async fn serve<T: Transport<RoleClient> + 'static>(
    handler: Handler,
    transport: ProbedTransport<T>,
    choice: ProtocolChoice,
    deadline: Instant,
) -> Result<RunningService<RoleClient, Handler>, ServeError> {
    let preferred_versions = NEW_VERSIONS.to_vec();
    let lifecycle = match choice {
        ProtocolChoice::Either => ClientLifecycleMode::Auto { preferred_versions, legacy_version: Some(OLD_VERSION) },
        ProtocolChoice::New => ClientLifecycleMode::Discover { preferred_versions },
        ProtocolChoice::Old => ClientLifecycleMode::Initialize,
    };
    let service = serve_client_with_lifecycle::<Handler, ProbedTransport<T>, T::Error, TransportAdapterIdentity>(
        handler, transport, lifecycle,
    );
    // The future has room for several messages.
    match timeout_at(deadline, Box::pin(service)).await {
        Ok(Ok(service)) => match unknown_version(&service) {
            None => Ok(service),
            Some(version) => Err(ServeError::UnknownVersion(version)),
        },
        Ok(Err(error)) => Err(ServeError::Handshake(Box::new(error))),
        Err(_) => Err(ServeError::TimedOut),
    }
}
