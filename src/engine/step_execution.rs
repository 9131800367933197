//! The operations that all steps with a result of their own have in common: begin with a fingerprint, retry, complete,
//! fail.

use std::sync::Arc;

use serde_json::Value;
use tracing::field::display;
use tracing::info;

use crate::durable::{BeginOutcome, CallReply, ExecutionId, Interrupt, StepFact, StepSpec};
use crate::model::event::{FingerprintPart, PartKind, StepCompleted, StepStarted};
use crate::model::step::Access;
use crate::model::{Artifact, CallKey, Digest, Failure, FailureClass, Fingerprint, ModelRef, StepKey, canonical_json};

use super::agent_tools::AgentTools;
use super::interpret::{Interpreter, StepResult};
use super::node::{NodeKind, PlanNode, StepLimits};
use super::retry::{max_tries, pause};
use super::scope::ValueScope;

/// The version of the fingerprints. A new version invalidates every recorded result.
const FINGERPRINT_VERSION: u32 = 1;

/// The ordinal of the first call of an attempt.
pub(super) const FIRST_CALL: u32 = 1;

/// One execution of a step.
pub(super) struct StepExecution<'a> {
    pub(super) interpreter: Interpreter<'a>,
    pub(super) node: &'a PlanNode,
    pub(super) spec: StepSpec,
    /// Why the step runs again, and the attempt whose record contains the reason.
    rerun_reason: Option<(u32, String)>,
    /// The fingerprint for the record of the result, if it differs from the fingerprint in `spec`.
    answering_fingerprint: Option<Fingerprint>,
}

/// The result of [`StepExecution::begin`].
pub(super) enum StepStart {
    /// The recorded result is still valid.
    Reusable(Option<Arc<Value>>),
    /// Parse these recorded replies again; if none fits, continue with this attempt.
    Run(Vec<CallReply>, u32),
}

impl<'a> StepExecution<'a> {
    /// Creates an execution that has not begun; `parts` are the named parts of its fingerprint.
    pub(super) fn new(
        interpreter: Interpreter<'a>,
        key: &StepKey,
        node: &'a PlanNode,
        fingerprint: Fingerprint,
        parts: Vec<FingerprintPart>,
    ) -> Self {
        // Only the list of all results has a file in the workspace, not the result of a single item.
        let has_file = !key.is_item();
        let spec = StepSpec {
            step: key.clone(),
            fingerprint,
            alternative_fingerprints: Vec::new(),
            inputs: node.inputs.iter().map(|input| input.name.clone()).collect(),
            output: node.output.as_ref().map(|output| output.name.clone()),
            path: node.artifact_path().filter(|_| has_file),
            fingerprint_parts: parts,
            reusable: node.access == Access::None
                && matches!(&node.kind, NodeKind::Agent(agent) if agent.tools.is_none() && agent.pipelines.is_empty()),
            depends_on_workspace: node.access != Access::None,
            may_write: node.access == Access::Write && !node.kind.kind().is_group(),
            requires_call: matches!(&node.kind, NodeKind::Agent(agent)
                if agent.tools.as_deref().is_some_and(AgentTools::requires_call)),
        };
        Self { interpreter, node, spec, rerun_reason: None, answering_fingerprint: None }
    }

    /// Adds other fingerprints whose results are equally valid.
    pub(super) fn with_alternatives(mut self, alternatives: Vec<Fingerprint>) -> Self {
        self.spec.alternative_fingerprints = alternatives;
        self
    }

    /// Sets the index of the model that produced the result. If fallbacks follow this model, orch records the result
    /// with the fingerprint of the models up to this one, since the result does not depend on the fallbacks.
    pub(super) fn set_answering_model(&mut self, model_index: usize) {
        self.answering_fingerprint = self.spec.alternative_fingerprints.get(model_index).cloned();
    }

    /// Begins the step. Returns the recorded result if it is still valid.
    pub(super) async fn begin(&mut self, scope: &mut ValueScope) -> Result<StepStart, Interrupt> {
        self.spec.inputs.extend(scope.previous_inputs(self.node));
        Ok(match self.interpreter.durable.begin(&self.spec).await? {
            BeginOutcome::Reusable(artifact, execution_id) => {
                info!(step = %self.spec.step, "orch reuses the recorded result");
                self.bump_workspace_version(scope, execution_id);
                StepStart::Reusable(artifact.map(|artifact| Arc::new(artifact.value)))
            }
            BeginOutcome::Reparse { replies, attempt, rerun_reason: reason } => {
                self.rerun_reason = reason.map(|reason| (attempt, reason));
                StepStart::Run(replies, attempt)
            }
            BeginOutcome::Attempt(attempt, reason) => {
                self.rerun_reason = reason.map(|reason| (attempt, reason));
                StepStart::Run(Vec::new(), attempt)
            }
        })
    }

    /// Records that an attempt starts.
    pub(super) async fn record_start(&self, attempt: u32) -> Result<(), Interrupt> {
        self.record_agent_start(attempt, "", None).await
    }

    /// Records that an attempt of an agent starts.
    pub(super) async fn record_agent_start(
        &self,
        attempt: u32,
        agent: &str,
        model: Option<ModelRef>,
    ) -> Result<(), Interrupt> {
        let agent_name = Some(agent).filter(|name| !name.is_empty());
        let model_name = model.as_ref().map(display);
        info!(step = %self.spec.step, attempt, agent = agent_name, model = model_name, "the attempt starts");
        let fact = StepStarted {
            step: self.spec.step.clone(),
            attempt,
            agent: agent.to_owned(),
            model,
            access: self.node.access,
            fingerprint: self.spec.fingerprint.clone(),
            fingerprint_parts: self.spec.fingerprint_parts.clone(),
            reason: self.rerun_reason.as_ref().filter(|(first, _)| *first == attempt).map(|(_, reason)| reason.clone()),
        };
        self.interpreter.durable.record(StepFact::Started(fact)).await.map(drop)
    }

    /// The key of a call in an attempt.
    pub(super) fn call_key(&self, attempt: u32, ordinal: u32) -> CallKey {
        CallKey { step: self.spec.step.clone(), attempt, ordinal, tool_call: None, input_round: None }
    }

    /// Records the result of the step.
    pub(super) async fn finish(
        &self,
        scope: &mut ValueScope,
        attempt: u32,
        result: Result<Option<Value>, Failure>,
    ) -> Result<StepResult, Interrupt> {
        match result {
            Ok(value) => self.complete(scope, attempt, value).await.map(Ok),
            Err(failure) => {
                self.interpreter.fail(&self.spec.step, self.node, scope, attempt, &failure).await?;
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
        info!(step = %self.spec.step, attempt, "the step completed");
        let artifact = match (&self.spec.output, value) {
            (Some(name), Some(value)) => Some(Artifact::new(name, value, self.spec.path.clone())),
            (Some(_) | None, _) => None,
        };
        let value = artifact.as_ref().map(|artifact| Arc::new(artifact.value.clone()));
        let fact = StepCompleted {
            step: self.spec.step.clone(),
            attempt,
            fingerprint: self.answering_fingerprint.as_ref().unwrap_or(&self.spec.fingerprint).clone(),
            reused_from: None,
            artifact,
        };
        let execution_id = self.interpreter.durable.record(StepFact::Completed(fact)).await?;
        self.bump_workspace_version(scope, execution_id);
        Ok(value)
    }

    fn bump_workspace_version(&self, scope: &mut ValueScope, execution_id: ExecutionId) {
        if self.spec.may_write {
            scope.bump_workspace_version(execution_id);
        }
    }

    /// Waits for the back-off, and returns true, if the step should be retried after this failure. `tries_in_session`
    /// is the number of tries so far; an agent counts those of each of its models alone. `next` is the key of the next
    /// attempt or of the next request: its call does not start before the end of the wait.
    pub(super) async fn wait_for_retry(
        &self,
        limits: &StepLimits,
        failure: &Failure,
        tries_in_session: u32,
        next: CallKey,
    ) -> Result<bool, Interrupt> {
        if tries_in_session >= max_tries(limits, failure) || !limits.retry_on.contains(&failure.class) {
            return Ok(false);
        }
        let Some(pause) = pause(limits, failure, tries_in_session) else {
            return Ok(false);
        };
        self.interpreter.durable.wait(next, pause).await?;
        Ok(true)
    }
}

/// The failure for a recorded outcome whose type does not match its call.
pub(super) fn unexpected_record() -> Failure {
    Failure::new(
        FailureClass::Storage,
        "the journal entry of this call has an unexpected type; the journal belongs to another pipeline or is corrupt",
    )
}

/// Computes the fingerprint of a step from its request and from the rules by which orch decodes the reply.
pub(super) fn compute_fingerprint(request: &Value, decode: &Value) -> Fingerprint {
    // The text is the canonical JSON of `{ "of": value, "version": … }`. Build it as text to avoid a copy of the value.
    let versioned_digest = |value: &Value| {
        Digest::compute(format!(r#"{{"of":{},"version":{FINGERPRINT_VERSION}}}"#, canonical_json(value)).as_bytes())
    };
    Fingerprint { request: versioned_digest(request), decode: versioned_digest(decode) }
}

/// The digest of a value.
pub(super) fn digest(value: &Value) -> Digest {
    Digest::compute(canonical_json(value).as_bytes())
}

/// A part of a fingerprint.
pub(super) fn fingerprint_part(kind: PartKind, content: &Value) -> FingerprintPart {
    FingerprintPart::new(kind, &digest(content))
}

/// The fingerprint parts of every kind of step: the inputs, and the workspace if the step sees it.
pub(super) fn common_fingerprint_parts(node: &PlanNode, scope: &ValueScope) -> Vec<FingerprintPart> {
    let inputs = node.inputs.iter().filter_map(|input| {
        let value = scope.artifact(&input.name)?;
        Some(fingerprint_part(PartKind::Artifact(input.name.clone()), value))
    });
    let mut parts: Vec<FingerprintPart> = inputs.collect();
    parts.extend(scope.previous_parts(node));
    parts.extend(scope.item().map(|item| fingerprint_part(PartKind::Item, item)));
    parts.extend(
        node.output
            .as_ref()
            .map(|output| FingerprintPart::new(PartKind::Schema(output.name.clone()), &output.artifact_type.digest())),
    );
    if node.access != Access::None {
        parts.push(FingerprintPart::new(PartKind::Workspace, scope.workspace_version()));
    }
    parts
}

/// The workspace version, for the fingerprint of a step that sees the workspace.
pub(super) fn workspace_version(node: &PlanNode, scope: &ValueScope) -> Value {
    match node.access {
        Access::None => Value::Null,
        Access::Read | Access::Write => Value::from(scope.workspace_version().as_str()),
    }
}
