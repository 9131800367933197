//! Finds the steps that produce an artifact, and the point from which a step can run again.

use std::collections::HashMap;

use crate::model::StepKey;

/// The answers about a plan that the hints of failures need. There may be as many failures as steps, so the plan is not
/// searched for each.
#[derive(Default)]
pub(super) struct PlanIndex {
    /// The workspace file of each artifact.
    pub(super) artifact_paths: HashMap<String, String>,
    /// The first step that produces each artifact.
    pub(super) producers: HashMap<String, StepKey>,
    /// The step itself, or the outermost loop around it.
    pub(super) restart_points: HashMap<StepKey, StepKey>,
}
