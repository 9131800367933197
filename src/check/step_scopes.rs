//! Computes the scope of each step: the artifacts and variables that it can use, and the artifacts that it adds for
//! later steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::parse_expr;
use serde_json::Value;

use super::flow::parse_input_entry;
use super::infer::{Checker, TextLocation};
use super::scope::{InferredValue, TypeScope};
use super::scope_types::{artifact_type, loop_type, object_type, own_output, round_types};
use super::types::{ObjectMembers, Schemas, Type};
use crate::config::{Project, child_pointer};
use crate::model::name_scope::{ENDED_STEPS, ExportedNames, NameMap, NameScope, RoundResult, RoundScope, TextScope};
use crate::model::step::OnError;
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
    /// Whether the artifact may be missing because a step failed and the pipeline continued.
    pub(super) may_fail: bool,
}

/// The artifacts in scope, by name.
pub(super) type Artifacts<'a> = NameMap<&'a str, VisibleArtifact<'a>>;
/// What a round of a loop exports.
pub(super) type RoundTypes<'a> = RoundResult<&'a str, VisibleArtifact<'a>, ()>;
/// A round of a loop, with the type of its variable `loop`.
pub(super) type RoundNames<'a> = RoundScope<&'a str, VisibleArtifact<'a>, (), Type<'a>>;

/// The names in scope at a point of a pipeline, with their types.
#[derive(Clone, Debug, Default)]
pub(super) struct VisibleScope<'a> {
    pub(super) names: NameScope<&'a str, VisibleArtifact<'a>, (), Type<'a>>,
}

/// A step with its scope.
#[derive(Debug)]
pub(super) struct ScopedStep<'a> {
    /// The step's pointer in the file: `/steps/0/parallel/1`.
    pub(super) pointer: String,
    /// The step.
    pub(super) step: &'a Step,
    /// The scope of `when` and `for_each`.
    list_scope: VisibleScope<'a>,
    /// The scope of the step, or of an item of its list.
    pub(super) scope: VisibleScope<'a>,
    /// What the steps inside it export, for the condition that ends a loop.
    round: RoundTypes<'a>,
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
    fn with_outputs(project: &'a Project, outputs: &OutputCache<'a>) -> Self {
        let mut walker =
            ScopeWalker { project, scoped_steps: Vec::new(), outputs: outputs.clone(), is_first_pass: false };
        let mut scope = VisibleScope::default();
        walker.visit_sequence(&project.pipeline.steps, "/steps", &mut scope);
        walker.visit_sequence(&project.pipeline.finally, "/finally", &mut scope);
        Self { steps: walker.scoped_steps, final_scope: scope }
    }
}

impl<'a> VisibleScope<'a> {
    /// The variables that a step need not list: inputs, `steps`, and the variables of the item and the round.
    pub(super) fn base_scope(&self, project: &'a Project) -> TypeScope<'a> {
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
            scope.bind("item", InferredValue::defined(variables.item.clone()));
            scope.bind("index", InferredValue::defined(variables.index.clone()));
        }
        if let Some(round) = self.names.round() {
            scope.bind("loop", InferredValue::defined(round.variable.clone()));
        }
        scope
    }

    /// The scope of a step's texts: the base scope and the artifacts that the step lists.
    fn for_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        for entry in &step.inputs {
            let (name, optional) = parse_input_entry(entry);
            // The check of `inputs` reports an unknown artifact.
            let ty = self.names.artifact(name).map_or(Type::Unknown, |visible| visible.ty.clone());
            scope.bind(name, InferredValue::new(ty, optional));
        }
        scope
    }

    /// The scope at the start of a round of a loop.
    fn for_round(&self, previous: Option<RoundTypes<'a>>) -> Self {
        let variable = loop_type(self.names.round().map(|round| &**round), previous.as_ref());
        Self { names: self.names.for_round(variable, previous) }
    }

    /// The scope of an expression about the whole pipeline.
    pub(super) fn for_pipeline(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.base_scope(project);
        bind_artifacts(self.names.artifacts(), &mut scope);
        scope
    }
}

impl<'a> ScopedStep<'a> {
    /// The scope of a text of the step.
    pub(super) fn text_scope(&self, project: &'a Project, text_scope: TextScope) -> TypeScope<'a> {
        match text_scope {
            TextScope::List => self.list_scope.for_step(project, self.step),
            TextScope::Step => self.scope.for_step(project, self.step),
            TextScope::Round => self.round_end_scope(project),
            TextScope::Reply => self.reply_scope(project),
        }
    }

    /// The scope of a command's texts, which also has the project's folder.
    pub(super) fn command_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.scope.for_step(project, self.step);
        let root = ObjectMembers::from_iter([("root", Type::Text(None))]);
        scope.bind(PROJECT_VARIABLE, InferredValue::defined(Type::FixedObject(root.into())));
        scope
    }

    /// The scope of a condition on the reply: the scope of the step, and the reply under the name of the step's output.
    fn reply_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.scope.for_step(project, self.step);
        if let Some(name) = &self.step.output {
            scope.bind(name, InferredValue::defined(own_output(project, self.step)));
        }
        scope
    }

    /// The scope of the condition that ends a loop, with the artifacts of the round and the statuses of its steps.
    fn round_end_scope(&self, project: &'a Project) -> TypeScope<'a> {
        let round = self.scope.for_round(Some(self.round.clone()));
        let end = VisibleScope { names: round.names.after_round(&self.round) };
        let mut scope = end.for_step(project, self.step);
        bind_artifacts(&self.round.artifacts, &mut scope);
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
    /// Adds a step to the list and returns the artifacts that it exports to later steps.
    fn visit_step(&mut self, step: &'a Step, pointer: &str, outer_scope: &VisibleScope<'a>) -> Artifacts<'a> {
        let scope = match &step.for_each {
            Some(list) => {
                let ty = self.type_of(list, &outer_scope.for_step(self.project, step));
                let item_type = Schemas(&self.project.schema_documents).item_type(&ty);
                VisibleScope { names: outer_scope.names.for_item(item_type, Type::Number) }
            }
            None => outer_scope.clone(),
        };
        let step_index = self.scoped_steps.len();
        self.scoped_steps.push(ScopedStep {
            pointer: pointer.to_owned(),
            step,
            list_scope: outer_scope.clone(),
            scope: scope.clone(),
            round: RoundTypes::default(),
        });
        let child_artifacts = self.child_artifacts(step, pointer, scope);
        if let Some(scoped_step) = self.scoped_steps.get_mut(step_index) {
            scoped_step.round = round_types(child_artifacts.clone(), step.children().1);
        }
        self.exported_artifacts(step, child_artifacts, outer_scope)
    }

    /// Walks the steps inside a step and returns the artifacts that they produce.
    fn child_artifacts(&mut self, step: &'a Step, pointer: &str, mut scope: VisibleScope<'a>) -> Artifacts<'a> {
        let (key, children) = step.children();
        let base = format!("{pointer}/{key}");
        match step.action() {
            Some(StepAction::Parallel(_)) => {
                let mut produced = Artifacts::default();
                for (index, child) in children.iter().enumerate() {
                    let exported = self.visit_step(child, &format!("{base}/{index}"), &scope);
                    exported.iter().for_each(|(name, visible)| produced.insert_mut(*name, visible.clone()));
                }
                produced
            }
            Some(StepAction::Sequence(_)) => self.visit_sequence(children, &base, &mut scope),
            Some(StepAction::Repeat(_)) => {
                // A round can read what the previous round exported, so a first walk over the steps computes it.
                let previous = (!self.is_first_pass).then(|| {
                    let step_count = self.scoped_steps.len();
                    self.is_first_pass = true;
                    let exported = self.visit_sequence(children, &base, &mut scope.for_round(None));
                    self.is_first_pass = false;
                    self.scoped_steps.truncate(step_count);
                    round_types(exported, children)
                });
                self.visit_sequence(children, &base, &mut scope.for_round(previous))
            }
            Some(StepAction::Pipeline(file)) => match self.project.called_projects.get(file) {
                Some(called) => self.called_outputs(called),
                None => Artifacts::default(),
            },
            Some(StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_))
            | None => Artifacts::default(),
        }
    }

    /// Walks steps one after another, and returns the artifacts that they add to the scope.
    fn visit_sequence(&mut self, steps: &'a [Step], base: &str, scope: &mut VisibleScope<'a>) -> Artifacts<'a> {
        let mut produced = Artifacts::default();
        for (index, step) in steps.iter().enumerate() {
            let exported = self.visit_step(step, &format!("{base}/{index}"), scope);
            for (name, visible) in &exported {
                scope.names.add_artifact(name, visible.clone());
                produced.insert_mut(*name, visible.clone());
            }
            scope.names.end_step(&step.id, ());
        }
        produced
    }

    /// The artifacts that a step exports to later steps.
    fn exported_artifacts(
        &self,
        step: &'a Step,
        child_artifacts: Artifacts<'a>,
        outer_scope: &VisibleScope<'a>,
    ) -> Artifacts<'a> {
        // orch skips a step if a required input is missing, so the step's own artifact may be missing too.
        let entries = step.inputs.iter().map(|entry| parse_input_entry(entry)).filter(|(_, optional)| !optional);
        let required: Vec<&VisibleArtifact<'a>> =
            entries.filter_map(|(name, _)| outer_scope.names.artifact(name)).collect();
        let conditional = step.when.is_some() || required.iter().any(|visible| visible.conditional);
        // With `for_each`, the step produces its list even if items failed.
        let continues_after_failure = step.on_error == Some(OnError::Continue) && step.for_each.is_none();
        let may_fail = continues_after_failure || required.iter().any(|visible| visible.may_fail);
        let exported = match step.exported_names() {
            ExportedNames::Output(name) => {
                let result_type = match step.action() {
                    Some(
                        StepAction::Parallel(_)
                        | StepAction::Repeat(_)
                        | StepAction::Sequence(_)
                        | StepAction::Pipeline(_),
                    ) => object_type(&child_artifacts),
                    Some(
                        StepAction::Agent { .. }
                        | StepAction::Command(_)
                        | StepAction::Write(_)
                        | StepAction::Approve(_),
                    )
                    | None => own_output(self.project, step),
                };
                let ty = artifact_type(step, result_type);
                Artifacts::default().insert(name, VisibleArtifact { ty, conditional: false, may_fail: false })
            }
            ExportedNames::OfChildren | ExportedNames::OfCalledPipeline => child_artifacts,
            ExportedNames::Nothing => Artifacts::default(),
        };
        if !conditional && !may_fail {
            return exported;
        }
        let weaken = |visible: &VisibleArtifact<'a>| VisibleArtifact {
            ty: visible.ty.clone(),
            conditional: visible.conditional || conditional,
            may_fail: visible.may_fail || may_fail,
        };
        exported.iter().map(|(name, visible)| (*name, weaken(visible))).collect()
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
            may_fail: false,
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
