//! A connection to a server: its requests, and its end.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerPeerInfo,
};
use rmcp::service::{Peer, PeerRequestOptions, RunningService};
use rmcp::{RoleClient, ServiceError};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, sleep_until, timeout};

use crate::model::Failure;
use crate::model::visible::one_line;
use crate::secret::Redactor;

use super::McpCall;
use super::failures::{describe_error, is_session_lost, protocol_failure, rejected_failure, transport_failure};
use super::handler::{Handler, Notice};
use super::http_client::EventSizes;
use super::messages::Rejection;
use super::open_calls::{CallTurn, OpenCalls};
use super::questions::input_responses;
use super::request_error::{RawReply, RequestError};
use super::stdio::{ProgramExit, ServerProgram};
use super::tool_pages::{ToolPages, ToolsPage};
use super::waiting_answers::WaitingAnswers;

/// How long a server may take to list its tools, with all pages of the list.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_mins(1);
/// How long orch waits until it has told a server that it no longer needs a result.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long orch waits for the end of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum length of the version of the protocol, in characters.
const MAX_VERSION_CHARS: usize = 64;
/// What a server learns about a request that orch cancels.
const CANCEL_REASON: &str = "orch no longer needs the result";

/// A connection to a server that is ready for requests. Dropping it ends the server.
pub(super) struct Connection {
    server: String,
    peer: Peer<RoleClient>,
    calls: Arc<OpenCalls>,
    notices: broadcast::Sender<Notice>,
    service: Mutex<Option<RunningService<RoleClient, Handler>>>,
    server_end: ServerEnd,
    answers: WaitingAnswers,
    redactor: Arc<Redactor>,
}

/// The server at the other end of a connection.
pub(super) enum ServerEnd {
    /// A program that orch started.
    Program(ServerProgram),
    /// A server over HTTP, with what is known about its events.
    Http(EventSizes),
}

impl Connection {
    pub(super) fn new(
        server: &str,
        service: RunningService<RoleClient, Handler>,
        server_end: ServerEnd,
        answers: WaitingAnswers,
        redactor: Arc<Redactor>,
    ) -> Self {
        Self {
            server: server.to_owned(),
            peer: service.peer().clone(),
            calls: service.service().calls(),
            notices: service.service().notices(),
            service: Mutex::new(Some(service)),
            server_end,
            answers,
            redactor,
        }
    }

    /// The version of the protocol, such as `2025-11-25`, in one short line.
    pub(super) fn protocol_version(&self) -> String {
        let version = self.peer.peer_info().map(|info| info.protocol_version.to_string());
        one_line(&version.unwrap_or_default(), MAX_VERSION_CHARS)
    }

    /// Whether the server speaks the old protocol, in which it asks the user during a call.
    fn asks_during_calls(&self) -> bool {
        self.peer.peer_info().is_some_and(|info| info.protocol_version.has_initialize())
    }

    /// Whether the connection has ended, so that a request would not reach the server.
    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_transport_closed() || self.has_too_many_answers()
    }

    /// Whether the connection has ended, and orch did not end it because of what the server sends.
    pub(super) fn has_ended_by_itself(&self) -> bool {
        let is_message_too_long = match &self.server_end {
            ServerEnd::Program(program) => program.is_message_too_long(),
            // The failure of the call still has to find out.
            ServerEnd::Http(events) => events.has_too_large(),
        };
        self.is_closed() && !self.has_too_many_answers() && !is_message_too_long
    }

    /// Whether orch started the server.
    pub(super) fn is_program(&self) -> bool {
        matches!(self.server_end, ServerEnd::Program(_))
    }

    /// Whether the connection, or the answer to a request over HTTP, ended because a message of the server was too long.
    pub(super) fn is_message_too_long(&self) -> bool {
        match &self.server_end {
            ServerEnd::Program(program) => program.is_message_too_long(),
            ServerEnd::Http(events) => events.is_too_large(),
        }
    }

    /// Whether the connection ended because the server sends requests and does not read the answers.
    pub(super) fn has_too_many_answers(&self) -> bool {
        self.answers.is_over_limit()
    }

    /// Lists the tools of the server. A server that offers no tools has none.
    pub(super) async fn list_tools(&self) -> Result<ToolPages, RequestError> {
        let mut pages = ToolPages::default();
        let offers_tools = |info: &ServerPeerInfo| info.capabilities.tools.is_some();
        if !self.peer.peer_info().as_deref().is_some_and(offers_tools) {
            return Ok(pages);
        }
        let deadline = Instant::now() + LIST_TIMEOUT;
        let mut cursor = None;
        loop {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            // The method of the crate for this request would answer from a cache.
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let result = Box::pin(self.request(request, deadline, &mut |_| true, std::future::pending())).await?;
            let page = ToolsPage::read(result, pages.next_number());
            let page = page.map_err(|reason| self.protocol_error(&reason))?;
            cursor = pages.push(page);
            if cursor.is_none() {
                return Ok(pages);
            }
        }
    }

    /// Calls a tool, for at most this time. If the server asks the user during a call that only reads, ends the call. A
    /// call that `is_alone` waits until no other call is open, and a question during it belongs to it for certain.
    pub(super) async fn call_tool(
        &self,
        call: &McpCall<'_>,
        is_alone: bool,
        time_left: Duration,
        interruption: impl Future<Output = Failure>,
    ) -> RawReply {
        let mut interruption = pin!(interruption);
        let deadline = Instant::now() + time_left;
        // The answers to a call must not reach another call.
        let is_alone = is_alone || call.answers.is_some() && self.asks_during_calls();
        let mut turn = tokio::select! {
            biased;
            failure = &mut interruption => return RequestError::Interrupted(failure).into(),
            turn = self.calls.begin(call, is_alone) => turn,
            () = sleep_until(deadline) => return RequestError::TimedOut.into(),
        };
        if is_alone && self.calls.has_abandoned() {
            self.calls.retire();
        }
        if self.calls.is_retired() {
            return RequestError::Retired.into();
        }
        self.send_call(call, &mut turn, deadline, interruption).await
    }

    /// Sends a call once.
    async fn send_call(
        &self,
        call: &McpCall<'_>,
        turn: &mut CallTurn<'_>,
        deadline: Instant,
        interruption: impl Future<Output = Failure>,
    ) -> RawReply {
        let mut params = CallToolRequestParams::new(call.tool.to_owned());
        if let Value::Object(arguments) = call.arguments {
            params = params.with_arguments(arguments.clone());
        }
        if let Some(answers) = call.answers.filter(|_| !self.asks_during_calls()) {
            params = params.with_input_responses(input_responses(answers));
            if let Some(state) = &answers.state {
                params = params.with_request_state(state.clone());
            }
        }
        let only_reads = call.server.call_kind().only_reads();
        turn.set_sent();
        let mut on_notice = |notice| match notice {
            Notice::Progress { text, .. } => {
                (call.on_progress)(&text);
                true
            }
            Notice::Unanswered => !only_reads || !turn.has_unanswered(),
        };
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let result = Box::pin(self.request(request, deadline, &mut on_notice, interruption)).await;
        if matches!(result, Ok(_) | Err(RequestError::Refused(_))) {
            turn.set_answered();
        }
        let unanswered = turn.take_unanswered();
        let result = match result {
            Err(RequestError::Interrupted(failure)) => Err(RequestError::Interrupted(failure)),
            // Also if the result has arrived, it lacks the answer.
            _ if only_reads && unanswered.questions.iter().any(|asked| asked.is_unclear) => Err(RequestError::Unclear),
            _ if only_reads && !unanswered.is_empty() => Err(RequestError::Asked),
            result => result,
        };
        RawReply { result, unanswered }
    }

    /// Sends a request and waits for its result, which is JSON of any form. A request that orch no longer needs is
    /// cancelled. `on_notice` returns whether orch still needs the result.
    async fn request(
        &self,
        request: ClientRequest,
        deadline: Instant,
        on_notice: &mut (dyn FnMut(Notice) -> bool + Send),
        interruption: impl Future<Output = Failure>,
    ) -> Result<Value, RequestError> {
        let mut interruption = pin!(interruption);
        let mut notices = self.notices.subscribe();
        let sending = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options());
        let sent = tokio::select! {
            biased;
            failure = &mut interruption => return Err(RequestError::Interrupted(failure)),
            sent = sending => sent,
            () = sleep_until(deadline) => return Err(RequestError::TimedOut),
        };
        let mut handle = sent.map_err(|error| self.request_error(error))?;
        let token = handle.progress_token.clone();
        let mut pass_on = |notice: Notice| match &notice {
            Notice::Progress { token: other, .. } if *other != token => true,
            Notice::Progress { .. } | Notice::Unanswered => on_notice(notice),
        };
        let stopped = loop {
            tokio::select! {
                biased;
                answer = &mut handle.rx => {
                    pass_on_waiting(&mut notices, &mut pass_on);
                    let answer = answer.unwrap_or(Err(ServiceError::TransportClosed));
                    let answer = answer.map_err(|error| self.request_error(error))?;
                    return serde_json::to_value(answer).map_err(|error| self.protocol_error(&error.to_string()));
                }
                failure = &mut interruption => break RequestError::Interrupted(failure),
                () = self.answers.wait_over_limit() => return Err(RequestError::Closed),
                () = sleep_until(deadline) => break RequestError::TimedOut,
                notice = notices.recv() => {
                    // An error means that there were too many notices, and that the oldest ones are lost.
                    if !pass_on(notice.unwrap_or(Notice::Unanswered)) {
                        break RequestError::Asked;
                    }
                }
            }
        };
        // A server that does not read the cancellation does not change the outcome.
        let cancelling = timeout(CANCEL_TIMEOUT, handle.cancel(Some(CANCEL_REASON.to_owned())));
        if self.answers.is_waiting() {
            // It does not read answers either, and would only delay the end of the call.
            drop(tokio::spawn(cancelling));
        } else {
            drop(cancelling.await);
        }
        Err(stopped)
    }

    fn request_error(&self, error: ServiceError) -> RequestError {
        match error {
            ServiceError::McpError(error) => match Rejection::of(&error) {
                Some(rejection) => RequestError::Failed(rejected_failure(&self.server, &rejection, &self.redactor)),
                None => RequestError::Refused(describe_error(&error)),
            },
            ServiceError::TransportClosed => RequestError::Closed,
            // A program that has ended reads no input.
            ServiceError::TransportSend(error) if error.error.is::<std::io::Error>() => RequestError::Closed,
            ServiceError::TransportSend(error) => {
                let failure = transport_failure(&self.server, &error, &self.redactor);
                if is_session_lost(&error) { RequestError::SessionLost(failure) } else { RequestError::Failed(failure) }
            }
            other => self.protocol_error(&other.to_string()),
        }
    }

    fn protocol_error(&self, reason: &str) -> RequestError {
        RequestError::Failed(protocol_failure(&self.server, reason, &self.redactor))
    }

    /// Ends the connection, and the server if orch started it. Returns how its program ended, unless another caller got
    /// this.
    pub(super) async fn close(&self) -> Option<ProgramExit> {
        self.answers.stop();
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut service) = service {
            // If this fails, the connection has ended in another way.
            drop(service.close_with_timeout(CLOSE_TIMEOUT).await);
        }
        match &self.server_end {
            ServerEnd::Program(program) => program.end().await,
            ServerEnd::Http(_) => None,
        }
    }
}

/// Passes on the notices that have arrived already.
fn pass_on_waiting(notices: &mut broadcast::Receiver<Notice>, pass_on: &mut dyn FnMut(Notice) -> bool) {
    loop {
        match notices.try_recv() {
            // The result has arrived, so whether orch needs it no longer matters here.
            Ok(notice) => {
                pass_on(notice);
            }
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{JsonRpcMessage, ServerJsonRpcMessage, ServerNotification, ServerResult};
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> ServerJsonRpcMessage {
        serde_json::from_str(text).unwrap()
    }

    /// Reads a result as the crate does.
    fn read_result(result: &str) -> ServerResult {
        match read(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)) {
            JsonRpcMessage::Response(response) => response.result,
            other => panic!("{other:?}"),
        }
    }

    /// The JSON parser keeps the digits of numbers, which changes the form in which the crate receives them.
    #[test]
    fn the_crate_reads_numbers_of_every_form() {
        let progress = read(
            r#"{"jsonrpc":"2.0","method":"notifications/progress",
                "params":{"progressToken":7,"progress":0.5,"total":3,"message":"m"}}"#,
        );
        let JsonRpcMessage::Notification(progress) = progress else { panic!("{progress:?}") };
        let ServerNotification::ProgressNotification(progress) = progress.notification else { panic!("{progress:?}") };
        assert_eq!((progress.params.progress, progress.params.total), (0.5, Some(3.0)));
        let listed = read_result(
            r#"{"resultType":"complete","ttlMs":300000,"cacheScope":"private",
                "tools":[{"name":"a","inputSchema":{"type":"object","properties":{"x":{"maximum":1.50}}}}]}"#,
        );
        assert!(matches!(listed, ServerResult::ListToolsResult(_)), "{listed:?}");
        let listed = serde_json::to_value(listed).unwrap();
        assert_eq!(listed["tools"][0]["inputSchema"]["properties"]["x"]["maximum"].to_string(), "1.50");
        let called = read_result(
            r#"{"isError":false,"structuredContent":{"big":12345678901234567890123,"f":1e-7},
                "content":[{"type":"text","text":"t","annotations":{"priority":0.5}},
                           {"type":"resource_link","uri":"u","name":"n","size":12}]}"#,
        );
        assert!(matches!(called, ServerResult::CallToolResult(_)), "{called:?}");
        let called = serde_json::to_value(called).unwrap();
        assert_eq!(called["structuredContent"]["big"].to_string(), "12345678901234567890123");
        assert_eq!(called["structuredContent"]["f"].to_string(), "1e-7");
        assert_eq!(called["content"][1]["size"], json!(12));
        let discovered = read_result(
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,
                "cacheScope":"private"}"#,
        );
        assert!(matches!(discovered, ServerResult::DiscoverResult(_)), "{discovered:?}");
        let error = read(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"m","data":{"at":1.5}}}"#);
        let JsonRpcMessage::Error(error) = error else { panic!("{error:?}") };
        assert_eq!(describe_error(&error.error), "m: {\"at\":1.5} (error -32602)");
    }

    #[test]
    fn a_block_or_a_tool_of_an_unknown_form_does_not_lose_the_result() {
        let called = read_result(r#"{"content":[{"type":"video","data":""},{"type":"text","text":"t"}]}"#);
        assert_eq!(serde_json::to_value(called).unwrap()["content"][1]["text"], "t");
        let listed = read_result(r#"{"tools":[{"name":"a"},{"inputSchema":1}]}"#);
        assert_eq!(serde_json::to_value(listed).unwrap()["tools"][0]["name"], "a");
    }
}
