//! The variables that a template can use at one point, and the facts that conditions have established about them.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::bindings::{AssignedValue, Binding, ConditionResult, Presence, ValueOrigin, merge_bindings, presence_test};
use super::condition::Condition;
use super::implication::implies;
use super::loop_variable::LocalVariable;
use super::number_range::NumberRange;
use super::scalars::Scalar;
use super::step_scopes::IterationNames;
use super::types::{Type, TypeKind};
pub(super) use super::value_paths::{depends_on, path_below, root_name};

/// The inferred type of an expression's value, and whether the value can be undefined.
#[derive(Clone, Debug)]
pub(super) struct InferredValue<'a> {
    /// Its type, if it is defined.
    pub(super) ty: Type<'a>,
    /// Whether it can be undefined.
    pub(super) may_be_undefined: bool,
    /// Whether it can be undefined only because a conditional expression has no `else`. A template prints such a value
    /// as nothing; every other use of it fails.
    pub(super) prints_as_nothing: bool,
    /// The properties that the schema declares, if the expression reads one that it does not declare; otherwise empty.
    pub(super) declared_properties: Vec<&'a str>,
}

impl<'a> InferredValue<'a> {
    /// A value that is always defined.
    pub(super) fn defined(ty: Type<'a>) -> Self {
        Self::new(ty, false)
    }

    /// A value of this type that may also be undefined if `may_be_undefined` is true.
    pub(super) fn new(ty: Type<'a>, may_be_undefined: bool) -> Self {
        Self { ty, may_be_undefined, prints_as_nothing: false, declared_properties: Vec::new() }
    }

    /// A value of unknown type, about which the checks report nothing.
    pub(super) fn unknown() -> Self {
        Self::defined(Type::Unknown)
    }
}

/// A fact that a condition establishes about the value at a path such as `plan.notes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Narrowing {
    /// It is defined.
    Defined,
    /// It is undefined.
    Undefined,
    /// It is not null.
    NotNull,
    /// It counts as true in a condition: it is not empty and not zero.
    Truthy,
    /// It counts as false in a condition: it is undefined, null, false, empty or zero.
    Falsy,
    /// It has at least this many items.
    MinItems(u64),
    /// It has at most this many items.
    MaxItems(u64),
    /// It is in this range if it is a number.
    Numbers(NumberRange),
    /// It is a member of an object, if the path leads to one: the object has a property of the name that the index
    /// computes.
    Member,
    /// It has one of these kinds; with `false`, none of them.
    Kinds(Vec<TypeKind>, bool),
    /// It is one of these strings; with `false`, none of them.
    OneOf(Vec<String>, bool),
    /// It equals one of these constants; with `false`, none of them.
    Scalars(Vec<Scalar>, bool),
}

/// The variables in scope, and the facts that conditions have established about them.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeScope<'a> {
    pub(super) vars: HashMap<String, Rc<Binding<'a>>>,
    pub(super) narrowings: HashSet<(String, Narrowing)>,
    /// The conditions that are true here.
    assumptions: Vec<Condition>,
    /// The iteration whose variable `loop` is bound, unless a template has bound `loop` again.
    iteration: Option<Arc<IterationNames<'a>>>,
    /// The number of values that templates have assigned to variables so far.
    assignment_count: usize,
    /// Whether a variable may have a value that a template derived from another one.
    has_derived_values: bool,
}

impl<'a> TypeScope<'a> {
    /// Binds a name to a value, and removes the narrowings of its earlier value.
    pub(super) fn bind(&mut self, name: &str, value: InferredValue<'a>) {
        let condition = if value.may_be_undefined { presence_test(name) } else { Condition::Always };
        self.bind_artifact(name, value.ty, Presence::new(name, condition));
    }

    /// Binds a name to an artifact.
    pub(super) fn bind_artifact(&mut self, name: &str, ty: Type<'a>, presence: Presence) {
        let Presence { key, condition, is_never_empty } = presence;
        let value = InferredValue::new(ty, !condition.is_always());
        let origin = ValueOrigin::default();
        let key = Some(key);
        let binding =
            Binding { value, presence: condition, key, is_never_empty, result: None, namespace: None, origin };
        self.insert(name, binding);
    }

    /// Binds a variable of an item or an iteration.
    pub(super) fn bind_local(&mut self, name: &str, variable: &LocalVariable<'a>) {
        self.bind_artifact(name, variable.ty.clone(), Presence::new(&variable.key, Condition::Always));
    }

    /// Binds the variable `loop` of an iteration.
    pub(super) fn bind_iteration(&mut self, iteration: &Arc<IterationNames<'a>>) {
        self.bind_local("loop", &iteration.variable);
        self.iteration = Some(Arc::clone(iteration));
    }

    /// Binds a name to a value that a template assigns to it.
    pub(super) fn assign(&mut self, name: &str, assigned: AssignedValue<'a>) {
        let AssignedValue { value, presence, result, is_namespace, namespace, mut origin, .. } = assigned;
        origin.path = origin.path.filter(|path| !depends_on(path, name));
        let key = (!is_namespace).then(|| self.next_key(name));
        let result = result.map(Rc::new);
        self.insert(name, Binding { value, presence, key, is_never_empty: false, result, namespace, origin });
        self.copy_narrowings_of_origin(name);
    }

    fn insert(&mut self, name: &str, binding: Binding<'a>) {
        self.forget(name);
        self.has_derived_values |= binding.result.is_some() || binding.origin.path.is_some();
        self.vars.insert(name.to_owned(), Rc::new(binding));
    }

    /// Removes the facts about a value that changes: a variable, or a member of a namespace.
    pub(super) fn forget(&mut self, path: &str) {
        self.narrowings.retain(|(narrowed_path, _)| !depends_on(narrowed_path, path));
        // The scope at the end of a pipeline binds the artifacts of all steps, one after another.
        if !self.has_derived_values {
            return;
        }
        for other in self.vars.values_mut() {
            if let Some(result) = other.result.as_ref().filter(|result| result.mentions(path)) {
                let result = Rc::new(result.without(path));
                Rc::make_mut(other).result = Some(result);
            }
            if other.origin.path.as_ref().is_some_and(|origin| depends_on(origin, path)) {
                Rc::make_mut(other).origin.path = None;
            }
        }
    }

    fn next_key(&mut self, name: &str) -> Rc<str> {
        self.assignment_count += 1;
        format!("{name}#{}", self.assignment_count).into()
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&InferredValue<'a>> {
        self.vars.get(name).map(|binding| &binding.value)
    }

    /// The names in scope.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// When a variable is defined.
    pub(super) fn presence(&self, name: &str) -> Condition {
        self.vars.get(name).map_or_else(|| presence_test(name), |binding| binding.presence.clone())
    }

    /// The name of a variable's value in conditions; `None` if the value can change.
    pub(super) fn key(&self, name: &str) -> Option<&str> {
        self.vars.get(name)?.key.as_deref()
    }

    /// Whether a variable is never empty if it is defined, although its type allows that.
    pub(super) fn is_never_empty(&self, name: &str) -> bool {
        self.vars.get(name).is_some_and(|binding| binding.is_never_empty)
    }

    /// The condition that the value of a variable is the result of.
    pub(super) fn condition_result(&self, name: &str) -> Option<&ConditionResult> {
        self.vars.get(name)?.result.as_deref()
    }

    /// The iteration to which the variable `loop` belongs; `None` if it belongs to a `for` of a template.
    pub(super) fn iteration(&self) -> Option<&Arc<IterationNames<'a>>> {
        self.iteration.as_ref().filter(|iteration| self.key("loop") == Some(&*iteration.variable.key))
    }

    /// Adds a condition that is true here.
    pub(super) fn add_assumption(&mut self, condition: Condition) {
        if !condition.is_always() && !self.assumptions.contains(&condition) {
            self.assumptions.push(condition.bounded());
        }
    }

    /// The conditions that are true here.
    pub(super) fn assumptions(&self) -> &[Condition] {
        &self.assumptions
    }

    /// The narrowings that hold here, each with the path of its value.
    pub(super) fn narrowings(&self) -> impl Iterator<Item = &(String, Narrowing)> {
        self.narrowings.iter()
    }

    /// Whether a condition follows from the conditions that are true here.
    pub(super) fn is_implied(&self, condition: &Condition) -> bool {
        implies(&self.assumptions, condition)
    }

    /// Adds the narrowings that follow from a condition.
    pub(super) fn add_narrowings(&mut self, narrowings: impl IntoIterator<Item = (String, Narrowing)>) {
        for (path, narrowing) in narrowings {
            for path in self.equal_paths(path) {
                if matches!(narrowing, Narrowing::MinItems(1..)) {
                    self.narrowings.insert((path.clone(), Narrowing::Truthy));
                }
                if matches!(narrowing, Narrowing::Truthy | Narrowing::MinItems(1..)) {
                    self.narrowings.insert((path.clone(), Narrowing::NotNull));
                    self.narrowings.insert((path.clone(), Narrowing::Defined));
                }
                self.narrowings.insert((path, narrowing.clone()));
            }
        }
    }

    /// Continues with the scope at the end of one branch of a condition, because the other branch leaves the iteration
    /// of a loop.
    pub(super) fn continue_after(&mut self, branch: Self, leaving: &Self) {
        *self = branch;
        self.assignment_count = self.assignment_count.max(leaving.assignment_count);
    }

    /// Merges the variables that the two branches of a condition have set.
    pub(super) fn merge_branches(&mut self, condition: &Condition, if_true: &Self, if_false: &Self) {
        self.assignment_count = if_true.assignment_count.max(if_false.assignment_count);
        let mut names: Vec<&String> = if_true.vars.keys().chain(if_false.vars.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let is_unchanged = |branch: &Self| match (branch.vars.get(name), self.vars.get(name)) {
                (Some(binding), Some(earlier)) => Rc::ptr_eq(binding, earlier),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if is_unchanged(if_true) && is_unchanged(if_false) {
                continue;
            }
            let (settled_true, settled_false) = (if_true.settled_binding(name), if_false.settled_binding(name));
            let Some(assigned) = merge_bindings(condition, settled_true.as_ref(), settled_false.as_ref()) else {
                continue;
            };
            self.assign(name, assigned);
            let holds_in_both =
                |entry: &&(String, Narrowing)| depends_on(&entry.0, name) && if_false.narrowings.contains(*entry);
            self.narrowings.extend(if_true.narrowings.iter().filter(holds_in_both).cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(ty: Type<'static>) -> AssignedValue<'static> {
        AssignedValue::defined(InferredValue::defined(ty))
    }

    #[test]
    fn a_variable_of_one_branch_is_defined_only_if_the_branch_was_taken() {
        let condition = Condition::test("plan.ready");
        let mut scope = TypeScope::default();
        scope.assign("both", assigned(Type::Bool));
        let (mut if_true, mut if_false) = (scope.clone(), scope.clone());
        if_true.assign("one", assigned(Type::Number));
        if_true.assign("both", assigned(Type::Number));
        if_false.assign("both", assigned(Type::Null));
        scope.merge_branches(&condition, &if_true, &if_false);
        assert!(scope.get("one").is_some_and(|value| value.may_be_undefined));
        assert_eq!(scope.presence("one"), condition);
        assert!(scope.get("both").is_some_and(|value| !value.may_be_undefined));
        assert_eq!(scope.get("both").map(|value| value.ty.describe()).as_deref(), Some("a number or null"));
        scope.add_assumption(condition);
        assert!(scope.is_implied(&scope.presence("one")));
    }

    #[test]
    fn a_variable_that_no_branch_sets_keeps_its_facts() {
        let mut scope = TypeScope::default();
        scope.bind("plan", InferredValue::unknown());
        scope.add_narrowings([("plan.note".to_owned(), Narrowing::Defined)]);
        let (if_true, if_false) = (scope.clone(), scope.clone());
        scope.merge_branches(&Condition::test("x"), &if_true, &if_false);
        assert!(scope.has_narrowing(Some(&"plan.note".to_owned()), &Narrowing::Defined));
        assert_eq!(scope.key("plan"), Some("plan"));
    }

    #[test]
    fn the_facts_about_a_variable_end_when_it_gets_another_value() {
        let mut scope = TypeScope::default();
        scope.bind("plan", InferredValue::unknown());
        let truth = Condition::test("plan.note is defined");
        let if_true = vec![("plan.note".to_owned(), Narrowing::Defined)];
        let result = ConditionResult { truth, if_true, if_false: Vec::new(), length_of: Some("plan.list".to_owned()) };
        let ready = AssignedValue { result: Some(result), ..assigned(Type::Bool) };
        scope.assign("ready", ready);
        scope.assign("plan", assigned(Type::Null));
        let result = scope.condition_result("ready").unwrap();
        assert!(result.if_true.is_empty() && result.length_of.is_none());
        assert_ne!(scope.key("plan"), Some("plan"));
    }
}
