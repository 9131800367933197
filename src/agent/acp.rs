//! `acp:` agents: any program that speaks the Agent Client Protocol, version 1.
//!
//! Only this file and those in `acp/` use the protocol's crate. orch is a client without file access and without a terminal.
//! When the agent requests a permission, orch grants it if `tools` lists the tool, and rejects it otherwise.

mod permissions;
mod servers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, ErrorCode, InitializeRequest, LoadSessionRequest, NewSessionRequest,
    PromptRequest, PromptResponse, RequestPermissionRequest, SessionId, SessionNotification, SessionUpdate,
    StopReason as AcpStopReason, TextContent,
};
use agent_client_protocol::{
    Agent, ByteStreams, Client, Error, is_connection_terminated, is_incoming_transport_closed,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::model::cost::plausible_cost;
use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::usage::parse_token_count;
use crate::model::{AgentActivity, ChatReply, Failure, FailureClass, ReportedUsage, StopReason};
use crate::process::{self, CappedReader, CapturedOutput, Pipes, ProgramSpec, SandboxNeeds};

use super::exit::{exit_failure, line_too_long_failure, no_credit_failure, unknown_stop_failure};
use super::mcp_servers::server_hosts;
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult, plain_reply, set_event_limits};
use permissions::decide_permission;
use servers::mcp_servers;

/// How long an agent may take to stop after orch has cancelled its turn.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// The length of the longest message that orch accepts, in bytes. A message is one line.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// A CLI agent that uses the protocol.
pub(super) struct AcpAgent;

/// What the agent reported in a session so far.
#[derive(Default)]
struct AcpTranscript {
    /// The text since the agent last used a tool.
    text: String,
    /// Whether the next chunk of text continues `text`. Otherwise, it replaces `text`.
    appends_text: bool,
    denied: Vec<String>,
    cost: Option<f64>,
    /// The cost of the session before this turn, if the agent reports the cost of the whole session.
    cost_before: Option<f64>,
}

impl AcpTranscript {
    /// The cost of the turn in US dollars: the session's cost without the cost of earlier turns.
    fn turn_cost(&self) -> Option<f64> {
        let cost_before = self.cost_before.filter(|before| self.cost.is_some_and(|cost| cost >= *before));
        self.cost.map(|cost| cost - cost_before.unwrap_or(0.0))
    }
}

impl AgentProgram for AcpAgent {
    fn run_turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let program = &job.turn.program;
            let name = program.argv.first().map_or("", String::as_str);
            job.check_server_headers()?;
            let env = job.environment(&job.variables_with_servers(&["HOME"]), Vec::new());
            let needs = SandboxNeeds { hosts: server_hosts(job.servers()), ..SandboxNeeds::default() };
            let mut spec = job.program_spec(program.argv.clone(), env, None, needs).await?;
            set_event_limits(&mut spec);
            // `run_session` applies the turn's limit itself and cancels the turn first. This limit is for an agent that
            // does not respond.
            spec.timeout = Some(job.timeout + CANCEL_TIMEOUT * 2);
            let is_line_too_long = Arc::new(AtomicBool::new(false));
            let output =
                process::run_interactive(&spec, |pipes| run_session(job, pipes, is_line_too_long.clone(), sink)).await;
            let output = output.map_err(|error| job.process_failure(&error))?;
            match output.result {
                Ok(result) => Ok(result),
                Err(_) if is_line_too_long.load(Ordering::Relaxed) => Err(line_too_long_failure(name)),
                Err(AcpFailure::Timeout) => {
                    let message = format!("`{name}` took longer than {:?}, and orch cancelled its turn", job.timeout);
                    Err(Failure::new(FailureClass::Timeout, message).with_hint(RAISE_TIMEOUT_HINT))
                }
                // The error that the agent reported explains more than its exit code alone.
                Err(AcpFailure::Agent(error)) => Err(match output.code {
                    Some(code) if code != 0 => session_exit_failure(&spec, code, &error, &output.stderr),
                    Some(_) | None => error_failure(name, &error),
                }),
                Err(AcpFailure::Connection(error)) => Err(match output.code {
                    Some(code) => exit_failure(name, &spec, Some(code), &[&output.stderr]),
                    None => error_failure(name, &error),
                }),
            }
        }
        .boxed()
    }
}

/// The reason why a session returned no result.
enum AcpFailure {
    /// The turn reached its time limit.
    Timeout,
    /// The agent replied to a request with an error.
    Agent(Error),
    /// The connection failed.
    Connection(Error),
}

/// Runs a turn over the pipes of the agent.
async fn run_session(
    job: &TurnJob<'_>,
    pipes: Pipes,
    is_line_too_long: Arc<AtomicBool>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<TurnResult, AcpFailure> {
    let transcript = Arc::new(Mutex::new(AcpTranscript::default()));
    let (event_sender, mut events) = unbounded_channel();
    let stdout = CappedReader::new(pipes.stdout, MAX_MESSAGE_BYTES, is_line_too_long);
    let transport = ByteStreams::new(pipes.stdin.compat_write(), stdout.compat());
    let (update_transcript, permission_transcript) = (transcript.clone(), transcript.clone());
    let (granted_tools, granted_servers) = (job.turn.program.tools.clone(), job.turn.program.mcp.clone());
    let has_timed_out = AtomicBool::new(false);
    // Whether the turn below returned the error. Otherwise, the connection itself failed.
    let is_request_error = AtomicBool::new(false);
    let outcome = Client
        .v1()
        .name("orch")
        .on_receive_notification(
            async move |update: SessionNotification, _cx| {
                read_update(&update_transcript, &event_sender, update.update);
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _cx| {
                responder.respond(decide_permission(
                    &permission_transcript,
                    (&granted_tools, &granted_servers),
                    &request,
                ))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(transport, async |connection: ConnectionTo<Agent>| {
            let session = open_session(job, &connection, &transcript, sink);
            let turn = async {
                let (id, text) = session.await?;
                // Drops the events that the agent replayed while it loaded the session.
                while events.try_recv().is_ok() {}
                let prompt = PromptRequest::new(id.clone(), vec![ContentBlock::Text(TextContent::new(text))]);
                let response = forward_events(connection.send_request(prompt).block_task(), &mut events, sink);
                if let Ok(response) = tokio::time::timeout(job.timeout, response).await {
                    let turn_end = TurnEnd::from_response(response)?;
                    sink(AgentEvent::TurnEnded);
                    return Ok((id, turn_end));
                }
                has_timed_out.store(true, Ordering::Relaxed);
                connection.send_notification(CancelNotification::new(id))?;
                // Gives the agent time to clean up before orch ends it.
                tokio::time::sleep(CANCEL_TIMEOUT).await;
                Err(Error::internal_error())
            };
            let result = turn.await;
            is_request_error.store(result.is_err(), Ordering::Relaxed);
            result
        })
        .await;
    match outcome {
        Ok((id, turn_end)) => Ok(turn_result(job, &id, &turn_end, &transcript)),
        Err(_) if has_timed_out.load(Ordering::Relaxed) => Err(AcpFailure::Timeout),
        Err(error) if is_request_error.load(Ordering::Relaxed) && !is_transport_error(&error) => {
            Err(AcpFailure::Agent(error))
        }
        Err(error) => Err(AcpFailure::Connection(error)),
    }
}

/// The response that ended a turn.
struct TurnEnd {
    response: PromptResponse,
    /// The stop reason, if the protocol's crate does not know it. `response.stop_reason` is a placeholder then.
    unknown_stop_reason: Option<String>,
}

impl TurnEnd {
    /// Reads a response. The protocol's crate rejects a response with an unknown stop reason, but its error contains
    /// the whole response, so orch can still read the token counts.
    fn from_response(response: Result<PromptResponse, Error>) -> Result<Self, Error> {
        let error = match response {
            Ok(response) => return Ok(Self { response, unknown_stop_reason: None }),
            Err(error) => error,
        };
        let mut json = error.data.as_ref().map(|data| data["json"].clone()).unwrap_or_default();
        let Some(reason) = json["stopReason"].as_str().map(str::to_owned) else { return Err(error) };
        json["stopReason"] = "end_turn".into();
        match serde_json::from_value(json) {
            Ok(response) => Ok(Self { response, unknown_stop_reason: Some(reason) }),
            Err(_) => Err(error),
        }
    }
}

/// Waits for the end of a turn and meanwhile passes the agent's events to `sink`.
async fn forward_events(
    response: impl Future<Output = Result<PromptResponse, Error>>,
    events: &mut UnboundedReceiver<AgentEvent>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<PromptResponse, Error> {
    tokio::pin!(response);
    loop {
        tokio::select! {
            Some(event) = events.recv() => sink(event),
            response = &mut response => return response,
        }
    }
}

/// Loads the session of the earlier turns, or creates a new one. Returns the session's id and the text to send.
async fn open_session(
    job: &TurnJob<'_>,
    connection: &ConnectionTo<Agent>,
    transcript: &Mutex<AcpTranscript>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<(SessionId, String), Error> {
    let initialize_response = connection.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
    let cwd = job.agent_env.workspace.clone();
    let can_load = initialize_response.agent_capabilities.load_session;
    let servers = mcp_servers(job, initialize_response.agent_capabilities.mcp_capabilities.http)?;
    if let Some(session) = job.turn.session.as_ref().filter(|_| can_load) {
        let id = SessionId::new(session.clone());
        let request = LoadSessionRequest::new(id.clone(), cwd.clone()).mcp_servers(servers.clone());
        let load_result = connection.send_request(request).block_task().await;
        if load_result.is_ok() {
            // The agent has replayed the whole session, including the cost so far if it reports the session's cost.
            let mut transcript = transcript.lock().unwrap_or_else(PoisonError::into_inner);
            *transcript = AcpTranscript { cost_before: transcript.cost, ..AcpTranscript::default() };
            drop(transcript);
            sink(AgentEvent::Session(session.clone()));
            return Ok((id, job.text_with_system_prompt()));
        }
        // If the session no longer exists, orch sends the full conversation to a new one.
    }
    let new_session = connection.send_request(NewSessionRequest::new(cwd).mcp_servers(servers)).block_task().await?;
    if can_load {
        sink(AgentEvent::Session(new_session.session_id.to_string()));
    }
    Ok((new_session.session_id, job.conversation_text()))
}

/// Adds an update to the transcript, and sends an event for a text or a tool use.
fn read_update(transcript: &Mutex<AcpTranscript>, events: &UnboundedSender<AgentEvent>, update: SessionUpdate) {
    let mut transcript = transcript.lock().unwrap_or_else(PoisonError::into_inner);
    let event = match update {
        SessionUpdate::AgentMessageChunk(chunk) => {
            let ContentBlock::Text(text) = chunk.content else { return };
            if !transcript.appends_text {
                transcript.text.clear();
                transcript.appends_text = true;
            }
            transcript.text.push_str(&text.text);
            AgentEvent::Text(text.text)
        }
        SessionUpdate::ToolCall(call) => {
            transcript.appends_text = false;
            AgentEvent::Tool(call.title)
        }
        SessionUpdate::UsageUpdate(update) => {
            if let Some(cost) = update.cost.filter(|cost| cost.currency == "USD") {
                // An implausible cost also replaces the earlier one, which is out of date.
                transcript.cost = plausible_cost(cost.amount);
            }
            return;
        }
        _ => return,
    };
    // After the end of the turn, the event has no receiver.
    drop(events.send(event));
}

fn turn_result(job: &TurnJob<'_>, id: &SessionId, turn_end: &TurnEnd, transcript: &Mutex<AcpTranscript>) -> TurnResult {
    let TurnEnd { response, unknown_stop_reason } = turn_end;
    let transcript = std::mem::take(&mut *transcript.lock().unwrap_or_else(PoisonError::into_inner));
    let usage = response.usage.as_ref().map(|usage| {
        let count = |tokens: u64| parse_token_count(&tokens.into());
        let count_or_zero = |tokens: Option<u64>| tokens.map_or(Some(0), count);
        let cache_read = count_or_zero(usage.cached_read_tokens);
        let cache_write = count_or_zero(usage.cached_write_tokens);
        let input = count(usage.input_tokens).zip(cache_read).zip(cache_write);
        ReportedUsage {
            input: input.map(|((uncached, read), write)| uncached.saturating_add(read).saturating_add(write)),
            cache_read: cache_read.unwrap_or(0),
            cache_write: cache_write.unwrap_or(0),
            output: count(usage.output_tokens),
            reasoning: count_or_zero(usage.thought_tokens).unwrap_or(0),
        }
    });
    // The usage and the cost of a failed turn count too.
    let failed_turn = |failure| TurnResult {
        reply: Err(failure),
        cost: transcript.turn_cost(),
        activity: AgentActivity { usage, ..AgentActivity::default() },
    };
    if let Some(reason) = unknown_stop_reason {
        return failed_turn(unknown_stop_failure("the agent", reason, &transcript.text));
    }
    let stop = match response.stop_reason {
        AcpStopReason::EndTurn => StopReason::End,
        AcpStopReason::MaxTokens => StopReason::Length,
        AcpStopReason::Refusal => StopReason::Refusal,
        AcpStopReason::MaxTurnRequests => {
            let failure =
                Failure::new(FailureClass::MaxTurnsReached, "the agent reached its limit of requests in a turn");
            return failed_turn(failure);
        }
        // Some agents end the turn when orch rejects a permission. orch then records the denied tools, and the step
        // fails because of them.
        AcpStopReason::Cancelled if !transcript.denied.is_empty() => StopReason::Unknown,
        AcpStopReason::Cancelled => {
            let failure = Failure::new(FailureClass::AgentError, "the agent reports that the turn was cancelled");
            return failed_turn(failure);
        }
        // The protocol's crate knows this stop reason, but this `match` does not.
        other => {
            let name = serde_json::to_value(other).ok().and_then(|name| name.as_str().map(str::to_owned));
            return failed_turn(unknown_stop_failure("the agent", &name.unwrap_or_default(), &transcript.text));
        }
    };
    let cost = transcript.turn_cost();
    let activity = AgentActivity { denied: transcript.denied, ..AgentActivity::default() };
    let usage = usage.unwrap_or_default();
    let reply = ChatReply { stop, usage, id: Some(id.to_string()), ..plain_reply(transcript.text, job.turn) };
    TurnResult { reply: Ok(reply), cost, activity }
}

/// Whether an error reports the end of the connection. Any other error is a response of the agent.
fn is_transport_error(error: &Error) -> bool {
    is_incoming_transport_closed(error) || is_connection_terminated(error)
}

/// The failure of an agent that exited with an error code during the session, after it had reported an error or while
/// orch was sending a request.
fn session_exit_failure(spec: &ProgramSpec, code: i32, error: &Error, stderr: &CapturedOutput) -> Failure {
    let name = spec.argv.first().map_or("", String::as_str);
    let process_failure = exit_failure(name, spec, Some(code), &[stderr]);
    let reported_failure = error_failure(name, error);
    let message = format!("{}\n{}", process_failure.message, reported_failure.message);
    // An agent without a login or without credit reports this before it exits, so the class of its error takes
    // precedence.
    if reported_failure.class == FailureClass::AgentError {
        Failure { message, ..process_failure }
    } else {
        Failure { message, ..reported_failure }
    }
}

fn error_failure(name: &str, error: &Error) -> Failure {
    let data = error.data.as_ref().map(|data| match data.as_str() {
        Some(text) => format!(": {text}"),
        None => format!(": {data}"),
    });
    let message = format!("`{name}` failed: {}{}", error.message, data.unwrap_or_default());
    if error.code == ErrorCode::AuthRequired {
        return Failure::new(FailureClass::Auth, message)
            .with_hint("log in to the agent, or list the variable of its key under `env:`");
    }
    no_credit_failure(&message, &message).unwrap_or_else(|| Failure::new(FailureClass::AgentError, message))
}
