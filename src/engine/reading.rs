//! Reads a reply: extracts its value, or returns why there is none and what to tell the model about it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::durable::Interrupt;
use crate::extract::{self, Extraction, Options, RejectionReason, StopHint};
use crate::files::{self, Reserved};
use crate::model::event::{FingerprintPart, ReplyParsed};
use crate::model::program::SANDBOX_REFUSAL;
use crate::model::{CallKey, ChatReply, Class, Failure, ProgramKind, StepKey, StopReason};
use crate::offload::LARGE_TEXT;
use crate::schema::render_mismatches;
use crate::template::{eval_bool, variables};

use super::compute::takes_long;
use super::interpret::Run;
use super::leaf::{digest, part};
use super::node::{AgentNode, Contract, PlanNode, WrittenBy};
use super::plan::ReservedNames;
use super::scope::ValueScope;

/// The hint for a CLI agent that was denied a tool.
const GRANT: &str = "grant it under `tools:` of the agent, or tell it in the prompt to do without";
/// The hint for a CLI agent whose sandbox refused a write of a command.
const IN_SANDBOX: &str = "tell the agent in its prompt to write only in the workspace, which needs `access: write`; \
                          if the line was only quoted, in a log that a command printed, tell it not to print that log";

/// A value extracted from a reply.
pub(super) struct ExtractedValue {
    /// The value.
    pub(super) value: Value,
    read: Option<Extraction>,
    /// The parts of a plain-text reply that are not in the value.
    left_out: Vec<String>,
}

impl ExtractedValue {
    /// The fact that records how the value was extracted.
    pub(super) fn fact(&self, call: CallKey) -> ReplyParsed {
        let (source, repairs, others, left_out) = match &self.read {
            Some(read) => (
                read.source.as_str(),
                read.repairs.iter().map(|r| r.as_str().to_owned()).collect(),
                read.others,
                read.left_out.clone(),
            ),
            None => ("whole", Vec::new(), 0, self.left_out.clone()),
        };
        ReplyParsed {
            call,
            source: Some(source.to_owned()),
            repairs,
            other_matches: others,
            left_out,
            failure: None,
            max_usage: None,
            asks_again: false,
        }
    }
}

/// A reply that was rejected.
pub(super) struct Unread {
    /// Why it was rejected.
    pub(super) failure: Failure,
    /// What is wrong with it, one problem per line, for the model; may be empty.
    pub(super) words: String,
}

impl From<Failure> for Box<Unread> {
    fn from(failure: Failure) -> Self {
        Self::new(Unread { failure, words: String::new() })
    }
}

/// Reads the replies of one step.
pub(super) struct ReplyReader<'a> {
    run: Run<'a>,
    key: &'a StepKey,
    node: &'a PlanNode,
    agent: &'a AgentNode,
    /// The values that the step sees.
    scope: ValueScope,
}

impl<'a> ReplyReader<'a> {
    /// Creates the reader for a step that sees this scope.
    pub(super) fn new(
        run: Run<'a>,
        key: &'a StepKey,
        node: &'a PlanNode,
        agent: &'a AgentNode,
        scope: &ValueScope,
    ) -> Self {
        Self { run, key, node, agent, scope: scope.clone() }
    }

    /// Reads a reply, on a separate thread if that may take long.
    pub(super) async fn read(&self, reply: &ChatReply) -> Result<Result<ExtractedValue, Box<Unread>>, Interrupt> {
        let kept = self.run.plan.kept();
        let contract = self.node.output.as_ref().map(|output| &output.contract);
        let conditions = self.agent.accept.iter().map(|accept| accept.that.as_str());
        let large = reply.text.len() >= LARGE_TEXT || contract.is_some_and(Contract::takes_long);
        if !large && (self.agent.accept.is_empty() || !takes_long(&self.scope, conditions)) {
            return Ok(Rules { node: self.node, agent: self.agent, scope: &self.scope, kept }.read(reply));
        }
        let (node, agent, reply) = (self.node.clone(), self.agent.clone(), reply.clone());
        let (scope, kept) = (self.scope.clone(), Arc::clone(kept));
        let work = move || Rules { node: &node, agent: &agent, scope: &scope, kept: &kept }.read(&reply);
        self.run.compute(self.key, work).await
    }
}

/// The rules that decide whether a step accepts a reply, and which value it takes.
pub(super) struct Rules<'a> {
    pub(super) node: &'a PlanNode,
    pub(super) agent: &'a AgentNode,
    pub(super) scope: &'a ValueScope,
    /// The files that no step may write.
    pub(super) kept: &'a ReservedNames,
}

impl Rules<'_> {
    /// The rules as a value, for the step's fingerprint.
    pub(super) fn value(&self) -> Value {
        let contract = self.node.output.as_ref().map(|output| output.contract.digest());
        let mut rules = Map::new();
        rules.insert("contract".to_owned(), json!(contract));
        rules.insert("strict".to_owned(), json!(self.agent.strict));
        if !self.agent.accept.is_empty() {
            rules.insert("accept".to_owned(), self.conditions());
        }
        if !self.agent.written.is_empty() {
            rules.insert("written".to_owned(), self.written());
        }
        Value::Object(rules)
    }

    /// The rules beyond the schema, as named parts of the fingerprint.
    pub(super) fn parts(&self) -> Vec<FingerprintPart> {
        let mut parts = Vec::new();
        if !self.agent.accept.is_empty() {
            let mut conditions = self.conditions();
            parts.push(part("what `accept` looks at", &conditions["seen"].take()));
            parts.push(part("accept", &conditions["conditions"].take()));
        }
        if !self.agent.written.is_empty() {
            parts.push(part("rules of write", &self.written()));
        }
        parts
    }

    /// The conditions of `accept`, with digests of the values that they use, except for the reply itself.
    fn conditions(&self) -> Value {
        let output = self.node.output.as_ref().map(|output| output.name.as_str());
        let conditions: Vec<&str> = self.agent.accept.iter().map(|accept| accept.that.as_str()).collect();
        let seen: Map<String, Value> = conditions
            .iter()
            .flat_map(|that| variables(that))
            .filter(|name| Some(name.as_str()) != output)
            .filter_map(|name| Some((name.clone(), json!(digest(&self.scope.value_named(&name)?)))))
            .collect();
        json!({ "conditions": conditions, "seen": seen })
    }

    /// Which members of the reply become files, and which files they may not name.
    fn written(&self) -> Value {
        let members: Vec<&[String]> = self.agent.written.iter().map(|by| by.members.as_slice()).collect();
        let ReservedNames { artifacts, project } = self.kept;
        json!({ "members": members, "rules": files::RULES, "kept": [artifacts, project] })
    }

    /// Reads a reply: returns the value, or why there is none.
    fn read(&self, reply: &ChatReply) -> Result<ExtractedValue, Box<Unread>> {
        let found = read_reply(self.node, self.agent, reply)?;
        let breaches: Vec<Breach> = self.refused(&found.value).chain(self.unmet(&found.value)).collect();
        if breaches.is_empty() {
            return Ok(found);
        }
        let why = breaches.iter().map(|breach| breach.why.as_str()).collect::<Vec<_>>().join("; ");
        let words = breaches.iter().flat_map(|breach| &breach.words).map(|line| format!("- {line}"));
        Err(Box::new(Unread {
            failure: with_hint(Failure::new(Class::OutputRejected, why), self.agent),
            words: words.collect::<Vec<_>>().join("\n"),
        }))
    }

    /// What the steps that write files of this value would refuse.
    fn refused(&self, value: &Value) -> impl Iterator<Item = Breach> {
        let reserved = Reserved { artifacts: &self.kept.artifacts, project: &self.kept.project };
        let refused = move |by: &WrittenBy| {
            // If the member is absent, the writing step may be skipped by its own condition, so this is no breach.
            let listed = by.members.iter().try_fold(value, |at, name| at.get(name)).filter(|at| !at.is_null())?;
            let words = files::refusals(listed, reserved);
            let why = format!("step `{}` can't write the files of the reply: {}", by.step, words.join("; "));
            (!words.is_empty()).then_some(Breach { why, words })
        };
        let mut found: Vec<Breach> = Vec::new();
        for breach in self.agent.written.iter().filter_map(refused) {
            // Several steps may write the same list; report its problems once.
            if !found.iter().any(|other| other.words == breach.words) {
                found.push(breach);
            }
        }
        found.into_iter()
    }

    /// The conditions of `accept` that are false or can't be evaluated.
    fn unmet(&self, value: &Value) -> impl Iterator<Item = Breach> {
        let mut context = self.scope.context(self.node);
        if let (Some(output), false) = (&self.node.output, self.agent.accept.is_empty()) {
            context.insert(&output.name, value);
        }
        self.agent.accept.iter().filter_map(move |accept| {
            let words = match eval_bool(&accept.that, &context) {
                Ok(true) => return None,
                Ok(false) => accept.otherwise.trim().to_owned(),
                Err(error) => format!("{} (`{}`: {error})", accept.otherwise.trim(), accept.that.trim()),
            };
            Some(Breach { why: format!("the reply is not accepted: {words}"), words: vec![words] })
        })
    }
}

/// A rule beyond the schema that a value breaks.
struct Breach {
    /// What is wrong, for the user.
    why: String,
    /// What is wrong, for the model, one problem per line.
    words: Vec<String>,
}

/// Extracts the value by its schema, or returns why there is none with the list of mismatches.
fn read_reply(node: &PlanNode, agent: &AgentNode, reply: &ChatReply) -> Result<ExtractedValue, Box<Unread>> {
    if let Some(denied) = reply.agent_activity.as_ref().and_then(|work| work.denied.first()) {
        let why = format!("the agent was denied what it asked for: {denied}");
        let hint = if denied.starts_with(SANDBOX_REFUSAL) { IN_SANDBOX } else { GRANT };
        return Err(Failure::new(Class::PermissionDenied, why).with_hint(hint).into());
    }
    if let Some(reason) = &reply.remarks.unknown_stop {
        let why = format!("the reply may not be whole: its stop reason is `{}`", shown_reason(reason));
        let hint = "see the reply with `orch runs show --replies`; ask again when it was cut off, or name another model with --model";
        return Err(Failure::new(Class::UnknownStop, why).with_hint(hint).into());
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
        Ok(read) => Ok(ExtractedValue { value: read.value.clone(), read: Some(read), left_out: Vec::new() }),
        Err(rejection) => {
            let class = match rejection.reason {
                RejectionReason::NoJson => Class::NoJson,
                RejectionReason::SchemaMismatch => Class::SchemaMismatch,
                RejectionReason::AmbiguousReply => Class::AmbiguousReply,
                RejectionReason::MaxTokensReached => Class::MaxTokensReached,
                RejectionReason::Refusal => Class::Refusal,
                RejectionReason::EmptyReply => Class::EmptyReply,
            };
            let failure = match class {
                Class::EmptyReply if reply.text.trim().is_empty() => empty_reply(reply),
                Class::EmptyReply => Failure::new(class, rejection.message.clone()).with_hint(ANSWER_OUTSIDE),
                class => with_hint(Failure::new(class, rejection.message.clone()), agent),
            };
            Err(Box::new(Unread { failure, words: render_mismatches(&rejection.mismatches) }))
        }
    }
}

fn read_text(agent: &AgentNode, reply: &ChatReply) -> Result<ExtractedValue, Box<Unread>> {
    let failure = match reply.stop {
        StopReason::Refusal => Failure::new(Class::Refusal, "the model refused to answer"),
        StopReason::Length => Failure::new(Class::MaxTokensReached, "the reply was cut off at the token limit"),
        _ if reply.text.trim().is_empty() => empty_reply(reply),
        // The text before a tool call is not an answer.
        StopReason::ToolUse => {
            Failure::new(Class::EmptyReply, "the model called a tool instead of answering").with_hint(NO_TOOLS)
        }
        StopReason::End | StopReason::Unknown => {
            let answer = extract::answer_text(&reply.text);
            if let Some(text) = answer.text {
                return Ok(ExtractedValue {
                    value: Value::String(text.to_owned()),
                    read: None,
                    left_out: answer.left_out,
                });
            }
            let only = answer.left_out.join(", ");
            Failure::new(Class::EmptyReply, format!("the reply has no answer, only {only}")).with_hint(ANSWER_OUTSIDE)
        }
    };
    Err(with_hint(failure, agent).into())
}

/// The hint for a model that calls tools.
const NO_TOOLS: &str = "agents that are models have no tools: tell the model in the prompt to answer in its text";

/// The hint for a reply that contains only reasoning.
const ANSWER_OUTSIDE: &str = "the answer must stand outside of the reasoning: raise `max_output_tokens` of the agent, or have the server reason less";

/// The failure for a reply without text; it names what came instead.
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

/// Shortens a stop reason for use in a sentence.
fn shown_reason(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Whether the reply comes from a program of the user (`command:`), not from a model.
fn is_program(agent: &AgentNode) -> bool {
    let program = agent.models.first().and_then(|model| model.program.as_ref());
    program.is_some_and(|program| program.kind == ProgramKind::Command)
}

fn with_hint(failure: Failure, agent: &AgentNode) -> Failure {
    let hint = match failure.class {
        Class::MaxTokensReached => format!("raise `max_output_tokens` of agent `{}` (now {})", agent.agent, agent.max_output_tokens),
        Class::SchemaMismatch | Class::NoJson | Class::OutputRejected if is_program(agent) => {
            "see the reply with `orch runs show --replies`; correct the program, or what it is held against, then `orch pipeline resume`".to_owned()
        }
        Class::SchemaMismatch | Class::NoJson => {
            "see the reply with `orch runs show --replies`; a larger model, a clearer prompt or a simpler schema may help".to_owned()
        }
        Class::OutputRejected => {
            "see the reply with `orch runs show --replies`; correct the prompt or the conditions, or choose a larger model, then `orch pipeline resume`".to_owned()
        }
        _ => return failure,
    };
    failure.with_hint(hint)
}
