//! The values that a step sees: the inputs, the artifacts so far, how steps ended, the item or round.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::durable::{ExecutionId, ScopeDelta, StepOutcome};
use crate::model::{Digest, Failure, StepStatus};
use crate::offload::LARGE_TEXT;
use crate::template::TemplateContext;

use super::node::{InputRef, PlanNode};

/// The values in scope at one point of a run; cheap to clone.
#[derive(Clone)]
pub(super) struct ValueScope {
    inputs: Arc<Map<String, Value>>,
    locals: Arc<Vec<(&'static str, Value)>>,
    artifacts: Arc<IndexMap<String, Arc<Value>>>,
    steps: Arc<IndexMap<String, StepOutcome>>,
    /// Artifacts of the previous round that this round has not produced yet. Steps see them only as optional inputs.
    recalled: Arc<Vec<String>>,
    /// The workspace version: a digest that changes with each step that writes.
    tree: Digest,
    /// What was added since this scope was opened.
    gained: ScopeDelta,
}

impl ValueScope {
    /// The scope at the start of a pipeline.
    pub(super) fn new(inputs: Map<String, Value>, tree: Digest) -> Self {
        Self {
            inputs: Arc::new(inputs),
            locals: Arc::default(),
            artifacts: Arc::default(),
            steps: Arc::default(),
            recalled: Arc::default(),
            tree,
            gained: ScopeDelta::default(),
        }
    }

    /// The workspace version of a run before its first step.
    pub(super) fn untouched() -> Digest {
        Digest::of(b"workspace")
    }

    /// An inner scope: it sees everything, and collects separately what is added to it.
    pub(super) fn inner(&self) -> Self {
        Self { gained: ScopeDelta::default(), ..self.clone() }
    }

    /// An inner scope with an item or a round.
    pub(super) fn with(&self, locals: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut inner = self.inner();
        let mut all = (*self.locals).clone();
        for (name, value) in locals {
            all.retain(|(old, _)| *old != name);
            all.push((name, value));
        }
        inner.locals = Arc::new(all);
        inner
    }

    /// What was added to this scope.
    pub(super) fn into_gained(self) -> ScopeDelta {
        ScopeDelta { workspace_version: Some(self.tree), ..self.gained }
    }

    /// Adds what an inner scope collected, after a group.
    pub(super) fn merge(&mut self, gained: &ScopeDelta) {
        for (name, value) in &gained.artifacts {
            self.add(name, value.clone());
        }
        for (id, end) in &gained.steps {
            self.note(id, end.clone());
        }
        self.note_failure(gained.failed.clone());
        if let Some(tree) = &gained.workspace_version {
            self.tree = tree.clone();
        }
    }

    /// Shows the results of the previous round, without counting them as results of this round.
    pub(super) fn recall(&mut self, gained: &ScopeDelta) {
        let old = Arc::make_mut(&mut self.recalled);
        old.extend(gained.artifacts.keys().cloned());
        let artifacts = Arc::make_mut(&mut self.artifacts);
        artifacts.extend(gained.artifacts.iter().map(|(name, value)| (name.clone(), value.clone())));
        let steps = Arc::make_mut(&mut self.steps);
        steps.extend(gained.steps.iter().map(|(id, end)| (id.clone(), end.clone())));
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

    pub(super) fn tree(&self) -> &Digest {
        &self.tree
    }

    /// Changes the workspace version after a step that may write, whether it ran or its recorded result was reused.
    pub(super) fn touched(&mut self, mark: ExecutionId) {
        self.tree = Digest::of(format!("{} {mark}", self.tree).as_bytes());
    }

    /// Sets the workspace version that other steps left.
    pub(super) fn set_tree(&mut self, tree: Digest) {
        self.tree = tree;
    }

    pub(super) fn add(&mut self, name: &str, value: Arc<Value>) {
        if self.recalled.iter().any(|old| old == name) {
            Arc::make_mut(&mut self.recalled).retain(|old| old != name);
        }
        Arc::make_mut(&mut self.artifacts).insert(name.to_owned(), value.clone());
        self.gained.artifacts.insert(name.to_owned(), value);
    }

    pub(super) fn completed(&mut self, node: &PlanNode, value: Option<Arc<Value>>) {
        if let (Some(output), Some(value)) = (&node.output, value) {
            self.add(&output.name, value);
        }
        self.end(node, StepStatus::Completed, None);
    }

    pub(super) fn failed(&mut self, node: &PlanNode, failure: &Failure) {
        self.note_failure(Some(failure.clone()));
        self.end(node, StepStatus::Failed, Some(failure.to_string()));
    }

    /// Notes the step that halted this scope's sequence, and why it failed; only the first one counts.
    pub(super) fn stopped(&mut self, by: Option<(String, Failure)>) {
        if self.gained.stopped.is_none() {
            self.gained.stopped = by;
        }
    }

    pub(super) fn skipped(&mut self, node: &PlanNode, reason: &str) {
        self.end(node, StepStatus::Skipped, Some(reason.to_owned()));
    }

    fn end(&mut self, node: &PlanNode, status: StepStatus, error: Option<String>) {
        self.note(&node.id, StepOutcome { status, error, outputs: node.names().into() });
    }

    fn note(&mut self, id: &str, end: StepOutcome) {
        Arc::make_mut(&mut self.steps).insert(id.to_owned(), end.clone());
        self.gained.steps.insert(id.to_owned(), end);
    }

    /// Notes a step that was dropped because a parallel step failed.
    pub(super) fn cancelled(&mut self, node: &PlanNode) {
        self.end(node, StepStatus::Cancelled, None);
    }

    /// The first failure of a step, here or in an inner scope.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.gained.failed.as_ref()
    }

    /// Removes and returns the failure so far, so that later failures can be distinguished from it.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.gained.failed.take()
    }

    /// Why this scope's sequence was halted, if it was.
    pub(super) fn stop(&self) -> Option<&Failure> {
        self.gained.stopped.as_ref().map(|(_, failure)| failure)
    }

    /// Notes a failure in an inner scope, unless one is noted already.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if self.gained.failed.is_none() {
            self.gained.failed = failure;
        }
    }

    /// Why a required input of a step is missing, in words; `None` when all of them exist.
    pub(super) fn missing(&self, node: &PlanNode) -> Option<String> {
        let there = |name: &String| self.artifacts.contains_key(name) && !self.recalled.contains(name);
        let input = node.inputs.iter().find(|input| !input.optional && !there(&input.name))?;
        let ends = |end: &StepOutcome| end.status != StepStatus::Completed && end.outputs.contains(&input.name);
        let writer = self.steps.iter().rev().find(|(_, end)| ends(end));
        Some(match writer {
            Some((id, end)) => format!("input {} missing: step {id} {}", input.name, end.status.as_str()),
            None => format!("input {} missing", input.name),
        })
    }

    /// Whether the values in scope are so large that evaluating templates over all of them may take long.
    pub(super) fn is_large(&self) -> bool {
        let mut left = LARGE_TEXT;
        let values = self.inputs.values().chain(self.locals.iter().map(|(_, value)| value));
        values.chain(self.artifacts.values().map(|value| &**value)).any(|value| exceeds(value, &mut left))
    }

    /// The variables of a step's templates; of the artifacts only the step's inputs.
    pub(super) fn context(&self, node: &PlanNode) -> TemplateContext {
        self.context_of(&node.inputs)
    }

    /// The same for a step with these inputs.
    pub(super) fn context_of(&self, inputs: &[InputRef]) -> TemplateContext {
        let mut context = self.base();
        for input in inputs {
            if let Some(value) = self.artifacts.get(&input.name) {
                context.insert(&input.name, value);
            }
        }
        context
    }

    /// The value of a name in expressions; for `steps`, how each step ended.
    pub(super) fn value_named(&self, name: &str) -> Option<Value> {
        if name == "steps" {
            return Some(self.steps.iter().map(|(id, end)| (id.clone(), value_of(end))).collect());
        }
        let local = self.locals.iter().find(|(local, _)| *local == name).map(|(_, value)| value);
        let artifact = || self.artifacts.get(name).map(|value| &**value);
        self.inputs.get(name).or(local).or_else(artifact).cloned()
    }

    /// The variables of an expression that sees everything in scope.
    pub(super) fn everything(&self) -> TemplateContext {
        let mut context = self.base();
        for (name, value) in self.artifacts.iter() {
            context.insert(name, value);
        }
        context
    }

    fn base(&self) -> TemplateContext {
        let mut context = TemplateContext::default();
        for (name, value) in self.inputs.iter() {
            context.insert(name, value);
        }
        for (name, value) in self.locals.iter() {
            context.insert(name, value);
        }
        let steps = self.steps.clone();
        let names = self.steps.clone();
        context.insert_lookup("steps", move |id| steps.get(id).map(value_of), move || names.keys().cloned().collect());
        context
    }
}

/// Whether the value's size as JSON, roughly, exceeds `left`; otherwise subtracts the size from `left`.
fn exceeds(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    let Some(rest) = left.checked_sub(own + 4) else { return true };
    *left = rest;
    match value {
        Value::Array(items) => items.iter().any(|item| exceeds(item, left)),
        Value::Object(members) => members.iter().any(|(name, member)| name.len() > *left || exceeds(member, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn value_of(end: &StepOutcome) -> Value {
    match &end.error {
        Some(error) => json!({ "status": end.status.as_str(), "error": error }),
        None => json!({ "status": end.status.as_str() }),
    }
}
