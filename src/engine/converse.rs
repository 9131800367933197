//! One step's talk with its models: `re_ask` continues a conversation, `retry` starts one
//! anew, `fallback` moves on to the next model.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::durable::{Ask, Call, Decided, Effect, Reply, Stop};
use crate::extract::{self, Extraction, Options, Reason, StopHint};
use crate::model::event::ReplyRead;
use crate::model::program::SANDBOX_REFUSAL;
use crate::model::{CallKey, ChatReply, ChatRequest, Class, Failure, StepKey, StopReason, Turn, Usage};
use crate::offload::LARGE_TEXT;
use crate::schema::render_mismatches;

use super::agent::ask_digest;
use super::gate::most;
use super::interpret::Run;
use super::leaf::{Leaf, mixed_up};
use super::message::{Asked, re_ask};
use super::node::{AgentNode, Contract, Node, PlannedModel};
use super::retry::impatient;

/// The talk of one opening of a step.
pub(super) struct Conversation<'a> {
    leaf: &'a Leaf<'a>,
    agent: &'a AgentNode,
    asked: &'a Asked,
    attempt: u32,
    place: usize,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(leaf: &'a Leaf<'a>, agent: &'a AgentNode, asked: &'a Asked, attempt: u32) -> Self {
        Self { leaf, agent, asked, attempt, place: 0, began: None, ended: None }
    }

    /// The attempt that is going on or was the last.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which of the step's models was asked last.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Asks until a value is taken or everything is used up.
    pub(super) async fn run(&mut self) -> Result<Result<Value, Failure>, Stop> {
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

    /// Whether the step's deadline has passed, as far as recorded outcomes tell.
    fn is_over(&self) -> bool {
        match (self.agent.limits.deadline, self.began, self.ended) {
            (Some(deadline), Some(began), Some(ended)) => {
                Duration::try_from(ended.duration_since(began)).is_ok_and(|spent| spent >= deadline)
            }
            _ => false,
        }
    }

    /// One conversation: a request, and re-asks while replies do not validate.
    async fn talk(
        &mut self,
        model: &PlannedModel,
        mut request: ChatRequest,
        mut bound: Usage,
    ) -> Result<Result<Value, Failure>, Stop> {
        let mut session = None;
        for ordinal in 1.. {
            let key = self.leaf.call(self.attempt, ordinal);
            let reply = match self.ask(key.clone(), model, (&request, bound), session.take()).await? {
                Ok(reply) => reply,
                Err(failure) => return Ok(Err(failure)),
            };
            let (failure, mismatches) =
                match read(self.leaf.run, &self.leaf.open.step, self.leaf.node, self.agent, &reply).await? {
                    Ok(found) => {
                        self.leaf.run.durable.record(Decided::Read(found.fact(key))).await?;
                        return Ok(Ok(found.value));
                    }
                    Err(unread) => *unread,
                };
            let again = ordinal <= self.agent.re_asks;
            // The model gets its answer back, without its reasoning and the turns that it invented.
            let said = extract::answer_text(&reply.text).text.unwrap_or(&reply.text);
            let next = again.then(|| re_ask(&request, said, &failure, &mismatches)).flatten();
            let next = next.map(|next| (most(&next), next));
            let fact = ReplyRead {
                call: key,
                source: None,
                repairs: Vec::new(),
                others: 0,
                left_out: Vec::new(),
                failure: Some(failure.clone()),
                asks_again: next.is_some(),
                most: next.as_ref().filter(|_| model.program.is_none()).map(|(most, _)| *most),
            };
            self.leaf.run.durable.record(Decided::Read(fact)).await?;
            let counted = reply.work.as_ref().and_then(|work| work.session_usage);
            session = reply.id.clone().map(|id| (id, counted));
            match next {
                Some(next) => (bound, request) = next,
                None => return Ok(Err(failure)),
            }
        }
        Ok(Err(Failure::new(Class::Exhausted, "the conversation never ended")))
    }

    async fn ask(
        &mut self,
        key: CallKey,
        model: &PlannedModel,
        (request, most): (&ChatRequest, Usage),
        session: Option<(String, Option<Usage>)>,
    ) -> Result<Result<ChatReply, Failure>, Stop> {
        let until = match (self.agent.limits.deadline, self.began) {
            (Some(deadline), Some(began)) => {
                Some(began + jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX))
            }
            _ => None,
        };
        let limit = [self.agent.limits.timeout, self.agent.limits.deadline].into_iter().flatten().min();
        let (request_of, timeout_ms) = (request.clone(), limit.map(millis));
        let effect = match &model.program {
            None => Effect::Ask(Ask { request: request_of, most, timeout_ms, until }),
            Some(program) => {
                let program = program.clone();
                let (request, estimate) = (request_of, model.estimate);
                let (session, session_usage) = session.unzip();
                let session_usage = session_usage.flatten();
                Effect::Turn(Box::new(Turn { program, request, estimate, session, session_usage, timeout_ms, until }))
            }
        };
        let outcome = self.leaf.run.durable.call(Call { key, ask: ask_digest(model, request), effect }).await?;
        // Recorded, so that a resumed step keeps its deadline.
        self.began.get_or_insert(outcome.started);
        self.ended = Some(outcome.ended);
        Ok(match outcome.result {
            Ok(Reply::Chat(reply)) => Ok(reply),
            Ok(Reply::Done(_)) => Err(mixed_up()),
            Err(failure) => Err(failure),
        })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What helps a program that was denied a tool.
const GRANT: &str = "grant it under `tools:` of the agent, or tell it in the prompt to do without";
/// What helps one whose command said that its sandbox refused a write.
const IN_SANDBOX: &str = "tell the agent in its prompt to write only in the workspace, which needs `access: write`; \
                          if the line was only quoted, in a log that a command printed, tell it not to print that log";

/// A value taken from a reply.
pub(super) struct Found {
    /// The value.
    pub(super) value: Value,
    read: Option<Extraction>,
    /// What was left out of a reply in plain text.
    left_out: Vec<String>,
}

impl Found {
    fn fact(&self, call: CallKey) -> ReplyRead {
        let (source, repairs, others, left_out) = match &self.read {
            Some(read) => (
                read.source.as_str(),
                read.repairs.iter().map(|r| r.as_str().to_owned()).collect(),
                read.others,
                read.left_out.clone(),
            ),
            None => ("whole", Vec::new(), 0, self.left_out.clone()),
        };
        ReplyRead {
            call,
            source: Some(source.to_owned()),
            repairs,
            others,
            left_out,
            failure: None,
            most: None,
            asks_again: false,
        }
    }
}

/// Reads a reply, elsewhere when that may take long.
pub(super) async fn read(
    run: Run<'_>,
    key: &StepKey,
    node: &Node,
    agent: &AgentNode,
    reply: &ChatReply,
) -> Result<Result<Found, Box<(Failure, String)>>, Stop> {
    let contract = node.output.as_ref().map(|output| &output.contract);
    if reply.text.len() < LARGE_TEXT && !contract.is_some_and(Contract::takes_long) {
        return Ok(read_reply(node, agent, reply));
    }
    let (node, agent, reply) = (node.clone(), agent.clone(), reply.clone());
    run.compute(key, move || read_reply(&node, &agent, &reply)).await
}

/// Reads a reply: the value, or why there is none together with the list of mismatches for a re-ask.
fn read_reply(node: &Node, agent: &AgentNode, reply: &ChatReply) -> Result<Found, Box<(Failure, String)>> {
    if let Some(denied) = reply.work.as_ref().and_then(|work| work.denied.first()) {
        let why = format!("the agent was denied what it asked for: {denied}");
        let hint = if denied.starts_with(SANDBOX_REFUSAL) { IN_SANDBOX } else { GRANT };
        return Err(Box::new((Failure::new(Class::PermissionDenied, why).with_hint(hint), String::new())));
    }
    if let Some(reason) = &reply.remarks.unknown_stop {
        let why = format!("the reply may not be whole: its stop reason is `{}`", shown_reason(reason));
        let hint = "see the reply with `orch runs show --replies`";
        return Err(Box::new((Failure::new(Class::UnknownStop, why).with_hint(hint), String::new())));
    }
    let schema = match node.output.as_ref().map(|output| &output.contract) {
        Some(Contract::Text) | None => return read_text(agent, reply),
        Some(Contract::Json(schema)) => schema,
    };
    let stop = match reply.stop {
        StopReason::End => StopHint::Complete,
        StopReason::Length => StopHint::Length,
        StopReason::Refusal => StopHint::Refusal,
        StopReason::ToolUse | StopReason::Unknown => StopHint::Unknown,
    };
    match extract::extract(reply.text.as_bytes(), schema, &Options { strict: agent.strict, stop }) {
        Ok(read) => Ok(Found { value: read.value.clone(), read: Some(read), left_out: Vec::new() }),
        Err(rejection) => {
            let class = match rejection.reason {
                Reason::NoJson => Class::NoJson,
                Reason::SchemaMismatch => Class::SchemaMismatch,
                Reason::AmbiguousReply => Class::AmbiguousReply,
                Reason::LengthStop => Class::LengthStop,
                Reason::Refusal => Class::Refusal,
                Reason::EmptyReply => Class::EmptyReply,
            };
            let failure = match class {
                Class::EmptyReply if reply.text.trim().is_empty() => empty_reply(reply),
                Class::EmptyReply => Failure::new(class, rejection.message.clone()).with_hint(ANSWER_OUTSIDE),
                class => with_hint(Failure::new(class, rejection.message.clone()), agent),
            };
            Err(Box::new((failure, render_mismatches(&rejection.mismatches))))
        }
    }
}

fn read_text(agent: &AgentNode, reply: &ChatReply) -> Result<Found, Box<(Failure, String)>> {
    let failure = match reply.stop {
        StopReason::Refusal => Failure::new(Class::Refusal, "the model refused to answer"),
        StopReason::Length => Failure::new(Class::LengthStop, "the reply was cut off at the token limit"),
        _ if reply.text.trim().is_empty() => empty_reply(reply),
        // What stands before the call of a tool is no answer.
        StopReason::ToolUse => {
            Failure::new(Class::EmptyReply, "the model called a tool instead of answering").with_hint(NO_TOOLS)
        }
        StopReason::End | StopReason::Unknown => {
            let answer = extract::answer_text(&reply.text);
            if let Some(text) = answer.text {
                return Ok(Found { value: Value::String(text.to_owned()), read: None, left_out: answer.left_out });
            }
            let only = answer.left_out.join(", ");
            Failure::new(Class::EmptyReply, format!("the reply has no answer, only {only}")).with_hint(ANSWER_OUTSIDE)
        }
    };
    Err(Box::new((with_hint(failure, agent), String::new())))
}

/// What to do about a model that calls tools.
const NO_TOOLS: &str = "agents that are models have no tools: tell the model in the prompt to answer in its text";

/// What to do about a reply that holds only reasoning.
const ANSWER_OUTSIDE: &str = "the answer must stand outside of the reasoning: raise `max_output_tokens` of the agent, or have the server reason less";

/// The failure of a reply without text, with what came instead.
fn empty_reply(reply: &ChatReply) -> Failure {
    let Some(instead) = &reply.remarks.instead else {
        return Failure::new(Class::EmptyReply, "the reply is empty");
    };
    let failure = Failure::new(Class::EmptyReply, format!("the reply has no text, only {instead}"));
    match reply.stop {
        StopReason::ToolUse => failure.with_hint(NO_TOOLS),
        _ if instead.starts_with("reasoning") => failure.with_hint(ANSWER_OUTSIDE),
        _ => failure,
    }
}

/// A stop reason for a sentence.
fn shown_reason(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(60).collect()
}

fn with_hint(failure: Failure, agent: &AgentNode) -> Failure {
    let hint = match failure.class {
        Class::LengthStop => format!("raise `max_output_tokens` of agent `{}` (now {})", agent.agent, agent.max_output_tokens),
        Class::SchemaMismatch | Class::NoJson => {
            "see the reply with `orch runs show --replies`; a larger model, a clearer prompt or a simpler schema may help".to_owned()
        }
        _ => return failure,
    };
    failure.with_hint(hint)
}
