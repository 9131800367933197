//! Computes the scope of each step: which artifacts and variables it can use, and what it adds for the steps after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::parse_expr;
use rpds::RedBlackTreeMap;
use serde_json::Value;

use super::flow::artifact;
use super::infer::{Checker, ExpressionPlace};
use super::scope::{KnownValue, TypeScope};
use super::types::{Ends, ObjectMembers, Schemas, Type};
use crate::config::{OutputType, Project, child, output_type};
use crate::model::{Step, StepAction};
use crate::template::inspect_expression;

/// The variable that gives commands the project's folder.
pub(super) const PROJECT: &str = "project";

/// An artifact that is in scope.
#[derive(Clone, Debug)]
pub(super) struct Visible<'a> {
    /// Its type, if the artifact exists.
    pub(super) ty: Type<'a>,
    /// Whether it may be missing although no step failed, because the step that produces it has a condition.
    pub(super) conditional: bool,
    /// Whether it comes from the previous round of a loop, so that it is missing in the first round.
    pub(super) last_round: bool,
}

/// The artifacts in scope, by name. A persistent map, because each step sees those of all steps before it: the maps
/// share what they have in common.
pub(super) type Artifacts<'a> = RedBlackTreeMap<&'a str, Visible<'a>>;

/// What is in scope at one step.
#[derive(Clone, Debug, Default)]
pub(super) struct VisibleScope<'a> {
    pub(super) artifacts: Artifacts<'a>,
    steps: Ends<'a>,
    /// Whether the step also sees how the steps of its loop ended in the previous round.
    recalls: bool,
    /// The types of `item`, `index` and `loop`, where they exist.
    locals: Vec<(&'static str, Type<'a>)>,
}

/// A step with its scope.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// The step's pointer in the file: `/steps/0/parallel/1`.
    pub(super) pointer: String,
    /// The step.
    pub(super) step: &'a Step,
    /// What is in scope for it.
    pub(super) view: VisibleScope<'a>,
    /// The artifacts that the steps inside it produce, for the condition that ends a loop.
    pub(super) gained: Artifacts<'a>,
}

/// Every step of a pipeline, and the scope after the last one.
#[derive(Debug, Default)]
pub(super) struct Sites<'a> {
    pub(super) list: Vec<Site<'a>>,
    pub(super) end: VisibleScope<'a>,
}

impl<'a> Sites<'a> {
    /// Walks a pipeline from top to bottom.
    pub(super) fn of(project: &'a Project) -> Self {
        Self::with(project, &Outputs::default())
    }

    /// Walks a pipeline, with the known outputs of called pipelines.
    fn with(project: &'a Project, outputs: &Outputs<'a>) -> Self {
        let mut walker = SiteWalker { project, list: Vec::new(), outputs: outputs.clone(), scouting: false };
        let mut view = VisibleScope::default();
        walker.steps(&project.pipeline.steps, "/steps", &mut view);
        let end = view.clone();
        walker.steps(&project.pipeline.finally, "/finally", &mut view);
        Self { list: walker.list, end }
    }
}

impl<'a> VisibleScope<'a> {
    fn add(&mut self, name: &'a str, visible: Visible<'a>) {
        self.artifacts.insert_mut(name, visible);
    }

    /// Records that a step has ended.
    fn ended(&mut self, step: &'a Step) {
        self.steps.insert_mut(&step.id, false);
    }

    /// Records that steps of a group ended in the previous round, if there was one.
    fn recall(&mut self, steps: &'a [Step]) {
        for step in steps {
            if !self.steps.contains_key(step.id.as_str()) {
                self.steps.insert_mut(&step.id, true);
            }
        }
    }

    /// The variables that need not be listed: inputs, `steps`, and those of the item or round.
    pub(super) fn base(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = TypeScope::default();
        let schemas = Schemas(&project.schema_documents);
        for name in project.pipeline.inputs.keys() {
            let schema = project.document.value.pointer(&child("/inputs", name));
            let ty = schema.map_or(Type::Unknown, |schema: &'a Value| schemas.root(schema));
            scope.bind(name, KnownValue::is(ty));
        }
        scope.bind("steps", KnownValue::is(Type::Ends(self.steps.clone())));
        for (name, ty) in &self.locals {
            scope.bind(name, KnownValue::is(ty.clone()));
        }
        scope
    }

    /// The scope of a step's texts: the base scope and the artifacts that the step lists.
    pub(super) fn of_step(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.base(project);
        for written in &step.inputs {
            let (name, optional) = artifact(written);
            // An unknown artifact is reported where the step lists it.
            let ty = self.artifacts.get(name).map_or(Type::Unknown, |visible| visible.ty.clone());
            scope.bind(name, KnownValue::maybe(ty, optional));
        }
        scope
    }

    /// The scope of a command's texts, which also has the project's folder.
    pub(super) fn of_command(&self, project: &'a Project, step: &Step) -> TypeScope<'a> {
        let mut scope = self.of_step(project, step);
        let root = ObjectMembers::from_iter([("root", Type::Text(None))]);
        scope.bind(PROJECT, KnownValue::is(Type::Fixed(root.into())));
        scope
    }

    /// The scope of an expression about the whole pipeline.
    pub(super) fn everything(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.base(project);
        bind_all(&self.artifacts, &mut scope);
        scope
    }
}

impl<'a> Site<'a> {
    /// The scope of a condition on the reply: that of the step, and the reply under the name of the step's output.
    pub(super) fn with_reply(&self, project: &'a Project) -> TypeScope<'a> {
        let mut scope = self.view.of_step(project, self.step);
        if let Some(name) = &self.step.output {
            scope.bind(name, KnownValue::is(own_output(project, self.step)));
        }
        scope
    }

    /// The scope of the condition that ends a loop: what the round produced and how its steps ended.
    pub(super) fn after_round(&self, project: &'a Project) -> TypeScope<'a> {
        let mut view = self.view.clone();
        self.step.children().1.iter().for_each(|step| view.ended(step));
        let mut scope = view.of_step(project, self.step);
        bind_all(&self.gained, &mut scope);
        scope
    }
}

/// Binds artifacts in a scope. One from a conditional step may be undefined.
fn bind_all<'a>(artifacts: &Artifacts<'a>, scope: &mut TypeScope<'a>) {
    for (name, visible) in artifacts {
        scope.bind(name, KnownValue::maybe(visible.ty.clone(), visible.conditional));
    }
}

/// The outputs of each called pipeline, by its file. Computed once, however many calls lead to it.
type Outputs<'a> = Rc<RefCell<BTreeMap<&'a str, Artifacts<'a>>>>;

struct SiteWalker<'a> {
    project: &'a Project,
    list: Vec<Site<'a>>,
    outputs: Outputs<'a>,
    /// Whether this walk only finds out what a round produces. Loops inside are then walked once instead of twice,
    /// because otherwise the work would double with each nesting level.
    scouting: bool,
}

impl<'a> SiteWalker<'a> {
    fn steps(&mut self, steps: &'a [Step], base: &str, view: &mut VisibleScope<'a>) {
        for (index, step) in steps.iter().enumerate() {
            let gained = self.step(step, &format!("{base}/{index}"), view);
            for (name, visible) in &gained {
                view.add(name, visible.clone());
            }
            view.ended(step);
        }
    }

    /// Adds a step to the list and returns the artifacts that it leaves for later steps.
    fn step(&mut self, step: &'a Step, pointer: &str, view: &VisibleScope<'a>) -> Artifacts<'a> {
        let place = self.list.len();
        let site = Site { pointer: pointer.to_owned(), step, view: view.clone(), gained: Artifacts::default() };
        self.list.push(site);
        let mut inside = view.clone();
        if let Some(list) = &step.for_each {
            let ty = self.type_of(list, &view.of_step(self.project, step));
            let items = Schemas(&self.project.schema_documents).items(&ty);
            inside.locals.retain(|(name, _)| !matches!(*name, "item" | "index"));
            inside.locals.extend([("item", items), ("index", Type::Number)]);
            // `item` is also in scope in the step's own texts.
            if let Some(site) = self.list.get_mut(place) {
                site.view.locals.clone_from(&inside.locals);
            }
        }
        let inner = self.children(step, pointer, inside);
        if let Some(site) = self.list.get_mut(place) {
            site.gained = inner.clone();
        }
        self.left(step, inner, view)
    }

    /// The artifacts that the steps inside produce.
    fn children(&mut self, step: &'a Step, pointer: &str, mut inside: VisibleScope<'a>) -> Artifacts<'a> {
        let mut gained = Artifacts::default();
        let (key, children) = step.children();
        let base = format!("{pointer}/{key}");
        let is_loop = matches!(step.kind(), Some(StepAction::Repeat(_)));
        // How the steps of an item ended is visible only within that item, not from round to round.
        inside.recalls = is_loop || (inside.recalls && step.for_each.is_none());
        if inside.recalls {
            inside.recall(children);
        }
        match step.kind() {
            Some(StepAction::Parallel(_)) => {
                for (index, child) in children.iter().enumerate() {
                    let left = self.step(child, &format!("{base}/{index}"), &inside);
                    left.iter().for_each(|(name, visible)| gained.insert_mut(*name, visible.clone()));
                }
            }
            Some(StepAction::Sequence(_)) => gained = self.sequence(children, &base, &mut inside),
            Some(StepAction::Repeat(_)) => {
                inside.locals.retain(|(name, _)| *name != "loop");
                inside.locals.push(("loop", round_type()));
                // What a round produces is known only after a walk, so a first walk finds it out.
                if !self.scouting {
                    let mark = self.list.len();
                    self.scouting = true;
                    let left = self.sequence(children, &base, &mut inside.clone());
                    self.scouting = false;
                    self.list.truncate(mark);
                    for (name, visible) in &left {
                        inside.add(name, Visible { last_round: true, ..visible.clone() });
                    }
                }
                gained = self.sequence(children, &base, &mut inside);
            }
            Some(StepAction::Pipeline(file)) => {
                if let Some(called) = self.project.called.get(file) {
                    gained = self.called(called);
                }
            }
            Some(StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_))
            | None => {}
        }
        gained
    }

    /// Walks steps one after another and returns only the artifacts that they add.
    fn sequence(&mut self, steps: &'a [Step], base: &str, view: &mut VisibleScope<'a>) -> Artifacts<'a> {
        let mut gained = Artifacts::default();
        for (index, step) in steps.iter().enumerate() {
            let left = self.step(step, &format!("{base}/{index}"), view);
            for (name, visible) in &left {
                view.add(name, visible.clone());
                gained.insert_mut(*name, visible.clone());
            }
            view.ended(step);
        }
        gained
    }

    /// The artifacts that a step leaves for the steps after it.
    fn left(&self, step: &'a Step, inner: Artifacts<'a>, view: &VisibleScope<'a>) -> Artifacts<'a> {
        // A step is skipped if an input that it needs is missing, so its own artifact may be missing too.
        let needs = step.inputs.iter().map(|written| artifact(written)).filter(|(_, optional)| !optional);
        let unsure = |name: &str| view.artifacts.get(name).is_some_and(|visible| visible.conditional);
        let conditional = step.when.is_some() || needs.into_iter().any(|(name, _)| unsure(name));
        let new = |ty: Type<'a>| Visible { ty, conditional, last_round: false };
        if let Some(output) = &step.output {
            let one = match step.kind() {
                Some(
                    StepAction::Parallel(_) | StepAction::Repeat(_) | StepAction::Sequence(_) | StepAction::Pipeline(_),
                ) => object(&inner),
                Some(
                    StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_),
                )
                | None => own_output(self.project, step),
            };
            let ty = match (&step.for_each, step.on_error) {
                // The list also has entries for failed items, which the types do not model.
                (Some(_), Some(crate::model::step::OnError::Continue)) => Type::List(Type::Unknown.into(), 0),
                (Some(_), _) => Type::List(one.into(), 0),
                (None, _) => one,
            };
            return Artifacts::default().insert(output, new(ty));
        }
        if step.for_each.is_some() {
            return Artifacts::default();
        }
        if !conditional {
            return inner;
        }
        inner.iter().map(|(name, visible)| (*name, new(visible.ty.clone()))).collect()
    }

    /// The outputs of a called pipeline, with the types that its own steps give them.
    fn called(&self, called: &'a Project) -> Artifacts<'a> {
        let file = called.document.file.path.as_str();
        if let Some(known) = self.outputs.borrow().get(file) {
            return known.clone();
        }
        let sites = Sites::with(called, &self.outputs);
        let scope = sites.end.everything(called);
        let walker = SiteWalker { project: called, list: Vec::new(), outputs: self.outputs.clone(), scouting: false };
        let visible =
            |expression| Visible { ty: walker.type_of(expression, &scope), conditional: false, last_round: false };
        let outputs = called.pipeline.outputs.iter();
        let outputs: Artifacts<'a> = outputs.map(|(name, expression)| (name.as_str(), visible(expression))).collect();
        self.outputs.borrow_mut().insert(file, outputs.clone());
        outputs
    }

    /// The type of an expression. Mistakes in it are reported where the expression itself is checked.
    fn type_of(&self, text: &'a str, scope: &TypeScope<'a>) -> Type<'a> {
        if inspect_expression(text).is_err() {
            return Type::Unknown;
        }
        let Ok(parsed) = parse_expr(text) else { return Type::Unknown };
        let mut checker = Checker::new(self.project, None);
        (checker.place, checker.text) = (ExpressionPlace::Yaml(String::new()), text);
        checker.infer(&parsed, scope).ty
    }
}

/// The output type of a step without steps inside it; with `for_each`, that of one item.
fn own_output<'a>(project: &'a Project, step: &Step) -> Type<'a> {
    match output_type(step) {
        Some(OutputType::Text) => Type::Text(None),
        Some(OutputType::Any) | None => Type::Unknown,
        Some(OutputType::Built(schema)) => Schemas(&project.schema_documents).root(schema),
        Some(OutputType::File(file)) => match project.schema_documents.get(&file) {
            Some(document) => Schemas(&project.schema_documents).root(&document.value),
            None => Type::Unknown,
        },
    }
}

/// The artifacts of a group as the members of one object.
fn object<'a>(artifacts: &Artifacts<'a>) -> Type<'a> {
    if artifacts.values().any(|visible| visible.conditional) {
        return Type::Unknown;
    }
    let members: ObjectMembers<'a> = artifacts.iter().map(|(name, visible)| (*name, visible.ty.clone())).collect();
    Type::Fixed(members.into())
}

/// The type of the variable `loop` in a round.
fn round_type<'a>() -> Type<'a> {
    let mut members: ObjectMembers<'a> =
        ["index", "index0", "max"].into_iter().map(|name| (name, Type::Number)).collect();
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    Type::Fixed(members.into())
}
