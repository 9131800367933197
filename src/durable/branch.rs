//! Branches of groups that run in parallel.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Failure, StepKey, StepStatus};

use super::Interrupt;
use super::delta_data::DeltaData;
use super::scope_snapshot::{ScopeArtifact, ScopeItem, ScopeSnapshot};

/// A branch as data. Any process can run it that has the plan, and in which [`Durable`](super::Durable) reaches the
/// records of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BranchSpec {
    /// The digest of the plan.
    pub plan: Digest,
    /// The step of the plan that the branch runs, as a key without items and iterations: a step of a `parallel`, or the
    /// step with `for_each`.
    pub node: StepKey,
    /// The key of the branch in the run: that of the step, or of the item.
    pub key: StepKey,
    /// The item that the branch runs, for a step with `for_each`.
    pub item: Option<ScopeItem>,
    /// What the step sees.
    pub scope: ScopeSnapshot,
}

/// The branches of a group, in order. The interpreter creates a branch only when the implementation asks for it, since
/// a group may have thousands of branches.
pub trait GroupBranches: Send + Sync {
    /// The number of branches.
    fn count(&self) -> usize;

    /// Returns a branch as data, for another process. It contains all values in scope that are not recorded, so
    /// creating it takes time in proportion to the size of the scope.
    ///
    /// # Errors
    /// The branch or the plan can't be serialized, which is a defect of orch.
    fn spec(&self, index: usize) -> Result<BranchSpec, Interrupt>;

    /// Runs a branch in this process, where all branches share the values in scope. The outcome is the same as that of
    /// the branch that [`spec`](Self::spec) returns.
    fn run(&self, index: usize) -> BoxFuture<'_, Result<BranchOutcome, Interrupt>>;
}

/// Whether the steps after a step may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunFlow {
    /// They may run.
    Continue,
    /// They may not run, because a step failed and its failure stops the steps after it.
    Halt,
}

/// How a branch ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchOutcome {
    /// It ran to its end. Contains what its steps added to the scope, and whether it halts the group.
    Ended(Box<ScopeDelta>, RunFlow),
    /// orch ended it early, because a parallel branch failed.
    Cancelled,
    /// It did not start, because a parallel branch had failed.
    NotStarted,
}

/// What a group of steps adds to the scope of the steps that follow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "DeltaData", into = "DeltaData")]
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, ScopeArtifact>,
    /// How the steps ended, by step id.
    pub steps: IndexMap<String, StepOutcome>,
    /// The first failure of a step, at any depth.
    pub first_failure: Option<Failure>,
    /// The id of the step that halted the sequence, and its failure.
    pub halted_by: Option<(String, Failure)>,
    /// A digest that identifies the state of the workspace after these steps.
    pub workspace_version: Option<Digest>,
    /// The result of an item of a `for_each`: its value, which is null if the item has none, or its failure.
    pub item_result: Option<Result<Arc<Value>, Failure>>,
}

/// How a step ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepOutcome {
    /// `completed`, `failed`, `skipped` or `cancelled`.
    pub status: StepStatus,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// The artifacts that the step produces when it completes.
    pub outputs: Arc<[String]>,
}
