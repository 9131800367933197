//! Extracts the value of a reply and checks it against the rules of the step. If the step rejects the reply, returns
//! the failure and the problems for the re-ask.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::durable::{CallReply, Interrupt};
use crate::extract::{self, Extraction, Options, StopHint};
use crate::files::{self, ReservedFiles};
use crate::model::cli_agent::SANDBOX_REFUSAL_PREFIX;
use crate::model::event::{FingerprintPart, PartKind, ReplyParsed};
use crate::model::{CallKey, ChatReply, Failure, FailureClass, StepKey, StopReason};
use crate::offload::LARGE_TEXT_BYTES;
use crate::template::{eval_bool, loop_reads_in_expression, variables};

use super::compute::takes_long;
use super::interpret::Interpreter;
use super::node::{AgentNode, ArtifactType, FileWriter, PlanNode};
use super::plan::ReservedNames;
use super::reply_failures::{
    REASONING_HINT, empty_reply, exceeded_context_window, refusal, rejected_reply, sanitize, tool_call_hint, with_hint,
};
use super::scope::ValueScope;
use super::step_execution::{digest, fingerprint_part, unexpected_record};

/// The hint for a CLI agent that was denied a tool.
const GRANT_TOOL_HINT: &str =
    "grant it under `tools:` of the agent, or instruct the agent in the prompt to work without it";
/// The hint for a CLI agent whose sandbox refused to let a command write a file.
const SANDBOX_HINT: &str = "instruct the agent in its prompt to write only in the workspace, which needs \
                            `access: write`; if the line only comes from a log that a command printed, instruct the \
                            agent not to print that log";

/// A value extracted from a reply.
pub(super) struct ExtractedValue {
    /// The value.
    pub(super) value: Value,
    extraction: Option<Extraction>,
    /// Descriptions of the parts of a plain-text reply that are not in the value.
    left_out: Vec<String>,
}

impl ExtractedValue {
    /// The fact that records how the value was extracted.
    pub(super) fn parsed_fact(&self, call: CallKey) -> ReplyParsed {
        let (source, repairs, other_matches, left_out) = match &self.extraction {
            Some(extraction) => (
                extraction.source.as_str(),
                extraction.repairs.iter().map(|r| r.as_str().to_owned()).collect(),
                extraction.others,
                extraction.left_out.clone(),
            ),
            None => ("whole", Vec::new(), 0, self.left_out.clone()),
        };
        ReplyParsed {
            call,
            source: Some(source.to_owned()),
            repairs,
            other_matches,
            left_out,
            failure: None,
            re_asks: false,
        }
    }
}

/// A rejected reply.
pub(super) struct RejectedReply {
    /// The reason for the rejection.
    pub(super) failure: Failure,
    /// The problems that the re-ask lists, one per line; may be empty.
    pub(super) problems: String,
}

impl From<Failure> for Box<RejectedReply> {
    fn from(failure: Failure) -> Self {
        Self::new(RejectedReply { failure, problems: String::new() })
    }
}

/// Reads the replies of one step.
pub(super) struct ReplyReader<'a> {
    interpreter: Interpreter<'a>,
    key: &'a StepKey,
    node: &'a PlanNode,
    agent: &'a AgentNode,
    /// The values that the step sees.
    scope: ValueScope,
}

impl<'a> ReplyReader<'a> {
    /// Creates the reader for a step that sees this scope.
    pub(super) fn new(
        interpreter: Interpreter<'a>,
        key: &'a StepKey,
        node: &'a PlanNode,
        agent: &'a AgentNode,
        scope: &ValueScope,
    ) -> Self {
        Self { interpreter, key, node, agent, scope: scope.snapshot() }
    }

    /// Reads a reply, on a separate thread if that may take long.
    pub(super) async fn read(
        &self,
        reply: &CallReply,
    ) -> Result<Result<ExtractedValue, Box<RejectedReply>>, Interrupt> {
        let reserved_names = self.interpreter.plan.reserved_names();
        let artifact_type = self.node.output.as_ref().map(|output| &output.artifact_type);
        let conditions = self.agent.accept.iter().map(|accept| accept.that.as_str());
        let is_large = reply.chat().is_some_and(|chat| chat.content.byte_len() >= LARGE_TEXT_BYTES)
            || artifact_type.is_some_and(ArtifactType::takes_long);
        if !is_large && (self.agent.accept.is_empty() || !takes_long(&self.scope, conditions)) {
            return Ok(
                ReplyRules { node: self.node, agent: self.agent, scope: &self.scope, reserved_names }.apply(reply)
            );
        }
        let (node, agent, reply) = (self.node.clone(), self.agent.clone(), reply.clone());
        let (scope, reserved_names) = (self.scope.snapshot(), Arc::clone(reserved_names));
        let apply_rules = move || {
            ReplyRules { node: &node, agent: &agent, scope: &scope, reserved_names: &reserved_names }.apply(&reply)
        };
        self.interpreter.compute(self.key, apply_rules).await
    }
}

/// The rules by which a step extracts the value of a reply and decides whether it accepts the value.
pub(super) struct ReplyRules<'a> {
    pub(super) node: &'a PlanNode,
    pub(super) agent: &'a AgentNode,
    pub(super) scope: &'a ValueScope,
    /// The files that no step may write.
    pub(super) reserved_names: &'a ReservedNames,
}

impl ReplyRules<'_> {
    /// The rules as JSON, for the step's fingerprint.
    pub(super) fn to_json(&self) -> Value {
        let artifact_type = self.node.output.as_ref().map(|output| output.artifact_type.digest());
        let mut rules = Map::new();
        rules.insert("contract".to_owned(), json!(artifact_type));
        rules.insert("strict".to_owned(), json!(self.agent.strict));
        if !self.agent.accept.is_empty() {
            rules.insert("accept".to_owned(), self.accept_rules());
        }
        if !self.agent.writers.is_empty() {
            rules.insert("written".to_owned(), self.write_rules());
        }
        Value::Object(rules)
    }

    /// The rules other than the schema, as named parts of the fingerprint.
    pub(super) fn fingerprint_parts(&self) -> Vec<FingerprintPart> {
        let mut parts = Vec::new();
        if !self.agent.accept.is_empty() {
            let mut conditions = self.accept_rules();
            parts.push(fingerprint_part(PartKind::AcceptValues, &conditions["seen"].take()));
            parts.push(fingerprint_part(PartKind::Accept, &conditions["conditions"].take()));
        }
        if !self.agent.writers.is_empty() {
            parts.push(fingerprint_part(PartKind::WriteRules, &self.write_rules()));
        }
        parts
    }

    /// The conditions of `accept`, with the digests of the values that they use, except for the value of the reply.
    fn accept_rules(&self) -> Value {
        let output = self.node.output.as_ref().map(|output| output.name.as_str());
        let conditions: Vec<&str> = self.agent.accept.iter().map(|accept| accept.that.as_str()).collect();
        let names = conditions.iter().flat_map(|condition| variables(condition));
        let variable_values = names
            .filter(|name| Some(name.as_str()) != output)
            .filter_map(|name| Some((name.clone(), json!(digest(&self.scope.lookup_value(&name)?)))));
        // The digest covers only the members of `loop` that the conditions read: the previous iteration may be large,
        // and a change of its other artifacts must not invalidate the result.
        let loop_members = conditions.iter().flat_map(|condition| loop_reads_in_expression(condition));
        let loop_values = loop_members.filter_map(|members| {
            let value = self.scope.lookup_loop_value(&members)?;
            Some((format!("loop.{}", members.join(".")), json!(digest(&value))))
        });
        let values: Map<String, Value> = variable_values.chain(loop_values).collect();
        json!({ "conditions": conditions, "seen": values })
    }

    /// The members of the value that list files to write, and the files that they must not name.
    fn write_rules(&self) -> Value {
        let members: Vec<&[String]> = self.agent.writers.iter().map(|writer| writer.members.as_slice()).collect();
        json!({ "members": members, "rules": files::RULES_VERSION, "kept": self.reserved_names.digest })
    }

    /// Extracts the value of a reply, and checks it against the rules.
    fn apply(&self, reply: &CallReply) -> Result<ExtractedValue, Box<RejectedReply>> {
        let extracted = extract_reply(self.node, self.agent, reply)?;
        let violations: Vec<RuleViolation> =
            self.write_violations(&extracted.value).chain(self.accept_violations(&extracted.value)).collect();
        if violations.is_empty() {
            return Ok(extracted);
        }
        let message = violations.iter().map(|violation| violation.message.as_str()).collect::<Vec<_>>().join("; ");
        let problems = violations.iter().flat_map(|violation| &violation.problems).map(|line| format!("- {line}"));
        Err(Box::new(RejectedReply {
            failure: with_hint(Failure::new(FailureClass::OutputRejected, message), self.agent),
            problems: problems.collect::<Vec<_>>().join("\n"),
        }))
    }

    /// The problems for which the steps that write the files of this value would fail.
    fn write_violations(&self, value: &Value) -> impl Iterator<Item = RuleViolation> {
        let reserved = ReservedFiles {
            artifacts: &self.reserved_names.artifacts,
            project: &self.reserved_names.project,
            ..ReservedFiles::default()
        };
        let check_writer = move |writer: &FileWriter| {
            // An absent member is no violation, since the writing step may have a condition that skips it then.
            let file_list = writer
                .members
                .iter()
                .try_fold(value, |value, name| value.get(name))
                .filter(|value| !value.is_null())?;
            let problems = files::refusals(file_list, reserved);
            let message = format!("step `{}` can't write the files of the reply: {}", writer.step, problems.join("; "));
            (!problems.is_empty()).then_some(RuleViolation { message, problems })
        };
        let mut violations: Vec<RuleViolation> = Vec::new();
        for violation in self.agent.writers.iter().filter_map(check_writer) {
            // Several steps may write the same list of files. Report the problems of the list once.
            if !violations.iter().any(|known| known.problems == violation.problems) {
                violations.push(violation);
            }
        }
        violations.into_iter()
    }

    /// The violated conditions of `accept`: those that are false, and those whose evaluation fails.
    fn accept_violations(&self, value: &Value) -> impl Iterator<Item = RuleViolation> {
        let mut context = self.scope.context(self.node);
        if let (Some(output), false) = (&self.node.output, self.agent.accept.is_empty()) {
            context.insert(&output.name, value);
        }
        self.agent.accept.iter().filter_map(move |accept| {
            let problem = match eval_bool(&accept.that, &context) {
                Ok(true) => return None,
                Ok(false) => accept.otherwise.trim().to_owned(),
                Err(error) => format!("{} (`{}`: {error})", accept.otherwise.trim(), accept.that.trim()),
            };
            Some(RuleViolation { message: format!("the reply is not accepted: {problem}"), problems: vec![problem] })
        })
    }
}

/// A violation of a rule other than the schema.
struct RuleViolation {
    /// The message for the user.
    message: String,
    /// The problems that the re-ask lists.
    problems: Vec<String>,
}

/// Extracts the value that fits the schema, or returns the failure with the list of mismatches.
fn extract_reply(node: &PlanNode, agent: &AgentNode, reply: &CallReply) -> Result<ExtractedValue, Box<RejectedReply>> {
    if let Some(denied) = reply.activity().and_then(|activity| activity.denied.first()) {
        let message = format!("the agent was denied a permission: {denied}");
        let hint = if denied.starts_with(SANDBOX_REFUSAL_PREFIX) { SANDBOX_HINT } else { GRANT_TOOL_HINT };
        return Err(Failure::new(FailureClass::PermissionDenied, message).with_hint(hint).into());
    }
    let reply = reply.chat().ok_or_else(|| Box::<RejectedReply>::from(unexpected_record()))?;
    if let Some(reason) = &reply.details.unknown_stop {
        let message = format!("the reply may be incomplete: its stop reason is `{}`", sanitize(reason));
        let hint = "see the reply with `orch runs show --replies`; resume the run if the reply was cut off, or name another model with --model";
        return Err(Failure::new(FailureClass::UnknownStop, message).with_hint(hint).into());
    }
    let schema = match node.output.as_ref().map(|output| &output.artifact_type) {
        Some(ArtifactType::Text) | None => return extract_text(agent, reply),
        Some(ArtifactType::Json(schema)) => schema,
    };
    let stop = match reply.stop {
        StopReason::End => StopHint::Complete,
        StopReason::Length => StopHint::Length,
        StopReason::Refusal => StopHint::Refusal,
        StopReason::ToolUse | StopReason::Unknown => StopHint::Unknown,
    };
    match extract::extract(reply.text().as_bytes(), schema, &Options { strict: agent.strict, stop }) {
        Ok(extraction) => {
            Ok(ExtractedValue { value: extraction.value.clone(), extraction: Some(extraction), left_out: Vec::new() })
        }
        Err(rejection) => Err(Box::new(rejected_reply(agent, reply, &rejection))),
    }
}

fn extract_text(agent: &AgentNode, reply: &ChatReply) -> Result<ExtractedValue, Box<RejectedReply>> {
    let failure = match reply.stop {
        StopReason::Refusal => refusal(reply),
        StopReason::Length if reply.details.exceeded_context_window => return Err(exceeded_context_window().into()),
        StopReason::Length => Failure::new(FailureClass::MaxTokensReached, "the reply was cut off at the token limit"),
        _ if reply.text().trim().is_empty() => empty_reply(agent, reply),
        // The text before a tool call is not an answer.
        StopReason::ToolUse => Failure::new(FailureClass::EmptyReply, "the model called a tool instead of answering")
            .with_hint(tool_call_hint(agent)),
        StopReason::End | StopReason::Unknown => {
            let text = reply.text();
            let answer = extract::answer_text(&text);
            match answer.text {
                // Like `Schema::mismatches`: no program accepts such a text as an argument.
                Some(text) if text.contains('\0') => {
                    Failure::new(FailureClass::SchemaMismatch, "the reply has a NUL character, so it is no text")
                }
                Some(_) if reply.details.half_surrogate => {
                    let message = "the reply has half of a surrogate pair (such as `\\ud800`), so it is no text";
                    Failure::new(FailureClass::SchemaMismatch, message)
                }
                Some(text) => {
                    let value = Value::String(text.to_owned());
                    return Ok(ExtractedValue { value, extraction: None, left_out: answer.left_out });
                }
                None => {
                    let left_out = answer.left_out.join(", ");
                    Failure::new(FailureClass::EmptyReply, format!("the reply has no answer, only {left_out}"))
                        .with_hint(REASONING_HINT)
                }
            }
        }
    };
    Err(with_hint(failure, agent).into())
}
