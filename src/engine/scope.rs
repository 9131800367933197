//! What a step can see: the inputs, the artifacts so far, how steps ended, the item or round.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::durable::{ExecutionId, ScopeDelta, StepOutcome};
use crate::model::{Digest, Failure, StepStatus};
use crate::offload::LARGE_TEXT;
use crate::template::TemplateContext;

use super::node::{InputRef, PlanNode};

/// The values in reach at one place of a run; cheap to clone.
#[derive(Clone)]
pub(super) struct ValueScope {
    inputs: Arc<Map<String, Value>>,
    locals: Arc<Vec<(&'static str, Value)>>,
    artifacts: Arc<IndexMap<String, Arc<Value>>>,
    steps: Arc<IndexMap<String, StepOutcome>>,
    /// Artifacts of the round before that this round has not made anew: seen as optional inputs alone.
    recalled: Arc<Vec<String>>,
    /// What stands for the state of the workspace: another after each step that wrote.
    tree: Digest,
    /// What was gained since this scope was opened.
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

    /// The workspace of a run before its first step.
    pub(super) fn untouched() -> Digest {
        Digest::of(b"workspace")
    }

    /// A scope inside this one: sees everything, and keeps what it gains to itself.
    pub(super) fn inner(&self) -> Self {
        Self { gained: ScopeDelta::default(), ..self.clone() }
    }

    /// A scope inside this one, with an item or a round.
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

    /// What was gained here.
    pub(super) fn into_gained(self) -> ScopeDelta {
        ScopeDelta { workspace_version: Some(self.tree), ..self.gained }
    }

    /// Takes in what an inner scope gained: after a group, or from the round before.
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

    /// Shows what the round before gained, without making it this round's own.
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

    /// A step that may have written ran, or stands as it ran then.
    pub(super) fn touched(&mut self, mark: ExecutionId) {
        self.tree = Digest::of(format!("{} {mark}", self.tree).as_bytes());
    }

    /// The state of the workspace as somebody else left it.
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

    /// The step that ended the list of this scope, and why it failed: the first of them.
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

    /// A step that was given up because another one failed.
    pub(super) fn cancelled(&mut self, node: &PlanNode) {
        self.end(node, StepStatus::Cancelled, None);
    }

    /// The first failure of any step, here or below.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.gained.failed.as_ref()
    }

    /// Takes the failure so far out: those that come after it are told from it.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.gained.failed.take()
    }

    /// Why its list ended before its end, if it did.
    pub(super) fn stop(&self) -> Option<&Failure> {
        self.gained.stopped.as_ref().map(|(_, failure)| failure)
    }

    /// Notes a failure below that no step of this scope tells.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if self.gained.failed.is_none() {
            self.gained.failed = failure;
        }
    }

    /// Why a required input of a step is not there, in words; `None` when all are.
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

    /// Whether the values in reach are so large that to look at them all takes long.
    pub(super) fn is_large(&self) -> bool {
        let mut left = LARGE_TEXT;
        let values = self.inputs.values().chain(self.locals.iter().map(|(_, value)| value));
        values.chain(self.artifacts.values().map(|value| &**value)).any(|value| exceeds(value, &mut left))
    }

    /// The variables of a step's templates: its inputs and no other artifact.
    pub(super) fn context(&self, node: &PlanNode) -> TemplateContext {
        self.context_of(&node.inputs)
    }

    /// The same of a step with these inputs.
    pub(super) fn context_of(&self, inputs: &[InputRef]) -> TemplateContext {
        let mut context = self.base();
        for input in inputs {
            if let Some(value) = self.artifacts.get(&input.name) {
                context.insert(&input.name, value);
            }
        }
        context
    }

    /// What a name stands for in expressions; for `steps`, how each step ended.
    pub(super) fn value_named(&self, name: &str) -> Option<Value> {
        if name == "steps" {
            return Some(self.steps.iter().map(|(id, end)| (id.clone(), value_of(end))).collect());
        }
        let local = self.locals.iter().find(|(local, _)| *local == name).map(|(_, value)| value);
        let artifact = || self.artifacts.get(name).map(|value| &**value);
        self.inputs.get(name).or(local).or_else(artifact).cloned()
    }

    /// The variables of an expression over everything in reach.
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

/// Whether a value takes more than so many bytes as JSON, about; takes them off when it does not.
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
