//! What the conditions at a point have established about the value at a path.

use std::rc::Rc;

use super::bindings::Binding;
use super::number_range::NumberRange;
use super::scope::{Narrowing, TypeScope, path_below};
use super::types::{Type, union};

impl<'a> TypeScope<'a> {
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
            | Narrowing::Undefined
            | Narrowing::NotNull
            | Narrowing::Falsy
            | Narrowing::MaxItems(_)
            | Narrowing::Numbers(_)
            | Narrowing::Member
            | Narrowing::Kinds(..)
            | Narrowing::OneOf(..)
            | Narrowing::Scalars(..) => 0,
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

    /// The ranges in which conditions show the value at the path to be, if it is a number.
    pub(super) fn number_ranges(&self, path: Option<&String>) -> impl Iterator<Item = NumberRange> {
        let path_narrowings = self.narrowings.iter().filter(move |(narrowed_path, _)| Some(narrowed_path) == path);
        path_narrowings.filter_map(|(_, narrowing)| match narrowing {
            Narrowing::Numbers(range) => Some(*range),
            _ => None,
        })
    }

    /// The narrowings that affect the type of the value at `path`: narrowings of its kind, and narrowings of its
    /// properties. Each comes with the property's path relative to `path`, which is empty for the value itself.
    pub(super) fn type_narrowings<'b>(&'b self, path: &'b str) -> impl Iterator<Item = (&'b str, &'b Narrowing)> {
        self.narrowings.iter().filter_map(move |(narrowed_path, narrowing)| {
            let suffix = narrowed_path.strip_prefix(path)?;
            let property = suffix.strip_prefix('.');
            match narrowing {
                Narrowing::Kinds(..) | Narrowing::OneOf(..) | Narrowing::Scalars(..) if suffix.is_empty() => {
                    Some(("", narrowing))
                }
                Narrowing::Kinds(..)
                | Narrowing::OneOf(..)
                | Narrowing::Scalars(..)
                | Narrowing::Numbers(_)
                | Narrowing::NotNull
                | Narrowing::Defined
                | Narrowing::Undefined
                | Narrowing::Truthy
                | Narrowing::Falsy => property.map(|name| (name, narrowing)),
                Narrowing::MinItems(_) | Narrowing::MaxItems(_) | Narrowing::Member => None,
            }
        })
    }

    /// A variable with types that express what conditions have established about it and, if it is a namespace, about its
    /// members. So these facts still hold where two branches of a condition meet.
    pub(super) fn settled_binding(&self, name: &str) -> Option<Rc<Binding<'a>>> {
        let mut binding = Rc::clone(self.vars.get(name)?);
        if self.narrowings.iter().any(|(path, _)| path_below(path, name).is_some()) {
            let settled = Rc::make_mut(&mut binding);
            settled.value.ty = self.settled_type(name, &settled.value.ty);
            if let Some(namespace) = &mut settled.namespace {
                namespace.settle(name, self);
            }
        }
        Some(binding)
    }

    /// The type of the value at a path, narrowed by what conditions have established about the value itself.
    pub(super) fn settled_type(&self, path: &str, ty: &Type<'a>) -> Type<'a> {
        let own = self.narrowings.iter().filter(|(narrowed, _)| narrowed == path).map(|(_, narrowing)| narrowing);
        own.fold(ty.clone(), |ty, narrowing| match narrowing {
            Narrowing::Truthy => ty.truthy(),
            Narrowing::NotNull => ty.without_null(),
            Narrowing::Numbers(range) if !range.contains(0.0) => without_zero(&ty),
            Narrowing::Kinds(kinds, expected) => {
                let fits = |branch: &Type<'a>| branch.kind().is_none_or(|kind| kinds.contains(&kind) == *expected);
                let fitting: Vec<Type<'a>> = ty.branches().into_iter().filter(fits).collect();
                if fitting.is_empty() { ty } else { union(fitting) }
            }
            Narrowing::Numbers(_)
            | Narrowing::Defined
            | Narrowing::Undefined
            | Narrowing::Falsy
            | Narrowing::MinItems(_)
            | Narrowing::MaxItems(_)
            | Narrowing::Member
            | Narrowing::OneOf(..)
            | Narrowing::Scalars(..) => ty,
        })
    }
}

/// The type without the number 0.
fn without_zero<'a>(ty: &Type<'a>) -> Type<'a> {
    union(ty.branches().into_iter().map(|branch| match branch.number_range().map(NumberRange::without_zero) {
        Some(range) if !range.is_empty() => Type::Numeric(range),
        Some(_) | None => branch,
    }))
}
