//! The variables `loop` and `steps`: the position of an iteration, the results of the previous iteration, and the
//! outcomes of steps.
//!
//! Templates look up their members only when they use them, because the results of an iteration may be large.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::durable::{ScopeArtifact, ScopeDelta, StepOutcome};
use crate::model::name_scope::{
    ENDED_STEPS, IterationResult, IterationScope, NameMap, NameScope, PARENT_LOOP, PREVIOUS_ITERATION,
};
use crate::template::{LazyMember, LazyObject};

use super::node::PlanNode;

/// The names in scope with the values of a run.
pub(super) type ValueNames = NameScope<Arc<str>, ScopeArtifact, StepOutcome, Value>;
/// The variable `loop` of an iteration.
pub(super) type ValueIteration = IterationScope<Arc<str>, ScopeArtifact, StepOutcome, Value>;
/// What the steps of an iteration export.
pub(super) type IterationValues = IterationResult<Arc<str>, ScopeArtifact, StepOutcome>;

/// The position of an iteration, which `loop` shows. `index` counts from 0.
pub(super) fn iteration_position(index: u32, max: u32) -> Value {
    json!({ "index": index + 1, "index0": index, "first": index == 0, "last": index + 1 == max, "max": max })
}

/// What an iteration exports, from its additions to the scope. `nodes` are the steps of the iteration.
pub(super) fn iteration_values(delta: &ScopeDelta, nodes: &[PlanNode]) -> IterationValues {
    let ended = nodes.iter().filter_map(|node| Some((Arc::from(node.id.as_str()), delta.steps.get(&node.id)?.clone())));
    let artifacts = delta.artifacts.iter().map(|(name, artifact)| (Arc::from(name.as_str()), artifact.clone()));
    IterationValues { artifacts: artifacts.collect(), ended_steps: ended.collect() }
}

/// The variable `loop` for templates.
pub(super) fn lazy_loop(iteration: Arc<ValueIteration>) -> LazyObject {
    let named_iteration = Arc::clone(&iteration);
    LazyObject::new(move |name| loop_member(&iteration, name), move || member_names(&named_iteration))
}

fn loop_member(iteration: &Arc<ValueIteration>, name: &str) -> Option<LazyMember> {
    match name {
        PREVIOUS_ITERATION => Some(LazyMember::Object(lazy_previous(Arc::clone(iteration)))),
        PARENT_LOOP => iteration.parent.clone().map(|parent| LazyMember::Object(lazy_loop(parent))),
        name => iteration.variable.get(name).cloned().map(LazyMember::Json),
    }
}

fn member_names(iteration: &ValueIteration) -> Vec<String> {
    let position = iteration.variable.as_object().into_iter().flat_map(Map::keys).cloned();
    let parent = iteration.parent.as_ref().map(|_| PARENT_LOOP.to_owned());
    position.chain([PREVIOUS_ITERATION.to_owned()]).chain(parent).collect()
}

/// The member `previous` of `loop`: the artifacts of the previous iteration and the outcomes of its steps. Empty in the
/// first iteration.
fn lazy_previous(iteration: Arc<ValueIteration>) -> LazyObject {
    let named_iteration = Arc::clone(&iteration);
    let get = move |name: &str| {
        let previous = iteration.previous.as_ref()?;
        match name {
            ENDED_STEPS => Some(LazyMember::Object(lazy_steps(previous.ended_steps.clone()))),
            name => previous.artifacts.get(name).map(|artifact| LazyMember::Shared(artifact.value.clone())),
        }
    };
    let names = move || -> Vec<String> {
        let results = named_iteration.previous.iter();
        results.flat_map(|previous| artifact_names(previous).chain([ENDED_STEPS.to_owned()])).collect()
    };
    LazyObject::new(get, names)
}

fn artifact_names(result: &IterationValues) -> impl Iterator<Item = String> {
    result.artifacts.keys().map(|name| (**name).to_owned())
}

/// The outcomes of steps for templates, by the ids of the steps.
pub(super) fn lazy_steps(steps: NameMap<Arc<str>, StepOutcome>) -> LazyObject {
    let named_steps = steps.clone();
    LazyObject::new(
        move |id| steps.get(id).map(|outcome| LazyMember::Json(outcome_value(outcome))),
        move || named_steps.keys().map(|id| (**id).to_owned()).collect(),
    )
}

/// The outcomes of steps, by the ids of the steps.
pub(super) fn steps_value(steps: &NameMap<Arc<str>, StepOutcome>) -> Value {
    steps.iter().map(|(id, outcome)| ((**id).to_owned(), outcome_value(outcome))).collect()
}

fn outcome_value(outcome: &StepOutcome) -> Value {
    match &outcome.error {
        Some(error) => json!({ "status": outcome.status.as_str(), "error": error }),
        None => json!({ "status": outcome.status.as_str() }),
    }
}

/// The value to which the names of members lead from `loop`; `None` if there is none.
pub(super) fn loop_value(iteration: &ValueIteration, members: &[String]) -> Option<Value> {
    let Some((name, remaining)) = members.split_first() else {
        let names = member_names(iteration);
        let member = |name: String| Some((name.clone(), loop_value(iteration, &[name])?));
        return Some(names.into_iter().filter_map(member).collect());
    };
    match name.as_str() {
        PREVIOUS_ITERATION => previous_value(iteration.previous.as_ref(), remaining),
        PARENT_LOOP => loop_value(iteration.parent.as_deref()?, remaining),
        name => iteration.variable.get(name).cloned(),
    }
}

fn previous_value(previous: Option<&IterationValues>, members: &[String]) -> Option<Value> {
    let Some((name, remaining)) = members.split_first() else {
        let names = previous.into_iter().flat_map(|result| artifact_names(result).chain([ENDED_STEPS.to_owned()]));
        let member = |name: String| Some((name.clone(), previous_value(previous, &[name])?));
        return Some(names.filter_map(member).collect());
    };
    let previous = previous?;
    let value = match name.as_str() {
        ENDED_STEPS => Arc::new(steps_value(&previous.ended_steps)),
        name => previous.artifacts.get(name)?.value.clone(),
    };
    remaining.iter().try_fold(&*value, |value, name| value.get(name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StepStatus;
    use crate::template::{TemplateContext, eval};

    /// The second iteration of a loop in the second iteration of another loop.
    fn nested_iteration() -> Arc<ValueIteration> {
        let outcome = StepOutcome { status: StepStatus::Failed, error: Some("no".to_owned()), outputs: Arc::default() };
        let result = |name: &str, value: Value| IterationValues {
            artifacts: [(Arc::from(name), ScopeArtifact::unrecorded(Arc::new(value)))].into_iter().collect(),
            ended_steps: [(Arc::from("test"), outcome.clone())].into_iter().collect(),
        };
        let outer = ValueNames::default().for_iteration(iteration_position(1, 3), Some(result("note", json!("again"))));
        let inner = outer.for_iteration(iteration_position(1, 2), Some(result("review", json!({ "issues": [1, 2] }))));
        Arc::clone(inner.iteration().unwrap())
    }

    fn eval_in_iteration(expression: &str, iteration: Arc<ValueIteration>) -> Value {
        let mut context = TemplateContext::new();
        context.insert_lazy("loop", lazy_loop(iteration));
        eval(expression, &context).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    #[test]
    fn templates_and_fingerprints_see_the_same_values() {
        let iteration = nested_iteration();
        for (path, value) in [
            ("index", json!(2)),
            ("last", json!(true)),
            ("parent.max", json!(3)),
            ("previous.review", json!({ "issues": [1, 2] })),
            ("previous.review.issues", json!([1, 2])),
            ("previous.steps.test", json!({ "status": "failed", "error": "no" })),
            ("previous.steps.test.status", json!("failed")),
            ("parent.previous.note", json!("again")),
        ] {
            let members: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(loop_value(&iteration, &members).as_ref(), Some(&value), "{path}");
            assert_eq!(eval_in_iteration(&format!("loop.{path}"), Arc::clone(&iteration)), value, "{path}");
        }
        let whole = loop_value(&iteration, &[]).unwrap();
        assert_eq!(whole["parent"]["previous"]["note"], "again");
        assert_eq!(whole, eval_in_iteration("loop", iteration));
        assert_eq!(loop_value(&nested_iteration(), &["previous".to_owned(), "none".to_owned()]), None);
    }

    #[test]
    fn the_previous_iteration_of_the_first_iteration_is_an_empty_object() {
        let names = ValueNames::default().for_iteration(iteration_position(0, 1), None);
        let iteration = names.iteration().unwrap();
        let members = ["previous".to_owned()];
        assert_eq!(loop_value(iteration, &members), Some(json!({})));
        assert_eq!(loop_value(iteration, &["previous".to_owned(), "steps".to_owned()]), None);
        for (expression, value) in [
            ("loop.previous", json!({})),
            ("loop.previous.review is defined", json!(false)),
            ("'x' if loop.previous else 'y'", json!("y")),
            ("loop.parent is defined", json!(false)),
            ("loop.first and loop.last", json!(true)),
        ] {
            assert_eq!(eval_in_iteration(expression, Arc::clone(iteration)), value, "{expression}");
        }
    }
}
