//! Finds the properties of an object that require others (`dependentRequired`).

use serde_json::Value;

use super::all_of::has_early_draft;
use super::types::{SchemaNode, SchemaPart, Type};

/// The maximum number of properties that require one property.
const MAX_NAMES: usize = 32;

/// The properties that an object has only if it also has the property `name`, directly or through other properties.
pub(super) fn properties_requiring<'a>(ty: &Type<'a>, name: &str) -> Vec<&'a str> {
    let branches = ty.without_null().branches();
    // What follows for one alternative of a union does not follow for the others.
    let [branch] = branches.as_slice() else { return Vec::new() };
    let nodes = object_schemas(branch);
    let mut names = names_requiring(nodes, name);
    let mut next = 0;
    while let Some(required) = names.get(next).copied().filter(|_| names.len() < MAX_NAMES) {
        let indirect: Vec<&'a str> =
            names_requiring(nodes, required).into_iter().filter(|other| !names.contains(other)).collect();
        names.extend(indirect);
        next += 1;
    }
    names
}

/// The schemas that describe an object.
pub(super) fn object_schemas<'b, 'a>(ty: &'b Type<'a>) -> &'b [SchemaNode<'a>] {
    match ty {
        Type::Object(node) => std::slice::from_ref(node),
        Type::AllOf(nodes) => nodes,
        Type::RefinedObject(refined) => object_schemas(&refined.base),
        _ => &[],
    }
}

/// The properties that require the property `name` directly.
fn names_requiring<'a>(nodes: &[SchemaNode<'a>], name: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for node in nodes.iter().filter(|node| node.part != SchemaPart::Negated) {
        let keyword = if has_early_draft(node.root) { "dependencies" } else { "dependentRequired" };
        let dependencies = node.schema.get(keyword).and_then(Value::as_object).into_iter().flatten();
        // `dependencies` may contain schemas, too.
        let requires_name =
            |required: &Value| required.as_array().is_some_and(|list| list.iter().any(|entry| entry == name));
        let requiring = dependencies.filter(|(_, required)| requires_name(required));
        names.extend(requiring.map(|(other, _)| other.as_str()));
    }
    names
}
