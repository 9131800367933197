//! Walks the schemas inside a schema.

use serde_json::{Map, Value};

use crate::config::{child_pointer, item_pointer};

/// The maximum number of levels of nested schemas to check.
pub(super) const MAX_DEPTH: usize = 64;

/// Keywords whose value is a schema. Excludes `not` and `if`, because a value need not fit their schemas.
pub(super) const SCHEMA_KEYWORDS: &[&str] = &[
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "then",
    "else",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a schema that a value need not fit.
pub(super) const CONDITION_KEYWORDS: &[&str] = &["not", "if"];
/// Keywords whose value is a list of schemas.
pub(super) const SCHEMA_LIST_KEYWORDS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is a mapping of names to schemas.
pub(super) const SCHEMA_MAP_KEYWORDS: &[&str] =
    &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords that do not restrict values.
pub(super) const ANNOTATIONS: &[&str] = &["title", "description", "$comment", "examples", "default"];

/// The properties that a schema declares.
pub(super) fn declared_properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// Calls `visit` for a schema and for each schema inside it, with their pointers.
pub(super) fn visit_schemas(schema: &Value, pointer: &str, visit: &mut dyn FnMut(&Map<String, Value>, &str)) {
    visit_nested(schema, pointer, 0, visit);
}

fn visit_nested(schema: &Value, pointer: &str, depth: usize, visit: &mut dyn FnMut(&Map<String, Value>, &str)) {
    let Some(map) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return };
    visit(map, pointer);
    for keyword in SCHEMA_KEYWORDS.iter().chain(CONDITION_KEYWORDS) {
        let Some(inner) = map.get(*keyword) else { continue };
        let pointer = child_pointer(pointer, keyword);
        visit_nested(inner, &pointer, depth + 1, visit);
        // In old drafts, `items` may be a list.
        for (index, item) in inner.as_array().into_iter().flatten().enumerate() {
            visit_nested(item, &item_pointer(&pointer, index), depth + 1, visit);
        }
    }
    for keyword in SCHEMA_LIST_KEYWORDS {
        for (index, inner) in map.get(*keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            visit_nested(inner, &item_pointer(&child_pointer(pointer, keyword), index), depth + 1, visit);
        }
    }
    for keyword in SCHEMA_MAP_KEYWORDS {
        for (name, inner) in map.get(*keyword).and_then(Value::as_object).into_iter().flatten() {
            visit_nested(inner, &child_pointer(&child_pointer(pointer, keyword), name), depth + 1, visit);
        }
    }
}

/// The types that a schema names.
pub(super) fn named_types(map: &Map<String, Value>) -> Vec<&str> {
    match map.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}
