//! The variables that a template can use at one point, and the facts about them there.

use std::collections::{HashMap, HashSet};

use super::types::{Type, TypeKind};

/// The static knowledge about the value of an expression.
#[derive(Clone, Debug)]
pub(super) struct KnownValue<'a> {
    /// Its type, if it is defined.
    pub(super) ty: Type<'a>,
    /// Whether it can be undefined.
    pub(super) may_be_undefined: bool,
    /// If the schema does not name the value: the names that the schema has instead.
    pub(super) schema_names: Vec<&'a str>,
}

impl<'a> KnownValue<'a> {
    /// A value that is always defined.
    pub(super) fn defined(ty: Type<'a>) -> Self {
        Self { ty, may_be_undefined: false, schema_names: Vec::new() }
    }

    /// A value that may be undefined if `may_be_undefined` is true.
    pub(super) fn possibly_undefined(ty: Type<'a>, may_be_undefined: bool) -> Self {
        Self { ty, may_be_undefined, schema_names: Vec::new() }
    }

    /// A value of unknown type, about which the checks report nothing.
    pub(super) fn unknown() -> Self {
        Self::defined(Type::Unknown)
    }
}

/// A fact that a condition has shown about a path such as `plan.notes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PathFact {
    /// It is defined.
    Defined,
    /// It is not null.
    NotNull,
    /// It counts as true in a condition: it is not empty and not zero.
    True,
    /// It has at least this many items.
    MinItems(u64),
    /// It is one of these kinds, or with `false` none of them.
    Kinds(Vec<TypeKind>, bool),
    /// It is one of these strings, or with `false` none of them.
    OneOf(Vec<String>, bool),
}

/// The variables in scope and the facts about them.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeScope<'a> {
    vars: HashMap<String, KnownValue<'a>>,
    facts: HashSet<(String, PathFact)>,
}

impl<'a> TypeScope<'a> {
    /// Binds a name to a value, and removes the facts about its earlier value.
    pub(super) fn bind(&mut self, name: &str, value: KnownValue<'a>) {
        self.facts.retain(|(path, _)| !is_at_or_below(path, name));
        self.vars.insert(name.to_owned(), value);
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&KnownValue<'a>> {
        self.vars.get(name)
    }

    /// The names in scope.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// Adds facts that a condition has shown.
    pub(super) fn add_facts(&mut self, facts: impl IntoIterator<Item = (String, PathFact)>) {
        for (path, fact) in facts {
            if matches!(fact, PathFact::MinItems(1..)) {
                self.facts.insert((path.clone(), PathFact::True));
            }
            if matches!(fact, PathFact::True | PathFact::MinItems(1..)) {
                self.facts.insert((path.clone(), PathFact::NotNull));
                self.facts.insert((path.clone(), PathFact::Defined));
            }
            self.facts.insert((path, fact));
        }
    }

    /// Whether a condition has shown the fact about the path.
    pub(super) fn has_fact(&self, path: Option<&String>, fact: &PathFact) -> bool {
        path.is_some_and(|path| self.facts.contains(&(path.clone(), fact.clone())))
    }

    /// The minimum number of items that conditions have shown for a list.
    pub(super) fn min_items(&self, path: Option<&String>) -> u64 {
        let path_facts = self.facts.iter().filter(|(fact_path, _)| Some(fact_path) == path);
        let min_items = path_facts.map(|(_, fact)| match fact {
            PathFact::MinItems(min_items) => *min_items,
            PathFact::True => 1,
            PathFact::Defined | PathFact::NotNull | PathFact::Kinds(..) | PathFact::OneOf(..) => 0,
        });
        min_items.max().unwrap_or(0)
    }

    /// The facts about the kinds of the value at a path and about the strings below it, each with its name relative to
    /// the path.
    pub(super) fn type_facts<'b>(&'b self, path: &'b str) -> impl Iterator<Item = (&'b str, &'b PathFact)> {
        self.facts.iter().filter_map(move |(fact_path, fact)| {
            let suffix = fact_path.strip_prefix(path)?;
            match fact {
                PathFact::Kinds(..) if suffix.is_empty() => Some(("", fact)),
                PathFact::OneOf(..) => suffix.strip_prefix('.').map(|name| (name, fact)),
                _ => None,
            }
        })
    }

    /// Adds the names that a branch has set, as unknown values: the other branch may have set them differently or not
    /// at all.
    pub(super) fn merge(&mut self, branch: &TypeScope<'a>) {
        for name in branch.vars.keys() {
            if !self.vars.contains_key(name) {
                self.vars.insert(name.clone(), KnownValue::unknown());
            }
        }
    }
}

fn is_at_or_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['.', '[']))
}
