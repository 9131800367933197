//! Agent steps: ask one model after another until a reply is accepted.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::durable::{CallReply, Interrupt};
use crate::model::event::FingerprintPart;
use crate::model::name::LOCAL;
use crate::model::{ChatRequest, Digest, Failure, Fingerprint, ModelRef, StepKey};
use crate::template::Templates;

use super::compute::takes_long;
use super::conversation::Conversation;
use super::interpret::{Run, StepResult};
use super::leaf::{Leaf, OpenedStep, common_parts, digest, part, recipe, tree_of};
use super::message::RenderedPrompt;
use super::node::{AgentNode, PlanNode, PlannedModel};
use super::reading::{ReplyReader, Rules};
use super::scope::ValueScope;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    agent: &AgentNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let PreparedStep { asked, recipe, also, parts } = match prepared(run, key, node, agent, scope).await? {
        Ok(prepared) => prepared,
        Err(failure) => {
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let reader = ReplyReader::new(run, key, node, agent, scope);
    let mut leaf = Leaf::new(run, key, node, recipe, parts).or(also);
    let (replies, attempt) = match leaf.begin(scope).await? {
        OpenedStep::Stands(value) => return Ok(Ok(value)),
        OpenedStep::Run(replies, attempt) => (replies, attempt),
    };
    let recorded = replies.iter().filter_map(|reply| match reply {
        CallReply::Chat(reply) => Some(reply),
        CallReply::Output(_) => None,
    });
    for reply in recorded {
        if let Ok(found) = reader.read(reply).await? {
            return leaf.end(scope, attempt, Ok(Some(found.value))).await;
        }
    }
    let mut conversation = Conversation::new(&leaf, agent, &asked, &reader, attempt);
    let result = conversation.run().await?;
    let (attempt, place) = (conversation.attempt(), conversation.place());
    leaf.answered(place);
    leaf.end(scope, attempt, result.map(Some)).await
}

/// A step ready to be opened: the rendered prompt, and the fingerprint that determines its result.
struct PreparedStep {
    asked: RenderedPrompt,
    recipe: Fingerprint,
    also: Vec<Fingerprint>,
    parts: Vec<FingerprintPart>,
}

impl PreparedStep {
    fn new(templates: &Templates, rules: &Rules<'_>) -> Result<Self, Failure> {
        let asked = RenderedPrompt::render(templates, rules.node, rules.agent, rules.scope)?;
        let (recipe, also) = recipes_of(rules, &asked);
        Ok(Self { asked, recipe, also, parts: parts(templates, rules) })
    }
}

async fn prepared(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    agent: &AgentNode,
    scope: &ValueScope,
) -> Result<Result<PreparedStep, Failure>, Interrupt> {
    let templates = &run.plan.templates;
    let prompt = templates.text(&agent.prompt);
    let texts = std::iter::once(prompt.as_str()).chain(agent.message.as_deref());
    let kept = run.plan.kept();
    if !takes_long(scope, texts) {
        return Ok(PreparedStep::new(templates, &Rules { node, agent, scope, kept }));
    }
    let (templates, node, agent, scope) = (templates.clone(), node.clone(), agent.clone(), scope.clone());
    let kept = Arc::clone(kept);
    let work = move || PreparedStep::new(&templates, &Rules { node: &node, agent: &agent, scope: &scope, kept: &kept });
    run.compute(key, work).await
}

/// The named parts of the step's fingerprint, which show the user what changed.
fn parts(templates: &Templates, rules: &Rules<'_>) -> Vec<FingerprintPart> {
    let Rules { node, agent, scope, .. } = *rules;
    let shown = |model: &PlannedModel| match &model.weights {
        Some(weights) => format!("{} ({weights})", model.reference),
        None => model.reference.to_string(),
    };
    let models: Vec<String> = agent.models.iter().map(shown).collect();
    let mut parts = vec![
        part("model", &json!(models)),
        part(format!("prompt {}", agent.prompt), &json!(templates.text(&agent.prompt))),
        part("message", &json!(agent.message)),
        part("parameters", &json!([agent.temperature, agent.max_output_tokens, agent.strict])),
    ];
    parts.extend(scope.inputs().map(|(name, value)| part(format!("input {name}"), value)));
    parts.extend(common_parts(node, scope));
    parts.extend(rules.parts());
    parts
}

/// Returns the step's fingerprint, and those with fewer models: only the first, the first two, and so on.
pub(super) fn recipes_of(rules: &Rules<'_>, asked: &RenderedPrompt) -> (Fingerprint, Vec<Fingerprint>) {
    let Rules { node, agent, scope, .. } = *rules;
    // The schema belongs to the decode digest, not to the request: if only the schema changes, orch parses the recorded
    // replies again.
    let request = |model| {
        let request = asked.request(node, agent, model);
        ask_value(model, &ChatRequest { schema: None, schema_name: None, ..request })
    };
    let requests: Vec<Value> = agent.models.iter().map(request).collect();
    let (tree, take) = (tree_of(node, scope), rules.value());
    let of = |requests: Vec<Value>| recipe(&asked_value(requests, tree.clone()), &take);
    let fewer = (1..requests.len()).filter_map(|count| requests.get(..count)).map(|some| of(some.to_vec())).collect();
    (of(requests), fewer)
}

/// The value behind the request digest: the requests to each model in order, and the state of the workspace.
fn asked_value(requests: Vec<Value>, tree: Value) -> Value {
    Value::Object([("requests".to_owned(), Value::Array(requests)), ("tree".to_owned(), tree)].into_iter().collect())
}

/// The value behind the digest of a single request.
fn ask_value(model: &PlannedModel, request: &ChatRequest) -> Value {
    match (&model.program, &model.weights) {
        (None, None) => json!({ "dialect": model.dialect, "request": request }),
        // Weights are identified by their content: another file at the same path is another model, and a moved file is
        // the same model.
        (None, Some(weights)) => {
            let request = ChatRequest { model: ModelRef::new(LOCAL, weights), ..request.clone() };
            json!({ "dialect": model.dialect, "request": request })
        }
        (Some(program), _) => json!({ "program": program, "request": request }),
    }
}

/// The digest of one request.
pub(super) fn ask_digest(model: &PlannedModel, request: &ChatRequest) -> Digest {
    digest(&ask_value(model, request))
}
