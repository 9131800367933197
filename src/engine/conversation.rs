//! The requests of one agent step: `re_ask` continues a conversation, `retry` starts a new conversation, and `fallback`
//! starts one with the next model. Conversations with tools are in `tool_loop`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::durable::{Call, CallOutcome, CallReply, Effect, Interrupt, ModelRequest, StepFact};
use crate::extract;
use crate::model::call::{ElidedResult, SentResult};
use crate::model::event::ReplyParsed;
use crate::model::failure::RAISE_DEADLINE_HINT;
use crate::model::{
    AgentTurn, CallKey, ChatReply, ChatRequest, Content, ContentBlock, Digest, Failure, FailureClass, Usage,
};
use crate::provider::labels_failed_results;

use super::agent::request_digest;
use super::earlier_calls::{EarlierCallSummary, earlier_calls_note};
use super::message::{RenderedPrompt, re_ask};
use super::node::AgentNode;
use super::planned_model::PlannedModel;
use super::reply_reader::{RejectedReply, ReplyReader};
use super::request_size::max_request_usage;
use super::retry::explain_long_retry_after;
use super::scope::ValueScope;
use super::step_execution::{StepExecution, unexpected_record};

/// Makes the requests of one execution of a step.
pub(super) struct Conversation<'a> {
    pub(super) execution: &'a StepExecution<'a>,
    pub(super) agent: &'a AgentNode,
    prompt: &'a RenderedPrompt,
    reader: &'a ReplyReader<'a>,
    /// The values that the step sees.
    pub(super) scope: &'a ValueScope,
    pub(super) attempt: u32,
    model_index: usize,
    /// When the first call started, from its recorded outcome.
    started_at: Option<Timestamp>,
    /// When the last call ended, from its recorded outcome.
    pub(super) ended_at: Option<Timestamp>,
    /// The time that the calls took, from their recorded outcomes. It is the time of a conversation with tools, which
    /// may wait for approvals and may continue in a later session.
    worked: Duration,
    /// The calls of conversations before that of the current attempt, and of its own, which may have changed something.
    pub(super) earlier_call_summaries: Vec<EarlierCallSummary>,
}

/// A request to send, with what does not determine its reply.
pub(super) struct NextRequest<'r> {
    pub(super) request: &'r ChatRequest,
    /// The digest of the request.
    pub(super) digest: Digest,
    /// The session of a CLI agent to continue, and its usage so far.
    pub(super) session: Option<(String, Option<Usage>)>,
    /// The tool results that the request is the first to leave out.
    pub(super) elided_results: Vec<ElidedResult>,
    /// The tool results that the request adds to the conversation and that no recorded output has.
    pub(super) tool_results: Vec<SentResult>,
}

/// What follows from a reply.
pub(super) enum ReplyVerdict {
    /// The step accepts the value of the reply.
    Accepted(Value),
    /// orch sends this request, which asks the model to correct its reply. The class is that of the failure.
    ReAsk(Box<ChatRequest>, FailureClass),
    /// The conversation fails.
    Rejected(Failure),
}

/// The time limits of the next call.
pub(super) struct CallTimeLimits {
    pub(super) timeout_ms: Option<u64>,
    deadline: Option<Timestamp>,
    /// Whether the deadline of the step ends the call before its own time limit.
    is_deadline_shorter: bool,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        execution: &'a StepExecution<'a>,
        agent: &'a AgentNode,
        prompt: &'a RenderedPrompt,
        reader: &'a ReplyReader<'a>,
        scope: &'a ValueScope,
        attempt: u32,
        earlier_call_summaries: Vec<EarlierCallSummary>,
    ) -> Self {
        Self {
            execution,
            agent,
            prompt,
            reader,
            scope,
            attempt,
            model_index: 0,
            started_at: None,
            ended_at: None,
            worked: Duration::ZERO,
            earlier_call_summaries,
        }
    }

    /// The current attempt, or the last one.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The index of the model that received the last request, in the step's list of models.
    pub(super) fn model_index(&self) -> usize {
        self.model_index
    }

    /// Sends requests until the step accepts a reply, or until no tries, re-asks and fallbacks are left.
    pub(super) async fn run(&mut self) -> Result<Result<Value, Failure>, Interrupt> {
        let agent = self.agent;
        let mut last_failure = Failure::new(FailureClass::NotInstalled, "the step has no model");
        let mut is_first = true;
        for (model_index, model) in agent.models.iter().enumerate() {
            self.model_index = model_index;
            let mut tries_with_model = 0;
            loop {
                if !is_first {
                    self.attempt += 1;
                }
                is_first = false;
                tries_with_model += 1;
                let mut request = self.prompt.first_request(self.execution.node, agent, model);
                // A model without tools can make no call again.
                if agent.tools.is_some()
                    && let Some(note) = earlier_calls_note(&self.earlier_call_summaries)
                    && let Some(message) = request.messages.last_mut()
                {
                    message.content.append_paragraph(&note);
                }
                let reference = Some(model.reference.clone());
                self.execution.record_agent_start(self.attempt, &agent.agent, reference).await?;
                let result = match agent.tools.as_deref() {
                    Some(tools) => self.tool_loop(model, request, tools).await?,
                    None => self.chat_loop(model, request).await?,
                };
                match result {
                    Ok(value) => return Ok(Ok(value)),
                    Err(failure) => last_failure = failure,
                }
                // Another model could make the call again whose question no person could answer.
                let is_final = last_failure.class == FailureClass::ToolFailed;
                if is_final || self.is_past_deadline() {
                    return Ok(Err(last_failure.without_call_details()));
                }
                // A conversation with tools retries single requests, since a new conversation would repeat its work.
                let next = self.execution.call_key(self.attempt + 1, 0);
                if agent.tools.is_some()
                    || !self.execution.wait_for_retry(&agent.limits, &last_failure, tries_with_model, next).await?
                {
                    last_failure = explain_long_retry_after(last_failure);
                    break;
                }
            }
        }
        Ok(Err(last_failure.without_call_details()))
    }

    /// Whether the step's deadline had passed when the last call ended.
    pub(super) fn is_past_deadline(&self) -> bool {
        let Some(deadline) = self.agent.limits.deadline else { return false };
        if self.agent.tools.is_some() {
            return self.worked >= deadline;
        }
        match (self.started_at, self.ended_at) {
            (Some(started_at), Some(ended_at)) => {
                Duration::try_from(ended_at.duration_since(started_at)).is_ok_and(|elapsed| elapsed >= deadline)
            }
            _ => false,
        }
    }

    /// The time limits of the next call.
    ///
    /// # Errors
    /// The time of a conversation with tools is used up.
    pub(super) fn time_limits(&self) -> Result<CallTimeLimits, Failure> {
        let limits = &self.agent.limits;
        if self.agent.tools.is_some() {
            let remaining = limits.deadline.map(|deadline| deadline.saturating_sub(self.worked));
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                let failure = Failure::new(FailureClass::Timeout, "the step's deadline has passed");
                return Err(failure.with_hint(RAISE_DEADLINE_HINT));
            }
            let is_deadline_shorter =
                remaining.is_some_and(|remaining| limits.timeout.is_none_or(|timeout| remaining < timeout));
            let timeout = [limits.timeout, remaining].into_iter().flatten().min();
            return Ok(CallTimeLimits { timeout_ms: timeout.map(millis), deadline: None, is_deadline_shorter });
        }
        let deadline = limits.deadline.zip(self.started_at).map(|(deadline, started_at)| {
            started_at + jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX)
        });
        let timeout = [limits.timeout, limits.deadline].into_iter().flatten().min();
        let is_deadline_shorter = limits.deadline_ends_first_try();
        Ok(CallTimeLimits { timeout_ms: timeout.map(millis), deadline, is_deadline_shorter })
    }

    /// Counts the time of calls that ran in parallel. The times are those of the recorded outcomes, so that a resumed
    /// step keeps its deadline.
    pub(super) fn count_time(&mut self, outcomes: &[CallOutcome]) {
        let started = outcomes.iter().map(|outcome| outcome.started).min();
        let ended = outcomes.iter().map(|outcome| outcome.ended).max();
        let (Some(started), Some(ended)) = (started, ended) else { return };
        self.started_at.get_or_insert(started);
        self.ended_at = Some(ended);
        self.worked += Duration::try_from(ended.duration_since(started)).unwrap_or_default();
    }

    /// Runs one conversation: a request, and a re-ask after each rejected reply.
    async fn chat_loop(
        &mut self,
        model: &PlannedModel,
        mut request: ChatRequest,
    ) -> Result<Result<Value, Failure>, Interrupt> {
        let mut session = None;
        for ordinal in 1.. {
            let key = self.execution.call_key(self.attempt, ordinal);
            let next = NextRequest {
                request: &request,
                digest: request_digest(model, &request),
                session: session.take(),
                elided_results: Vec::new(),
                tool_results: Vec::new(),
            };
            let reply = match self.send(key.clone(), model, next).await? {
                Ok(reply) => reply,
                Err(failure) => return Ok(Err(failure)),
            };
            let Some(chat) = reply.chat() else { return Ok(Err(unexpected_record())) };
            let session_usage = reply.activity().and_then(|activity| activity.session_usage);
            session = chat.id.clone().map(|id| (id, session_usage));
            match self.read_reply(key, &request, &reply, ordinal <= self.agent.re_asks).await? {
                ReplyVerdict::Accepted(value) => return Ok(Ok(value)),
                ReplyVerdict::ReAsk(next, _) => request = *next,
                ReplyVerdict::Rejected(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Err(Failure::new(FailureClass::Internal, "the conversation never ended")))
    }

    /// Reads a reply to a request, and records what follows from it. `may_re_ask` is whether a re-ask is left.
    pub(super) async fn read_reply(
        &self,
        key: CallKey,
        request: &ChatRequest,
        reply: &CallReply,
        may_re_ask: bool,
    ) -> Result<ReplyVerdict, Interrupt> {
        let Some(chat) = reply.chat() else { return Ok(ReplyVerdict::Rejected(unexpected_record())) };
        let durable = self.execution.interpreter.durable;
        let RejectedReply { failure, problems } = match self.reader.read(reply).await? {
            Ok(extracted) => {
                durable.record(StepFact::ReplyParsed(extracted.parsed_fact(key))).await?;
                return Ok(ReplyVerdict::Accepted(extracted.value));
            }
            Err(rejected) => *rejected,
        };
        // A longer conversation would exceed the context window even more.
        let may_re_ask = may_re_ask && !chat.details.exceeded_context_window;
        let next = may_re_ask.then(|| re_ask(request, quoted_answer(chat), &failure, &problems)).flatten();
        self.record_rejected_reply(key, &failure, next.is_some()).await?;
        Ok(match next {
            Some(next) => ReplyVerdict::ReAsk(Box::new(next), failure.class),
            None => ReplyVerdict::Rejected(failure),
        })
    }

    /// Records that the step rejects a reply, and whether the conversation continues.
    pub(super) async fn record_rejected_reply(
        &self,
        key: CallKey,
        failure: &Failure,
        re_asks: bool,
    ) -> Result<(), Interrupt> {
        let fact = ReplyParsed {
            call: key,
            source: None,
            repairs: Vec::new(),
            other_matches: 0,
            left_out: Vec::new(),
            failure: Some(failure.clone()),
            re_asks,
        };
        self.execution.interpreter.durable.record(StepFact::ReplyParsed(fact)).await.map(drop)
    }

    /// Sends a request.
    pub(super) async fn send(
        &mut self,
        key: CallKey,
        model: &PlannedModel,
        next: NextRequest<'_>,
    ) -> Result<Result<CallReply, Failure>, Interrupt> {
        let NextRequest { request, digest, session, elided_results, tool_results } = next;
        let CallTimeLimits { timeout_ms, deadline, is_deadline_shorter } = match self.time_limits() {
            Ok(limits) => limits,
            Err(failure) => return Ok(Err(failure)),
        };
        let own_request = request.clone();
        let effect = match &model.program {
            None => match max_request_usage(request, model.context_window) {
                Ok(max_usage) => Effect::ModelRequest(ModelRequest {
                    request: own_request,
                    max_usage,
                    timeout_ms,
                    deadline,
                    elided_results,
                    tool_results,
                    labels_errors: labels_failed_results(&model.dialect) && has_failed_results(request),
                }),
                Err(failure) => return Ok(Err(failure)),
            },
            Some(program) => {
                let (session, session_usage) = session.unzip();
                Effect::Turn(Box::new(AgentTurn {
                    program: program.clone(),
                    request: own_request,
                    estimate: model.estimate,
                    session,
                    session_usage: session_usage.flatten(),
                    timeout_ms,
                    until: deadline,
                }))
            }
        };
        let outcome = self.execution.interpreter.durable.call(Call { key, request_digest: digest, effect }).await?;
        self.count_time(std::slice::from_ref(&outcome));
        Ok(match outcome.result {
            Ok(reply) => Ok(reply),
            Err(failure) if is_deadline_shorter => Err(failure.with_raise_deadline_hint()),
            Err(failure) => Err(failure),
        })
    }
}

/// Whether a request contains the result of a failed tool call.
fn has_failed_results(request: &ChatRequest) -> bool {
    let is_failed = |block: &ContentBlock| matches!(block, ContentBlock::ToolResult { is_error: true, .. });
    request.messages.iter().any(|message| message.content.blocks().iter().any(is_failed))
}

/// The content of a rejected reply for a re-ask: the model's answer without its reasoning, and without further turns of
/// the conversation that the model generated after it. It has the opaque data that the provider needs again, but no tool
/// calls, since orch has no results for them.
pub(super) fn quoted_answer(chat: &ChatReply) -> Content {
    let text = chat.text();
    let answer = extract::answer_text(&text).text.unwrap_or(&text);
    let has_calls = chat.content.blocks().iter().any(|block| matches!(block, ContentBlock::ToolCall { .. }));
    if has_calls { Content::from_text(answer) } else { chat.content.with_text(answer) }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
