//! Computes the scope of each step: the artifacts and variables that it can use, and the artifacts that it adds for
//! later steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::parse_expr;
use rpds::RedBlackTreeMap;
use serde_json::Value;

use super::bindings::Presence;
use super::condition::Condition;
use super::exports::{exported_artifacts, own_output};
use super::flow::parse_input_entry;
use super::infer::{Checker, TextLocation};
use super::scope::{InferredValue, TypeScope};
use super::step_conditions::{EndedStep, KnownFacts, StepCompletion, assume_when, required_presence};
use super::types::{ObjectMembers, Schemas, StepStatuses, Type};
use crate::config::{Project, child_pointer};
use crate::model::{Step, StepAction};
use crate::template::inspect_expression;

/// The variable that gives commands the project's folder.
pub(super) const PROJECT_VARIABLE: &str = "project";

/// An artifact that is in scope.
#[derive(Clone, Debug)]
pub(super) struct VisibleArtifact<'a> {
    /// The type of the artifact, if it exists.
    pub(super) ty: Type<'a>,
    /// Whether the artifact may be missing, because the step that produces it may be skipped, or may fail without
    /// stopping the run.
    pub(super) conditional: bool,
    /// Whether the artifact comes from the previous round of a loop, so that it is missing in the first round.
    pub(super) from_previous_round: bool,
    /// When the artifact exists.
    pub(super) presence: Presence,
}

impl<'a> VisibleArtifact<'a> {
    /// An artifact of this round.
    pub(super) fn new(ty: Type<'a>, presence: Presence) -> Self {
        Self { ty, conditional: !presence.condition.is_always(), from_previous_round: false, presence }
    }
}

/// The artifacts in scope, by name. A persistent map: the maps of successive steps share their common entries.
pub(super) type Artifacts<'a> = RedBlackTreeMap<&'a str, VisibleArtifact<'a>>;

/// The scope of one step.
#[derive(Clone, Debug, Default)]
pub(super) struct VisibleScope<'a> {
    pub(super) artifacts: Artifacts<'a>,
    steps: StepStatuses<'a>,
    /// Whether the scope includes the statuses that the steps of the loop had in the previous round.
    sees_previous_round: bool,
    /// The types of `item`, `index` and `loop`, where they exist.
    locals: Vec<(&'static str, Type<'a>)>,
    /// What is known about the steps that have ended, and from the guards around the step.
    facts: KnownFacts<'a>,
}

/// A step with its scope.
#[derive(Debug)]
pub(super) struct ScopedStep<'a> {
    /// The step's pointer in the file: `/steps/0/parallel/1`.
    pub(super) pointer: String,
    /// The step.
    pub(super) step: &'a Step,
    /// The scope of the step.
    pub(super) scope: VisibleScope<'a>,
    /// The artifacts that the steps inside it produce, for the condition that ends a loop.
    pub(super) produced: Artifacts<'a>,
    /// What is known after the steps inside it.
    inner_facts: KnownFacts<'a>,
}

/// Every step of a pipeline with its scope, and the scope after the last of `steps`.
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
    fn with_outputs(project: &'a Project, outputs: &OutputCache<'a>) -> Self {
        let mut walker =
            ScopeWalker { project, scoped_steps: Vec::new(), outputs: outputs.clone(), is_first_pass: false };
        let mut step_scope = VisibleScope::default();
        walker.visit_steps(&project.pipeline.steps, "/steps", &mut step_scope);
        let final_scope = step_scope.clone();
        step_scope.enter_finally();
        walker.visit_steps(&project.pipeline.finally, "/finally", &mut step_scope);
        Self { steps: walker.scoped_steps, final_scope }
    }
}

impl<'a> VisibleScope<'a> {
    fn add_artifact(&mut self, name: &'a str, mut visible: VisibleArtifact<'a>) {
        if let Some(earlier) = self.artifacts.get(name).filter(|earlier| earlier.from_previous_round) {
            visible.presence.earlier = earlier.presence.condition.clone();
        }
        self.artifacts.insert_mut(name, visible);
    }

    /// Records that a step has ended.
    fn add_ended_step(&mut self, step: &'a Step) {
        self.steps.insert_mut(&step.id, false);
    }

    /// Forgets what is known only if no step has failed.
    fn enter_finally(&mut self) {
        self.facts.enter_finally();
        let artifacts = self.artifacts.iter().map(|(name, visible)| {
            (*name, VisibleArtifact { presence: visible.presence.in_finally(), ..visible.clone() })
        });
        self.artifacts = artifacts.collect();
    }

    /// Records that the steps of a group ended in the previous round, unless this is the first round.
    fn add_previous_round(&mut self, steps: &'a [Step]) {
        for step in steps {
            if !self.steps.contains_key(step.id.as_str()) {
                self.steps.insert_mut(&step.id, true);
            }
        }
    }

    /// The variables that a step need not list: inputs, `steps`, and the variables of the item or round.
    pub(super) fn base_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = TypeScope::default();
        let schemas = Schemas(&project.schema_documents);
        for name in project.pipeline.inputs.keys() {
            let schema = project.document.value.pointer(&child_pointer("/inputs", name));
            let ty = schema.map_or(Type::Unknown, |schema: &'a Value| schemas.document_type(schema));
            scope.bind(name, InferredValue::defined(ty));
        }
        scope.bind("steps", InferredValue::defined(Type::StepStatuses(self.steps.clone())));
        for (name, ty) in &self.locals {
            scope.bind(name, InferredValue::defined(ty.clone()));
        }
        self.facts.add_completions(&mut scope);
        scope
    }

    /// The scope of a step's `when`: the base scope and the artifacts that the step lists.
    pub(super) fn for_when(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        for entry in &step.inputs {
            let (name, optional) = parse_input_entry(entry);
            match self.artifacts.get(name) {
                Some(visible) => scope.bind_artifact(name, visible.ty.clone(), visible.presence.as_input(optional)),
                // The check of `inputs` reports an unknown artifact.
                None => scope.bind(name, InferredValue::new(Type::Unknown, optional)),
            }
        }
        self.facts.add_guards(&mut scope);
        // orch skips a step whose required inputs do not exist.
        required_presence(step, &self.artifacts).for_each(|condition| scope.add_assumption(condition));
        scope
    }

    /// The scope of a step's other texts, which orch evaluates only if `when` is true.
    pub(super) fn for_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.for_when(project, step);
        assume_when(step, Schemas(&project.schema_documents), &mut scope);
        scope
    }

    /// The scope of a command's texts, which also has the project's folder.
    pub(super) fn for_command(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.for_step(project, step);
        let root = ObjectMembers::from_iter([("root", Type::Text(None))]);
        scope.bind(PROJECT_VARIABLE, InferredValue::defined(Type::FixedObject(root.into())));
        scope
    }

    /// The scope of an expression about the whole pipeline.
    pub(super) fn for_pipeline(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        bind_artifacts(&self.artifacts, &mut scope);
        self.facts.add_guards(&mut scope);
        scope
    }
}

impl<'a> ScopedStep<'a> {
    /// The scope of a condition on the reply: the scope of the step, and the reply under the name of the step's output.
    pub(super) fn reply_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.scope.for_step(project, self.step);
        if let Some(name) = &self.step.output {
            scope.bind(name, InferredValue::defined(own_output(project, self.step)));
        }
        scope
    }

    /// The scope of the condition that ends a loop, with the artifacts of the round and the statuses of its steps.
    pub(super) fn round_end_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut step_scope = self.scope.clone();
        self.step.children().1.iter().for_each(|step| step_scope.add_ended_step(step));
        let mut scope = step_scope.for_step(project, self.step);
        bind_artifacts(&self.produced, &mut scope);
        self.inner_facts.add_completions(&mut scope);
        self.inner_facts.add_guards(&mut scope);
        scope
    }
}

/// Binds artifacts in a scope. An artifact of a conditional step may be undefined.
fn bind_artifacts<'a>(artifacts: &Artifacts<'a>, scope: &mut TypeScope<'a>) {
    for (name, visible) in artifacts {
        scope.bind_artifact(name, visible.ty.clone(), visible.presence.clone());
    }
}

/// A cache of the outputs of each called pipeline, by its file.
type OutputCache<'a> = Rc<RefCell<BTreeMap<&'a str, Artifacts<'a>>>>;

struct ScopeWalker<'a> {
    project: &'a Project,
    scoped_steps: Vec<ScopedStep<'a>>,
    outputs: OutputCache<'a>,
    /// Whether this walk only computes the artifacts of a round. Such a walk visits nested loops once instead of twice,
    /// because otherwise the work would double with each nesting level.
    is_first_pass: bool,
}

impl<'a> ScopeWalker<'a> {
    fn visit_steps(&mut self, steps: &'a [Step], base: &str, step_scope: &mut VisibleScope<'a>) {
        for (index, step) in steps.iter().enumerate() {
            let (exported, ended) = self.visit_step(step, &format!("{base}/{index}"), step_scope);
            for (name, visible) in &exported {
                step_scope.add_artifact(name, visible.clone());
            }
            step_scope.add_ended_step(step);
            step_scope.facts.add_ended_step(&step.id, ended);
        }
    }

    /// Adds a step to the list. Returns the artifacts that it exports to later steps, and how it may have ended.
    fn visit_step(
        &mut self,
        step: &'a Step,
        pointer: &str,
        step_scope: &VisibleScope<'a>,
    ) -> (Artifacts<'a>, EndedStep) {
        let step_index = self.scoped_steps.len();
        self.scoped_steps.push(ScopedStep {
            pointer: pointer.to_owned(),
            step,
            scope: step_scope.clone(),
            produced: Artifacts::default(),
            inner_facts: KnownFacts::default(),
        });
        let mut inner_scope = step_scope.clone();
        if !step.children().1.is_empty() {
            inner_scope.facts.enter_group(self.project, step, &step_scope.for_step(self.project, step));
        }
        if let Some(list) = &step.for_each {
            let ty = self.type_of(list, &step_scope.for_step(self.project, step));
            let item_type = Schemas(&self.project.schema_documents).item_type(&ty);
            inner_scope.locals.retain(|(name, _)| !matches!(*name, "item" | "index"));
            inner_scope.locals.extend([("item", item_type), ("index", Type::Number)]);
            inner_scope.facts.set_owner(&["item", "index"], step);
            // `item` is also in scope in the step's own texts.
            if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
                scoped_step.scope.locals.clone_from(&inner_scope.locals);
                scoped_step.scope.facts.set_owner(&["item", "index"], step);
            }
        }
        let child_artifacts = self.child_artifacts(step, pointer, &mut inner_scope);
        let schemas = Schemas(&self.project.schema_documents);
        let when_scope = step_scope.for_when(self.project, step);
        let completion = StepCompletion::of_step(step, &step_scope.artifacts, schemas, &when_scope);
        let mut ended = EndedStep::new(completion.clone());
        if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
            scoped_step.produced = child_artifacts.clone();
            scoped_step.inner_facts = inner_scope.facts;
            if step.repeat.is_some() {
                ended = ended.with_end_of_loop(step, schemas, &scoped_step.round_end_scope(self.project));
            }
        }
        (exported_artifacts(self.project, step, &child_artifacts, &completion), ended)
    }

    /// Walks the steps inside a step and returns the artifacts that they produce.
    fn child_artifacts(&mut self, step: &'a Step, pointer: &str, inner_scope: &mut VisibleScope<'a>) -> Artifacts<'a> {
        let mut produced = Artifacts::default();
        let (key, children) = step.children();
        let base = format!("{pointer}/{key}");
        let is_loop = matches!(step.action(), Some(StepAction::Repeat(_)));
        // The statuses of an item's steps are visible only within that item, not from round to round.
        inner_scope.sees_previous_round = is_loop || (inner_scope.sees_previous_round && step.for_each.is_none());
        if inner_scope.sees_previous_round {
            inner_scope.add_previous_round(children);
        }
        match step.action() {
            Some(StepAction::Parallel(_)) => {
                for (index, child) in children.iter().enumerate() {
                    let (exported, _) = self.visit_step(child, &format!("{base}/{index}"), inner_scope);
                    exported.iter().for_each(|(name, visible)| produced.insert_mut(*name, visible.clone()));
                }
            }
            Some(StepAction::Sequence(_)) => produced = self.visit_sequence(children, &base, inner_scope),
            Some(StepAction::Repeat(_)) => {
                inner_scope.locals.retain(|(name, _)| *name != "loop");
                inner_scope.locals.push(("loop", loop_variable_type()));
                inner_scope.facts.set_owner(&["loop"], step);
                // A round can read artifacts of the previous round, so a first walk over the steps computes them.
                if !self.is_first_pass {
                    let step_count = self.scoped_steps.len();
                    self.is_first_pass = true;
                    let exported = self.visit_sequence(children, &base, &mut inner_scope.clone());
                    self.is_first_pass = false;
                    self.scoped_steps.truncate(step_count);
                    for (name, visible) in &exported {
                        let presence = visible.presence.of_previous_round(name, step);
                        let visible = VisibleArtifact { from_previous_round: true, presence, ..visible.clone() };
                        inner_scope.add_artifact(name, visible);
                    }
                }
                produced = self.visit_sequence(children, &base, inner_scope);
            }
            Some(StepAction::Pipeline(file)) => {
                if let Some(called) = self.project.called_projects.get(file) {
                    produced = self.called_outputs(called);
                }
            }
            Some(StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_))
            | None => {}
        }
        produced
    }

    /// Walks steps one after another and returns only the artifacts that they add.
    fn visit_sequence(&mut self, steps: &'a [Step], base: &str, step_scope: &mut VisibleScope<'a>) -> Artifacts<'a> {
        let mut produced = Artifacts::default();
        for (index, step) in steps.iter().enumerate() {
            let (exported, ended) = self.visit_step(step, &format!("{base}/{index}"), step_scope);
            for (name, visible) in &exported {
                step_scope.add_artifact(name, visible.clone());
                produced.insert_mut(*name, visible.clone());
            }
            step_scope.add_ended_step(step);
            step_scope.facts.add_ended_step(&step.id, ended);
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
        let walker = ScopeWalker {
            project: called,
            scoped_steps: Vec::new(),
            outputs: self.outputs.clone(),
            is_first_pass: false,
        };
        let outputs = called.pipeline.outputs.iter().map(|(name, expression)| {
            let presence = Presence::new(name, Condition::Always);
            (name.as_str(), VisibleArtifact::new(walker.type_of(expression, &scope), presence))
        });
        let outputs: Artifacts<'a> = outputs.collect();
        self.outputs.borrow_mut().insert(file, outputs.clone());
        outputs
    }

    /// The type of an expression. Does not report mistakes in the expression, because its check reports them.
    fn type_of(&self, text: &'a str, scope: &TypeScope<'a>) -> Type<'a> {
        if inspect_expression(text).is_err() {
            return Type::Unknown;
        }
        let Ok(parsed) = parse_expr(text) else { return Type::Unknown };
        let mut checker = Checker::new(self.project, None);
        (checker.location, checker.text) = (TextLocation::Yaml(String::new()), text);
        checker.infer(&parsed, scope).ty
    }
}

/// The type of the variable `loop` in a round.
fn loop_variable_type<'a>() -> Type<'a> {
    let mut members: ObjectMembers<'a> =
        ["index", "index0", "max"].into_iter().map(|name| (name, Type::Number)).collect();
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    Type::FixedObject(members.into())
}
