//! Walks a pipeline from top to bottom, and computes the scope of each step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::bindings::Presence;
use super::condition::Condition;
use super::exports::exported_artifacts;
use super::infer::type_of;
use super::loop_variable::LocalVariable;
use super::mapped_lists::MappedLists;
use super::member_conditions::item_prefix;
use super::number_range::NumberRange;
use super::step_conditions::{EndedStep, KnownFacts, StepCompletion, end_of_loop};
use super::step_scopes::{Artifacts, ScopedStep, ScopedSteps, VisibleArtifact, VisibleScope};
use super::types::{Schemas, Type};
use crate::config::Project;
use crate::model::name_scope::PREVIOUS_ITERATION;
use crate::model::{Step, StepAction};

/// A cache of the outputs of each called pipeline, by its file.
pub(super) type OutputCache<'a> = Rc<RefCell<BTreeMap<&'a str, Artifacts<'a>>>>;

/// A walk over the steps of one pipeline.
pub(super) struct ScopeWalker<'a> {
    project: &'a Project,
    pub(super) scoped_steps: Vec<ScopedStep<'a>>,
    outputs: OutputCache<'a>,
    /// What precedes the names of values in conditions, so that each value has a name of its own: `loop.previous.` in a
    /// walk that only computes what the previous iteration of a loop exported, and the id of a step with `for_each` for
    /// the steps inside its items.
    key_prefix: String,
    /// Whether the walk only computes what the previous iteration of a loop exported. Such a walk visits nested loops
    /// once instead of twice, because otherwise the work would double with each nesting level.
    is_in_previous_iteration: bool,
    mapped_lists: Rc<MappedLists<'a>>,
}

impl<'a> ScopeWalker<'a> {
    pub(super) fn new(project: &'a Project, outputs: &OutputCache<'a>) -> Self {
        let (key_prefix, is_in_previous_iteration) = (String::new(), false);
        let mapped_lists = Rc::new(MappedLists::of_pipeline(&project.pipeline));
        let (scoped_steps, outputs) = (Vec::new(), outputs.clone());
        Self { project, scoped_steps, outputs, key_prefix, is_in_previous_iteration, mapped_lists }
    }

    /// Adds a step to the list. Returns the artifacts that it exports to later steps, and how it may have ended.
    fn visit_step(
        &mut self,
        step: &'a Step,
        pointer: &str,
        outer_scope: &VisibleScope<'a>,
    ) -> (Artifacts<'a>, EndedStep) {
        let mut scope = outer_scope.clone();
        let mut inner_scope = outer_scope.clone();
        let outer_prefix = self.key_prefix.clone();
        let mut min_items = 0;
        if step.for_each.is_some() || !step.children().1.is_empty() {
            let list_scope = outer_scope.for_step(self.project, step);
            inner_scope.facts = KnownFacts::inside(step, &list_scope);
            if let Some(list) = &step.for_each {
                self.key_prefix = item_prefix(&outer_prefix, step);
                let list_type = type_of(self.project, list, &list_scope);
                min_items = list_type.length_range().map_or(0, |(min, _)| min);
                let item_type = Schemas(&self.project.schema_documents).item_type(&list_type);
                let item = LocalVariable { ty: item_type, key: self.local_key("item", step) };
                let index_type = Type::Numeric(NumberRange::FROM_ZERO);
                let index = LocalVariable { ty: index_type, key: self.local_key("index", step) };
                inner_scope.names = outer_scope.names.for_item(item, index);
                scope = inner_scope.clone();
            }
        }
        let step_index = self.scoped_steps.len();
        self.scoped_steps.push(ScopedStep {
            pointer: pointer.to_owned(),
            step,
            list_scope: outer_scope.clone(),
            scope,
            end_scope: VisibleScope::default(),
            inner_artifacts: Artifacts::default(),
            mapped_lists: Rc::clone(&self.mapped_lists),
        });
        let inner_artifacts = self.visit_children(step, pointer, &mut inner_scope);
        self.key_prefix = outer_prefix;
        let (schemas, artifacts) = (Schemas(&self.project.schema_documents), outer_scope.names.artifacts());
        let when_scope = outer_scope.for_when(self.project, step);
        let completion = StepCompletion::of_step(step, artifacts, schemas, &when_scope, &self.key_prefix);
        let exported =
            exported_artifacts(self.project, step, &inner_artifacts, &completion, min_items, &self.key_prefix);
        let mut ended = EndedStep::new(completion);
        if step.repeat.is_some() {
            let until_scope = inner_scope.for_until(self.project, step, &inner_artifacts);
            ended = ended.with_end_of_loop(step, schemas, &until_scope);
        }
        if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
            (scoped_step.end_scope, scoped_step.inner_artifacts) = (inner_scope, inner_artifacts);
        }
        (exported, ended)
    }

    /// The name in conditions of a variable of an item or an iteration.
    fn local_key(&self, name: &str, step: &Step) -> Rc<str> {
        format!("{}{name}@{}", self.key_prefix, step.id).into()
    }

    /// Walks the steps inside a step, and returns the artifacts that they export. Moves `scope` to the end of them.
    fn visit_children(&mut self, step: &'a Step, pointer: &str, scope: &mut VisibleScope<'a>) -> Artifacts<'a> {
        let (key, children) = step.children();
        let base = format!("{pointer}/{key}");
        match step.action() {
            Some(StepAction::Parallel(_)) => {
                let mut produced = Artifacts::default();
                for (index, child) in children.iter().enumerate() {
                    let (exported, _) = self.visit_step(child, &format!("{base}/{index}"), scope);
                    exported.iter().for_each(|(name, visible)| produced.insert_mut(*name, visible.clone()));
                }
                produced
            }
            Some(StepAction::Sequence(_)) => self.visit_sequence(children, &base, scope),
            Some(StepAction::Repeat(_)) => {
                *scope = self.iteration_scope(step, &base, scope);
                self.visit_sequence(children, &base, scope)
            }
            Some(StepAction::Pipeline(file)) => match self.project.called_projects.get(file) {
                Some(called) => self.called_outputs(called),
                None => Artifacts::default(),
            },
            Some(
                StepAction::Agent { .. }
                | StepAction::Command(_)
                | StepAction::Call(_)
                | StepAction::Write(_)
                | StepAction::Approve(_),
            )
            | None => Artifacts::default(),
        }
    }

    /// The scope at the start of an iteration of a loop. An iteration can read what the previous iteration exported, so
    /// a first walk over the steps computes it.
    fn iteration_scope(&mut self, step: &'a Step, base: &str, scope: &VisibleScope<'a>) -> VisibleScope<'a> {
        let (key, steps) = (self.local_key("loop", step), step.children().1);
        if self.is_in_previous_iteration {
            return scope.for_iteration(step, &key, None);
        }
        let step_count = self.scoped_steps.len();
        self.is_in_previous_iteration = true;
        let outer_prefix = std::mem::replace(&mut self.key_prefix, format!("{key}.{PREVIOUS_ITERATION}."));
        let mut previous = scope.for_iteration(step, &self.local_key("loop", step), None);
        let artifacts = self.visit_sequence(steps, base, &mut previous);
        self.key_prefix = outer_prefix;
        self.is_in_previous_iteration = false;
        self.scoped_steps.truncate(step_count);
        let schemas = Schemas(&self.project.schema_documents);
        let until = end_of_loop(step, schemas, &previous.for_until(self.project, step, &artifacts));
        let mut iteration = scope.for_iteration(step, &key, Some(previous.iteration_result(steps, artifacts)));
        // If there was an iteration before, the condition that ends the loop was false after it.
        let is_first = Condition::test(format!("{key}.first"));
        iteration.facts.add_assumption(Condition::any([is_first, until.negate()]).bounded());
        iteration
    }

    /// Walks steps one after another, and returns the artifacts that they add to the scope.
    pub(super) fn visit_sequence(
        &mut self,
        steps: &'a [Step],
        base: &str,
        scope: &mut VisibleScope<'a>,
    ) -> Artifacts<'a> {
        let mut produced = Artifacts::default();
        for (index, step) in steps.iter().enumerate() {
            let (exported, ended) = self.visit_step(step, &format!("{base}/{index}"), scope);
            for (name, visible) in &exported {
                scope.names.add_artifact(name, visible.clone());
                produced.insert_mut(*name, visible.clone());
            }
            scope.names.end_step(&step.id, Some(ended.completion.clone()));
            scope.facts.add_ended_step(ended);
        }
        produced
    }

    /// The outputs of a called pipeline, with types inferred from its own steps.
    fn called_outputs(&self, called: &'a Project) -> Artifacts<'a> {
        let file = called.document.file.path.as_str();
        if let Some(cached) = self.outputs.borrow().get(file) {
            return cached.clone();
        }
        let scoped_steps = ScopedSteps::with_outputs(called, &self.outputs);
        let scope = scoped_steps.final_scope.for_pipeline(called);
        let outputs = called.pipeline.outputs.iter().map(|(name, expression)| {
            let presence = Presence::new(name, Condition::Always);
            (name.as_str(), VisibleArtifact { ty: type_of(called, expression, &scope), presence })
        });
        let outputs: Artifacts<'a> = outputs.collect();
        self.outputs.borrow_mut().insert(file, outputs.clone());
        outputs
    }
}
