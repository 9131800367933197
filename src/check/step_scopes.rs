//! Computes the scope of each step: the artifacts and variables that it can use, and the artifacts that it adds for
//! later steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::bindings::Presence;
use super::condition::Condition;
use super::exports::{exported_artifacts, own_output};
use super::flow::parse_input_entry;
use super::infer::type_of;
use super::loop_variable::{LocalVariable, loop_type};
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::step_conditions::{EndedStep, KnownFacts, StepCompletion, assume_when, end_of_loop, required_presence};
use super::types::{ObjectMembers, Schemas, Type};
use crate::config::{Project, child_pointer};
use crate::model::name_scope::{ENDED_STEPS, NameMap, NameScope, PREVIOUS_ROUND, RoundResult, RoundScope, TextScope};
use crate::model::{Step, StepAction};

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
/// What a round of a loop exports.
pub(super) type RoundTypes<'a> = RoundResult<&'a str, VisibleArtifact<'a>, Option<StepCompletion>>;
/// A round of a loop, with its variable `loop`.
pub(super) type RoundNames<'a> = RoundScope<&'a str, VisibleArtifact<'a>, Option<StepCompletion>, LocalVariable<'a>>;

/// What is in scope at a point of a pipeline, and what is known there.
#[derive(Clone, Debug, Default)]
pub(super) struct VisibleScope<'a> {
    /// The names: artifacts with their types, steps with how they may have ended, and variables.
    pub(super) names: NameScope<&'a str, VisibleArtifact<'a>, Option<StepCompletion>, LocalVariable<'a>>,
    /// What the guards around this point and the ends of earlier loops show.
    facts: KnownFacts,
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
    /// The scope after the last step inside it; of a loop, at the end of a round.
    end_scope: VisibleScope<'a>,
    /// The artifacts that the steps inside it export, for the condition that ends a loop.
    pub(super) inner_artifacts: Artifacts<'a>,
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

    /// The variables that a step need not list: inputs, `steps`, and the variables of the item and the round.
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
        if let Some(round) = self.names.round() {
            scope.bind_round(round);
        }
        scope
    }

    /// The scope of a step's `when`: the base scope and the artifacts that the step lists.
    fn for_when(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
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
    fn for_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.for_when(project, step);
        assume_when(step, Schemas(&project.schema_documents), &mut scope);
        scope
    }

    /// The scope of the condition that ends a loop, at the end of a round that exported these artifacts.
    fn for_until(&self, project: &'a Project, step: &Step, artifacts: &Artifacts<'a>) -> TypeScope<'a> {
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

    /// The scope at the start of a round of a loop step. `key` is the name of its variable `loop` in conditions.
    fn for_round(&self, step: &Step, key: &str, previous: Option<RoundTypes<'a>>) -> Self {
        let max = step.repeat.as_ref().map_or(1, |repeat| repeat.max);
        let ty = loop_type(max, self.names.round().map(|round| &**round), previous.as_ref());
        let names = self.names.for_round(LocalVariable { ty, key: key.into() }, previous);
        Self { names, facts: self.facts.clone() }
    }

    /// What a round of these steps exported that ends with this scope.
    fn round_result(&self, steps: &'a [Step], artifacts: Artifacts<'a>) -> RoundTypes<'a> {
        let completion = |id: &str| self.names.ended_steps().get(id).cloned().flatten();
        let ended_steps = steps.iter().map(|step| (step.id.as_str(), completion(&step.id))).collect();
        RoundResult { artifacts, ended_steps }
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
            TextScope::Round => self.end_scope.for_until(project, self.step, &self.inner_artifacts),
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

/// A cache of the outputs of each called pipeline, by its file.
type OutputCache<'a> = Rc<RefCell<BTreeMap<&'a str, Artifacts<'a>>>>;

struct ScopeWalker<'a> {
    project: &'a Project,
    scoped_steps: Vec<ScopedStep<'a>>,
    outputs: OutputCache<'a>,
    /// What precedes the names of values in conditions: nothing, or `loop.previous.` in a walk that only computes what
    /// the previous round of a loop exported. Such a walk visits nested loops once instead of twice, because otherwise
    /// the work would double with each nesting level.
    key_prefix: String,
}

impl<'a> ScopeWalker<'a> {
    fn new(project: &'a Project, outputs: &OutputCache<'a>) -> Self {
        Self { project, scoped_steps: Vec::new(), outputs: outputs.clone(), key_prefix: String::new() }
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
        if step.for_each.is_some() || !step.children().1.is_empty() {
            let list_scope = outer_scope.for_step(self.project, step);
            inner_scope.facts = KnownFacts::inside(step, &list_scope);
            if let Some(list) = &step.for_each {
                let item_type =
                    Schemas(&self.project.schema_documents).item_type(&type_of(self.project, list, &list_scope));
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
        });
        let inner_artifacts = self.visit_children(step, pointer, &mut inner_scope);
        let (schemas, artifacts) = (Schemas(&self.project.schema_documents), outer_scope.names.artifacts());
        let when_scope = outer_scope.for_when(self.project, step);
        let completion = StepCompletion::of_step(step, artifacts, schemas, &when_scope, &self.key_prefix);
        let exported = exported_artifacts(self.project, step, &inner_artifacts, &completion, &self.key_prefix);
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

    /// The name in conditions of a variable of an item or a round.
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
                *scope = self.round_scope(step, &base, scope);
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

    /// The scope at the start of a round of a loop. A round can read what the previous round exported, so a first walk
    /// over the steps computes it.
    fn round_scope(&mut self, step: &'a Step, base: &str, scope: &VisibleScope<'a>) -> VisibleScope<'a> {
        let (key, steps) = (self.local_key("loop", step), step.children().1);
        if !self.key_prefix.is_empty() {
            return scope.for_round(step, &key, None);
        }
        let step_count = self.scoped_steps.len();
        self.key_prefix = format!("{key}.{PREVIOUS_ROUND}.");
        let mut previous = scope.for_round(step, &self.local_key("loop", step), None);
        let artifacts = self.visit_sequence(steps, base, &mut previous);
        self.key_prefix.clear();
        self.scoped_steps.truncate(step_count);
        let schemas = Schemas(&self.project.schema_documents);
        let until = end_of_loop(step, schemas, &previous.for_until(self.project, step, &artifacts));
        let mut round = scope.for_round(step, &key, Some(previous.round_result(steps, artifacts)));
        // If there was a round before, the condition that ends the loop was false after it.
        let is_first = Condition::test(format!("{key}.first"));
        round.facts.add_assumption(Condition::any([is_first, until.negate()]).bounded());
        round
    }

    /// Walks steps one after another, and returns the artifacts that they add to the scope.
    fn visit_sequence(&mut self, steps: &'a [Step], base: &str, scope: &mut VisibleScope<'a>) -> Artifacts<'a> {
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
