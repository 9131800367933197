//! The requests of one agent step: `re_ask` continues a conversation, `retry` starts a new conversation, and `fallback`
//! starts one with the next model.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::durable::{Call, CallReply, Effect, Interrupt, ModelRequest, StepFact};
use crate::extract;
use crate::model::event::ReplyParsed;
use crate::model::{AgentTurn, CallKey, ChatRequest, Content, ContentBlock, Failure, FailureClass, Usage};

use super::agent::request_digest;
use super::message::{RenderedPrompt, re_ask};
use super::node::AgentNode;
use super::planned_model::PlannedModel;
use super::rate_limit::max_request_usage;
use super::reply_reader::{RejectedReply, ReplyReader};
use super::retry::explain_long_retry_after;
use super::step_execution::{StepExecution, unexpected_record};

/// Makes the requests of one execution of a step.
pub(super) struct Conversation<'a> {
    execution: &'a StepExecution<'a>,
    agent: &'a AgentNode,
    prompt: &'a RenderedPrompt,
    reader: &'a ReplyReader<'a>,
    attempt: u32,
    model_index: usize,
    /// When the first call started, from its recorded outcome.
    started_at: Option<Timestamp>,
    /// When the last call ended, from its recorded outcome.
    ended_at: Option<Timestamp>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        execution: &'a StepExecution<'a>,
        agent: &'a AgentNode,
        prompt: &'a RenderedPrompt,
        reader: &'a ReplyReader<'a>,
        attempt: u32,
    ) -> Self {
        Self { execution, agent, prompt, reader, attempt, model_index: 0, started_at: None, ended_at: None }
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
        let mut last_failure = Failure::new(FailureClass::NotInstalled, "the step has no model");
        let mut is_first = true;
        for (model_index, model) in self.agent.models.iter().enumerate() {
            self.model_index = model_index;
            let mut tries_with_model = 0;
            loop {
                if !is_first {
                    self.attempt += 1;
                }
                is_first = false;
                tries_with_model += 1;
                let request = self.prompt.first_request(self.execution.node, self.agent, model);
                let reference = Some(model.reference.clone());
                self.execution.record_agent_start(self.attempt, &self.agent.agent, reference).await?;
                match self.chat_loop(model, request).await? {
                    Ok(value) => return Ok(Ok(value)),
                    Err(failure) => last_failure = failure,
                }
                if self.is_past_deadline() {
                    return Ok(Err(last_failure.without_call_details()));
                }
                let limits = &self.agent.limits;
                if !self.execution.wait_for_retry(limits, &last_failure, tries_with_model, self.attempt).await? {
                    last_failure = explain_long_retry_after(last_failure);
                    break;
                }
            }
        }
        Ok(Err(last_failure.without_call_details()))
    }

    /// Whether the step's deadline had passed when the last call ended.
    fn is_past_deadline(&self) -> bool {
        match (self.agent.limits.deadline, self.started_at, self.ended_at) {
            (Some(deadline), Some(started_at), Some(ended_at)) => {
                Duration::try_from(ended_at.duration_since(started_at)).is_ok_and(|elapsed| elapsed >= deadline)
            }
            _ => false,
        }
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
            let reply = match self.send(key.clone(), model, &request, session.take()).await? {
                Ok(reply) => reply,
                Err(failure) => return Ok(Err(failure)),
            };
            let Some(chat) = reply.chat() else { return Ok(Err(unexpected_record())) };
            let RejectedReply { failure, problems } = match self.reader.read(&reply).await? {
                Ok(extracted) => {
                    self.execution
                        .interpreter
                        .durable
                        .record(StepFact::ReplyParsed(extracted.parsed_fact(key)))
                        .await?;
                    return Ok(Ok(extracted.value));
                }
                Err(rejected) => *rejected,
            };
            // A longer conversation would exceed the context window even more.
            let may_re_ask = ordinal <= self.agent.re_asks && !chat.details.exceeded_context_window;
            // The re-ask quotes the model's answer without its reasoning, and without further turns of the conversation
            // that the model generated after it.
            let text = chat.text();
            let answer = re_ask_content(&chat.content, extract::answer_text(&text).text.unwrap_or(&text));
            let next = may_re_ask.then(|| re_ask(&request, answer, &failure, &problems)).flatten();
            let fact = ReplyParsed {
                call: key,
                source: None,
                repairs: Vec::new(),
                other_matches: 0,
                left_out: Vec::new(),
                failure: Some(failure.clone()),
                re_asks: next.is_some(),
            };
            self.execution.interpreter.durable.record(StepFact::ReplyParsed(fact)).await?;
            let session_usage = reply.activity().and_then(|activity| activity.session_usage);
            session = chat.id.clone().map(|id| (id, session_usage));
            match next {
                Some(next) => request = next,
                None => return Ok(Err(failure)),
            }
        }
        Ok(Err(Failure::new(FailureClass::Internal, "the conversation never ended")))
    }

    async fn send(
        &mut self,
        key: CallKey,
        model: &PlannedModel,
        request: &ChatRequest,
        session: Option<(String, Option<Usage>)>,
    ) -> Result<Result<CallReply, Failure>, Interrupt> {
        let deadline_time = match (self.agent.limits.deadline, self.started_at) {
            (Some(deadline), Some(started_at)) => {
                Some(started_at + jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX))
            }
            _ => None,
        };
        let timeout = [self.agent.limits.timeout, self.agent.limits.deadline].into_iter().flatten().min();
        let (own_request, timeout_ms) = (request.clone(), timeout.map(millis));
        let effect = match &model.program {
            None => match max_request_usage(request, model.context_window) {
                Ok(max_usage) => Effect::ModelRequest(ModelRequest {
                    request: own_request,
                    max_usage,
                    timeout_ms,
                    deadline: deadline_time,
                }),
                Err(failure) => return Ok(Err(failure)),
            },
            Some(program) => {
                let program = program.clone();
                let (request, estimate) = (own_request, model.estimate);
                let (session, session_usage) = session.unzip();
                let session_usage = session_usage.flatten();
                Effect::Turn(Box::new(AgentTurn {
                    program,
                    request,
                    estimate,
                    session,
                    session_usage,
                    timeout_ms,
                    until: deadline_time,
                }))
            }
        };
        let outcome = self
            .execution
            .interpreter
            .durable
            .call(Call { key, request_digest: request_digest(model, request), effect })
            .await?;
        // Use the times of the recorded outcome, so that a resumed step keeps its deadline.
        self.started_at.get_or_insert(outcome.started);
        self.ended_at = Some(outcome.ended);
        Ok(match outcome.result {
            Ok(reply) => Ok(reply),
            Err(failure) if self.agent.limits.deadline_ends_first_try() => Err(failure.with_raise_deadline_hint()),
            Err(failure) => Err(failure),
        })
    }
}

/// The content of a rejected reply for a re-ask: with the opaque data that the provider needs again, but without tool
/// calls, since orch has no results for them.
fn re_ask_content(content: &Content, answer: &str) -> Content {
    let has_calls = content.blocks().iter().any(|block| matches!(block, ContentBlock::ToolCall { .. }));
    if has_calls { Content::from_text(answer) } else { content.with_text(answer) }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
