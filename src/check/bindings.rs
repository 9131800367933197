//! The variables of a template: their values, and when they are defined.

use std::rc::Rc;
use std::sync::Arc;

use super::condition::Condition;
use super::namespaces::Namespace;
use super::scope::{InferredValue, Narrowing, depends_on};
use super::step_scopes::IterationNames;
use super::type_union::merged_type;

/// A variable in scope.
#[derive(Clone, Debug)]
pub(super) struct Binding<'a> {
    pub(super) value: InferredValue<'a>,
    /// When the variable is defined.
    pub(super) presence: Condition,
    /// The name of the value in conditions, which no other value has. `None` if the value can change, as a namespace
    /// can.
    pub(super) key: Option<Rc<str>>,
    /// Whether the value is never empty, although its type allows that.
    pub(super) is_never_empty: bool,
    /// The condition that the value is the result of, if a template assigned it.
    pub(super) result: Option<Rc<ConditionResult>>,
    /// The namespace that the value is, if its members are known. The type of the value is then unknown.
    pub(super) namespace: Option<Namespace<'a>>,
    /// What the value is a part of, if a template assigned it.
    pub(super) origin: ValueOrigin<'a>,
}

/// The value of which a variable holds the same value or a part.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueOrigin<'a> {
    /// The path of the value, as after `{% set tree = plan.tree %}`, unless a variable of the path has another value
    /// now.
    pub(super) path: Option<String>,
    /// The iteration whose previous results the value is, as after `{% set previous = loop.previous %}`.
    pub(super) previous_of: Option<Arc<IterationNames<'a>>>,
}

/// The condition whose result a variable holds, as after `{% set ready = plan is defined %}`.
#[derive(Clone, Debug)]
pub(super) struct ConditionResult {
    /// When the result counts as true.
    pub(super) truth: Condition,
    /// The narrowings that follow if it does.
    pub(super) if_true: Vec<(String, Narrowing)>,
    /// The narrowings that follow if it does not.
    pub(super) if_false: Vec<(String, Narrowing)>,
    /// The path of the value whose length the result is, as after `{% set count = list | length %}`.
    pub(super) length_of: Option<String>,
}

/// When an artifact exists, and what is known about its value.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    /// The name of the value in conditions.
    pub(super) key: Rc<str>,
    /// When the artifact exists.
    pub(super) condition: Condition,
    /// Whether the value is never empty, although its type allows that.
    pub(super) is_never_empty: bool,
}

/// A value that a template assigns to a variable.
pub(super) struct AssignedValue<'a> {
    pub(super) value: InferredValue<'a>,
    /// When the value is defined.
    pub(super) presence: Condition,
    /// The condition that the value is the result of.
    pub(super) result: Option<ConditionResult>,
    /// Whether templates can change the value, because it is a namespace.
    pub(super) is_namespace: bool,
    /// The namespace that the value is, if its members are known.
    pub(super) namespace: Option<Namespace<'a>>,
    /// What the value is a part of.
    pub(super) origin: ValueOrigin<'a>,
    /// Whether the check has reported a mistake in the expression that computes the value.
    pub(super) is_reported: bool,
}

impl<'a> AssignedValue<'a> {
    /// A value that is always defined, and about which nothing else is known.
    pub(super) fn defined(value: InferredValue<'a>) -> Self {
        Self {
            value,
            presence: Condition::Always,
            result: None,
            is_namespace: false,
            namespace: None,
            origin: ValueOrigin::default(),
            is_reported: false,
        }
    }
}

impl ConditionResult {
    /// Whether one of the narrowings, or the value whose length it is, depends on the variable `name`.
    pub(super) fn mentions(&self, name: &str) -> bool {
        let paths = self.if_true.iter().chain(&self.if_false).map(|(path, _)| path);
        paths.chain(&self.length_of).any(|path| depends_on(path, name))
    }

    /// The result without what depends on a variable that got another value.
    pub(super) fn without(&self, name: &str) -> Self {
        let retained = |narrowings: &[(String, Narrowing)]| -> Vec<(String, Narrowing)> {
            narrowings.iter().filter(|(path, _)| !depends_on(path, name)).cloned().collect()
        };
        Self {
            truth: self.truth.clone(),
            if_true: retained(&self.if_true),
            if_false: retained(&self.if_false),
            length_of: self.length_of.clone().filter(|path| !depends_on(path, name)),
        }
    }
}

/// Merges the values that a variable has after the two branches of a condition.
pub(super) fn merge_bindings<'a>(
    condition: &Condition,
    if_true: Option<&Rc<Binding<'a>>>,
    if_false: Option<&Rc<Binding<'a>>>,
) -> Option<AssignedValue<'a>> {
    let bindings: Vec<&Rc<Binding<'a>>> = if_true.into_iter().chain(if_false).collect();
    let first = bindings.first()?;
    let presence_in = |branch: Option<&Rc<Binding<'a>>>, condition: Condition| {
        branch.map_or(Condition::Never, |binding| Condition::all([condition, binding.presence.clone()]))
    };
    let is_always_present = bindings.len() == 2 && bindings.iter().all(|binding| binding.presence.is_always());
    let presence = if is_always_present {
        Condition::Always
    } else {
        let branches = [presence_in(if_true, condition.clone()), presence_in(if_false, condition.clone().negate())];
        Condition::any(branches).bounded()
    };
    let prints_as_nothing = bindings.len() == 2
        && bindings.iter().all(|binding| binding.presence.is_always() || binding.value.prints_as_nothing);
    let ty = match bindings.as_slice() {
        [_] => first.value.ty.clone(),
        _ => merged_type(bindings.iter().map(|binding| binding.value.ty.clone()).collect()),
    };
    let value = InferredValue { prints_as_nothing, ..InferredValue::new(ty, !presence.is_always()) };
    let is_namespace = bindings.iter().any(|binding| binding.key.is_none());
    let namespace = match bindings.as_slice() {
        [only] => only.namespace.clone(),
        [first, second] => first.namespace.as_ref().zip(second.namespace.as_ref()).and_then(|(a, b)| a.merge(b)),
        _ => None,
    };
    Some(AssignedValue { presence, is_namespace, namespace, ..AssignedValue::defined(value) })
}

/// The test whether a variable is defined about which nothing else is known.
pub(super) fn presence_test(name: &str) -> Condition {
    Condition::test(format!("{name} is defined"))
}
