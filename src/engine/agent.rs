//! Agent steps: call one model after another until the step accepts a reply.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::durable::{Interrupt, ListingFreshness};
use crate::model::event::{FingerprintPart, PartKind};
use crate::model::name::LOCAL_PROVIDER;
use crate::model::{ChatRequest, CliAgent, Digest, Failure, Fingerprint, ModelRef, SandboxSpec, StepKey};
use crate::template::Templates;

use super::agent_tools::AgentTools;
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
    match agent.tools.as_deref().filter(|tools| !tools.servers.is_empty()) {
        Some(tools) => Box::pin(run_with_servers(interpreter, key, node, agent, tools, scope)).await,
        None => match open(interpreter, key, node, agent, scope).await? {
            AgentStepOpening::Ended(result) => Ok(result),
            AgentStepOpening::Open(step) => converse(*step, key, agent, scope).await,
        },
    }
}

/// Runs a step whose agent uses tools of MCP servers. A result that is valid for the recorded lists of tools is reused
/// without the servers. Only a step that runs needs their current lists.
async fn run_with_servers(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    agent: &AgentNode,
    tools: &AgentTools,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let recorded = interpreter.listings(key, tools, ListingFreshness::Recorded).await?;
    // A recorded list that lacks a tool of the agent may be old, so only the current list can be at fault.
    let known = recorded.as_ref().ok().and_then(|listings| tools.with_listings(listings).ok());
    // Without a list, no recorded result is valid. The step begins nevertheless, because a dry run, which asks no
    // server, only needs to know that the step would run.
    let known_agent = known.map_or_else(|| agent.clone(), |tools| with_tools(agent, tools));
    let step = match open(interpreter, key, node, &known_agent, scope).await? {
        AgentStepOpening::Ended(result) => return Ok(result),
        AgentStepOpening::Open(step) => *step,
    };
    let current = match current_tools(&step, agent, tools, recorded.err()).await? {
        Ok(current) => current,
        Err(failure) => {
            interpreter.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let current_agent = with_tools(agent, current);
    if tools_value(&current_agent) == tools_value(&known_agent) {
        return converse(step, key, &known_agent, scope).await;
    }
    match open(interpreter, key, node, &current_agent, scope).await? {
        AgentStepOpening::Ended(result) => Ok(result),
        AgentStepOpening::Open(step) => converse(*step, key, &current_agent, scope).await,
    }
}

/// The same agent with other tools.
fn with_tools(agent: &AgentNode, tools: AgentTools) -> AgentNode {
    AgentNode { tools: Some(Arc::new(tools)), ..agent.clone() }
}

/// What determines the results of an agent's tools.
fn tools_value(agent: &AgentNode) -> Option<Value> {
    agent.tools.as_ref().map(|tools| tools.fingerprint_value())
}

/// The tools of an agent with the current lists of its servers. A server that does not answer is asked again like an
/// unavailable provider. `first_failure` is that of the first try, if there has been one.
async fn current_tools(
    step: &OpenAgentStep<'_>,
    agent: &AgentNode,
    tools: &AgentTools,
    first_failure: Option<Failure>,
) -> Result<Result<AgentTools, Failure>, Interrupt> {
    let (interpreter, key) = (step.execution.interpreter, &step.execution.spec.step);
    let mut listings = match first_failure {
        Some(failure) => Err(failure),
        None => interpreter.listings(key, tools, ListingFreshness::Current).await?,
    };
    let mut tries = 1;
    loop {
        let failure = match listings {
            Ok(listings) => return Ok(tools.with_listings(&listings)),
            Err(failure) => failure,
        };
        let next = step.execution.call_key(step.attempt + 1, 0);
        if !step.execution.wait_for_retry(&agent.limits, &failure, tries, next).await? {
            return Ok(Err(failure.without_call_details()));
        }
        tries += 1;
        listings = interpreter.listings(key, tools, ListingFreshness::Current).await?;
    }
}

/// A step without a valid recorded result: it runs.
struct OpenAgentStep<'a> {
    execution: StepExecution<'a>,
    prompt: RenderedPrompt,
    attempt: u32,
}

/// The result of opening a step.
enum AgentStepOpening<'a> {
    /// The step has ended: a recorded result or a recorded reply is still valid, or the step can't run.
    Ended(StepResult),
    /// The step runs.
    Open(Box<OpenAgentStep<'a>>),
}

/// Opens a step: renders its prompt, and looks for a valid recorded result.
async fn open<'a>(
    interpreter: Interpreter<'a>,
    key: &StepKey,
    node: &'a PlanNode,
    agent: &AgentNode,
    scope: &mut ValueScope,
) -> Result<AgentStepOpening<'a>, Interrupt> {
    let PreparedStep { prompt, fingerprint, prefix_fingerprints, parts } =
        match prepare(interpreter, key, node, agent, scope).await? {
            Ok(prepared) => prepared,
            Err(failure) => {
                interpreter.fail(key, node, scope, 0, &failure).await?;
                return Ok(AgentStepOpening::Ended(Err(failure)));
            }
        };
    let reader = ReplyReader::new(interpreter, key, node, agent, scope);
    let mut execution =
        StepExecution::new(interpreter, key, node, fingerprint, parts).with_alternatives(prefix_fingerprints);
    let (replies, attempt) = match execution.begin(scope).await? {
        StepStart::Reusable(value) => return Ok(AgentStepOpening::Ended(Ok(value))),
        StepStart::Run(replies, attempt) => (replies, attempt),
    };
    for reply in replies.iter().filter(|reply| reply.chat().is_some()) {
        if let Ok(extracted) = reader.read(reply).await? {
            return execution.finish(scope, attempt, Ok(Some(extracted.value))).await.map(AgentStepOpening::Ended);
        }
    }
    Ok(AgentStepOpening::Open(Box::new(OpenAgentStep { execution, prompt, attempt })))
}

/// Calls the models of a step until the step accepts a reply.
async fn converse(
    step: OpenAgentStep<'_>,
    key: &StepKey,
    agent: &AgentNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let OpenAgentStep { mut execution, prompt, attempt } = step;
    let reader = ReplyReader::new(execution.interpreter, key, execution.node, agent, scope);
    let earlier_call_summaries =
        if agent.tools.is_some() { execution.earlier_call_summaries(attempt).await? } else { Vec::new() };
    let mut conversation =
        Conversation::new(&execution, agent, &prompt, &reader, scope, attempt, earlier_call_summaries);
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
    let (templates, node, agent, scope) = (templates.clone(), node.clone(), agent.clone(), scope.snapshot());
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
