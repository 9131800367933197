//! What is known at a step: how earlier steps may have ended, when their artifacts exist, and the guards that apply.
//!
//! These conditions assume that no failed step stopped the run before, because then the step would not run either. A
//! step that has neither `on_error: continue` nor a condition has therefore completed.

use std::rc::Rc;

use minijinja::machinery::ast::Expr;

use super::bindings::{Presence, presence_test};
use super::condition::Condition;
use super::condition_narrowings::condition_narrowings;
use super::flow::parse_input_entry;
use super::narrowing::assume;
use super::scope::{Narrowing, TypeScope, depends_on};
use super::step_scopes::Artifacts;
use super::truth::ConditionReader;
use super::types::Schemas;
use crate::model::step::{OnError, Outcome};
use crate::model::{Step, StepAction};
use crate::template::parse_expression;

/// How a step that has ended may have ended.
#[derive(Clone, Debug)]
pub(super) struct StepCompletion {
    /// When it completed.
    pub(super) completed: Condition,
    /// When it failed.
    pub(super) failed: Condition,
    /// When it was skipped.
    pub(super) skipped: Condition,
}

/// The maximum number of facts that a step knows of each kind. Each step adds all of them to its scope.
const MAX_FACTS: usize = 100;

/// A step that has ended, and what is known from then on.
#[derive(Debug)]
pub(super) struct EndedStep {
    pub(super) completion: StepCompletion,
    narrowings: Vec<(String, Narrowing)>,
    assumption: Condition,
}

/// What is known at a step beside the types and the presence of values.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFacts {
    /// The narrowings that follow from the guards of the groups around the step, and from loops that have ended.
    narrowings: Rc<Vec<(String, Narrowing)>>,
    /// The conditions that are true for the same reasons.
    assumptions: Rc<Vec<Condition>>,
}

impl KnownFacts {
    /// What is known inside a step: at the steps of a group, or at an item. `scope` is the scope of the step after its
    /// `when`.
    pub(super) fn inside(step: &Step, scope: &TypeScope<'_>) -> Self {
        let narrowings = scope.narrowings().filter(|(path, _)| !changes_inside(step, path)).cloned();
        Self { narrowings: Rc::new(narrowings.collect()), assumptions: Rc::new(scope.assumptions().to_vec()) }
    }

    /// Adds what is known from the end of a step on.
    pub(super) fn add_ended_step(&mut self, ended: EndedStep) {
        if !ended.narrowings.is_empty() {
            append_recent(Rc::make_mut(&mut self.narrowings), ended.narrowings);
        }
        self.add_assumption(ended.assumption);
    }

    /// Adds a condition that is true.
    pub(super) fn add_assumption(&mut self, assumption: Condition) {
        if !assumption.is_always() {
            append_recent(Rc::make_mut(&mut self.assumptions), vec![assumption]);
        }
    }

    /// Adds the facts to a scope. The variables of the scope must be bound before.
    pub(super) fn add_to(&self, scope: &mut TypeScope<'_>) {
        scope.add_narrowings(self.narrowings.iter().cloned());
        for assumption in self.assumptions.iter() {
            scope.add_assumption(assumption.clone());
        }
    }
}

impl StepCompletion {
    /// How a step may end. `scope` is the scope in which orch evaluates its `when`, and `key_prefix` precedes the names
    /// of tests.
    pub(super) fn of_step<'a>(
        step: &Step,
        artifacts: &Artifacts<'a>,
        schemas: Schemas<'a>,
        scope: &TypeScope<'a>,
        key_prefix: &str,
    ) -> Self {
        let has_inputs = Condition::all(required_presence(step, artifacts));
        let condition = step.when.as_deref().map_or(Condition::Always, |when| truth_of(when, schemas, scope));
        let runs = Condition::all([has_inputs, condition]).bounded();
        // A `for_each` with `on_error: continue` completes although items fail.
        let may_fail = step.on_error == Some(OnError::Continue) && step.for_each.is_none();
        let fails = if may_fail { Condition::test(format!("{key_prefix}{} fails", step.id)) } else { Condition::Never };
        Self {
            completed: Condition::all([runs.clone(), fails.clone().negate()]),
            failed: Condition::all([runs.clone(), fails]),
            skipped: runs.negate(),
        }
    }

    /// When an artifact exists that a step inside this one produced under a condition. `key` is its name in conditions.
    pub(super) fn inner_presence(&self, step: &Step, key: &str, inner: &Condition) -> Condition {
        let is_call = matches!(step.action(), Some(StepAction::Pipeline(_)));
        let is_reached = if is_call {
            self.completed.clone()
        } else if self.failed.is_never() {
            self.skipped.clone().negate()
        } else {
            // A group that failed may have stopped before the step that produces the artifact.
            let is_reached = Condition::all([self.skipped.clone().negate(), presence_test(key)]);
            Condition::any([self.completed.clone(), is_reached])
        };
        Condition::all([is_reached, inner.clone()]).bounded()
    }
}

impl EndedStep {
    /// A step of which only the completion is known.
    pub(super) fn new(completion: StepCompletion) -> Self {
        Self { completion, narrowings: Vec::new(), assumption: Condition::Always }
    }

    /// Adds that the condition that ends a loop is true. `scope` is the scope of this condition.
    pub(super) fn with_end_of_loop<'a>(mut self, step: &Step, schemas: Schemas<'a>, scope: &TypeScope<'a>) -> Self {
        let Some(StepAction::Repeat(repeat)) = step.action() else { return self };
        let Some(until) = &repeat.until else { return self };
        // A loop with `on_error: continue` that ends otherwise has failed, so it has not completed.
        let may_end_otherwise = repeat.on_max_iterations == Some(Outcome::Continue);
        if may_end_otherwise || step.for_each.is_some() {
            return self;
        }
        with_parsed(until, |parsed| {
            let truth = ConditionReader { schemas, scope }.truth(parsed);
            self.assumption = Condition::any([self.completion.completed.clone().negate(), truth]).bounded();
            if self.completion.completed.is_always() {
                let narrowings = condition_narrowings(parsed, true).into_iter();
                self.narrowings = narrowings.filter(|(path, _)| !is_local(path)).collect();
            }
        });
        self
    }
}

impl Presence {
    /// An artifact that exists under a condition. `key` is the name of its value in conditions.
    pub(super) fn new(key: &str, condition: Condition) -> Self {
        Self { key: key.into(), condition, is_never_empty: false }
    }

    /// The artifact for a step that lists it as an input: a required one exists. An optional one may be missing even if
    /// the pipeline shows no reason, for example with `--continue-on-error`.
    pub(super) fn as_input(&self, is_optional: bool) -> Self {
        let condition = match &self.condition {
            _ if !is_optional => Condition::Always,
            Condition::Always => presence_test(&self.key),
            condition => condition.clone(),
        };
        Self { condition, ..self.clone() }
    }

    /// The artifact in `finally`, where nothing is known about how the steps ended.
    pub(super) fn in_finally(&self) -> Self {
        Self { condition: presence_test(&self.key), ..self.clone() }
    }
}

/// The conditions that the required inputs of a step exist.
pub(super) fn required_presence(step: &Step, artifacts: &Artifacts<'_>) -> impl Iterator<Item = Condition> {
    let required = step.inputs.iter().map(|entry| parse_input_entry(entry)).filter(|(_, optional)| !optional);
    required.filter_map(move |(name, _)| Some(artifacts.get(name)?.presence.condition.clone()))
}

/// Adds to a scope what is known after the `when` of a step.
pub(super) fn assume_when<'a>(step: &Step, schemas: Schemas<'a>, scope: &mut TypeScope<'a>) {
    if let Some(when) = &step.when {
        with_parsed(when, |parsed| assume(schemas, parsed, true, scope));
    }
}

/// When the condition that ends a loop is true. `scope` is the scope of this condition.
pub(super) fn end_of_loop<'a>(step: &Step, schemas: Schemas<'a>, scope: &TypeScope<'a>) -> Condition {
    let until = step.repeat.as_ref().and_then(|repeat| repeat.until.as_deref());
    until.map_or(Condition::Never, |until| truth_of(until, schemas, scope))
}

/// When an expression of the pipeline file counts as true.
fn truth_of<'a>(text: &str, schemas: Schemas<'a>, scope: &TypeScope<'a>) -> Condition {
    let mut truth = Condition::opaque();
    with_parsed(text, |parsed| truth = ConditionReader { schemas, scope }.truth(parsed));
    truth
}

/// Appends facts, and removes the oldest ones if there are too many.
fn append_recent<T>(facts: &mut Vec<T>, mut recent: Vec<T>) {
    facts.append(&mut recent);
    facts.drain(..facts.len().saturating_sub(MAX_FACTS));
}

/// Calls a function with an expression, unless the expression is invalid.
fn with_parsed(text: &str, mut visit: impl FnMut(&Expr<'_>)) {
    if let Ok(parsed) = parse_expression(text) {
        visit(&parsed);
    }
}

/// Whether a path depends on a variable that has another value inside a step.
fn changes_inside(step: &Step, path: &str) -> bool {
    let is_of_item = step.for_each.is_some() && ["item", "index"].iter().any(|name| depends_on(path, name));
    is_of_item || (step.repeat.is_some() && depends_on(path, "loop"))
}

/// Whether a path depends on a variable that has a meaning only inside a group.
fn is_local(path: &str) -> bool {
    ["item", "index", "loop", "steps"].iter().any(|name| depends_on(path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_fails_only_if_later_steps_run_after_its_failure() {
        let artifacts = Artifacts::default();
        let documents = std::collections::BTreeMap::new();
        let (schemas, scope) = (Schemas(&documents), TypeScope::default());
        let completion_of = |text: &str| {
            let step: Step = serde_json::from_str(text).unwrap();
            StepCompletion::of_step(&step, &artifacts, schemas, &scope, "")
        };
        let plain = completion_of(r#"{ "id": "a", "run": "ls" }"#);
        assert!(plain.completed.is_always() && plain.failed.is_never() && plain.skipped.is_never());
        let tolerant = completion_of(r#"{ "id": "a", "run": "ls", "on_error": "continue" }"#);
        assert!(!tolerant.completed.is_always() && !tolerant.failed.is_never() && tolerant.skipped.is_never());
        let conditional = completion_of(r#"{ "id": "a", "run": "ls", "when": "fast" }"#);
        assert!(!conditional.completed.is_always() && conditional.failed.is_never());
        assert_eq!(conditional.skipped, conditional.completed.negate());
    }

    #[test]
    fn only_the_most_recent_facts_are_stored() {
        let mut facts: Vec<usize> = (0..MAX_FACTS).collect();
        append_recent(&mut facts, vec![MAX_FACTS, MAX_FACTS + 1]);
        assert_eq!(facts.first(), Some(&2));
        assert_eq!(facts.last(), Some(&(MAX_FACTS + 1)));
    }
}
