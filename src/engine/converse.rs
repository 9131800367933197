//! One step's talk with its models: `re_ask` continues a conversation, `retry` starts one
//! anew, `fallback` moves on to the next model.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::durable::{Ask, Call, Decided, Durable, Effect, Open, Stop};
use crate::extract::{self, Extraction, Options, Reason, StopHint};
use crate::model::event::{ReplyRead, StepStarted};
use crate::model::{CallKey, ChatReply, ChatRequest, Class, Failure, StopReason};
use crate::schema::render_mismatches;

use super::interpret::ask_digest;
use super::message::{Asked, re_ask};
use super::plan::{Contract, PlannedModel, StepNode};
use super::retry::pause;

/// The talk of one opening of a step.
pub(super) struct Conversation<'a> {
    durable: &'a dyn Durable,
    step: &'a StepNode,
    asked: &'a Asked,
    open: &'a Open,
    attempt: u32,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        durable: &'a dyn Durable,
        step: &'a StepNode,
        asked: &'a Asked,
        open: &'a Open,
        attempt: u32,
    ) -> Self {
        Self { durable, step, asked, open, attempt, began: None, ended: None }
    }

    /// The attempt that is going on or was the last.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Asks until a value is taken or everything is used up.
    pub(super) async fn run(&mut self) -> Result<Result<Value, Failure>, Stop> {
        let mut last = Failure::new(Class::NotInstalled, "the step has no model");
        let mut first = true;
        for model in &self.step.models {
            let mut tries = 0;
            loop {
                if !first {
                    self.attempt += 1;
                }
                first = false;
                tries += 1;
                self.start(model).await?;
                match self.talk(model).await? {
                    Ok(value) => return Ok(Ok(value)),
                    Err(failure) => last = failure,
                }
                if self.is_over() {
                    return Ok(Err(last));
                }
                if !self.try_again(&last, tries).await? {
                    break;
                }
            }
        }
        Ok(Err(last))
    }

    async fn start(&self, model: &PlannedModel) -> Result<(), Stop> {
        let fact = StepStarted {
            step: self.open.step.clone(),
            attempt: self.attempt,
            agent: self.step.agent.clone(),
            model: model.reference.clone(),
            recipe: self.open.recipe.clone(),
        };
        self.durable.record(Decided::Started(fact)).await
    }

    /// Whether the step's deadline has passed, as far as recorded outcomes tell.
    fn is_over(&self) -> bool {
        match (self.step.deadline, self.began, self.ended) {
            (Some(deadline), Some(began), Some(ended)) => {
                Duration::try_from(ended.duration_since(began)).is_ok_and(|spent| spent >= deadline)
            }
            _ => false,
        }
    }

    /// Waits and returns true when the failure is worth another try.
    async fn try_again(&self, failure: &Failure, tries: u32) -> Result<bool, Stop> {
        if tries >= self.step.tries || !self.step.retry_on.contains(&failure.class) {
            return Ok(false);
        }
        let next = CallKey { step: self.open.step.clone(), attempt: self.attempt + 1, ordinal: 0 };
        let Some(pause) = pause(failure, tries) else {
            return Ok(false);
        };
        self.durable.wait(next, pause).await?;
        Ok(true)
    }

    /// One conversation: a request, and re-asks while replies do not validate.
    async fn talk(&mut self, model: &PlannedModel) -> Result<Result<Value, Failure>, Stop> {
        let mut request = self.asked.request(self.step, model);
        for ordinal in 1.. {
            let key = CallKey { step: self.open.step.clone(), attempt: self.attempt, ordinal };
            let reply = match self.ask(key.clone(), model, &request).await? {
                Ok(reply) => reply,
                Err(failure) => return Ok(Err(failure)),
            };
            let (failure, mismatches) = match read_reply(self.step, &reply) {
                Ok(found) => {
                    self.durable.record(Decided::Read(found.fact(key))).await?;
                    return Ok(Ok(found.value));
                }
                Err(unread) => *unread,
            };
            let fact =
                ReplyRead { call: key, source: None, repairs: Vec::new(), others: 0, failure: Some(failure.clone()) };
            self.durable.record(Decided::Read(fact)).await?;
            if ordinal > self.step.re_asks {
                return Ok(Err(failure));
            }
            match re_ask(&request, &reply.text, &failure, &mismatches) {
                Some(next) => request = next,
                None => return Ok(Err(failure)),
            }
        }
        Ok(Err(Failure::new(Class::Exhausted, "the conversation never ended")))
    }

    async fn ask(
        &mut self,
        key: CallKey,
        model: &PlannedModel,
        request: &ChatRequest,
    ) -> Result<Result<ChatReply, Failure>, Stop> {
        let until = match (self.step.deadline, self.began) {
            (Some(deadline), Some(began)) => {
                Some(began + jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX))
            }
            _ => None,
        };
        let limit = [self.step.timeout, self.step.deadline].into_iter().flatten().min();
        let effect = Effect::Ask(Ask { request: request.clone(), timeout_ms: limit.map(millis), until });
        let outcome = self.durable.call(Call { key, ask: ask_digest(&model.dialect, request), effect }).await?;
        // Recorded, so that a resumed step keeps its deadline.
        self.began.get_or_insert(outcome.started);
        self.ended = Some(outcome.ended);
        Ok(outcome.result)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A value taken from a reply.
pub(super) struct Found {
    /// The value.
    pub(super) value: Value,
    read: Option<Extraction>,
}

impl Found {
    fn fact(&self, call: CallKey) -> ReplyRead {
        let (source, repairs, others) = match &self.read {
            Some(read) => {
                (read.source.as_str(), read.repairs.iter().map(|r| r.as_str().to_owned()).collect(), read.others)
            }
            None => ("whole", Vec::new(), 0),
        };
        ReplyRead { call, source: Some(source.to_owned()), repairs, others, failure: None }
    }
}

/// Reads a reply: the value, or why there is none together with the list of mismatches for a re-ask.
pub(super) fn read_reply(step: &StepNode, reply: &ChatReply) -> Result<Found, Box<(Failure, String)>> {
    let schema = match &step.contract {
        Contract::Text => return read_text(step, reply),
        Contract::Json(schema) => schema,
    };
    let stop = match reply.stop {
        StopReason::End => StopHint::Complete,
        StopReason::Length => StopHint::Length,
        StopReason::Refusal => StopHint::Refusal,
        StopReason::Unknown => StopHint::Unknown,
    };
    match extract::extract(reply.text.as_bytes(), schema, &Options { strict: step.strict, stop }) {
        Ok(read) => Ok(Found { value: read.value.clone(), read: Some(read) }),
        Err(rejection) => {
            let class = match rejection.reason {
                Reason::NoJson => Class::NoJson,
                Reason::SchemaMismatch => Class::SchemaMismatch,
                Reason::AmbiguousReply => Class::AmbiguousReply,
                Reason::LengthStop => Class::LengthStop,
                Reason::Refusal => Class::Refusal,
                Reason::EmptyReply => Class::EmptyReply,
            };
            let failure = with_hint(Failure::new(class, rejection.message.clone()), step);
            Err(Box::new((failure, render_mismatches(&rejection.mismatches))))
        }
    }
}

fn read_text(step: &StepNode, reply: &ChatReply) -> Result<Found, Box<(Failure, String)>> {
    let failure = match reply.stop {
        StopReason::Refusal => Failure::new(Class::Refusal, "the model refused to answer"),
        StopReason::Length => Failure::new(Class::LengthStop, "the reply was cut off at the token limit"),
        StopReason::End | StopReason::Unknown if reply.text.trim().is_empty() => {
            Failure::new(Class::EmptyReply, "the reply is empty")
        }
        StopReason::End | StopReason::Unknown => {
            return Ok(Found { value: Value::String(reply.text.clone()), read: None });
        }
    };
    Err(Box::new((with_hint(failure, step), String::new())))
}

fn with_hint(failure: Failure, step: &StepNode) -> Failure {
    let hint = match failure.class {
        Class::LengthStop => format!("raise `max_output_tokens` of agent `{}` (now {})", step.agent, step.max_output_tokens),
        Class::SchemaMismatch | Class::NoJson => {
            "see the reply with `orch runs show RUN --replies`; a larger model, a clearer prompt or a simpler schema may help".to_owned()
        }
        _ => return failure,
    };
    failure.with_hint(hint)
}
