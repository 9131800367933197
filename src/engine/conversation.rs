//! The requests of one agent step: `re_ask` continues a conversation, `retry` starts a new one, `fallback` moves on to
//! the next model.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::durable::{Ask, Call, CallReply, Effect, Interrupt, StepFact};
use crate::extract;
use crate::model::event::ReplyParsed;
use crate::model::{AgentTurn, CallKey, ChatReply, ChatRequest, Class, Failure, Usage};

use super::agent::ask_digest;
use super::gate::most;
use super::leaf::{Leaf, mixed_up};
use super::message::{RenderedPrompt, re_ask};
use super::node::{AgentNode, PlannedModel};
use super::reading::{ReplyReader, Unread};
use super::retry::impatient;

/// All requests that one opening of a step makes.
pub(super) struct Conversation<'a> {
    leaf: &'a Leaf<'a>,
    agent: &'a AgentNode,
    asked: &'a RenderedPrompt,
    reader: &'a ReplyReader<'a>,
    attempt: u32,
    place: usize,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        leaf: &'a Leaf<'a>,
        agent: &'a AgentNode,
        asked: &'a RenderedPrompt,
        reader: &'a ReplyReader<'a>,
        attempt: u32,
    ) -> Self {
        Self { leaf, agent, asked, reader, attempt, place: 0, began: None, ended: None }
    }

    /// The current attempt, or the last one.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The position of the model that was asked last in the step's list of models.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Asks until a reply is accepted, or all tries, re-asks and fallbacks are used up.
    pub(super) async fn run(&mut self) -> Result<Result<Value, Failure>, Interrupt> {
        let mut last = Failure::new(Class::NotInstalled, "the step has no model");
        let mut first = true;
        for (place, model) in self.agent.models.iter().enumerate() {
            self.place = place;
            let mut tries = 0;
            loop {
                if !first {
                    self.attempt += 1;
                }
                first = false;
                tries += 1;
                let request = self.asked.request(self.leaf.node, self.agent, model);
                let most = most(&request);
                let (name, told) = (Some(model.reference.clone()), model.program.is_none().then_some(most));
                self.leaf.start_with(self.attempt, &self.agent.agent, name, told).await?;
                match self.talk(model, request, most).await? {
                    Ok(value) => return Ok(Ok(value)),
                    Err(failure) => last = failure,
                }
                if self.is_over() {
                    return Ok(Err(last.of_step()));
                }
                if !self.leaf.try_again(&self.agent.limits, &last, tries, self.attempt).await? {
                    last = impatient(last);
                    break;
                }
            }
        }
        Ok(Err(last.of_step()))
    }

    /// Whether the step's deadline has passed, judged by the times of recorded outcomes.
    fn is_over(&self) -> bool {
        match (self.agent.limits.deadline, self.began, self.ended) {
            (Some(deadline), Some(began), Some(ended)) => {
                Duration::try_from(ended.duration_since(began)).is_ok_and(|spent| spent >= deadline)
            }
            _ => false,
        }
    }

    /// Runs one conversation: a request, then re-asks while replies do not validate.
    async fn talk(
        &mut self,
        model: &PlannedModel,
        mut request: ChatRequest,
        mut bound: Usage,
    ) -> Result<Result<Value, Failure>, Interrupt> {
        let mut session = None;
        for ordinal in 1.. {
            let key = self.leaf.call(self.attempt, ordinal);
            let reply = match self.ask(key.clone(), model, &request, bound, session.take()).await? {
                Ok(reply) => reply,
                Err(failure) => return Ok(Err(failure)),
            };
            let Unread { failure, words } = match self.reader.read(&reply).await? {
                Ok(found) => {
                    self.leaf.run.durable.record(StepFact::Parsed(found.fact(key))).await?;
                    return Ok(Ok(found.value));
                }
                Err(unread) => *unread,
            };
            let again = ordinal <= self.agent.re_asks;
            // The re-ask contains the model's previous answer, without reasoning and without turns that the model
            // invented.
            let said = extract::answer_text(&reply.text).text.unwrap_or(&reply.text);
            let next = again.then(|| re_ask(&request, said, &failure, &words)).flatten();
            let next = next.map(|next| (most(&next), next));
            let fact = ReplyParsed {
                call: key,
                source: None,
                repairs: Vec::new(),
                other_matches: 0,
                left_out: Vec::new(),
                failure: Some(failure.clone()),
                asks_again: next.is_some(),
                max_usage: next.as_ref().filter(|_| model.program.is_none()).map(|(most, _)| *most),
            };
            self.leaf.run.durable.record(StepFact::Parsed(fact)).await?;
            let counted = reply.agent_activity.as_ref().and_then(|work| work.session_usage);
            session = reply.id.clone().map(|id| (id, counted));
            match next {
                Some(next) => (bound, request) = next,
                None => return Ok(Err(failure)),
            }
        }
        Ok(Err(Failure::new(Class::Internal, "the conversation never ended")))
    }

    async fn ask(
        &mut self,
        key: CallKey,
        model: &PlannedModel,
        request: &ChatRequest,
        most: Usage,
        session: Option<(String, Option<Usage>)>,
    ) -> Result<Result<ChatReply, Failure>, Interrupt> {
        let until = match (self.agent.limits.deadline, self.began) {
            (Some(deadline), Some(began)) => {
                Some(began + jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX))
            }
            _ => None,
        };
        let limit = [self.agent.limits.timeout, self.agent.limits.deadline].into_iter().flatten().min();
        let (request_of, timeout_ms) = (request.clone(), limit.map(millis));
        let effect = match &model.program {
            None => Effect::Ask(Ask { request: request_of, max_usage: most, timeout_ms, until }),
            Some(program) => {
                let program = program.clone();
                let (request, estimate) = (request_of, model.estimate);
                let (session, session_usage) = session.unzip();
                let session_usage = session_usage.flatten();
                Effect::Turn(Box::new(AgentTurn {
                    program,
                    request,
                    estimate,
                    session,
                    session_usage,
                    timeout_ms,
                    until,
                }))
            }
        };
        let outcome =
            self.leaf.run.durable.call(Call { key, request_digest: ask_digest(model, request), effect }).await?;
        // Taken from the recorded outcome, so that a resumed step keeps its deadline.
        self.began.get_or_insert(outcome.started);
        self.ended = Some(outcome.ended);
        Ok(match outcome.result {
            Ok(CallReply::Chat(reply)) => Ok(reply),
            Ok(CallReply::Output(_)) => Err(mixed_up()),
            Err(failure) if self.agent.limits.deadline_is_less() => Err(failure.of_deadline()),
            Err(failure) => Err(failure),
        })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
