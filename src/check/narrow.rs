//! Narrows the type of a value by the facts that conditions have shown about it.

use super::infer::Checker;
use super::scope::{KnownValue, PathFact, TypeScope};
use super::types::{Property, Type, union};

impl<'a> Checker<'a> {
    /// Narrows a value by the facts that conditions have shown about its path.
    pub(super) fn narrow(&self, known: KnownValue<'a>, path: Option<&String>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        let Some(path) = path else { return known };
        let may_be_undefined = known.may_be_undefined && !scope.has_fact(Some(path), &PathFact::Defined);
        let mut ty = if scope.has_fact(Some(path), &PathFact::NotNull) { known.ty.without_null() } else { known.ty };
        for (name, fact) in scope.type_facts(path) {
            ty = self.narrow_union(&ty, name, fact);
        }
        KnownValue { ty, may_be_undefined, schema_names: known.schema_names }
    }

    /// Keeps the branches of a union that are compatible with a fact. Keeps all of them if none is, since then the
    /// condition is the mistake, not the value.
    fn narrow_union(&self, ty: &Type<'a>, name: &str, fact: &PathFact) -> Type<'a> {
        let Type::Union(branches) = ty else { return ty.clone() };
        let compatible: Vec<Type<'a>> =
            branches.iter().filter(|branch| self.is_compatible(branch, name, fact)).cloned().collect();
        if compatible.is_empty() { ty.clone() } else { union(compatible) }
    }

    fn is_compatible(&self, branch: &Type<'a>, name: &str, fact: &PathFact) -> bool {
        match fact {
            PathFact::Kinds(kinds, expected) => branch.kind().is_none_or(|kind| kinds.contains(&kind) == *expected),
            PathFact::OneOf(strings, true) => self
                .possible_strings(branch, name)
                .is_none_or(|possible| possible.iter().any(|string| contains(strings, string))),
            PathFact::OneOf(strings, false) => self
                .possible_strings(branch, name)
                .is_none_or(|possible| possible.is_empty() || !possible.iter().all(|string| contains(strings, string))),
            PathFact::Defined | PathFact::NotNull | PathFact::True | PathFact::MinItems(_) => true,
        }
    }

    /// The strings that a value can have under a dotted name; empty if it never has a value there, `None` if they are
    /// unknown.
    fn possible_strings(&self, ty: &Type<'a>, name: &str) -> Option<Vec<&'a str>> {
        let (first, remaining) =
            name.split_once('.').map_or((name, None), |(first, remaining)| (first, Some(remaining)));
        let property = match self.schemas.property(ty, first)? {
            Property::Present(ty) => ty,
            Property::Optional(_) | Property::Open(_) => return None,
            Property::Absent(_) => return Some(Vec::new()),
        };
        match (remaining, property) {
            (Some(remaining), property) => self.possible_strings(&property, remaining),
            (None, Type::Text(Some(strings))) => Some(strings),
            (None, _) => None,
        }
    }
}

fn contains(strings: &[String], string: &str) -> bool {
    strings.iter().any(|candidate| candidate == string)
}
