//! Computes the scope of each step: the artifacts and variables that it can use, and the artifacts that it adds for
//! later steps.

use std::rc::Rc;

use serde_json::Value;

use super::bindings::Presence;
use super::exports::own_output;
use super::flow::parse_input_entry;
use super::loop_variable::{LocalVariable, loop_type};
use super::mapped_lists::MappedLists;
use super::scope::{InferredValue, TypeScope};
use super::scope_walker::{OutputCache, ScopeWalker};
use super::step_conditions::{KnownFacts, StepCompletion, assume_when, required_presence};
use super::types::{ObjectMembers, Schemas, Type};
use crate::config::{Project, child_pointer};
use crate::model::Step;
use crate::model::name_scope::{ENDED_STEPS, IterationResult, IterationScope, NameMap, NameScope, TextScope};

/// The variable that gives commands the project's folder.
pub(super) const PROJECT_VARIABLE: &str = "project";

/// An artifact that is in scope.
#[derive(Clone, Debug)]
pub(super) struct VisibleArtifact<'a> {
    /// The type of the artifact, if it exists.
    pub(super) ty: Type<'a>,
    /// When the artifact exists.
    pub(super) presence: Presence,
}

impl VisibleArtifact<'_> {
    /// Whether the artifact may be missing, because the step that produces it may be skipped, or may fail without
    /// stopping the run.
    pub(super) fn may_be_missing(&self) -> bool {
        !self.presence.condition.is_always()
    }
}

/// The artifacts in scope.
pub(super) type Artifacts<'a> = NameMap<&'a str, VisibleArtifact<'a>>;
/// What an iteration of a loop exports.
pub(super) type IterationTypes<'a> = IterationResult<&'a str, VisibleArtifact<'a>, Option<StepCompletion>>;
/// An iteration of a loop, with its variable `loop`.
pub(super) type IterationNames<'a> =
    IterationScope<&'a str, VisibleArtifact<'a>, Option<StepCompletion>, LocalVariable<'a>>;

/// What is in scope at a point of a pipeline, and what is known there.
#[derive(Clone, Debug, Default)]
pub(super) struct VisibleScope<'a> {
    /// The names: artifacts with their types, steps with how they may have ended, and variables.
    pub(super) names: NameScope<&'a str, VisibleArtifact<'a>, Option<StepCompletion>, LocalVariable<'a>>,
    /// What the guards around this point and the ends of earlier loops show.
    pub(super) facts: KnownFacts,
}

/// A step with its scope.
#[derive(Debug)]
pub(super) struct ScopedStep<'a> {
    /// The step's pointer in the file: `/steps/0/parallel/1`.
    pub(super) pointer: String,
    /// The step.
    pub(super) step: &'a Step,
    /// The scope of `when` and `for_each`.
    pub(super) list_scope: VisibleScope<'a>,
    /// The scope of the step, or of an item of its list.
    pub(super) scope: VisibleScope<'a>,
    /// The scope after the last step inside it; of a loop, at the end of an iteration.
    pub(super) end_scope: VisibleScope<'a>,
    /// The artifacts that the steps inside it export, for the condition that ends a loop.
    pub(super) inner_artifacts: Artifacts<'a>,
    /// The steps of the pipeline that map lists.
    pub(super) mapped_lists: Rc<MappedLists<'a>>,
}

/// Every step of a pipeline with its scope, and the scope at the end of the pipeline.
#[derive(Debug, Default)]
pub(super) struct ScopedSteps<'a> {
    pub(super) steps: Vec<ScopedStep<'a>>,
    pub(super) final_scope: VisibleScope<'a>,
}

impl<'a> ScopedSteps<'a> {
    /// Walks a pipeline from top to bottom.
    pub(super) fn from_project(project: &'a Project) -> Self {
        Self::with_outputs(project, &OutputCache::default())
    }

    /// Walks a pipeline. `outputs` caches the outputs of the pipelines that it calls.
    pub(super) fn with_outputs(project: &'a Project, outputs: &OutputCache<'a>) -> Self {
        let mut walker = ScopeWalker::new(project, outputs);
        let mut scope = VisibleScope::default();
        walker.visit_sequence(&project.pipeline.steps, "/steps", &mut scope);
        // orch evaluates `outputs` and `success` only if no step failed, but `finally` also after a failure. So a first
        // walk over `finally` computes only the scope at its end.
        let mut final_scope = scope.clone();
        let step_count = walker.scoped_steps.len();
        walker.visit_sequence(&project.pipeline.finally, "/finally", &mut final_scope);
        walker.scoped_steps.truncate(step_count);
        scope.enter_finally();
        walker.visit_sequence(&project.pipeline.finally, "/finally", &mut scope);
        Self { steps: walker.scoped_steps, final_scope }
    }
}

impl<'a> VisibleScope<'a> {
    /// Forgets what is known only if no step has failed.
    fn enter_finally(&mut self) {
        self.facts = KnownFacts::default();
        let earlier = self.names.clone();
        for (name, VisibleArtifact { ty, presence }) in earlier.artifacts() {
            let visible = VisibleArtifact { ty: ty.clone(), presence: presence.in_finally() };
            self.names.add_artifact(name, visible);
        }
        for id in earlier.ended_steps().keys() {
            self.names.end_step(id, None);
        }
    }

    /// The variables that a step need not list: inputs, `steps`, and the variables of the item and the iteration.
    fn base_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = TypeScope::default();
        let schemas = Schemas(&project.schema_documents);
        for name in project.pipeline.inputs.keys() {
            let schema = project.document.value.pointer(&child_pointer("/inputs", name));
            let ty = schema.map_or(Type::Unknown, |schema: &'a Value| schemas.document_type(schema));
            scope.bind(name, InferredValue::defined(ty));
        }
        let statuses = Type::StepStatuses(self.names.ended_steps().clone());
        scope.bind(ENDED_STEPS, InferredValue::defined(statuses));
        if let Some(variables) = self.names.item() {
            scope.bind_local("item", &variables.item);
            scope.bind_local("index", &variables.index);
        }
        if let Some(iteration) = self.names.iteration() {
            scope.bind_iteration(iteration);
        }
        scope
    }

    /// The scope of a step's `when`: the base scope and the artifacts that the step lists.
    pub(super) fn for_when(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        for entry in &step.inputs {
            let (name, optional) = parse_input_entry(entry);
            match self.names.artifact(name) {
                Some(visible) => scope.bind_artifact(name, visible.ty.clone(), visible.presence.as_input(optional)),
                // The check of `inputs` reports an unknown artifact.
                None => scope.bind(name, InferredValue::new(Type::Unknown, optional)),
            }
        }
        self.facts.add_to(&mut scope);
        // orch skips a step whose required inputs do not exist.
        required_presence(step, self.names.artifacts()).for_each(|condition| scope.add_assumption(condition));
        scope
    }

    /// The scope of a step's other texts, which orch evaluates only if `when` is true.
    pub(super) fn for_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.for_when(project, step);
        assume_when(step, Schemas(&project.schema_documents), &mut scope);
        scope
    }

    /// The scope of the condition that ends a loop, at the end of an iteration that exported these artifacts.
    pub(super) fn for_until(&self, project: &'a Project, step: &Step, artifacts: &Artifacts<'a>) -> TypeScope<'a> {
        let mut scope = self.for_when(project, step);
        bind_artifacts(artifacts, &mut scope);
        self.facts.add_to(&mut scope);
        scope
    }

    /// The scope of an expression about the whole pipeline.
    pub(super) fn for_pipeline(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        bind_artifacts(self.names.artifacts(), &mut scope);
        self.facts.add_to(&mut scope);
        scope
    }

    /// The scope at the start of an iteration of a loop step. `key` is the name of its variable `loop` in conditions.
    pub(super) fn for_iteration(&self, step: &Step, key: &str, previous: Option<IterationTypes<'a>>) -> Self {
        let max = step.repeat.as_ref().map_or(1, |repeat| repeat.max);
        let ty = loop_type(max, self.names.iteration().map(|iteration| &**iteration), previous.as_ref());
        let names = self.names.for_iteration(LocalVariable { ty, key: key.into() }, previous);
        Self { names, facts: self.facts.clone() }
    }

    /// What an iteration of these steps exported that ends with this scope.
    pub(super) fn iteration_result(&self, steps: &'a [Step], artifacts: Artifacts<'a>) -> IterationTypes<'a> {
        let completion = |id: &str| self.names.ended_steps().get(id).cloned().flatten();
        let ended_steps = steps.iter().map(|step| (step.id.as_str(), completion(&step.id))).collect();
        IterationResult { artifacts, ended_steps }
    }
}

impl<'a> ScopedStep<'a> {
    /// The scope of a text of the step.
    pub(super) fn text_scope(&self, project: &'a Project, text_scope: TextScope) -> TypeScope<'a> {
        match text_scope {
            TextScope::Condition => self.list_scope.for_when(project, self.step),
            TextScope::List => self.list_scope.for_step(project, self.step),
            // `when` does not see the item, so the facts of the item's scope already contain what it shows.
            TextScope::Step if self.step.for_each.is_some() => self.scope.for_when(project, self.step),
            TextScope::Step => self.scope.for_step(project, self.step),
            TextScope::Iteration => self.end_scope.for_until(project, self.step, &self.inner_artifacts),
            TextScope::Reply => self.reply_scope(project),
        }
    }

    /// The scope of a command's texts, which also has the project's folder.
    pub(super) fn command_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.text_scope(project, TextScope::Step);
        let root = ObjectMembers::from_iter([("root", Type::Text(None))]);
        scope.bind(PROJECT_VARIABLE, InferredValue::defined(Type::FixedObject(root.into())));
        scope
    }

    /// The scope of a condition on the reply: the scope of the step, and the reply under the name of the step's output.
    fn reply_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.text_scope(project, TextScope::Step);
        if let Some(name) = &self.step.output {
            scope.bind(name, InferredValue::defined(own_output(project, self.step)));
        }
        scope
    }
}

/// Binds artifacts in a scope.
fn bind_artifacts<'a>(artifacts: &Artifacts<'a>, scope: &mut TypeScope<'a>) {
    for (name, visible) in artifacts {
        scope.bind_artifact(name, visible.ty.clone(), visible.presence.clone());
    }
}
