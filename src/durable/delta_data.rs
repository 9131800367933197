//! The serialized form of a [`ScopeDelta`].
//!
//! A record of a failure omits [`Failure::unusable_values`]. The steps around a branch derive the hint of their own
//! failure from these values, so the outcome of a branch contains them.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Failure};

use super::branch::{ScopeDelta, StepOutcome};
use super::scope_snapshot::ScopeArtifact;

/// The fields of a [`ScopeDelta`], with whole failures.
#[derive(Serialize, Deserialize)]
pub(super) struct DeltaData {
    artifacts: IndexMap<String, ScopeArtifact>,
    steps: IndexMap<String, StepOutcome>,
    first_failure: Option<WholeFailure>,
    halted_by: Option<(String, WholeFailure)>,
    workspace_version: Option<Digest>,
    item_result: Option<Result<Arc<Value>, WholeFailure>>,
}

/// A failure with the values that its record omits.
#[derive(Serialize, Deserialize)]
struct WholeFailure {
    failure: Failure,
    unusable_values: Option<Box<[String]>>,
}

impl From<Failure> for WholeFailure {
    fn from(mut failure: Failure) -> Self {
        let unusable_values = failure.unusable_values.take();
        Self { failure, unusable_values }
    }
}

impl From<WholeFailure> for Failure {
    fn from(WholeFailure { failure, unusable_values }: WholeFailure) -> Self {
        Self { unusable_values, ..failure }
    }
}

impl From<ScopeDelta> for DeltaData {
    fn from(delta: ScopeDelta) -> Self {
        Self {
            artifacts: delta.artifacts,
            steps: delta.steps,
            first_failure: delta.first_failure.map(WholeFailure::from),
            halted_by: delta.halted_by.map(|(step, failure)| (step, failure.into())),
            workspace_version: delta.workspace_version,
            item_result: delta.item_result.map(|result| result.map_err(WholeFailure::from)),
        }
    }
}

impl From<DeltaData> for ScopeDelta {
    fn from(data: DeltaData) -> Self {
        Self {
            artifacts: data.artifacts,
            steps: data.steps,
            first_failure: data.first_failure.map(Failure::from),
            halted_by: data.halted_by.map(|(step, failure)| (step, failure.into())),
            workspace_version: data.workspace_version,
            item_result: data.item_result.map(|result| result.map_err(Failure::from)),
        }
    }
}
