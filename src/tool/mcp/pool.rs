//! The MCP servers of a run: each starts when it is first needed, all steps share it, and it ends with the run.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::{Failure, FailureClass, McpCallKind, McpServerSpec, SandboxUse};
use crate::offload::run_on_thread;

use super::connect::connect;
use super::connection::{Connection, LIST_TIMEOUT};
use super::context::{McpCall, McpContext};
use super::credentials::with_credentials_hint;
use super::failures::{
    asked_failure, closed_failure, too_large_failure, unread_answers_failure, unsent_failure, with_exit,
};
use super::hints::with_server_hint;
use super::listing::ListedServer;
use super::request_error::{RawReply, RequestError};
use super::result::{CompleteResult, McpResult};
use super::server_log::{log_end, log_start};
use super::stdio::{ProgramExit, ServerProcesses};

/// The MCP servers of a run. Dropping this value ends them too, but does not wait for their processes.
pub struct McpServers {
    pub(super) context: McpContext,
    servers: Mutex<HashMap<String, Arc<Server>>>,
    is_shut_down: AtomicBool,
}

/// One server over all of its starts.
struct Server {
    name: String,
    processes: Arc<ServerProcesses>,
    /// Held while the server starts or ends, so that this happens only once at a time. Has the failure of the latest
    /// start, if it failed.
    starting: tokio::sync::Mutex<Option<Failure>>,
    /// The number of starts that failed.
    failed_starts: AtomicU64,
    connection: Mutex<Option<Arc<Connection>>>,
    /// The tools of the first start.
    listed: Mutex<Option<ListedServer>>,
}

/// Locks a value that every holder leaves in a valid state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a connection that no other caller ends, and logs its end.
async fn close_logged(server: &str, connection: &Connection) -> Option<ProgramExit> {
    let ended_by_itself = connection.has_ended_by_itself();
    let exit = connection.close().await;
    log_end(server, ended_by_itself, exit.as_ref());
    exit
}

impl Server {
    /// The connection, if a request can use it.
    fn open_connection(&self) -> Option<Arc<Connection>> {
        lock(&self.connection).clone().filter(|connection| !connection.is_closed())
    }

    fn listed(&self) -> Option<ListedServer> {
        lock(&self.listed).clone()
    }

    /// Ends the connection and the processes. The caller holds `starting`.
    async fn close(&self) -> Option<ProgramExit> {
        let connection = lock(&self.connection).take();
        let exit = match connection {
            Some(connection) => close_logged(&self.name, &connection).await,
            None => None,
        };
        self.processes.wait_ended().await;
        exit
    }
}

impl McpServers {
    /// No server runs yet.
    pub fn new(context: McpContext) -> Self {
        Self { context, servers: Mutex::default(), is_shut_down: AtomicBool::new(false) }
    }

    /// The tools of a server, which starts if it has not started before. The future may be dropped.
    ///
    /// # Errors
    /// The server can't be started or reached, or does not list its tools.
    pub async fn list(&self, spec: &McpServerSpec) -> Result<ListedServer, Failure> {
        match self.server(&spec.name).listed() {
            Some(listed) => Ok(listed),
            None => self.connected(spec).await.map(|(_, listed)| listed),
        }
    }

    /// Calls a tool. An error that the server reports is a result for the model. orch sends a call only once. It sends a
    /// call that only reads again if the server asks a question that may belong to another call: alone, and over another
    /// connection.
    ///
    /// When `interruption` resolves to a failure, orch cancels the call and returns that failure. If a call that can
    /// change the workspace is interrupted or reaches its time limit, orch also ends the server, and waits for it.
    ///
    /// # Errors
    /// The server can't be started or reached, ends during the call, or lists other tools than before in this run; the
    /// call reaches its time limit; or the interruption.
    pub async fn call(
        &self,
        call: McpCall<'_>,
        interruption: impl Future<Output = Failure>,
    ) -> Result<McpResult, Failure> {
        let mut interruption = pin!(interruption);
        let (mut is_alone, mut time_left) = (false, call.timeout);
        loop {
            let connected = tokio::select! {
                biased;
                failure = &mut interruption => Err(failure),
                connected = self.connected(call.server) => connected,
            };
            let (connection, listed) = match connected {
                Ok(connected) => connected,
                Err(failure) => {
                    // If the start was interrupted, its processes are ending.
                    self.server(&call.server.name).processes.wait_ended().await;
                    return Err(unsent_failure(failure));
                }
            };
            let Some(definition) = listed.listing.find(call.tool) else {
                let text = format!("the MCP server `{}` has no tool `{}`", call.server.name, call.tool);
                return self.finish(CompleteResult::error(text), None, Vec::new()).await;
            };
            let begun = Instant::now();
            let reply = connection.call_tool(&call, is_alone, time_left, interruption.as_mut()).await;
            time_left = time_left.saturating_sub(begun.elapsed());
            match reply.result {
                Err(RequestError::Retired) => drop(self.forget(&call.server.name, &connection).await),
                Err(RequestError::Unclear) => is_alone = true,
                result => {
                    let reply = RawReply { result, unanswered: reply.unanswered };
                    return self.read_reply(&call, definition, &connection, reply).await;
                }
            }
        }
    }

    /// Ends a server, and waits until no process of it is left. The next call starts it again.
    pub async fn end(&self, server: &str) {
        let server = self.server(server);
        let _starting = server.starting.lock().await;
        // How a server ended that orch no longer needs does not matter.
        drop(server.close().await);
    }

    /// Ends all servers, and waits until no process of them is left. Later calls fail.
    pub async fn shutdown(&self) {
        self.is_shut_down.store(true, Ordering::Relaxed);
        let names: Vec<String> = lock(&self.servers).keys().cloned().collect();
        join_all(names.iter().map(|name| self.end(name))).await;
    }

    /// Whether a server runs, or orch has a connection to it.
    pub fn is_running(&self, server: &str) -> bool {
        self.server(server).open_connection().is_some()
    }

    /// The record of the sandbox of a server; `None` if orch confined none. It is complete after [`McpServers::end`].
    pub fn sandbox_use(&self, server: &str) -> Option<SandboxUse> {
        self.server(server).processes.groups().sandbox_use()
    }

    fn server(&self, name: &str) -> Arc<Server> {
        let mut servers = lock(&self.servers);
        if let Some(server) = servers.get(name) {
            return server.clone();
        }
        let groups = self.context.ending_process_groups.with_same_clock();
        let server = Arc::new(Server {
            name: name.to_owned(),
            processes: Arc::new(ServerProcesses::new(groups)),
            starting: tokio::sync::Mutex::default(),
            failed_starts: AtomicU64::new(0),
            connection: Mutex::default(),
            listed: Mutex::default(),
        });
        servers.insert(name.to_owned(), server.clone());
        server
    }

    /// A connection to a server that has listed its tools.
    async fn connected(&self, spec: &McpServerSpec) -> Result<(Arc<Connection>, ListedServer), Failure> {
        let server = self.server(&spec.name);
        let failed_before = server.failed_starts.load(Ordering::Relaxed);
        let mut last_failure = server.starting.lock().await;
        if self.is_shut_down.load(Ordering::Relaxed) {
            let message = format!("the MCP server `{}` is not started, because the run is ending", spec.name);
            return Err(Failure::new(FailureClass::Cancelled, message));
        }
        if let (Some(connection), Some(listed)) = (server.open_connection(), server.listed()) {
            return Ok((connection, listed));
        }
        // A start that failed while this caller waited for it has failed for this caller, too. Another start would take as
        // long again.
        if server.failed_starts.load(Ordering::Relaxed) != failed_before
            && let Some(failure) = &*last_failure
        {
            return Err(failure.clone());
        }
        *last_failure = None;
        let is_restart = server.listed().is_some();
        let connected = log_start(spec, is_restart, Box::pin(self.start(spec, &server))).await;
        let connected =
            connected.map_err(|failure| self.redacted(with_server_hint(with_credentials_hint(failure, spec), spec)));
        if let Err(failure) = &connected {
            *last_failure = Some(failure.clone());
            server.failed_starts.fetch_add(1, Ordering::Relaxed);
        }
        connected
    }

    /// Starts a server, or connects to it, and lists its tools. The caller holds `starting`.
    async fn start(&self, spec: &McpServerSpec, server: &Server) -> Result<(Arc<Connection>, ListedServer), Failure> {
        let known = server.listed();
        // A connection that has ended by itself.
        drop(server.close().await);
        let started = Box::pin(connect(spec, &self.context, &server.processes)).await;
        let (connection, note) = started.map_err(|failure| self.redacted(failure))?;
        let connection = Arc::new(connection);
        let mut listed = self.list_tools(spec, &connection).await?;
        listed.notes.extend(note);
        if let Some(known) = known
            && known.listing.digest() != listed.listing.digest()
        {
            // How a server ended that orch no longer needs does not matter.
            drop(close_logged(&spec.name, &connection).await);
            return Err(changed_tools_failure(&spec.name));
        }
        *lock(&server.listed) = Some(listed.clone());
        *lock(&server.connection) = Some(connection.clone());
        Ok((connection, listed))
    }

    /// Lists the tools over a new connection. If this fails, ends the connection.
    async fn list_tools(&self, spec: &McpServerSpec, connection: &Connection) -> Result<ListedServer, Failure> {
        let name = &spec.name;
        let pages = match connection.list_tools().await {
            Ok(pages) => pages,
            Err(error) => {
                let exit = close_logged(name, connection).await;
                let failure = match error {
                    RequestError::Refused(reason) => {
                        let message = format!("the MCP server `{name}` does not list its tools: {reason}");
                        Failure::new(FailureClass::AgentError, message)
                    }
                    RequestError::TimedOut => {
                        let message = format!("the MCP server `{name}` did not list its tools within {LIST_TIMEOUT:?}");
                        Failure::new(FailureClass::Timeout, message)
                    }
                    RequestError::Closed if connection.has_too_many_answers() => unread_answers_failure(name),
                    RequestError::Closed if connection.is_message_too_long() => too_large_failure(name),
                    RequestError::Closed => {
                        let failure = closed_failure(name, "before it listed its tools");
                        with_exit(name, failure, exit.as_ref(), &self.context.redactor)
                    }
                    RequestError::Asked | RequestError::Unclear | RequestError::Retired => asked_failure(name),
                    RequestError::SessionLost(failure)
                    | RequestError::Failed(failure)
                    | RequestError::Interrupted(failure) => failure,
                };
                return Err(self.redacted(failure));
            }
        };
        let (spec, redactor) = (spec.clone(), self.context.redactor.clone());
        let version = connection.protocol_version();
        let hold = self.context.ending_process_groups.hold_virtual_time();
        // Compiling the schemas of many tools may take long.
        Ok(run_on_thread(hold, move || pages.into_listing(&spec, version, &redactor)).await)
    }

    /// The failure of a call, after everything that has to end has ended.
    pub(super) async fn call_failure(
        &self,
        call: &McpCall<'_>,
        connection: &Arc<Connection>,
        error: RequestError,
    ) -> Failure {
        let name = &call.server.name;
        match error {
            RequestError::Interrupted(failure) => {
                self.end_writer(call).await;
                failure
            }
            RequestError::TimedOut => {
                self.end_writer(call).await;
                let message = format!("`{name}.{}` took longer than {:?}", call.tool, call.timeout);
                Failure::new(FailureClass::Timeout, message).with_hint(RAISE_TIMEOUT_HINT)
            }
            RequestError::Closed => {
                // Over HTTP, only this answer may have been cut off.
                let is_lost = connection.is_program() || connection.is_closed();
                let exit = if is_lost { self.forget(name, connection).await } else { None };
                if connection.has_too_many_answers() {
                    return unread_answers_failure(name);
                }
                if connection.is_message_too_long() {
                    return too_large_failure(name);
                }
                let failure = closed_failure(name, &format!("during the call of `{}`", call.tool));
                with_server_hint(with_exit(name, failure, exit.as_ref(), &self.context.redactor), call.server)
            }
            RequestError::SessionLost(failure) => {
                // The next call begins a new session.
                drop(self.forget(name, connection).await);
                with_server_hint(failure, call.server)
            }
            RequestError::Failed(failure) => with_server_hint(with_credentials_hint(failure, call.server), call.server),
            RequestError::Refused(reason) => Failure::new(FailureClass::AgentError, reason),
            RequestError::Asked | RequestError::Unclear | RequestError::Retired => asked_failure(name),
        }
    }

    /// Ends a server that could go on to change the workspace for a call that has ended.
    async fn end_writer(&self, call: &McpCall<'_>) {
        if call.server.call_kind() == McpCallKind::WorkspaceWrite {
            self.end(&call.server.name).await;
        }
    }

    /// Ends a connection that is of no use any more. The next call begins another one.
    async fn forget(&self, name: &str, connection: &Arc<Connection>) -> Option<ProgramExit> {
        let server = self.server(name);
        let _starting = server.starting.lock().await;
        let is_current = lock(&server.connection).as_ref().is_some_and(|current| Arc::ptr_eq(current, connection));
        if is_current { server.close().await } else { connection.close().await }
    }

    /// A failure without secrets.
    pub(super) fn redacted(&self, failure: Failure) -> Failure {
        self.context.redactor.redact_failure(failure)
    }
}

/// The failure of a server that started again with other tools.
fn changed_tools_failure(server: &str) -> Failure {
    let message = format!("the MCP server `{server}` started again and lists other tools than before in this run");
    Failure::new(FailureClass::AgentError, message)
        .with_hint("look at its tools with `orch tools list`, then continue with `orch pipeline resume`")
}
