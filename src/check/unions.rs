//! The union of types.

use std::rc::Rc;

use super::types::Type;

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
        let is_simple = matches!(ty, Type::Null | Type::Bool | Type::Number | Type::Text(_));
        match distinct.iter_mut().find(|other| is_simple && other.kind() == ty.kind()) {
            Some(other) => merge_texts(other, ty),
            None => distinct.push(ty),
        }
    }
    match distinct.len() {
        0 => Type::Unknown,
        1 => distinct.swap_remove(0),
        _ => Type::Union(Rc::new(distinct)),
    }
}

/// Adds the possible values of another type of string to a type of string. Leaves any other type unchanged.
fn merge_texts<'a>(ty: &mut Type<'a>, other: Type<'a>) {
    let (Type::Text(texts), Type::Text(other_texts)) = (ty, other) else { return };
    let Some(other_texts) = other_texts else {
        *texts = None;
        return;
    };
    let Some(texts) = texts else { return };
    for text in other_texts {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strings of a type of string; `None` if they are not listed.
    fn texts<'a>(ty: &Type<'a>) -> Option<Vec<&'a str>> {
        match ty {
            Type::Text(texts) => texts.clone(),
            other => panic!("not a string: {other:?}"),
        }
    }

    #[test]
    fn a_union_of_strings_has_the_strings_of_all_branches() {
        let listed = |names: &[&'static str]| Type::Text(Some(names.to_vec()));
        assert_eq!(texts(&union([listed(&["a", "b"]), listed(&["b", "c"])])), Some(vec!["a", "b", "c"]));
        assert_eq!(texts(&union([listed(&["a"]), Type::Text(None)])), None);
        assert_eq!(texts(&union([Type::Text(None), listed(&["a"])])), None);
        assert_eq!(union([listed(&["a"]), Type::Null, listed(&["b"])]).branches().len(), 2);
    }
}
