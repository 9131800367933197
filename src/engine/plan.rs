//! What will be run: a checked pipeline with every name resolved.
//!
//! A plan is plain data plus compiled schemas and templates. It refuses to know files,
//! the environment and the clock.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::event::PlannedStep;
use crate::model::pipeline::{Extract, OnError, Pipeline, Retry, Step};
use crate::model::{Artifact, Class, Digest, ModelRef, StepKey};
use crate::schema::Schema;
use crate::template::Templates;

/// The reply bound of an agent that gives none, in tokens.
pub const MAX_OUTPUT_TOKENS: u32 = 4096;
/// Tries of a request in all, when a step gives no `retry.max`.
pub const TRIES: u32 = 3;
/// Re-asks of a step that gives none.
pub const RE_ASKS: u32 = 2;

/// A pipeline ready to run.
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<StepNode>,
    /// Every prompt that they use.
    pub templates: Templates,
    /// The pipeline's `success` expression.
    pub success: Option<String>,
    /// The values given to the run.
    pub inputs: Map<String, Value>,
}

/// One step ready to run.
pub struct StepNode {
    /// The step's id.
    pub id: String,
    /// The agent's name.
    pub agent: String,
    /// The models to ask: the agent's, then the fallbacks.
    pub models: Vec<PlannedModel>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Upper bound of a reply in tokens.
    pub max_output_tokens: u32,
    /// The prompt's file name.
    pub prompt: String,
    /// The inline template of the user message.
    pub message: Option<String>,
    /// The condition under which the step runs.
    pub when: Option<String>,
    /// The artifacts that it reads.
    pub inputs: Vec<InputRef>,
    /// The name of its artifact.
    pub output: String,
    /// What the artifact must be.
    pub contract: Contract,
    /// How long one request may take.
    pub timeout: Option<Duration>,
    /// How long the whole step may take.
    pub deadline: Option<Duration>,
    /// Tries of a request in all.
    pub tries: u32,
    /// The classes of failure that are tried again.
    pub retry_on: Vec<Class>,
    /// How often a reply that does not validate is sent back.
    pub re_asks: u32,
    /// Whether replies must be exact.
    pub strict: bool,
    /// What a failure does to the run.
    pub on_error: OnError,
}

/// A model with what the engine must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedModel {
    /// The model.
    pub reference: ModelRef,
    /// The dialect in which it is asked.
    pub dialect: String,
    /// Whether every reply is made to fit the schema, so that the prompt need not show it.
    pub constrains: bool,
}

/// An artifact that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRef {
    /// The artifact's name.
    pub name: String,
    /// Whether the step runs without it.
    pub optional: bool,
}

impl InputRef {
    /// Reads `name` or `name?`.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('?') {
            Some(name) => Self { name: name.to_owned(), optional: true },
            None => Self { name: text.to_owned(), optional: false },
        }
    }
}

/// What a step's artifact must be.
#[derive(Clone)]
pub enum Contract {
    /// A string, as it comes.
    Text,
    /// JSON that fits a schema.
    Json(Schema),
}

impl Contract {
    /// Whether the artifact is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }

    /// The digest of the contract: the schema with everything it refers to.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Text => Digest::of(b"text"),
            Self::Json(schema) => Digest::of(canonical(&schema.closure()).as_bytes()),
        }
    }
}

/// What the command line and `orch.yaml` add to a step that says nothing itself.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// `--continue-on-error`.
    pub continue_on_error: bool,
    /// `defaults.timeout`.
    pub timeout: Option<Duration>,
    /// `defaults.re_ask`.
    pub re_ask: Option<u32>,
    /// `defaults.max_output_tokens`.
    pub max_output_tokens: Option<u32>,
}

impl Plan {
    /// Plans a pipeline that was checked: `model` resolves a model's name in the files, `contract`
    /// gives the schema of an artifact.
    pub fn new<E>(
        pipeline: &Pipeline,
        inputs: Map<String, Value>,
        templates: Templates,
        defaults: &Defaults,
        resolve: &dyn Resolve<E>,
    ) -> Result<Self, E> {
        let steps = pipeline.steps.iter().map(|step| plan_step(pipeline, step, defaults, resolve));
        Ok(Self { steps: steps.collect::<Result<_, _>>()?, templates, success: pipeline.success.clone(), inputs })
    }

    /// The steps as they are announced to the journal.
    pub fn announced(&self) -> Vec<PlannedStep> {
        let announce = |step: &StepNode| {
            let model = step.models.first()?.reference.clone();
            Some(PlannedStep { step: StepKey::root(&step.id), agent: step.agent.clone(), model })
        };
        self.steps.iter().filter_map(announce).collect()
    }

    /// The artifact files that the plan writes, relative to the workspace.
    pub fn paths(&self) -> Vec<String> {
        self.steps.iter().map(StepNode::path).collect()
    }
}

/// Resolves the names in a pipeline file that lead outside it.
pub trait Resolve<E> {
    /// The model of a name: `auto`, an alias, `provider/model`.
    fn model(&self, name: &str) -> Result<PlannedModel, E>;
    /// The contract of a step's output.
    fn contract(&self, step: &Step) -> Result<Contract, E>;
}

impl StepNode {
    /// The file that shows the step's artifact, relative to the workspace.
    pub fn path(&self) -> String {
        Artifact::path_of(&self.output, self.contract.is_text())
    }
}

fn plan_step<E>(
    pipeline: &Pipeline,
    step: &Step,
    defaults: &Defaults,
    resolve: &dyn Resolve<E>,
) -> Result<StepNode, E> {
    let agent = pipeline.agents.get(&step.agent);
    let model = agent.map_or("auto", |agent| agent.model.as_str());
    let names = std::iter::once(model).chain(step.fallback.iter().map(String::as_str));
    let retry = step.retry.clone().unwrap_or(Retry { max: None, on: None });
    let default_on = || vec![Class::RateLimited, Class::ProviderUnavailable, Class::Timeout];
    let by_default = if defaults.continue_on_error { OnError::Continue } else { OnError::Stop };
    Ok(StepNode {
        id: step.id.clone(),
        agent: step.agent.clone(),
        models: names.map(|name| resolve.model(name)).collect::<Result<_, _>>()?,
        temperature: agent.and_then(|agent| agent.temperature),
        max_output_tokens: agent
            .and_then(|agent| agent.max_output_tokens)
            .or(defaults.max_output_tokens)
            .unwrap_or(MAX_OUTPUT_TOKENS),
        prompt: step.prompt.clone(),
        message: step.message.clone(),
        when: step.when.clone(),
        inputs: step.inputs.iter().map(|text| InputRef::parse(text)).collect(),
        output: step.output.clone(),
        contract: resolve.contract(step)?,
        timeout: step.timeout.map(|span| span.0).or(defaults.timeout),
        deadline: step.deadline.map(|span| span.0),
        tries: retry.max.unwrap_or(TRIES).max(1),
        retry_on: retry.on.unwrap_or_else(default_on),
        re_asks: step.re_ask.or(defaults.re_ask).unwrap_or(RE_ASKS),
        strict: step.extract == Some(Extract::Strict),
        on_error: step.on_error.unwrap_or(by_default),
    })
}

/// Canonical JSON: keys sorted, no white space, numbers as written; what digests are taken of.
/// Follows RFC 8785 but for numbers, whose digits are kept.
pub fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                // RFC 8785 sorts by UTF-16 code units.
                keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::String(key.clone()).to_string());
                    out.push(':');
                    write(map.get(key).unwrap_or(&Value::Null), out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_keeps_digits() {
        let value: Value = serde_json::from_str(r#"{"b": 1.10, "a": {"d": [1, "x"], "c": null}}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":{"c":null,"d":[1,"x"]},"b":1.10}"#);
    }
}
