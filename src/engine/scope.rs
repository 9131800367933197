//! The values that a step sees: the inputs, the artifacts and outcomes of earlier steps, and the item or round.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::durable::{ExecutionId, ScopeDelta, StepOutcome};
use crate::model::event::{MissingProducer, SkipKind};
use crate::model::{Digest, Failure, StepStatus};
use crate::offload::LARGE_TEXT_BYTES;
use crate::template::TemplateContext;

use super::node::{InputRef, PlanNode};
use super::shared_map::SharedMap;

/// The values in scope at one point of a run; cheap to clone.
#[derive(Clone)]
pub(super) struct ValueScope {
    inputs: Arc<Map<String, Value>>,
    locals: Arc<Vec<(&'static str, Value)>>,
    artifacts: SharedMap<Arc<Value>>,
    steps: SharedMap<StepOutcome>,
    /// Artifacts of the previous round that this round has not produced yet. Steps see them only as optional inputs.
    previous_round_artifacts: Arc<Vec<String>>,
    /// The workspace version: a digest that changes with each step that writes.
    workspace_version: Digest,
    /// The additions since this scope was opened.
    delta: ScopeDelta,
}

impl ValueScope {
    /// Creates the scope at the start of a pipeline.
    pub(super) fn new(inputs: Map<String, Value>, workspace_version: Digest) -> Self {
        Self {
            inputs: Arc::new(inputs),
            locals: Arc::default(),
            artifacts: SharedMap::default(),
            steps: SharedMap::default(),
            previous_round_artifacts: Arc::default(),
            workspace_version,
            delta: ScopeDelta::default(),
        }
    }

    /// The workspace version of a run before its first step.
    pub(super) fn initial_workspace_version() -> Digest {
        Digest::compute(b"workspace")
    }

    /// Creates an inner scope, which sees everything in this scope and collects its own additions.
    pub(super) fn child_scope(&self) -> Self {
        Self {
            inputs: self.inputs.clone(),
            locals: self.locals.clone(),
            artifacts: self.artifacts.clone(),
            steps: self.steps.clone(),
            previous_round_artifacts: self.previous_round_artifacts.clone(),
            workspace_version: self.workspace_version.clone(),
            delta: ScopeDelta::default(),
        }
    }

    /// Creates an inner scope with the variables of an item or a round.
    pub(super) fn with_locals(&self, locals: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut inner = self.child_scope();
        let mut combined = (*self.locals).clone();
        for (name, value) in locals {
            combined.retain(|(existing, _)| *existing != name);
            combined.push((name, value));
        }
        inner.locals = Arc::new(combined);
        inner
    }

    /// Returns the additions to this scope.
    pub(super) fn into_delta(self) -> ScopeDelta {
        ScopeDelta { workspace_version: Some(self.workspace_version), ..self.delta }
    }

    /// Adds everything that the steps of a group added to their inner scope.
    pub(super) fn merge(&mut self, delta: &ScopeDelta) {
        for (name, value) in &delta.artifacts {
            self.add_artifact(name, value.clone());
        }
        for (id, outcome) in &delta.steps {
            self.insert_outcome(id, outcome.clone());
        }
        self.note_failure(delta.first_failure.clone());
        if let Some(workspace_version) = &delta.workspace_version {
            self.workspace_version = workspace_version.clone();
        }
    }

    /// Adds the results of the previous round, but not to the additions of this round.
    pub(super) fn load_previous_round(&mut self, delta: &ScopeDelta) {
        let previous_round_artifacts = Arc::make_mut(&mut self.previous_round_artifacts);
        previous_round_artifacts.extend(delta.artifacts.keys().cloned());
        delta.artifacts.iter().for_each(|(name, value)| self.artifacts.insert(name, value.clone()));
        delta.steps.iter().for_each(|(id, outcome)| self.steps.insert(id, outcome.clone()));
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.inputs.iter()
    }

    /// The item of the innermost `for_each`.
    pub(super) fn item(&self) -> Option<&Value> {
        self.locals.iter().find(|(name, _)| *name == "item").map(|(_, value)| value)
    }

    pub(super) fn artifact(&self, name: &str) -> Option<&Arc<Value>> {
        self.artifacts.get(name)
    }

    pub(super) fn workspace_version(&self) -> &Digest {
        &self.workspace_version
    }

    /// Changes the workspace version after a step that may write. A reused result has the id of the execution that
    /// produced it, so it leads to the same version as that execution.
    pub(super) fn bump_workspace_version(&mut self, execution_id: ExecutionId) {
        self.workspace_version = Digest::compute(format!("{} {execution_id}", self.workspace_version).as_bytes());
    }

    /// Sets the workspace version to that of another scope, such as the scope of a group or of the previous round.
    pub(super) fn set_workspace_version(&mut self, workspace_version: Digest) {
        self.workspace_version = workspace_version;
    }

    pub(super) fn add_artifact(&mut self, name: &str, value: Arc<Value>) {
        if self.previous_round_artifacts.iter().any(|previous| previous == name) {
            Arc::make_mut(&mut self.previous_round_artifacts).retain(|previous| previous != name);
        }
        self.artifacts.insert(name, value.clone());
        self.delta.artifacts.insert(name.to_owned(), value);
    }

    pub(super) fn note_completed_step(&mut self, node: &PlanNode, value: Option<Arc<Value>>) {
        if let (Some(output), Some(value)) = (&node.output, value) {
            self.add_artifact(&output.name, value);
        }
        self.note_outcome(node, StepStatus::Completed, None);
    }

    pub(super) fn note_failed_step(&mut self, node: &PlanNode, failure: &Failure) {
        self.note_failure(Some(failure.clone()));
        self.note_outcome(node, StepStatus::Failed, Some(failure.to_string()));
    }

    /// Records the id and the failure of the step that stopped the remaining steps of this scope. Only the first call
    /// has an effect.
    pub(super) fn note_halting_step(&mut self, halt: Option<(String, Failure)>) {
        if self.delta.halted_by.is_none() {
            self.delta.halted_by = halt;
        }
    }

    pub(super) fn note_skipped_step(&mut self, node: &PlanNode, reason: &str) {
        self.note_outcome(node, StepStatus::Skipped, Some(reason.to_owned()));
    }

    fn note_outcome(&mut self, node: &PlanNode, status: StepStatus, error: Option<String>) {
        self.insert_outcome(&node.id, StepOutcome { status, error, outputs: node.artifact_names().into() });
    }

    fn insert_outcome(&mut self, id: &str, outcome: StepOutcome) {
        self.steps.insert(id, outcome.clone());
        self.delta.steps.insert(id.to_owned(), outcome);
    }

    /// Records that orch cancelled a step because a parallel step failed.
    pub(super) fn note_cancelled_step(&mut self, node: &PlanNode) {
        self.note_outcome(node, StepStatus::Cancelled, None);
    }

    /// The first failure of a step, here or in an inner scope.
    pub(super) fn first_failure(&self) -> Option<&Failure> {
        self.delta.first_failure.as_ref()
    }

    /// Removes and returns the first failure so far. The next failure then counts as the first.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.delta.first_failure.take()
    }

    /// The failure that stopped the remaining steps of this scope, if any.
    pub(super) fn halt_failure(&self) -> Option<&Failure> {
        self.delta.halted_by.as_ref().map(|(_, failure)| failure)
    }

    /// Records a failure in this scope or in an inner scope. Only the first failure is stored.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if self.delta.first_failure.is_none() {
            self.delta.first_failure = failure;
        }
    }

    /// Returns why a step must be skipped because a required input is missing; `None` if all required inputs exist.
    pub(super) fn missing_input(&self, node: &PlanNode) -> Option<SkipKind> {
        let is_available =
            |name: &String| self.artifacts.contains_key(name) && !self.previous_round_artifacts.contains(name);
        let input = node.inputs.iter().find(|input| !input.optional && !is_available(&input.name))?;
        let failed_to_produce =
            |outcome: &StepOutcome| outcome.status != StepStatus::Completed && outcome.outputs.contains(&input.name);
        let producer = self.steps.iter().rev().find(|(_, outcome)| failed_to_produce(outcome));
        let producer = producer.map(|(id, outcome)| MissingProducer { step: id.clone(), status: outcome.status });
        Some(SkipKind::MissingInput { input: input.name.clone(), producer })
    }

    /// Whether the values in scope are so large that evaluating templates over all of them may take long.
    pub(super) fn is_large(&self) -> bool {
        let mut remaining = LARGE_TEXT_BYTES;
        let values = self.inputs.values().chain(self.locals.iter().map(|(_, value)| value));
        values.chain(self.artifacts.iter().map(|(_, value)| &**value)).any(|value| exceeds_size(value, &mut remaining))
    }

    /// The variables of a step's templates. They include only the artifacts that are inputs of the step.
    pub(super) fn context(&self, node: &PlanNode) -> TemplateContext {
        self.context_for_inputs(&node.inputs)
    }

    /// The variables of the templates of a step with these inputs.
    pub(super) fn context_for_inputs(&self, inputs: &[InputRef]) -> TemplateContext {
        let mut context = self.base_context();
        for input in inputs {
            if let Some(value) = self.artifacts.get(&input.name) {
                context.insert(&input.name, value);
            }
        }
        context
    }

    /// The value of a variable in expressions. For `steps`, an object with the outcome of each step.
    pub(super) fn lookup_value(&self, name: &str) -> Option<Value> {
        if name == "steps" {
            return Some(self.steps.iter().map(|(id, outcome)| (id.clone(), outcome_value(outcome))).collect());
        }
        let local = self.locals.iter().find(|(local, _)| *local == name).map(|(_, value)| value);
        let artifact = || self.artifacts.get(name).map(|value| &**value);
        self.inputs.get(name).or(local).or_else(artifact).cloned()
    }

    /// The variables of an expression that sees every artifact in scope.
    pub(super) fn full_context(&self) -> TemplateContext {
        let mut context = self.base_context();
        for (name, value) in self.artifacts.iter() {
            context.insert(name, value);
        }
        context
    }

    fn base_context(&self) -> TemplateContext {
        let mut context = TemplateContext::default();
        for (name, value) in self.inputs.iter() {
            context.insert(name, value);
        }
        for (name, value) in self.locals.iter() {
            context.insert(name, value);
        }
        let steps = self.steps.clone();
        let names = self.steps.clone();
        context.insert_lookup(
            "steps",
            move |id| steps.get(id).map(outcome_value),
            move || names.iter().map(|(id, _)| id.clone()).collect(),
        );
        context
    }
}

/// Whether the approximate size of a value as JSON exceeds `remaining`; if not, subtracts the size from `remaining`.
fn exceeds_size(value: &Value, remaining: &mut usize) -> bool {
    let text_size = match value {
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    if !try_subtract(text_size + 4, remaining) {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().any(|item| exceeds_size(item, remaining)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| !try_subtract(name.len(), remaining) || exceeds_size(member, remaining))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Subtracts a size from `remaining`; returns false if the size is larger than `remaining`.
fn try_subtract(size: usize, remaining: &mut usize) -> bool {
    remaining.checked_sub(size).is_some_and(|difference| {
        *remaining = difference;
        true
    })
}

fn outcome_value(outcome: &StepOutcome) -> Value {
    match &outcome.error {
        Some(error) => json!({ "status": outcome.status.as_str(), "error": error }),
        None => json!({ "status": outcome.status.as_str() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceeds_size_counts_the_names_of_members() {
        let value = json!({ "aaaaaaaa": 1, "bbbbbbbb": { "cccccccc": "dddd" } });
        // 4 bytes for each of the four values, 8 for each name, and 4 for the text.
        for (limit, exceeds) in [(44, false), (43, true)] {
            let mut remaining = limit;
            assert_eq!(exceeds_size(&value, &mut remaining), exceeds, "{limit}");
        }
    }
}
