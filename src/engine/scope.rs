//! The values that a step sees: the inputs, the artifacts and outcomes of earlier steps, and the item or iteration.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::durable::{ExecutionId, ScopeArtifact, ScopeDelta, StepOutcome};
use crate::model::event::{FingerprintPart, MissingProducer, PartKind, SkipKind};
use crate::model::name_scope::{ENDED_STEPS, ItemScope, PreviousRead};
use crate::model::{Digest, Failure, StepStatus};
use crate::template::TemplateContext;

use super::iteration_values::{IterationValues, ValueNames, lazy_loop, lazy_steps, loop_value, steps_value};
use super::node::{InputRef, PlanNode};
use super::scope_size::ScopeSize;
use super::step_execution::fingerprint_part;
use super::step_outcomes::StepOutcomes;

/// The values in scope at one point of a run. It is not `Clone`, because a copy of `delta` would take time linear in the
/// number of earlier steps. [`ValueScope::snapshot`] takes constant time.
pub(super) struct ValueScope {
    inputs: Arc<Map<String, Value>>,
    names: ValueNames,
    /// How steps ended, including the steps inside groups.
    outcomes: StepOutcomes,
    /// The approximate size of the values, without the item.
    size: ScopeSize,
    /// The workspace version: a digest that changes with each step that writes.
    workspace_version: Digest,
    /// The additions since this scope was opened.
    delta: ScopeDelta,
}

impl ValueScope {
    /// Creates the scope at the start of a pipeline.
    pub(super) fn new(inputs: Map<String, Value>, workspace_version: Digest) -> Self {
        Self {
            size: ScopeSize::of_values(inputs.values()),
            inputs: Arc::new(inputs),
            names: ValueNames::default(),
            outcomes: StepOutcomes::default(),
            workspace_version,
            delta: ScopeDelta::default(),
        }
    }

    /// Creates a scope with these names and outcomes, without additions.
    pub(super) fn restored(
        inputs: Map<String, Value>,
        names: ValueNames,
        outcomes: StepOutcomes,
        workspace_version: Digest,
    ) -> Self {
        let mut scope = Self { names, outcomes, ..Self::new(inputs, workspace_version) };
        let innermost = scope.names.iteration().map(|iteration| &**iteration);
        let iterations = std::iter::successors(innermost, |iteration| iteration.parent.as_deref());
        let previous = iterations.filter_map(|iteration| iteration.previous.as_ref());
        let artifacts = previous.map(|previous| &previous.artifacts).chain([scope.names.artifacts()]);
        let mut size = scope.size;
        artifacts.flat_map(|artifacts| artifacts.values()).for_each(|artifact| size.add(&artifact.value));
        scope.size = size;
        scope
    }

    /// The names in scope, with their values.
    pub(super) fn names(&self) -> &ValueNames {
        &self.names
    }

    /// How steps ended, including the steps inside groups.
    pub(super) fn outcomes(&self) -> &StepOutcomes {
        &self.outcomes
    }

    /// The workspace version of a run before its first step.
    pub(super) fn initial_workspace_version() -> Digest {
        Digest::compute(b"workspace")
    }

    /// Creates an inner scope, which sees everything in this scope and collects its own additions.
    pub(super) fn child_scope(&self) -> Self {
        Self {
            inputs: self.inputs.clone(),
            names: self.names.clone(),
            outcomes: self.outcomes.clone(),
            size: self.size,
            workspace_version: self.workspace_version.clone(),
            delta: ScopeDelta::default(),
        }
    }

    /// Returns a copy of what is in scope, for a computation on another thread or for a later one.
    pub(super) fn snapshot(&self) -> Self {
        self.child_scope()
    }

    /// Creates the scope of an item of `for_each`.
    pub(super) fn for_item(&self, item: Value, index: Value) -> Self {
        Self { names: self.names.for_item(item, index), ..self.child_scope() }
    }

    /// Creates the scope of an iteration. `previous` is what the iteration before it exported.
    pub(super) fn for_iteration(&self, position: Value, previous: Option<IterationValues>) -> Self {
        let mut size = self.size;
        previous.iter().flat_map(|result| result.artifacts.values()).for_each(|artifact| size.add(&artifact.value));
        Self { names: self.names.for_iteration(position, previous), size, ..self.child_scope() }
    }

    /// Returns the additions to this scope.
    pub(super) fn into_delta(self) -> ScopeDelta {
        ScopeDelta { workspace_version: Some(self.workspace_version), ..self.delta }
    }

    /// Adds everything that the steps of a group added to their inner scope. `steps` does not show the steps of the
    /// group.
    pub(super) fn merge(&mut self, delta: &ScopeDelta) {
        for (name, artifact) in &delta.artifacts {
            self.add_scope_artifact(name, artifact.clone());
        }
        for (id, outcome) in &delta.steps {
            self.insert_outcome(id, outcome.clone());
        }
        self.note_failure(delta.first_failure.clone());
        if let Some(workspace_version) = &delta.workspace_version {
            self.workspace_version = workspace_version.clone();
        }
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.inputs.iter()
    }

    /// The item of the innermost `for_each`.
    pub(super) fn item(&self) -> Option<&Value> {
        self.names.item().map(|variables| &variables.item)
    }

    pub(super) fn artifact(&self, name: &str) -> Option<&Arc<Value>> {
        self.names.artifact(name).map(|artifact| &artifact.value)
    }

    /// Whether an artifact may have another value after a resume: it exists, or a step that produces it failed. A step
    /// that was skipped would be skipped again.
    pub(super) fn may_change(&self, name: &str) -> bool {
        self.artifact(name).is_some()
            || self.outcomes.last_producer(name, |status| status == StepStatus::Failed).is_some()
    }

    /// Whether an artifact of an earlier iteration exists.
    pub(super) fn has_previous_artifact(&self, read: &PreviousRead) -> bool {
        self.names.artifacts_read(read).next().is_some()
    }

    /// The names of the artifacts of earlier iterations that a step reads, including those that do not exist.
    pub(super) fn previous_inputs(&self, node: &PlanNode) -> Vec<String> {
        let reads = node.previous_reads.iter().filter(|read| self.names.has_previous_iteration(read.parents));
        reads.filter_map(|read| read.artifact.clone()).collect()
    }

    /// The parts of a fingerprint for the artifacts of earlier iterations that a step reads.
    pub(super) fn previous_parts(&self, node: &PlanNode) -> Vec<FingerprintPart> {
        let artifacts = node.previous_reads.iter().flat_map(|read| self.names.artifacts_read(read));
        let mut parts: Vec<FingerprintPart> = Vec::new();
        for (read, artifact) in artifacts {
            let kind = PartKind::Previous(read.expression());
            if !parts.iter().any(|part| part.kind == kind) {
                parts.push(fingerprint_part(kind, &artifact.value));
            }
        }
        parts
    }

    pub(super) fn workspace_version(&self) -> &Digest {
        &self.workspace_version
    }

    /// Changes the workspace version after a step that may write. A reused result has the id of the execution that
    /// produced it, so it leads to the same version as that execution.
    pub(super) fn bump_workspace_version(&mut self, execution_id: ExecutionId) {
        self.workspace_version = Digest::compute(format!("{} {execution_id}", self.workspace_version).as_bytes());
    }

    /// Sets the workspace version to that of another scope, such as the scope of a group or of the previous iteration.
    pub(super) fn set_workspace_version(&mut self, workspace_version: Digest) {
        self.workspace_version = workspace_version;
    }

    /// Adds an artifact whose value no record contains.
    pub(super) fn add_artifact(&mut self, name: &str, value: Arc<Value>) {
        self.add_scope_artifact(name, ScopeArtifact::unrecorded(value));
    }

    fn add_scope_artifact(&mut self, name: &str, artifact: ScopeArtifact) {
        if let Some(previous) = self.names.artifact(name) {
            self.size.subtract(&previous.value);
        }
        self.size.add(&artifact.value);
        self.names.add_artifact(Arc::from(name), artifact.clone());
        self.delta.artifacts.insert(name.to_owned(), artifact);
    }

    pub(super) fn note_completed_step(&mut self, node: &PlanNode, artifact: Option<ScopeArtifact>) {
        if let (Some(output), Some(artifact)) = (&node.output, artifact) {
            self.add_scope_artifact(&output.name, artifact);
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
        let outcome = StepOutcome { status, error, outputs: node.artifact_names().into() };
        self.names.end_step(Arc::from(node.id.as_str()), outcome.clone());
        self.insert_outcome(&node.id, outcome);
    }

    fn insert_outcome(&mut self, id: &str, outcome: StepOutcome) {
        self.outcomes.insert(id, outcome.clone());
        self.delta.steps.insert(id.to_owned(), outcome);
    }

    /// Records that orch cancelled a step because a parallel step failed.
    pub(super) fn note_cancelled_step(&mut self, node: &PlanNode) {
        self.note_outcome(node, StepStatus::Cancelled, None);
    }

    /// Records the steps of a pipeline that have not ended as cancelled, so that `finally` can read the status of each.
    pub(super) fn note_unended_steps(&mut self, nodes: &[PlanNode]) {
        for node in nodes {
            if !self.names.ended_steps().contains_key(node.id.as_str()) {
                self.note_cancelled_step(node);
            }
        }
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
        let is_missing = |input: &&InputRef| !input.optional && self.names.artifact(&input.name).is_none();
        let input = node.inputs.iter().find(is_missing)?;
        let producer = self.outcomes.last_producer(&input.name, |status| status != StepStatus::Completed);
        let producer = producer.map(|(id, outcome)| MissingProducer { step: id.clone(), status: outcome.status });
        Some(SkipKind::MissingInput { input: input.name.clone(), producer })
    }

    /// Whether the values in scope are so large that evaluating templates over all of them may take long.
    pub(super) fn is_large(&self) -> bool {
        let mut size = self.size;
        self.item().into_iter().for_each(|item| size.add(item));
        size.is_large()
    }

    /// The variables of a step's templates. They include only the artifacts that are inputs of the step.
    pub(super) fn context(&self, node: &PlanNode) -> TemplateContext {
        self.context_for_inputs(&node.inputs)
    }

    /// The variables of the templates of a step with these inputs.
    pub(super) fn context_for_inputs(&self, inputs: &[InputRef]) -> TemplateContext {
        let mut context = self.base_context();
        for input in inputs {
            if let Some(value) = self.artifact(&input.name) {
                context.insert(&input.name, value);
            }
        }
        context
    }

    /// The value of a variable in expressions, except for `loop`. For `steps`, an object with the outcome of each step.
    pub(super) fn lookup_value(&self, name: &str) -> Option<Value> {
        let variables = self.names.item();
        match name {
            ENDED_STEPS => Some(steps_value(self.names.ended_steps())),
            "item" => variables.map(|variables| variables.item.clone()),
            "index" => variables.map(|variables| variables.index.clone()),
            name => {
                let artifact = || self.artifact(name).map(|value| &**value);
                self.inputs.get(name).or_else(artifact).cloned()
            }
        }
    }

    /// Returns a copy in which an input, an artifact or the item has another value; `None` for the item outside of one.
    pub(super) fn with_value(&self, name: &str, value: Value) -> Option<Self> {
        if name == "item" {
            return Some(self.for_item(value, self.lookup_value("index")?));
        }
        let mut scope = self.child_scope();
        if self.inputs.contains_key(name) {
            Arc::make_mut(&mut scope.inputs).insert(name.to_owned(), value);
        } else {
            scope.add_artifact(name, Arc::new(value));
        }
        Some(scope)
    }

    /// The value to which the names of members lead from the variable `loop`.
    pub(super) fn lookup_loop_value(&self, members: &[String]) -> Option<Value> {
        loop_value(self.names.iteration()?, members)
    }

    /// The variables of an expression that sees every artifact in scope.
    pub(super) fn full_context(&self) -> TemplateContext {
        let mut context = self.base_context();
        for (name, artifact) in self.names.artifacts() {
            context.insert(name, &artifact.value);
        }
        context
    }

    fn base_context(&self) -> TemplateContext {
        let mut context = TemplateContext::default();
        for (name, value) in self.inputs.iter() {
            context.insert(name, value);
        }
        if let Some(ItemScope { item, index }) = self.names.item() {
            context.insert("item", item);
            context.insert("index", index);
        }
        if let Some(iteration) = self.names.iteration() {
            context.insert_lazy("loop", lazy_loop(Arc::clone(iteration)));
        }
        context.insert_lazy(ENDED_STEPS, lazy_steps(self.names.ended_steps().clone()));
        context
    }
}
