//! The variables that a template can use at one point, and the facts that conditions have established about them.

use std::collections::{HashMap, HashSet};

use super::types::{Type, TypeKind};

/// The inferred type of an expression's value, and whether the value can be undefined.
#[derive(Clone, Debug)]
pub(super) struct InferredValue<'a> {
    /// Its type, if it is defined.
    pub(super) ty: Type<'a>,
    /// Whether it can be undefined.
    pub(super) may_be_undefined: bool,
    /// The properties that the schema declares, if the expression reads one that it does not declare; otherwise empty.
    pub(super) declared_properties: Vec<&'a str>,
}

impl<'a> InferredValue<'a> {
    /// A value that is always defined.
    pub(super) fn defined(ty: Type<'a>) -> Self {
        Self { ty, may_be_undefined: false, declared_properties: Vec::new() }
    }

    /// A value of this type that may also be undefined if `may_be_undefined` is true.
    pub(super) fn new(ty: Type<'a>, may_be_undefined: bool) -> Self {
        Self { ty, may_be_undefined, declared_properties: Vec::new() }
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
    /// It is not null.
    NotNull,
    /// It counts as true in a condition: it is not empty and not zero.
    Truthy,
    /// It has at least this many items.
    MinItems(u64),
    /// It has at most this many items.
    MaxItems(u64),
    /// It is a number other than 0.
    NotZero,
    /// It is a number above 0.
    Positive,
    /// It is a number from 0.
    NotNegative,
    /// It has one of these kinds; with `false`, none of them.
    Kinds(Vec<TypeKind>, bool),
    /// It is one of these strings; with `false`, none of them.
    OneOf(Vec<String>, bool),
}

/// The variables in scope, and the facts that conditions have established about them.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeScope<'a> {
    vars: HashMap<String, InferredValue<'a>>,
    narrowings: HashSet<(String, Narrowing)>,
}

impl<'a> TypeScope<'a> {
    /// Binds a name to a value, and removes the narrowings of its earlier value.
    pub(super) fn bind(&mut self, name: &str, value: InferredValue<'a>) {
        self.narrowings.retain(|(path, _)| !is_at_or_below(path, name) && !uses_as_index(path, name));
        self.vars.insert(name.to_owned(), value);
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&InferredValue<'a>> {
        self.vars.get(name)
    }

    /// The names in scope.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// Adds the narrowings that follow from a condition.
    pub(super) fn add_narrowings(&mut self, narrowings: impl IntoIterator<Item = (String, Narrowing)>) {
        for (path, narrowing) in narrowings {
            if matches!(narrowing, Narrowing::MinItems(1..)) {
                self.narrowings.insert((path.clone(), Narrowing::Truthy));
            }
            if matches!(narrowing, Narrowing::Truthy | Narrowing::MinItems(1..)) {
                self.narrowings.insert((path.clone(), Narrowing::NotNull));
                self.narrowings.insert((path.clone(), Narrowing::Defined));
            }
            self.narrowings.insert((path, narrowing));
        }
    }

    /// Whether a condition has established this fact about the value at the path.
    pub(super) fn has_narrowing(&self, path: Option<&String>, narrowing: &Narrowing) -> bool {
        path.is_some_and(|path| self.narrowings.contains(&(path.clone(), narrowing.clone())))
    }

    /// The minimum number of items that conditions guarantee for the list at the path.
    pub(super) fn min_items(&self, path: Option<&String>) -> u64 {
        let path_narrowings = self.narrowings.iter().filter(|(narrowed_path, _)| Some(narrowed_path) == path);
        let min_items = path_narrowings.map(|(_, narrowing)| match narrowing {
            Narrowing::MinItems(min_items) => *min_items,
            Narrowing::Truthy => 1,
            Narrowing::Defined
            | Narrowing::NotNull
            | Narrowing::MaxItems(_)
            | Narrowing::NotZero
            | Narrowing::Positive
            | Narrowing::NotNegative
            | Narrowing::Kinds(..)
            | Narrowing::OneOf(..) => 0,
        });
        min_items.max().unwrap_or(0)
    }

    /// The maximum number of items that conditions guarantee for the list at the path.
    pub(super) fn max_items(&self, path: Option<&String>) -> Option<u64> {
        let path_narrowings = self.narrowings.iter().filter(|(narrowed_path, _)| Some(narrowed_path) == path);
        let max_items = path_narrowings.filter_map(|(_, narrowing)| match narrowing {
            Narrowing::MaxItems(max_items) => Some(*max_items),
            _ => None,
        });
        max_items.min()
    }

    /// The narrowings that affect the type of the value at `path`: narrowings of its kind, and of the strings in its
    /// properties. Each comes with the property's path relative to `path`, which is empty for the value itself.
    pub(super) fn type_narrowings<'b>(&'b self, path: &'b str) -> impl Iterator<Item = (&'b str, &'b Narrowing)> {
        self.narrowings.iter().filter_map(move |(narrowed_path, narrowing)| {
            let suffix = narrowed_path.strip_prefix(path)?;
            match narrowing {
                Narrowing::Kinds(..) if suffix.is_empty() => Some(("", narrowing)),
                Narrowing::OneOf(..) => suffix.strip_prefix('.').map(|name| (name, narrowing)),
                _ => None,
            }
        })
    }

    /// Adds the names that a branch has set, as unknown values: the other branch may have set them differently or not
    /// at all.
    pub(super) fn merge(&mut self, branch: &TypeScope<'a>) {
        for name in branch.vars.keys() {
            if !self.vars.contains_key(name) {
                self.vars.insert(name.clone(), InferredValue::unknown());
            }
        }
    }
}

fn is_at_or_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['.', '[']))
}

/// Whether a path such as `list[n + 1]` computes an index from a variable.
fn uses_as_index(path: &str, name: &str) -> bool {
    let indexes = path.split('[').skip(1).filter_map(|tail| tail.split(']').next());
    indexes.flat_map(|index| index.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == name)
}
