//! The size of types, which a repeated statement could enlarge without end.

use super::types::{Property, Type};

/// The maximum number of parts of a type that a repeated statement may enlarge.
const MAX_PARTS: usize = 500;

/// Whether a type has few enough parts to become a part of another type again and again.
pub(super) fn has_few_parts(ty: &Type<'_>) -> bool {
    let mut remaining = MAX_PARTS;
    fits(ty, &mut remaining)
}

/// Whether a type has at most as many parts as remain. Types can share their parts, which count at each of their places.
fn fits(ty: &Type<'_>, remaining: &mut usize) -> bool {
    let Some(left) = remaining.checked_sub(1) else { return false };
    *remaining = left;
    match ty {
        Type::List(item, _) => fits(item, remaining),
        Type::Tuple(tuple) => tuple.items.iter().all(|item| fits(item, remaining)),
        Type::FixedObject(members) => members.values().all(|member| fits(member, remaining)),
        Type::RefinedObject(refined) => {
            let mut properties = refined.properties.values();
            fits(&refined.base, remaining)
                && properties.all(|property| match property {
                    Property::Present(ty) | Property::Optional(ty) => fits(ty, remaining),
                    Property::Absent(_) | Property::Open(_) => true,
                })
        }
        Type::Union(branches) => branches.iter().all(|branch| fits(branch, remaining)),
        Type::Unknown
        | Type::Null
        | Type::Bool
        | Type::Flag(_)
        | Type::Number
        | Type::Numeric(_)
        | Type::Text(_)
        | Type::NonEmptyText
        | Type::NumericText
        | Type::SchemaList(..)
        | Type::Object(_)
        | Type::AllOf(_)
        | Type::StepStatuses(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_doubles_soon_has_too_many_parts() {
        let mut ty = Type::Bool;
        for level in 0..40 {
            assert_eq!(has_few_parts(&ty), level < 8, "{level}");
            ty = Type::tuple(vec![ty.clone(), ty]);
        }
    }
}
