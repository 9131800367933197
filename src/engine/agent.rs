//! Agent steps: call one model after another until the step accepts a reply.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::durable::Interrupt;
use crate::model::event::{FingerprintPart, PartKind};
use crate::model::name::LOCAL_PROVIDER;
use crate::model::{ChatRequest, CliAgent, Digest, Failure, Fingerprint, ModelRef, SandboxSpec, StepKey};
use crate::template::Templates;

use super::compute::takes_long;
use super::conversation::Conversation;
use super::interpret::{Interpreter, StepResult};
use super::message::RenderedPrompt;
use super::node::{AgentNode, PlanNode};
use super::planned_model::PlannedModel;
use super::reply_reader::{ReplyReader, ReplyRules};
use super::scope::ValueScope;
use super::step_execution::{
    StepExecution, StepStart, common_fingerprint_parts, compute_fingerprint, digest, fingerprint_part,
    workspace_version,
};

pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    agent: &AgentNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let PreparedStep { prompt, fingerprint, prefix_fingerprints, parts } =
        match prepare(interpreter, key, node, agent, scope).await? {
            Ok(prepared) => prepared,
            Err(failure) => {
                interpreter.fail(key, node, scope, 0, &failure).await?;
                return Ok(Err(failure));
            }
        };
    let reader = ReplyReader::new(interpreter, key, node, agent, scope);
    let mut execution =
        StepExecution::new(interpreter, key, node, fingerprint, parts).with_alternatives(prefix_fingerprints);
    let (replies, attempt) = match execution.begin(scope).await? {
        StepStart::Reusable(value) => return Ok(Ok(value)),
        StepStart::Run(replies, attempt) => (replies, attempt),
    };
    for reply in replies.iter().filter(|reply| reply.chat().is_some()) {
        if let Ok(extracted) = reader.read(reply).await? {
            return execution.finish(scope, attempt, Ok(Some(extracted.value))).await;
        }
    }
    let mut conversation = Conversation::new(&execution, agent, &prompt, &reader, attempt);
    let result = conversation.run().await?;
    let (attempt, model_index) = (conversation.attempt(), conversation.model_index());
    execution.set_answering_model(model_index);
    execution.finish(scope, attempt, result.map(Some)).await
}

/// The data that opening a step needs: its rendered prompt, its fingerprint, and other fingerprints that are equally
/// valid.
struct PreparedStep {
    prompt: RenderedPrompt,
    fingerprint: Fingerprint,
    /// The fingerprints of the shorter lists of models; see [`step_fingerprints`].
    prefix_fingerprints: Vec<Fingerprint>,
    parts: Vec<FingerprintPart>,
}

impl PreparedStep {
    fn new(templates: &Templates, rules: &ReplyRules<'_>) -> Result<Self, Failure> {
        let prompt = RenderedPrompt::render(templates, rules.node, rules.agent, rules.scope)?;
        let (fingerprint, prefix_fingerprints) = step_fingerprints(rules, &prompt);
        Ok(Self { prompt, fingerprint, prefix_fingerprints, parts: fingerprint_parts(templates, rules) })
    }
}

async fn prepare(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    agent: &AgentNode,
    scope: &ValueScope,
) -> Result<Result<PreparedStep, Failure>, Interrupt> {
    let templates = &interpreter.plan.templates;
    let prompt = templates.source_text(&agent.prompt);
    let texts = std::iter::once(prompt.as_str()).chain(agent.message.as_deref());
    let reserved_names = interpreter.plan.reserved_names();
    if !takes_long(scope, texts) {
        return Ok(PreparedStep::new(templates, &ReplyRules { node, agent, scope, reserved_names }));
    }
    let (templates, node, agent, scope) = (templates.clone(), node.clone(), agent.clone(), scope.clone());
    let reserved_names = Arc::clone(reserved_names);
    let compute = move || {
        PreparedStep::new(
            &templates,
            &ReplyRules { node: &node, agent: &agent, scope: &scope, reserved_names: &reserved_names },
        )
    };
    interpreter.compute(key, compute).await
}

/// The named parts of the step's fingerprint. orch compares them to explain why a step runs again.
fn fingerprint_parts(templates: &Templates, rules: &ReplyRules<'_>) -> Vec<FingerprintPart> {
    let ReplyRules { node, agent, scope, .. } = *rules;
    let describe_model = |model: &PlannedModel| match &model.weights {
        Some(weights) => format!("{} ({weights})", model.reference),
        None => model.reference.to_string(),
    };
    let models: Vec<String> = agent.models.iter().map(describe_model).collect();
    let mut parts = vec![
        fingerprint_part(PartKind::Model, &json!(models)),
        fingerprint_part(PartKind::Prompt(agent.prompt.clone()), &json!(templates.source_text(&agent.prompt))),
        fingerprint_part(PartKind::Message, &json!(agent.message)),
        fingerprint_part(PartKind::Parameters, &parameters(agent)),
    ];
    parts.extend(agent.tools.as_ref().map(|tools| fingerprint_part(PartKind::Tools, &tools.fingerprint_value())));
    let sandboxes = agent.models.iter().filter_map(|model| model.program.as_ref()?.sandbox.as_ref());
    parts.extend(sandboxes.map(|sandbox| fingerprint_part(PartKind::Sandbox, &json!(sandbox.without_level()))));
    parts.extend(scope.inputs().map(|(name, value)| fingerprint_part(PartKind::Input(name.clone()), value)));
    parts.extend(common_fingerprint_parts(node, scope));
    parts.extend(rules.fingerprint_parts());
    parts
}

/// The parameters of an agent's requests. Without options, they are the same as before agents had any, so that recorded
/// parts stay comparable.
fn parameters(agent: &AgentNode) -> Value {
    let (temperature, limit, strict) = (agent.temperature, agent.max_output_tokens, agent.strict);
    if agent.options.is_empty() {
        json!([temperature, limit, strict])
    } else {
        json!([temperature, limit, strict, agent.options])
    }
}

/// Returns the fingerprint of the step, and one for each shorter list of models: the first model, the first two, and so
/// on.
pub(super) fn step_fingerprints(rules: &ReplyRules<'_>, prompt: &RenderedPrompt) -> (Fingerprint, Vec<Fingerprint>) {
    let ReplyRules { node, agent, scope, .. } = *rules;
    // The schema belongs to the decode digest, not to the request: if only the schema changes, orch parses the recorded
    // replies again.
    let request_for_model = |model| {
        let request = prompt.first_request(node, agent, model);
        request_value(model, &ChatRequest { schema: None, schema_name: None, ..request })
    };
    let requests: Vec<Value> = agent.models.iter().map(request_for_model).collect();
    let (workspace_version, decode_rules) = (workspace_version(node, scope), rules.to_json());
    let tools = agent.tools.as_ref().map(|tools| tools.fingerprint_value());
    let fingerprint_for = |requests: Vec<Value>| {
        let request = step_request_value(requests, workspace_version.clone(), tools.clone());
        compute_fingerprint(&request, &decode_rules)
    };
    let prefixes = (1..requests.len())
        .filter_map(|count| requests.get(..count))
        .map(|prefix| fingerprint_for(prefix.to_vec()))
        .collect();
    (fingerprint_for(requests), prefixes)
}

/// The value from which orch computes the request digest of a step: the requests to each model in order, the state of
/// the workspace, and what the tools of the agent may do.
fn step_request_value(requests: Vec<Value>, workspace_version: Value, tools: Option<Value>) -> Value {
    let members = [("requests", Some(Value::Array(requests))), ("tree", Some(workspace_version)), ("tools", tools)];
    Value::Object(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// The value from which orch computes the digest of a single request.
fn request_value(model: &PlannedModel, request: &ChatRequest) -> Value {
    match (&model.program, &model.weights) {
        (None, None) => json!({ "dialect": model.dialect, "request": request }),
        // The digest identifies weights by their content: another file at the same path is another model, and a moved
        // file is the same model.
        (None, Some(weights)) => {
            let request = ChatRequest { model: ModelRef::new(LOCAL_PROVIDER, weights), ..request.clone() };
            json!({ "dialect": model.dialect, "request": request })
        }
        (Some(program), _) => {
            let sandbox = program.sandbox.as_ref().map(SandboxSpec::without_level);
            json!({ "program": CliAgent { sandbox, ..program.clone() }, "request": request })
        }
    }
}

/// The digest of one request.
pub(super) fn request_digest(model: &PlannedModel, request: &ChatRequest) -> Digest {
    digest(&request_value(model, request))
}
