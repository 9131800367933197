//! Computes the scope of each step: the artifacts and variables that it can use, and the artifacts that it adds for
//! later steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::parse_expr;
use rpds::RedBlackTreeMap;
use serde_json::Value;

use super::flow::parse_input_entry;
use super::infer::{Checker, TextLocation};
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::types::{ObjectMembers, Schemas, StepStatuses, Type};
use crate::config::{OutputType, Project, child_pointer, output_type};
use crate::model::{Step, StepAction};
use crate::template::inspect_expression;

/// The variable that gives commands the project's folder.
pub(super) const PROJECT_VARIABLE: &str = "project";

/// An artifact that is in scope.
#[derive(Clone, Debug)]
pub(super) struct VisibleArtifact<'a> {
    /// The type of the artifact, if it exists.
    pub(super) ty: Type<'a>,
    /// Whether the artifact may be missing although no step failed, because the step that produces it may be skipped.
    pub(super) conditional: bool,
    /// Whether the artifact comes from the previous round of a loop, so that it is missing in the first round.
    pub(super) from_previous_round: bool,
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
        walker.visit_steps(&project.pipeline.finally, "/finally", &mut step_scope);
        Self { steps: walker.scoped_steps, final_scope }
    }
}

impl<'a> VisibleScope<'a> {
    fn add_artifact(&mut self, name: &'a str, visible: VisibleArtifact<'a>) {
        self.artifacts.insert_mut(name, visible);
    }

    /// Records that a step has ended.
    fn add_ended_step(&mut self, step: &'a Step) {
        self.steps.insert_mut(&step.id, false);
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
        scope
    }

    /// The scope of a step's texts: the base scope and the artifacts that the step lists.
    pub(super) fn for_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        for entry in &step.inputs {
            let (name, optional) = parse_input_entry(entry);
            // The check of `inputs` reports an unknown artifact.
            let ty = self.artifacts.get(name).map_or(Type::Unknown, |visible| visible.ty.clone());
            scope.bind(name, InferredValue::new(ty, optional));
        }
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
        scope
    }
}

/// Binds artifacts in a scope. An artifact of a conditional step may be undefined.
fn bind_artifacts<'a>(artifacts: &Artifacts<'a>, scope: &mut TypeScope<'a>) {
    for (name, visible) in artifacts {
        scope.bind(name, InferredValue::new(visible.ty.clone(), visible.conditional));
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
            let exported = self.visit_step(step, &format!("{base}/{index}"), step_scope);
            for (name, visible) in &exported {
                step_scope.add_artifact(name, visible.clone());
            }
            step_scope.add_ended_step(step);
        }
    }

    /// Adds a step to the list and returns the artifacts that it exports to later steps.
    fn visit_step(&mut self, step: &'a Step, pointer: &str, step_scope: &VisibleScope<'a>) -> Artifacts<'a> {
        let step_index = self.scoped_steps.len();
        let scoped_step =
            ScopedStep { pointer: pointer.to_owned(), step, scope: step_scope.clone(), produced: Artifacts::default() };
        self.scoped_steps.push(scoped_step);
        let mut inner_scope = step_scope.clone();
        if let Some(list) = &step.for_each {
            let ty = self.type_of(list, &step_scope.for_step(self.project, step));
            let item_type = Schemas(&self.project.schema_documents).item_type(&ty);
            inner_scope.locals.retain(|(name, _)| !matches!(*name, "item" | "index"));
            inner_scope.locals.extend([("item", item_type), ("index", Type::Numeric(NumberRange::FROM_ZERO))]);
            // `item` is also in scope in the step's own texts.
            if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
                scoped_step.scope.locals.clone_from(&inner_scope.locals);
            }
        }
        let child_artifacts = self.child_artifacts(step, pointer, inner_scope);
        if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
            scoped_step.produced = child_artifacts.clone();
        }
        self.exported_artifacts(step, child_artifacts, step_scope)
    }

    /// Walks the steps inside a step and returns the artifacts that they produce.
    fn child_artifacts(&mut self, step: &'a Step, pointer: &str, mut inner_scope: VisibleScope<'a>) -> Artifacts<'a> {
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
                    let exported = self.visit_step(child, &format!("{base}/{index}"), &inner_scope);
                    exported.iter().for_each(|(name, visible)| produced.insert_mut(*name, visible.clone()));
                }
            }
            Some(StepAction::Sequence(_)) => produced = self.visit_sequence(children, &base, &mut inner_scope),
            Some(StepAction::Repeat(_)) => {
                inner_scope.locals.retain(|(name, _)| *name != "loop");
                inner_scope.locals.push(("loop", loop_variable_type()));
                // A round can read artifacts of the previous round, so a first walk over the steps computes them.
                if !self.is_first_pass {
                    let step_count = self.scoped_steps.len();
                    self.is_first_pass = true;
                    let exported = self.visit_sequence(children, &base, &mut inner_scope.clone());
                    self.is_first_pass = false;
                    self.scoped_steps.truncate(step_count);
                    for (name, visible) in &exported {
                        inner_scope
                            .add_artifact(name, VisibleArtifact { from_previous_round: true, ..visible.clone() });
                    }
                }
                produced = self.visit_sequence(children, &base, &mut inner_scope);
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
            let exported = self.visit_step(step, &format!("{base}/{index}"), step_scope);
            for (name, visible) in &exported {
                step_scope.add_artifact(name, visible.clone());
                produced.insert_mut(*name, visible.clone());
            }
            step_scope.add_ended_step(step);
        }
        produced
    }

    /// The artifacts that a step exports to later steps.
    fn exported_artifacts(
        &self,
        step: &'a Step,
        child_artifacts: Artifacts<'a>,
        step_scope: &VisibleScope<'a>,
    ) -> Artifacts<'a> {
        // orch skips a step if a required input is missing, so the step's own artifact may be missing too.
        let required_inputs =
            step.inputs.iter().map(|entry| parse_input_entry(entry)).filter(|(_, optional)| !optional);
        let may_be_missing = |name: &str| step_scope.artifacts.get(name).is_some_and(|visible| visible.conditional);
        let conditional = step.when.is_some() || required_inputs.into_iter().any(|(name, _)| may_be_missing(name));
        let new_artifact = |ty: Type<'a>| VisibleArtifact { ty, conditional, from_previous_round: false };
        if let Some(output) = &step.output {
            let item_type = match step.action() {
                Some(
                    StepAction::Parallel(_) | StepAction::Repeat(_) | StepAction::Sequence(_) | StepAction::Pipeline(_),
                ) => object_type(&child_artifacts),
                Some(
                    StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_),
                )
                | None => own_output(self.project, step),
            };
            let ty = match (&step.for_each, step.on_error) {
                // The list also has entries for failed items, which the types do not model.
                (Some(_), Some(crate::model::step::OnError::Continue)) => Type::List(Type::Unknown.into(), 0),
                (Some(_), _) => Type::List(item_type.into(), 0),
                (None, _) => item_type,
            };
            return Artifacts::default().insert(output, new_artifact(ty));
        }
        if step.for_each.is_some() {
            return Artifacts::default();
        }
        if !conditional {
            return child_artifacts;
        }
        child_artifacts.iter().map(|(name, visible)| (*name, new_artifact(visible.ty.clone()))).collect()
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
        let new_artifact = |expression| VisibleArtifact {
            ty: walker.type_of(expression, &scope),
            conditional: false,
            from_previous_round: false,
        };
        let outputs = called.pipeline.outputs.iter();
        let outputs: Artifacts<'a> =
            outputs.map(|(name, expression)| (name.as_str(), new_artifact(expression))).collect();
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

/// The output type of a step without nested steps; with `for_each`, the type of one item.
fn own_output<'a>(project: &'a Project, step: &Step) -> Type<'a> {
    match output_type(step) {
        Some(OutputType::Text) => Type::Text(None),
        Some(OutputType::Any) | None => Type::Unknown,
        Some(OutputType::BuiltIn(schema)) => Schemas(&project.schema_documents).document_type(schema),
        Some(OutputType::File(file)) => match project.schema_documents.get(&file) {
            Some(document) => Schemas(&project.schema_documents).document_type(&document.value),
            None => Type::Unknown,
        },
    }
}

/// The type of an object whose members are the artifacts of a group.
fn object_type<'a>(artifacts: &Artifacts<'a>) -> Type<'a> {
    if artifacts.values().any(|visible| visible.conditional) {
        return Type::Unknown;
    }
    let members: ObjectMembers<'a> = artifacts.iter().map(|(name, visible)| (*name, visible.ty.clone())).collect();
    Type::FixedObject(members.into())
}

/// The type of the variable `loop` in a round.
fn loop_variable_type<'a>() -> Type<'a> {
    let mut members: ObjectMembers<'a> =
        ["index", "max"].into_iter().map(|name| (name, Type::Numeric(NumberRange::FROM_ONE))).collect();
    members.insert("index0", Type::Numeric(NumberRange::FROM_ZERO));
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    Type::FixedObject(members.into())
}
