//! Branches of groups that run in parallel.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Failure, StepStatus};

use super::Interrupt;

/// A future that may run in parallel with others.
pub type Branch<'a> = BoxFuture<'a, Result<BranchOutcome, Interrupt>>;

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
pub struct ScopeDelta {
    /// The artifacts, by name.
    pub artifacts: IndexMap<String, Arc<Value>>,
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
