//! Unions of types: merges the types that one type can express.

use std::rc::Rc;

use super::types::{Property, Type, TypeKind};

/// The maximum number of types to compare for one comparison of two types, because types can share their parts.
const MAX_COMPARED_TYPES: usize = 2_000;

/// The union of types; unknown if one of the types is unknown, or if there are none.
pub(super) fn union<'a>(types: impl IntoIterator<Item = Type<'a>>) -> Type<'a> {
    let mut flattened: Vec<Type<'a>> = Vec::new();
    for ty in types {
        match ty {
            Type::Unknown => return Type::Unknown,
            Type::Union(inner) => flattened.extend(inner.iter().cloned()),
            ty => flattened.push(ty),
        }
    }
    let mut distinct: Vec<Type<'a>> = Vec::new();
    for ty in flattened {
        if !distinct.iter_mut().any(|existing| absorb(existing, &ty)) {
            distinct.push(ty);
        }
    }
    match distinct.len() {
        0 => Type::Unknown,
        1 => distinct.swap_remove(0),
        _ => Type::Union(Rc::new(distinct)),
    }
}

/// The union of the types that a value has after different branches of a condition. A branch may have narrowed the type,
/// so the widest type is first: it determines the order of the parts.
pub(super) fn merged_type(mut types: Vec<Type<'_>>) -> Type<'_> {
    types.sort_by_key(|ty| std::cmp::Reverse(ty.branches().len()));
    union(types)
}

/// Extends a type to the values of another type, if the result is not a union. Returns whether it did.
fn absorb<'a>(existing: &mut Type<'a>, added: &Type<'a>) -> bool {
    match merge(existing, added) {
        Some(merged) => {
            *existing = merged;
            true
        }
        None => false,
    }
}

/// The type of the values of both types, if it is not a union. The types are not unions.
fn merge<'a>(left: &Type<'a>, right: &Type<'a>) -> Option<Type<'a>> {
    if let (Some(left), Some(right)) = (left.number_range(), right.number_range()) {
        return Some(Type::Numeric(left.union(right)));
    }
    match (left, right) {
        (Type::Text(Some(left)), Type::Text(Some(right))) => {
            let added = right.iter().filter(|text| !left.contains(text));
            Some(Type::Text(Some(left.iter().chain(added).copied().collect())))
        }
        (Type::NumericText, Type::NumericText) => Some(Type::NumericText),
        (Type::Flag(left), Type::Flag(right)) if left == right => Some(Type::Flag(*left)),
        (Type::Bool | Type::Flag(_), Type::Bool | Type::Flag(_)) => Some(Type::Bool),
        _ if left.kind() == Some(TypeKind::Text) && right.kind() == Some(TypeKind::Text) => {
            let is_never_empty = left.is_always_truthy() && right.is_always_truthy();
            Some(if is_never_empty { Type::NonEmptyText } else { Type::Text(None) })
        }
        (Type::SchemaList(left, left_min), Type::SchemaList(right, right_min))
            if std::ptr::eq(left.schema, right.schema) =>
        {
            Some(Type::SchemaList(*left, (*left_min).min(*right_min)))
        }
        (Type::List(left, left_min), Type::List(right, right_min)) if is_same_type(left, right) => {
            Some(Type::List(Rc::clone(left), (*left_min).min(*right_min)))
        }
        _ => is_same_type(left, right).then(|| left.clone()),
    }
}

/// Whether two types are certainly the same.
pub(super) fn is_same_type(left: &Type<'_>, right: &Type<'_>) -> bool {
    TypeComparison { remaining: MAX_COMPARED_TYPES }.is_same(left, right)
}

/// Compares types part by part.
struct TypeComparison {
    /// The remaining number of types to compare.
    remaining: usize,
}

impl TypeComparison {
    fn is_same(&mut self, left: &Type<'_>, right: &Type<'_>) -> bool {
        let Some(remaining) = self.remaining.checked_sub(1) else { return false };
        self.remaining = remaining;
        if let (Some(left), Some(right)) = (left.number_range(), right.number_range()) {
            return left == right;
        }
        match (left, right) {
            (Type::Unknown, Type::Unknown)
            | (Type::Null, Type::Null)
            | (Type::Bool, Type::Bool)
            | (Type::NonEmptyText, Type::NonEmptyText)
            | (Type::NumericText, Type::NumericText) => true,
            (Type::Text(left), Type::Text(right)) => left == right,
            (Type::Flag(left), Type::Flag(right)) => left == right,
            (Type::List(left, left_min), Type::List(right, right_min)) => {
                left_min == right_min && (Rc::ptr_eq(left, right) || self.is_same(left, right))
            }
            (Type::SchemaList(left, left_min), Type::SchemaList(right, right_min)) => {
                left_min == right_min && std::ptr::eq(left.schema, right.schema)
            }
            (Type::Object(left), Type::Object(right)) => {
                std::ptr::eq(left.schema, right.schema) && left.part == right.part
            }
            (Type::AllOf(left), Type::AllOf(right)) => Rc::ptr_eq(left, right),
            (Type::FixedObject(left), Type::FixedObject(right)) => {
                Rc::ptr_eq(left, right)
                    || (left.len() == right.len()
                        && left.iter().zip(right.iter()).all(|((left_name, left), (right_name, right))| {
                            left_name == right_name && self.is_same(left, right)
                        }))
            }
            (Type::RefinedObject(left), Type::RefinedObject(right)) => {
                Rc::ptr_eq(left, right)
                    || (left.conditions.is_none()
                        && right.conditions.is_none()
                        && left.properties.len() == right.properties.len()
                        && self.is_same(&left.base, &right.base)
                        && left.properties.iter().zip(&right.properties).all(
                            |((left_name, left), (right_name, right))| {
                                left_name == right_name && self.is_same_property(left, right)
                            },
                        ))
            }
            (Type::Tuple(left), Type::Tuple(right)) => {
                Rc::ptr_eq(left, right) || (left.names == right.names && self.are_same(&left.items, &right.items))
            }
            (Type::Union(left), Type::Union(right)) => Rc::ptr_eq(left, right) || self.are_same(left, right),
            _ => false,
        }
    }

    fn are_same(&mut self, left: &[Type<'_>], right: &[Type<'_>]) -> bool {
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| self.is_same(left, right))
    }

    fn is_same_property(&mut self, left: &Property<'_>, right: &Property<'_>) -> bool {
        match (left, right) {
            (Property::Present(left), Property::Present(right))
            | (Property::Optional(left), Property::Optional(right)) => self.is_same(left, right),
            (Property::Absent(left), Property::Absent(right)) | (Property::Open(left), Property::Open(right)) => {
                left == right
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::number_range::NumberRange;

    #[test]
    fn a_string_of_any_text_absorbs_listed_strings() {
        let listed = Type::Text(Some(vec!["a", "b"]));
        assert!(matches!(union([listed.clone(), Type::Text(None)]), Type::Text(None)));
        assert!(matches!(union([Type::Text(None), listed.clone()]), Type::Text(None)));
        assert!(matches!(union([Type::NonEmptyText, listed.clone()]), Type::NonEmptyText));
        assert!(matches!(union([Type::NumericText, listed.clone()]), Type::NonEmptyText));
        assert!(matches!(union([Type::NonEmptyText, Type::Text(Some(vec![""]))]), Type::Text(None)));
        let nullable = union([listed, Type::Null, Type::Text(Some(vec!["b", "c"]))]);
        assert_eq!(nullable.possible_texts().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn both_booleans_are_any_boolean() {
        assert!(matches!(union([Type::Flag(true), Type::Flag(true)]), Type::Flag(true)));
        assert!(matches!(union([Type::Flag(true), Type::Flag(false)]), Type::Bool));
        assert!(matches!(union([Type::Bool, Type::Flag(false)]), Type::Bool));
    }

    #[test]
    fn types_with_the_same_parts_are_one_type() {
        let list = |min_length| Type::List(Type::Text(None).into(), min_length);
        assert!(matches!(union([list(2), list(1)]), Type::List(_, 1)));
        let object = |ty: Type<'static>| {
            Type::FixedObject([("a", ty)].into_iter().collect::<std::collections::BTreeMap<_, _>>().into())
        };
        assert!(matches!(union([object(list(1)), object(list(1))]), Type::FixedObject(_)));
        assert_eq!(union([object(list(1)), object(Type::Bool)]).branches().len(), 2);
        // Each level doubles the number of parts, and the comparison ends.
        let nested = || (0..40).fold(list(0), |ty, _| Type::tuple(vec![ty.clone(), ty]));
        assert_eq!(union([nested(), nested()]).branches().len(), 2);
    }

    #[test]
    fn numbers_become_one_range() {
        let number = |number| Type::Numeric(NumberRange::exactly(number));
        let ty = union([number(1.0), Type::Null, number(3.0)]);
        let range = ty.numbers().unwrap();
        assert_eq!((range.min, range.max, range.is_integer), (1.0, 3.0, true));
        assert_eq!(ty.branches().len(), 2);
    }
}
