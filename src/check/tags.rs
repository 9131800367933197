//! Constants that tell the cases of an object apart, such as `"kind": "move"`, `"ok": true` or `"error": null`.

use serde_json::Value;

use super::number_range::NumberRange;
use super::schema_walk::{ANNOTATIONS, declared_properties, named_types};
use super::types::{SchemaNode, Schemas, Type, TypeKind, union};

/// The only value of a schema with `"type": "null"`.
static NULL: Value = Value::Null;

/// The values that a property has in one case.
enum TagValues<'a> {
    /// These constants.
    Listed(Vec<&'a Value>),
    /// Any value but null.
    NotNull,
}

impl<'a> TagValues<'a> {
    fn from_schema(schema: &'a Value) -> Option<Self> {
        if let Some(values) = constant_values(schema) {
            return Some(Self::Listed(values));
        }
        match named_types(schema.as_object()?).as_slice() {
            ["null"] => Some(Self::Listed(vec![&NULL])),
            [] => None,
            types => (!types.contains(&"null")).then_some(Self::NotNull),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listed(own), Self::Listed(others)) => {
                own.iter().any(|value| others.iter().any(|other| is_same_constant(value, other)))
            }
            (Self::Listed(values), Self::NotNull) | (Self::NotNull, Self::Listed(values)) => {
                !values.iter().all(|value| value.is_null())
            }
            (Self::NotNull, Self::NotNull) => true,
        }
    }
}

impl<'a> Schemas<'a> {
    /// Whether the objects that fit different schemas differ in the constant of a property.
    pub(super) fn has_tag(self, branches: &[SchemaNode<'a>]) -> bool {
        let Some(first) = branches.first().and_then(|branch| declared_properties(branch.schema)) else { return false };
        first.keys().any(|name| {
            let mut seen: Vec<TagValues<'a>> = Vec::new();
            branches.iter().all(|branch| {
                let Some(values) = self.tag_values(branch, name) else { return false };
                let is_new = !seen.iter().any(|other| other.overlaps(&values));
                seen.push(values);
                is_new
            })
        })
    }

    fn tag_values(self, branch: &SchemaNode<'a>, name: &str) -> Option<TagValues<'a>> {
        let schema = declared_properties(branch.schema)?.get(name)?;
        TagValues::from_schema(self.follow_ref(branch.with_schema(schema))?.schema)
    }
}

/// Whether two constants are equal, such as 1 and 1.0.
fn is_same_constant(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => NumberRange::exactly(left) == NumberRange::exactly(right),
        (_, _) => left == right,
    }
}

/// The constants of a schema that allows only some strings, numbers, booleans or null.
fn constant_values(schema: &Value) -> Option<Vec<&Value>> {
    let values = match (schema.get("const"), schema.get("enum")) {
        (Some(constant), _) => vec![constant],
        (None, Some(Value::Array(values))) => values.iter().collect(),
        (None, _) => return None,
    };
    values.iter().all(|value| !value.is_array() && !value.is_object()).then_some(values)
}

/// The property that a schema compares with constants, and these constants, if the schema tests nothing else.
pub(super) fn constant_test(schema: &Value) -> Option<(&str, Vec<&Value>)> {
    let map = schema.as_object()?;
    let is_allowed = |key: &String| {
        matches!(key.as_str(), "properties" | "required" | "type") || ANNOTATIONS.contains(&key.as_str())
    };
    let mut properties = map.get("properties")?.as_object()?.iter();
    let (name, property) = properties.next().filter(|_| map.keys().all(is_allowed))?;
    let mut required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    let tests_only_one = properties.next().is_none() && required.all(|required| required == name.as_str());
    constant_values(property).filter(|_| tests_only_one).map(|values| (name.as_str(), values))
}

/// Whether a type can express that a value of the type `ty` equals none of the constants: a string can if the type lists
/// the possible strings.
pub(super) fn can_exclude(ty: &Type<'_>, constants: &[&Value]) -> bool {
    let has_kind = |kind: TypeKind| ty.kinds().is_some_and(|kinds| kinds.contains(&kind));
    constants.iter().all(|constant| match constant {
        Value::String(_) => ty.possible_texts().is_some(),
        Value::Bool(_) => has_kind(TypeKind::Bool),
        Value::Null => has_kind(TypeKind::Null),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    })
}

/// Removes some values from a type, as far as types can express it.
pub(super) fn exclude_values<'a>(ty: &Type<'a>, excluded: &[&Value]) -> Type<'a> {
    let is_excluded = |value: &Value| excluded.contains(&value);
    let remaining = ty.branches().into_iter().filter_map(|branch| match branch {
        Type::Null => (!is_excluded(&Value::Null)).then_some(Type::Null),
        Type::Flag(flag) => (!is_excluded(&Value::Bool(flag))).then_some(Type::Flag(flag)),
        Type::Bool => {
            let flags = [true, false].into_iter().filter(|flag| !is_excluded(&Value::Bool(*flag)));
            flags.map(Type::Flag).reduce(|first, second| union([first, second]))
        }
        Type::Text(Some(texts)) => {
            let is_excluded = |text: &&str| excluded.iter().any(|value| value.as_str() == Some(*text));
            Some(Type::Text(Some(texts.into_iter().filter(|text| !is_excluded(text)).collect())))
        }
        branch => match branch.number_range() {
            Some(range) if excluded.iter().any(|value| value.as_f64() == Some(0.0)) => {
                Some(Type::Numeric(range.without_zero()))
            }
            _ => Some(branch),
        },
    });
    union(remaining)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn has_tag(branches: &[Value]) -> bool {
        let documents = BTreeMap::new();
        let schemas: Vec<Value> = branches.iter().map(|properties| json!({ "properties": properties })).collect();
        let nodes: Vec<SchemaNode<'_>> = schemas.iter().map(SchemaNode::from_document).collect();
        Schemas(&documents).has_tag(&nodes)
    }

    #[test]
    fn distinct_constants_tell_cases_apart() {
        for (first, second, expected) in [
            (json!({ "const": "a" }), json!({ "enum": ["b", "c"] }), true),
            (json!({ "const": true }), json!({ "const": false }), true),
            (json!({ "const": 1 }), json!({ "const": 2 }), true),
            (json!({ "const": null }), json!({ "type": "object" }), true),
            (json!({ "type": "null" }), json!({ "type": ["string", "integer"] }), true),
            (json!({ "const": 1 }), json!({ "const": 1.0 }), false),
            (json!({ "const": true }), json!({ "type": "boolean" }), false),
            (json!({ "type": "string" }), json!({ "type": "object" }), false),
            (json!({ "type": "null" }), json!({ "type": ["string", "null"] }), false),
            (json!({ "const": "a" }), json!({}), false),
            (json!({ "const": ["a"] }), json!({ "const": ["b"] }), false),
        ] {
            assert_eq!(has_tag(&[json!({ "tag": first }), json!({ "tag": second })]), expected, "{first} {second}");
        }
    }

    #[test]
    fn an_excluded_boolean_leaves_the_other_one() {
        let (yes, null) = (json!(true), json!(null));
        assert!(matches!(exclude_values(&Type::Bool, &[&yes]), Type::Flag(false)));
        assert!(matches!(exclude_values(&union([Type::Bool, Type::Null]), &[&null]), Type::Bool));
        assert!(can_exclude(&Type::Bool, &[&yes]) && !can_exclude(&Type::Text(None), &[&json!("a")]));
    }
}
