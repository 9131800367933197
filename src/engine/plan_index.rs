//! Finds a step by its key, the steps that produce an artifact, and the point from which a step can run again.

use std::collections::HashMap;

use crate::model::StepKey;

use super::node::{PlanBody, PlanNode};

/// The answers about a plan that branches and the hints of failures need. There may be as many branches and failures as
/// steps, so the plan is not searched for each.
#[derive(Default)]
pub(super) struct PlanIndex {
    /// The workspace file of each artifact.
    pub(super) artifact_paths: HashMap<String, String>,
    /// The first step that produces each artifact.
    pub(super) producers: HashMap<String, StepKey>,
    /// The step itself, or the outermost loop around it.
    pub(super) restart_points: HashMap<StepKey, StepKey>,
    /// The place of each step: the positions that lead to it, from the steps of the pipeline to the steps of its group.
    pub(super) places: HashMap<StepKey, Vec<usize>>,
}

/// The place of each step of a pipeline. The steps of `finally` follow those of `steps`.
pub(super) fn step_places(body: &PlanBody) -> HashMap<StepKey, Vec<usize>> {
    let mut places = HashMap::new();
    add_places(Box::new(body.nodes.iter().chain(&body.finally)), None, &mut Vec::new(), &mut places);
    places
}

fn add_places(
    nodes: Box<dyn Iterator<Item = &PlanNode> + '_>,
    parent: Option<&StepKey>,
    place: &mut Vec<usize>,
    places: &mut HashMap<StepKey, Vec<usize>>,
) {
    for (position, node) in nodes.enumerate() {
        let step = StepKey::child_of(parent, &node.id);
        place.push(position);
        places.entry(step.clone()).or_insert_with(|| place.clone());
        add_places(node.children(), Some(&step), place, places);
        place.pop();
    }
}
