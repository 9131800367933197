//! What steps without children share: opening with a fingerprint, completing, failing, retrying.

use std::sync::Arc;

use serde_json::Value;

use crate::durable::{BeginOutcome, CallReply, Interrupt, StepFact, StepSpec};
use crate::model::event::{FingerprintPart, StepCompleted, StepStarted};
use crate::model::step::Access;
use crate::model::{Artifact, CallKey, Class, Digest, Failure, Fingerprint, ModelRef, StepKey, Usage, canonical};

use super::interpret::{Run, StepResult};
use super::node::{NodeKind, PlanNode, StepLimits};
use super::retry::{most_tries, pause};
use super::scope::ValueScope;

/// The version of the fingerprints; a new version invalidates every recorded result.
const RECIPE_VERSION: u32 = 1;

/// A step that is opened, or about to be.
pub(super) struct Leaf<'a> {
    pub(super) run: Run<'a>,
    pub(super) node: &'a PlanNode,
    pub(super) open: StepSpec,
    /// Why the step runs again although it ran before, and the attempt whose record says so.
    why: Option<(u32, String)>,
    answered: Option<Fingerprint>,
}

/// The result of opening a step.
pub(super) enum OpenedStep {
    /// The recorded result is still valid.
    Stands(Option<Arc<Value>>),
    /// These recorded replies may fit now; if none does, continue with this attempt.
    Run(Vec<CallReply>, u32),
}

impl<'a> Leaf<'a> {
    /// A step about to be opened: `recipe` is its fingerprint, and `parts` are the named parts of it.
    pub(super) fn new(
        run: Run<'a>,
        key: &StepKey,
        node: &'a PlanNode,
        recipe: Fingerprint,
        parts: Vec<FingerprintPart>,
    ) -> Self {
        // The result of an item is local to the item, so no file shows it.
        let shown = !key.is_item();
        let open = StepSpec {
            step: key.clone(),
            fingerprint: recipe,
            also: Vec::new(),
            reads: node.inputs.iter().map(|input| input.name.clone()).collect(),
            output: node.output.as_ref().map(|output| output.name.clone()),
            path: node.path().filter(|_| shown),
            parts,
            reusable: node.access == Access::None && matches!(node.kind, NodeKind::Agent(_)),
            depends_on_workspace: node.access != Access::None,
        };
        Self { run, node, open, why: None, answered: None }
    }

    /// Adds other fingerprints whose results are equally valid.
    pub(super) fn or(mut self, also: Vec<Fingerprint>) -> Self {
        self.open.also = also;
        self
    }

    /// Notes that the model at `place` answered. If it has fallbacks after it, the result is recorded with the
    /// fingerprint of the models up to that one.
    pub(super) fn answered(&mut self, place: usize) {
        self.answered = self.open.also.get(place).cloned();
    }

    /// Opens the step: asks whether a recorded result is still valid.
    pub(super) async fn begin(&mut self, scope: &mut ValueScope) -> Result<OpenedStep, Interrupt> {
        Ok(match self.run.durable.begin(&self.open).await? {
            BeginOutcome::Reusable(artifact, mark) => {
                self.touched(scope, mark);
                OpenedStep::Stands(artifact.map(|artifact| Arc::new(artifact.value)))
            }
            BeginOutcome::Reread { replies, attempt, why } => {
                self.why = why.map(|why| (attempt, why));
                OpenedStep::Run(replies, attempt)
            }
            BeginOutcome::Attempt(attempt, why) => {
                self.why = why.map(|why| (attempt, why));
                OpenedStep::Run(Vec::new(), attempt)
            }
        })
    }

    /// Records that an attempt starts.
    pub(super) async fn start(&self, attempt: u32) -> Result<(), Interrupt> {
        self.start_with(attempt, "", None, None).await
    }

    /// Records that an attempt of an agent starts, with the upper bound of its first request's usage.
    pub(super) async fn start_with(
        &self,
        attempt: u32,
        agent: &str,
        model: Option<ModelRef>,
        most: Option<Usage>,
    ) -> Result<(), Interrupt> {
        let fact = StepStarted {
            step: self.open.step.clone(),
            attempt,
            agent: agent.to_owned(),
            model,
            fingerprint: self.open.fingerprint.clone(),
            parts: self.open.parts.clone(),
            why: self.why.as_ref().filter(|(first, _)| *first == attempt).map(|(_, why)| why.clone()),
            max_usage: most,
        };
        self.run.durable.record(StepFact::Started(fact)).await.map(drop)
    }

    /// The key of a call in an attempt.
    pub(super) fn call(&self, attempt: u32, ordinal: u32) -> CallKey {
        CallKey { step: self.open.step.clone(), attempt, ordinal }
    }

    /// Records the result of the step.
    pub(super) async fn end(
        &self,
        scope: &mut ValueScope,
        attempt: u32,
        result: Result<Option<Value>, Failure>,
    ) -> Result<StepResult, Interrupt> {
        match result {
            Ok(value) => self.complete(scope, attempt, value).await.map(Ok),
            Err(failure) => {
                self.run.fail(&self.open.step, self.node, scope, attempt, &failure).await?;
                Ok(Err(failure))
            }
        }
    }

    async fn complete(
        &self,
        scope: &mut ValueScope,
        attempt: u32,
        value: Option<Value>,
    ) -> Result<Option<Arc<Value>>, Interrupt> {
        let artifact = match (&self.open.output, value) {
            (Some(name), Some(value)) => Some(Artifact::new(name, value, self.open.path.clone())),
            (Some(_) | None, _) => None,
        };
        let value = artifact.as_ref().map(|artifact| Arc::new(artifact.value.clone()));
        let fact = StepCompleted {
            step: self.open.step.clone(),
            attempt,
            fingerprint: self.answered.as_ref().unwrap_or(&self.open.fingerprint).clone(),
            reused_from: None,
            artifact,
        };
        let mark = self.run.durable.record(StepFact::Completed(fact)).await?;
        self.touched(scope, mark);
        Ok(value)
    }

    fn touched(&self, scope: &mut ValueScope, mark: u64) {
        if self.node.access == Access::Write && !self.node.kind.name().is_group() {
            scope.touched(mark);
        }
    }

    /// Returns whether to retry after this failure, and waits for the back-off first.
    pub(super) async fn try_again(
        &self,
        limits: &StepLimits,
        failure: &Failure,
        tries: u32,
        attempt: u32,
    ) -> Result<bool, Interrupt> {
        if tries >= most_tries(limits, failure) || !limits.retry_on.contains(&failure.class) {
            return Ok(false);
        }
        let Some(pause) = pause(limits, failure, tries) else {
            return Ok(false);
        };
        self.run.durable.wait(self.call(attempt + 1, 0), pause).await?;
        Ok(true)
    }
}

/// The failure for a recorded outcome whose type does not match its call.
pub(super) fn mixed_up() -> Failure {
    Failure::new(
        Class::Storage,
        "the journal entry of this call has an unexpected type; the journal belongs to another pipeline or is corrupt",
    )
}

/// Computes the fingerprint of a step from the request and from the rules that decode the answer.
pub(super) fn recipe(ask: &Value, take: &Value) -> Fingerprint {
    // This is canonical JSON of `{ "of": value, "version": … }`, built as text so that the large value is not copied.
    let version =
        |value: &Value| Digest::of(format!(r#"{{"of":{},"version":{RECIPE_VERSION}}}"#, canonical(value)).as_bytes());
    Fingerprint { request: version(ask), decode: version(take) }
}

/// The digest of a value.
pub(super) fn digest(value: &Value) -> Digest {
    Digest::of(canonical(value).as_bytes())
}

/// A named part of a fingerprint.
pub(super) fn part(name: impl Into<String>, content: &Value) -> FingerprintPart {
    FingerprintPart { name: name.into(), digest: digest(content) }
}

/// The fingerprint parts that steps of every kind have: the inputs, and the workspace if the step sees it.
pub(super) fn common_parts(node: &PlanNode, scope: &ValueScope) -> Vec<FingerprintPart> {
    let inputs = node.inputs.iter().filter_map(|input| {
        let value = scope.artifact(&input.name)?;
        Some(part(format!("input {}", input.name), value))
    });
    let mut parts: Vec<FingerprintPart> = inputs.collect();
    parts.extend(scope.item().map(|item| part("item", item)));
    parts.extend(node.output.as_ref().map(|output| FingerprintPart {
        name: format!("schema of {}", output.name),
        digest: output.contract.digest(),
    }));
    if node.access != Access::None {
        parts.push(FingerprintPart { name: "workspace".to_owned(), digest: scope.tree().clone() });
    }
    parts
}

/// The workspace version, for the fingerprint of a step that sees the workspace.
pub(super) fn tree_of(node: &PlanNode, scope: &ValueScope) -> Value {
    match node.access {
        Access::None => Value::Null,
        Access::Read | Access::Write => Value::from(scope.tree().as_str()),
    }
}
