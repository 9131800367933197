//! `acp:` agents: any program that speaks the Agent Client Protocol, version 1.
//!
//! This is the only file that uses the protocol's crate. orch is a client without file access and without a terminal.
//! It grants a permission that the agent requests when `tools` lists the tool, and rejects it otherwise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, ErrorCode, InitializeRequest, LoadSessionRequest, NewSessionRequest,
    PermissionOptionKind, PromptRequest, PromptResponse, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse, SelectedPermissionOutcome, SessionId, SessionNotification, SessionUpdate,
    StopReason as Stop, TextContent, ToolCallUpdateFields,
};
use agent_client_protocol::{
    Agent, ByteStreams, Client, Error, is_connection_terminated, is_incoming_transport_closed,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::model::cost::believable_cost;
use crate::model::failure::RAISE_TIMEOUT;
use crate::model::usage::token_count;
use crate::model::{AgentActivity, ChatReply, Class, Failure, ReportedUsage, StopReason};
use crate::process::{self, Captured, Pipes};

use super::capped::CappedReader;
use super::exit::{ended_badly, no_credit, too_large, unknown_stop};
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult, plain, streams};

/// How long an agent has to stop after orch cancelled its turn.
const FAREWELL: Duration = Duration::from_secs(2);

/// A CLI agent that speaks the protocol.
pub(super) struct AcpAgent;

/// What the agent reported in a session so far.
#[derive(Default)]
struct AcpTranscript {
    /// The text since the agent last used a tool.
    text: String,
    /// Whether the next text continues `text`; otherwise it replaces it.
    more: bool,
    denied: Vec<String>,
    cost: Option<f64>,
    /// What the session had cost when it was loaded, if the agent reports costs over the whole session.
    cost_before: Option<f64>,
}

impl AcpTranscript {
    /// What the turn cost in US dollars: the session's cost without what earlier turns cost.
    fn cost_of_turn(&self) -> Option<f64> {
        let before = self.cost_before.filter(|before| self.cost.is_some_and(|cost| cost >= *before));
        self.cost.map(|cost| cost - before.unwrap_or(0.0))
    }
}

impl AgentProgram for AcpAgent {
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let program = &job.turn.program;
            let name = program.argv.first().map_or("", String::as_str);
            let mut spec = job.spec(program.argv.clone(), job.environment(&["HOME"], Vec::new()), None);
            streams(&mut spec);
            // `session` applies the turn's limit itself and cancels the turn first; this limit only catches an agent
            // that hangs.
            spec.timeout = Some(job.limit + FAREWELL * 2);
            let flooded = Arc::new(AtomicBool::new(false));
            let talked = process::talk(&spec, |pipes| session(job, pipes, flooded.clone(), sink)).await;
            let talked = talked.map_err(|error| job.failed(&error))?;
            match talked.result {
                Ok(answer) => Ok(answer),
                Err(_) if flooded.load(Ordering::Relaxed) => Err(too_large(name)),
                Err(AcpFailure::Late) => {
                    let why = format!("`{name}` took longer than {:?} and was asked to stop", job.limit);
                    Err(Failure::new(Class::Timeout, why).with_hint(RAISE_TIMEOUT))
                }
                // The agent's own error explains more than the exit code that followed it.
                Err(AcpFailure::Said(error)) => Err(match talked.code {
                    Some(code) if code != 0 => broke_off(name, code, &error, &talked.stderr),
                    Some(_) | None => failed(name, &error),
                }),
                Err(AcpFailure::Cut(error)) => Err(match talked.code {
                    Some(code) => ended_badly(name, Some(code), &[&talked.stderr]),
                    None => failed(name, &error),
                }),
            }
        }
        .boxed()
    }
}

/// Why a session gave no result.
enum AcpFailure {
    /// The turn's time was up.
    Late,
    /// The agent answered a request with an error.
    Said(Error),
    /// The connection failed.
    Cut(Error),
}

async fn session(
    job: &TurnJob<'_>,
    pipes: Pipes,
    flooded: Arc<AtomicBool>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<TurnResult, AcpFailure> {
    let heard = Arc::new(Mutex::new(AcpTranscript::default()));
    let (signs, mut listened) = unbounded_channel();
    let transport = ByteStreams::new(pipes.stdin.compat_write(), CappedReader::new(pipes.stdout, flooded).compat());
    let (told, asked, granted) = (heard.clone(), heard.clone(), job.turn.program.tools.clone());
    // Whether the error is the agent's answer to a request, and not a failure of the connection.
    let (late, answered) = (AtomicBool::new(false), AtomicBool::new(false));
    let done = Client
        .v1()
        .name("orch")
        .on_receive_notification(
            async move |update: SessionNotification, _cx| {
                note(&told, &signs, update.update);
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _cx| {
                responder.respond(decide(&asked, &granted, &request))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(transport, async |connection: ConnectionTo<Agent>| {
            let opened = open(job, &connection, &heard, sink);
            let prompted = async {
                let (id, words) = opened.await?;
                // Drops the events that the agent replayed while it loaded the session.
                while listened.try_recv().is_ok() {}
                let prompt = PromptRequest::new(id.clone(), vec![ContentBlock::Text(TextContent::new(words))]);
                let reply = converse(connection.send_request(prompt).block_task(), &mut listened, sink);
                if let Ok(reply) = tokio::time::timeout(job.limit, reply).await {
                    let ended = TurnEnd::of(reply)?;
                    sink(AgentEvent::Over);
                    return Ok((id, ended));
                }
                late.store(true, Ordering::Relaxed);
                connection.send_notification(CancelNotification::new(id))?;
                // Gives the agent time to clean up before orch ends it.
                tokio::time::sleep(FAREWELL).await;
                Err(Error::internal_error())
            };
            let ended = prompted.await;
            answered.store(ended.is_err(), Ordering::Relaxed);
            ended
        })
        .await;
    match done {
        Ok((id, ended)) => Ok(answer(job, &id, &ended, &heard)),
        Err(_) if late.load(Ordering::Relaxed) => Err(AcpFailure::Late),
        Err(error) if answered.load(Ordering::Relaxed) && !is_transport(&error) => Err(AcpFailure::Said(error)),
        Err(error) => Err(AcpFailure::Cut(error)),
    }
}

/// The response that ended a turn.
struct TurnEnd {
    response: PromptResponse,
    /// The stop reason when the protocol's crate does not know it; then `response.stop_reason` is a placeholder.
    unknown: Option<String>,
}

impl TurnEnd {
    /// Reads a response. The protocol's crate rejects a response with an unknown stop reason, but puts the whole
    /// response into the error, so the token counts can still be read.
    fn of(reply: Result<PromptResponse, Error>) -> Result<Self, Error> {
        let error = match reply {
            Ok(response) => return Ok(Self { response, unknown: None }),
            Err(error) => error,
        };
        let mut json = error.data.as_ref().map(|data| data["json"].clone()).unwrap_or_default();
        let Some(reason) = json["stopReason"].as_str().map(str::to_owned) else { return Err(error) };
        json["stopReason"] = "end_turn".into();
        match serde_json::from_value(json) {
            Ok(response) => Ok(Self { response, unknown: Some(reason) }),
            Err(_) => Err(error),
        }
    }
}

/// Waits for the end of a turn and meanwhile passes the agent's events to `sink`.
async fn converse(
    reply: impl Future<Output = Result<PromptResponse, Error>>,
    listened: &mut UnboundedReceiver<AgentEvent>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<PromptResponse, Error> {
    tokio::pin!(reply);
    loop {
        tokio::select! {
            Some(sign) = listened.recv() => sink(sign),
            done = &mut reply => return done,
        }
    }
}

/// Loads the session in which the agent answered before, or opens a new one. Returns the session's id and the text to
/// send.
async fn open(
    job: &TurnJob<'_>,
    connection: &ConnectionTo<Agent>,
    heard: &Mutex<AcpTranscript>,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
) -> Result<(SessionId, String), Error> {
    let initialized = connection.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
    let cwd = job.place.workspace.clone();
    let loads = initialized.agent_capabilities.load_session;
    if let Some(session) = job.turn.session.as_ref().filter(|_| loads) {
        let id = SessionId::new(session.clone());
        let loaded = connection.send_request(LoadSessionRequest::new(id.clone(), cwd.clone())).block_task().await;
        if loaded.is_ok() {
            // The agent has replayed the whole session, with its cost so far if it reports costs over the session.
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            *heard = AcpTranscript { cost_before: heard.cost, ..AcpTranscript::default() };
            drop(heard);
            sink(AgentEvent::Session(session.clone()));
            return Ok((id, job.words()));
        }
        // If the session no longer exists, orch sends the full conversation to a new one.
    }
    let opened = connection.send_request(NewSessionRequest::new(cwd)).block_task().await?;
    if loads {
        sink(AgentEvent::Session(opened.session_id.to_string()));
    }
    Ok((opened.session_id, job.whole_talk()))
}

fn note(heard: &Mutex<AcpTranscript>, signs: &UnboundedSender<AgentEvent>, update: SessionUpdate) {
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let sign = match update {
        SessionUpdate::AgentMessageChunk(chunk) => {
            let ContentBlock::Text(text) = chunk.content else { return };
            if !heard.more {
                heard.text.clear();
                heard.more = true;
            }
            heard.text.push_str(&text.text);
            AgentEvent::Text(text.text)
        }
        SessionUpdate::ToolCall(call) => {
            heard.more = false;
            AgentEvent::Tool(call.title)
        }
        SessionUpdate::UsageUpdate(update) => {
            if let Some(cost) = update.cost.filter(|cost| cost.currency == "USD") {
                // A cost that is not believable replaces an earlier one too: the earlier sum is out of date.
                heard.cost = believable_cost(cost.amount);
            }
            return;
        }
        _ => return,
    };
    // The receiver is dropped when the turn is over.
    drop(signs.send(sign));
}

/// Answers a permission request: allows the tools that `tools` lists, preferably for this one call, and rejects others.
fn decide(
    heard: &Mutex<AcpTranscript>,
    granted: &[String],
    request: &RequestPermissionRequest,
) -> RequestPermissionResponse {
    let fields = &request.tool_call.fields;
    let is_granted = names(fields).iter().any(|name| granted.iter().any(|known| known.eq_ignore_ascii_case(name)));
    let wanted = if is_granted {
        [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways]
    } else {
        [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways]
    };
    if !is_granted {
        let about = fields.title.clone().unwrap_or_else(|| names(fields).join(" "));
        heard.lock().unwrap_or_else(PoisonError::into_inner).denied.push(about);
    }
    let option = wanted.iter().find_map(|kind| request.options.iter().find(|option| option.kind == *kind));
    RequestPermissionResponse::new(match option {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone())),
        None => RequestPermissionOutcome::Cancelled,
    })
}

/// The names under which `tools` may list a tool: its own name and its kind.
fn names(fields: &ToolCallUpdateFields) -> Vec<String> {
    let kind = fields.kind.and_then(|kind| serde_json::to_value(kind).ok());
    let kind = kind.and_then(|kind| kind.as_str().map(str::to_owned));
    fields.name.clone().into_iter().chain(kind).collect()
}

fn answer(job: &TurnJob<'_>, id: &SessionId, ended: &TurnEnd, heard: &Mutex<AcpTranscript>) -> TurnResult {
    let TurnEnd { response, unknown } = ended;
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    let usage = response.usage.as_ref().map(|usage| {
        let count = |tokens: u64| token_count(&tokens.into());
        let part = |tokens: Option<u64>| tokens.map_or(Some(0), count);
        let (read, write) = (part(usage.cached_read_tokens), part(usage.cached_write_tokens));
        let input = count(usage.input_tokens).zip(read).zip(write);
        ReportedUsage {
            input: input.map(|((input, read), write)| input.saturating_add(read).saturating_add(write)),
            cache_read: read.unwrap_or(0),
            cache_write: write.unwrap_or(0),
            output: count(usage.output_tokens),
            reasoning: part(usage.thought_tokens).unwrap_or(0),
        }
    });
    // A failed turn uses tokens as well.
    let failed = |failure| TurnResult {
        reply: Err(failure),
        cost: heard.cost_of_turn(),
        work: AgentActivity { usage, ..AgentActivity::default() },
    };
    if let Some(reason) = unknown {
        return failed(unknown_stop("the agent", reason, &heard.text));
    }
    let stop = match response.stop_reason {
        Stop::EndTurn => StopReason::End,
        Stop::MaxTokens => StopReason::Length,
        Stop::Refusal => StopReason::Refusal,
        Stop::MaxTurnRequests => {
            let failure =
                Failure::new(Class::MaxTurnsReached, "the agent used up the requests that it may make in a turn");
            return failed(failure);
        }
        // Some agents end the turn when orch rejects a permission. The denied tools are then recorded, and the step
        // fails for them.
        Stop::Cancelled if !heard.denied.is_empty() => StopReason::Unknown,
        Stop::Cancelled => {
            let failure = Failure::new(Class::AgentError, "the agent says that the turn was cancelled");
            return failed(failure);
        }
        // The protocol's crate knows this stop reason, but this table does not.
        other => return failed(unknown_stop("the agent", &format!("{other:?}"), &heard.text)),
    };
    let cost = heard.cost_of_turn();
    let work = Some(Box::new(AgentActivity { denied: heard.denied, ..AgentActivity::default() }));
    let usage = usage.unwrap_or_default();
    let reply =
        ChatReply { stop, usage, id: Some(id.to_string()), agent_activity: work, ..plain(heard.text, job.turn) };
    TurnResult { reply: Ok(reply), cost, work: AgentActivity::default() }
}

/// Whether the connection ended, so that the error is not an answer from the agent.
fn is_transport(error: &Error) -> bool {
    is_incoming_transport_closed(error) || is_connection_terminated(error)
}

/// The failure of an agent that exited with an error code during the session, after it reported an error or while orch
/// was sending.
fn broke_off(name: &str, code: i32, error: &Error, stderr: &Captured) -> Failure {
    let (ended, said) = (ended_badly(name, Some(code), &[stderr]), failed(name, error));
    let message = format!("{}\n{}", ended.message, said.message);
    // An agent without a login or without credit reports that before it exits, so the class of its error is kept.
    if said.class == Class::AgentError { Failure { message, ..ended } } else { Failure { message, ..said } }
}

fn failed(name: &str, error: &Error) -> Failure {
    let data = error.data.as_ref().map(|data| match data.as_str() {
        Some(text) => format!(": {text}"),
        None => format!(": {data}"),
    });
    let words = format!("`{name}` failed: {}{}", error.message, data.unwrap_or_default());
    if error.code == ErrorCode::AuthRequired {
        return Failure::new(Class::Auth, words)
            .with_hint("log in to the agent, or list the variable with its key under `env:`");
    }
    no_credit(&words, &words).unwrap_or_else(|| Failure::new(Class::AgentError, words))
}
