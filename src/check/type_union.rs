//! Unions of types: merges the types that one type can express.

use std::rc::Rc;

use super::types::{Type, TypeKind};

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
        _ if left.kind() == Some(TypeKind::Text) && right.kind() == Some(TypeKind::Text) => {
            let is_never_empty = left.is_always_truthy() && right.is_always_truthy();
            Some(if is_never_empty { Type::NonEmptyText } else { Type::Text(None) })
        }
        _ => is_same(left, right).then(|| left.clone()),
    }
}

/// Whether two types that are not unions are certainly the same.
fn is_same(left: &Type<'_>, right: &Type<'_>) -> bool {
    match (left, right) {
        (Type::Null, Type::Null) | (Type::Bool, Type::Bool) => true,
        (Type::SchemaList(left, _), Type::SchemaList(right, _)) => std::ptr::eq(left.schema, right.schema),
        (Type::Object(left), Type::Object(right)) => std::ptr::eq(left.schema, right.schema) && left.part == right.part,
        (Type::AllOf(left), Type::AllOf(right)) => Rc::ptr_eq(left, right),
        (Type::FixedObject(left), Type::FixedObject(right)) => Rc::ptr_eq(left, right),
        (Type::RefinedObject(left), Type::RefinedObject(right)) => Rc::ptr_eq(left, right),
        (Type::Tuple(left), Type::Tuple(right)) => Rc::ptr_eq(left, right),
        _ => false,
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
    fn numbers_become_one_range() {
        let number = |number| Type::Numeric(NumberRange::exactly(number));
        let ty = union([number(1.0), Type::Null, number(3.0)]);
        let range = ty.numbers().unwrap();
        assert_eq!((range.min, range.max, range.is_integer), (1.0, 3.0, true));
        assert_eq!(ty.branches().len(), 2);
    }
}
