//! Selects the alternatives of a union that fit what conditions have established about the value or about its
//! properties.

use super::infer::Checker;
use super::refined_types::requires_property;
use super::scalars::is_always_one_of;
use super::scope::Narrowing;
use super::types::{Property, Type, TypeKind, union};

/// What counts as a property that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// One that the schema requires.
    Required,
    /// Also one that a schema allows without requiring it, if the type assumes that it exists.
    Assumed,
    /// Also one that may be missing: the condition shows that it exists.
    Shown,
}

impl<'a> Checker<'a> {
    /// Removes the alternatives of a union that contradict a narrowing. Returns the union unchanged if all of them do:
    /// then the mistake is in the condition, not in the value.
    pub(super) fn narrow_union(&self, ty: &Type<'a>, name: &str, narrowing: &Narrowing) -> Type<'a> {
        let Type::Union(branches) = ty else { return ty.clone() };
        // A path with an index leads to an item of a list.
        if name.contains('[') {
            return ty.clone();
        }
        let compatible: Vec<Type<'a>> =
            branches.iter().filter(|branch| self.is_compatible(branch, name, narrowing)).cloned().collect();
        if compatible.is_empty() { ty.clone() } else { union(compatible) }
    }

    /// Whether values of an alternative fit a narrowing of the property at a dotted path. The path is empty for the
    /// value itself.
    fn is_compatible(&self, branch: &Type<'a>, name: &str, narrowing: &Narrowing) -> bool {
        let lookup = match narrowing {
            Narrowing::Defined | Narrowing::Truthy | Narrowing::OneOf(_, true) | Narrowing::Scalars(_, true) => {
                Lookup::Shown
            }
            // An undefined value is a sequence.
            Narrowing::Kinds(kinds, true) if !kinds.contains(&TypeKind::List) => Lookup::Shown,
            Narrowing::OneOf(_, false) | Narrowing::Scalars(_, false) => Lookup::Assumed,
            _ => Lookup::Required,
        };
        match self.tested_property(branch, name, lookup) {
            Property::Present(ty) => may_fit(&ty, narrowing),
            Property::Absent(_) => lookup != Lookup::Shown,
            Property::Optional(_) | Property::Open(_) => true,
        }
    }

    /// Whether the objects of a type have the property at a dotted path. The path is empty for the value itself.
    fn tested_property(&self, ty: &Type<'a>, path: &str, lookup: Lookup) -> Property<'a> {
        if path.is_empty() {
            return Property::Present(ty.clone());
        }
        let (name, remaining) = path.split_once('.').unwrap_or((path, ""));
        match self.schemas.property(ty, name) {
            Some(Property::Present(_)) if lookup == Lookup::Required && !requires_property(ty, name) => {
                Property::Open(Vec::new())
            }
            Some(Property::Present(inner)) => self.tested_property(&inner, remaining, lookup),
            Some(Property::Optional(inner)) if lookup == Lookup::Shown => {
                self.tested_property(&inner, remaining, lookup)
            }
            Some(Property::Optional(_)) if !remaining.is_empty() => Property::Open(Vec::new()),
            Some(property) => property,
            // A value that is no object has no properties.
            None if ty.kind().is_some() => Property::Absent(Vec::new()),
            None => Property::Open(Vec::new()),
        }
    }
}

/// Whether a value of a type that exists may fit a narrowing.
fn may_fit(ty: &Type<'_>, narrowing: &Narrowing) -> bool {
    match narrowing {
        Narrowing::Undefined => false,
        Narrowing::Truthy => !ty.is_never_truthy(),
        Narrowing::Falsy => !ty.is_always_truthy(),
        Narrowing::NotNull => !matches!(ty, Type::Null),
        Narrowing::Numbers(range) => ty.number_range().is_none_or(|numbers| !numbers.intersection(*range).is_empty()),
        Narrowing::Kinds(kinds, expected) => {
            ty.kinds().is_none_or(|own| own.iter().any(|kind| kinds.contains(kind) == *expected))
        }
        Narrowing::Scalars(scalars, true) => scalars.iter().any(|scalar| scalar.may_equal(ty)),
        Narrowing::Scalars(scalars, false) => !is_always_one_of(ty, scalars),
        Narrowing::OneOf(strings, expected) => may_be_string(ty, strings, *expected),
        Narrowing::Defined | Narrowing::Member | Narrowing::MinItems(_) | Narrowing::MaxItems(_) => true,
    }
}

/// Whether a value of a type may be one of these strings; with `false`, whether it may be anything else.
fn may_be_string(ty: &Type<'_>, strings: &[String], expected: bool) -> bool {
    let is_listed = |text: &str| strings.iter().any(|string| string == text);
    match ty {
        Type::Union(branches) => branches.iter().any(|branch| may_be_string(branch, strings, expected)),
        Type::Text(Some(texts)) => texts.iter().any(|text| is_listed(text) == expected),
        other => !expected || other.kind().is_none_or(|kind| kind == TypeKind::Text),
    }
}
