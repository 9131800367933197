//! What a step can see: the run's inputs, the artifacts so far, and how steps ended.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::model::{Failure, StepStatus};
use crate::template::Context;

use super::plan::StepNode;

/// The values in reach at one place of a run; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Scope {
    inputs: Arc<Map<String, Value>>,
    artifacts: IndexMap<String, Arc<Value>>,
    steps: IndexMap<String, Ended>,
}

/// How a step ended.
#[derive(Clone, Debug)]
struct Ended {
    status: StepStatus,
    error: Option<String>,
    output: String,
}

impl Scope {
    /// The scope at the start of a run.
    pub(super) fn new(inputs: Map<String, Value>) -> Self {
        Self { inputs: Arc::new(inputs), ..Self::default() }
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.inputs.iter()
    }

    pub(super) fn artifact(&self, name: &str) -> Option<&Value> {
        self.artifacts.get(name).map(Arc::as_ref)
    }

    pub(super) fn completed(&mut self, step: &StepNode, value: Value) {
        self.artifacts.insert(step.output.clone(), Arc::new(value));
        self.end(step, StepStatus::Completed, None);
    }

    pub(super) fn failed(&mut self, step: &StepNode, failure: &Failure) {
        self.end(step, StepStatus::Failed, Some(failure.to_string()));
    }

    pub(super) fn skipped(&mut self, step: &StepNode, reason: &str) {
        self.end(step, StepStatus::Skipped, Some(reason.to_owned()));
    }

    fn end(&mut self, step: &StepNode, status: StepStatus, error: Option<String>) {
        self.steps.insert(step.id.clone(), Ended { status, error, output: step.output.clone() });
    }

    /// Whether any step failed.
    pub(super) fn any_failed(&self) -> bool {
        self.steps.values().any(|ended| ended.status == StepStatus::Failed)
    }

    /// Why a required input of a step is not there, in words; `None` when all are.
    pub(super) fn missing(&self, step: &StepNode) -> Option<String> {
        let input = step.inputs.iter().find(|input| !input.optional && self.artifact(&input.name).is_none())?;
        let writer = self.steps.iter().find(|(_, ended)| ended.output == input.name);
        Some(match writer {
            Some((id, ended)) => format!("input {} missing: step {id} {}", input.name, ended.status.as_str()),
            None => format!("input {} missing", input.name),
        })
    }

    /// The variables of a step's templates: its inputs and no other artifact.
    pub(super) fn context(&self, step: &StepNode) -> Context {
        let mut context = self.base();
        for input in &step.inputs {
            if let Some(value) = self.artifacts.get(&input.name) {
                context.insert(&input.name, value);
            }
        }
        context
    }

    /// The variables of an expression over the whole run.
    pub(super) fn everything(&self) -> Context {
        let mut context = self.base();
        for (name, value) in &self.artifacts {
            context.insert(name, value);
        }
        context
    }

    fn base(&self) -> Context {
        let mut context = Context::default();
        for (name, value) in self.inputs.iter() {
            context.insert(name, value);
        }
        let steps: Map<String, Value> = self.steps.iter().map(|(id, ended)| (id.clone(), ended.value())).collect();
        context.insert("steps", &Value::Object(steps));
        context
    }
}

impl Ended {
    fn value(&self) -> Value {
        match &self.error {
            Some(error) => json!({ "status": self.status.as_str(), "error": error }),
            None => json!({ "status": self.status.as_str() }),
        }
    }
}
