//! The values that a branch sees, as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Digest, Failure, FailureClass, StepKey, canonical_json};

use super::{Interrupt, StepOutcome};

/// What a branch sees: inputs, artifacts, outcomes of steps, and the item and the iterations around it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScopeSnapshot {
    /// The inputs of the run or of the called pipeline.
    pub inputs: Map<String, Value>,
    /// The artifacts, by name.
    pub artifacts: BTreeMap<String, SnapshotArtifact>,
    /// The outcomes that texts can read (`steps`), by step id.
    pub ended_steps: BTreeMap<String, StepOutcome>,
    /// The outcomes of all steps, including those inside of groups, in the order in which the steps ended first.
    pub outcomes: Vec<(String, StepOutcome)>,
    /// The item of the innermost step with `for_each` around the group.
    pub item: Option<ScopeItem>,
    /// The iterations of loops around the group, innermost first.
    pub iterations: Vec<SnapshotIteration>,
    /// A digest that identifies the state of the workspace.
    pub workspace_version: Digest,
}

/// An item of a step with `for_each`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScopeItem {
    /// The variable `item`.
    pub item: Value,
    /// The variable `index`.
    pub index: Value,
}

/// An iteration of a loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotIteration {
    /// The variable `loop`, without `previous` and `parent`.
    pub variable: Value,
    /// What the iteration before it exported; `None` in the first one.
    pub previous: Option<PreviousIteration>,
}

/// What an iteration exported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreviousIteration {
    /// The artifacts, by name.
    pub artifacts: BTreeMap<String, SnapshotArtifact>,
    /// The outcomes of the steps of the iteration, by step id.
    pub ended_steps: BTreeMap<String, StepOutcome>,
}

/// An artifact in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotArtifact {
    /// The value is recorded ([`Durable::artifact`](super::Durable::artifact)).
    Recorded(ArtifactRef),
    /// The value itself, since no record is sure to have it: an output of a called pipeline has no record, and the value
    /// of a group is computed again in each session.
    Value(Arc<Value>),
}

/// A reference to a recorded artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// The step that completed with the artifact, in this session or in an earlier one.
    pub step: StepKey,
    /// The digest of the value.
    pub digest: Digest,
}

/// An artifact in scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScopeArtifact {
    /// The value.
    pub value: Arc<Value>,
    /// The step whose record contains the value; `None` if no record does.
    pub producer: Option<Arc<StepKey>>,
}

impl ArtifactRef {
    /// The reference to the artifact with this value that a step completed with.
    pub fn new(step: &StepKey, value: &Value) -> Self {
        Self { step: step.clone(), digest: value_digest(value) }
    }

    /// Whether this is the value of the artifact.
    pub fn is_to(&self, value: &Value) -> bool {
        self.digest == value_digest(value)
    }

    /// The reason to stop if the records do not contain the artifact.
    pub fn missing(&self) -> Interrupt {
        let message = format!("the records of the run do not contain the artifact of step `{}`", self.step);
        let failure = Failure::new(FailureClass::Storage, message);
        Interrupt::Storage(failure.with_hint("run `orch pipeline resume`"))
    }
}

impl ScopeArtifact {
    /// An artifact whose value no record contains.
    pub fn unrecorded(value: Arc<Value>) -> Self {
        Self { value, producer: None }
    }

    /// The artifact that a step completed with.
    pub fn recorded(value: Arc<Value>, producer: &StepKey) -> Self {
        Self { value, producer: Some(Arc::new(producer.clone())) }
    }

    /// The artifact for another process: a reference to its record if it has one.
    pub fn to_snapshot(&self) -> SnapshotArtifact {
        match &self.producer {
            Some(step) => SnapshotArtifact::Recorded(ArtifactRef::new(step, &self.value)),
            None => SnapshotArtifact::Value(self.value.clone()),
        }
    }
}

/// The digest of a value, which does not depend on the order of members.
fn value_digest(value: &Value) -> Digest {
    Digest::compute(canonical_json(value).as_bytes())
}
