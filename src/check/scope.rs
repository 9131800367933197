//! The variables that a template can use, and what is known about them at one point of it.

use std::collections::{HashMap, HashSet};

use super::types::{Type, TypeKind};

/// What is known about the value of an expression.
#[derive(Clone, Debug)]
pub(super) struct KnownValue<'a> {
    /// Its type, if it is defined.
    pub(super) ty: Type<'a>,
    /// Whether it can be undefined.
    pub(super) maybe: bool,
    /// If the schema does not name it: the names that the schema has instead.
    pub(super) unnamed: Vec<&'a str>,
}

impl<'a> KnownValue<'a> {
    /// A value that is always defined.
    pub(super) fn is(ty: Type<'a>) -> Self {
        Self { ty, maybe: false, unnamed: Vec::new() }
    }

    /// A value that may be undefined if `maybe` is true.
    pub(super) fn maybe(ty: Type<'a>, maybe: bool) -> Self {
        Self { ty, maybe, unnamed: Vec::new() }
    }

    /// A value about which nothing is known, and nothing is reported.
    pub(super) fn unknown() -> Self {
        Self::is(Type::Unknown)
    }
}

/// What a condition has shown about a path such as `plan.notes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PathFact {
    /// It is defined.
    Defined,
    /// It is not null.
    NotNull,
    /// It counts as true in a condition: it is not empty and not zero.
    True,
    /// It has at least this many items.
    AtLeast(u64),
    /// It is one of these kinds, or with `false` none of them.
    Kinds(Vec<TypeKind>, bool),
    /// It is one of these strings, or with `false` none of them.
    Among(Vec<String>, bool),
}

/// The variables in scope and the facts about them.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeScope<'a> {
    vars: HashMap<String, KnownValue<'a>>,
    facts: HashSet<(String, PathFact)>,
}

impl<'a> TypeScope<'a> {
    /// Gives a name a value, and forgets the facts about its earlier value.
    pub(super) fn bind(&mut self, name: &str, value: KnownValue<'a>) {
        self.facts.retain(|(path, _)| !begins_with(path, name));
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
    pub(super) fn learn(&mut self, facts: impl IntoIterator<Item = (String, PathFact)>) {
        for (path, fact) in facts {
            if matches!(fact, PathFact::AtLeast(1..)) {
                self.facts.insert((path.clone(), PathFact::True));
            }
            if matches!(fact, PathFact::True | PathFact::AtLeast(1..)) {
                self.facts.insert((path.clone(), PathFact::NotNull));
                self.facts.insert((path.clone(), PathFact::Defined));
            }
            self.facts.insert((path, fact));
        }
    }

    /// Whether the fact has been shown about the path.
    pub(super) fn knows(&self, path: Option<&String>, fact: &PathFact) -> bool {
        path.is_some_and(|path| self.facts.contains(&(path.clone(), fact.clone())))
    }

    /// How many items conditions have shown a list to have at least.
    pub(super) fn least(&self, path: Option<&String>) -> u64 {
        let shown = self.facts.iter().filter(|(of, _)| Some(of) == path);
        let least = shown.map(|(_, fact)| match fact {
            PathFact::AtLeast(least) => *least,
            PathFact::True => 1,
            PathFact::Defined | PathFact::NotNull | PathFact::Kinds(..) | PathFact::Among(..) => 0,
        });
        least.max().unwrap_or(0)
    }

    /// What conditions have shown about the kinds of a path and about the strings below it: each fact with its name
    /// relative to the path.
    pub(super) fn shown<'b>(&'b self, path: &'b str) -> impl Iterator<Item = (&'b str, &'b PathFact)> {
        self.facts.iter().filter_map(move |(of, fact)| {
            let rest = of.strip_prefix(path)?;
            match fact {
                PathFact::Kinds(..) if rest.is_empty() => Some(("", fact)),
                PathFact::Among(..) => rest.strip_prefix('.').map(|name| (name, fact)),
                _ => None,
            }
        })
    }

    /// Takes over the names that a branch has set, as unknown values: the other branch may have set them differently or
    /// not at all.
    pub(super) fn merge(&mut self, branch: &TypeScope<'a>) {
        for name in branch.vars.keys() {
            if !self.vars.contains_key(name) {
                self.vars.insert(name.clone(), KnownValue::unknown());
            }
        }
    }
}

fn begins_with(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
